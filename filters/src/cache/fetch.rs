//! The way out: what the cache does with the app's response.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    SET_COOKIE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora_http::ResponseHeader;

use super::answer::{answer, is_not_modified};
use super::control::{RequestControl, ResponseControl};
use super::counters::Served;
use super::entry::{Entry, Parts};
use super::freshness::{self, Source};
use super::lookup::Written;
use super::reuse::{self, Stored};
use super::rules::PASS_FOR;
use super::status::{self, Forward};
use super::storable::{self, Asked};
use super::store::{Key, Lead, Reserved, Slot};
use super::tags::Tag;
use super::update;
use super::vary::Vary;
use super::warm::Fields;
use super::{Inner, NAME, url_of};
use crate::{Exchange, Fact, Turn, via};

/// A request that went to the app, and what its response may become.
pub(super) struct Fetch {
    key: Key,
    /// Where the key without the fields the response varies by ends.
    primary: usize,
    url: Arc<Tag>,
    born: u64,
    forward: Forward,
    detail: Option<&'static str>,
    asked: RequestControl,
    lead: Option<Lead>,
    /// What is stored, to be asked about or to stand in.
    stale: Option<Arc<Entry>>,
    /// The app was asked whether what is stored is still good.
    asks: bool,
    /// The client's own conditions, which the app did not see.
    pub(super) client: HeaderMap,
    /// Nobody waits for it.
    pub(super) background: bool,
    receiving: Option<Receiving>,
    /// The client has the response already and gets a 304.
    silent: bool,
    /// The request fields the response is chosen by; `None` where they must not be kept.
    chosen_by: Option<Fields>,
}

/// A response that is being received, to be stored.
struct Receiving {
    head: Entry,
    /// From the response, not known before.
    has_tags: bool,
    lasts: Duration,
    pieces: Vec<Bytes>,
    size: u64,
    most: u64,
    expected: Option<u64>,
    reserved: Reserved,
    began: Instant,
}

/// Why a response is not stored.
struct Refused {
    reason: &'static str,
    /// Whether the next one is likely to be refused too.
    lasting: bool,
}

impl Fetch {
    pub(super) fn new(
        written: Written<'_>,
        url: Arc<Tag>,
        born: u64,
        forward: Forward,
        detail: Option<&'static str>,
        asked: RequestControl,
        lead: Option<Lead>,
    ) -> Self {
        Self {
            key: written.key.into(),
            primary: written.primary,
            url,
            born,
            forward,
            detail,
            asked,
            lead,
            stale: None,
            asks: false,
            client: HeaderMap::new(),
            background: false,
            receiving: None,
            silent: false,
            chosen_by: None,
        }
    }

    /// Asks the app whether what is stored is still good (RFC 9111, section 4.3.1), and keeps it to stand in for an error.
    pub(super) fn revalidates(&mut self, exchange: &mut Exchange, entry: Option<Arc<Entry>>) {
        let Some(entry) = entry else { return };
        let request = &mut exchange.request;
        for (name, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
            if let Some(value) = entry.field(&name)
                && let Ok(value) = HeaderValue::from_maybe_shared(value)
            {
                self.asks |= request.insert_header(condition, value).is_ok();
            }
        }
        exchange.revalidates = self.asks;
        self.stale = Some(entry);
    }

    /// Continues under another key: that of the request fields the response is chosen by.
    fn move_to(&mut self, key: Key) {
        if let Some(lead) = &mut self.lead {
            lead.move_to(&key);
        }
        self.key = key;
    }

    /// The fetch comes to nothing that others could use.
    fn give_up(&mut self) {
        self.lead = None;
        self.receiving = None;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(entry) = self.stale.as_ref().filter(|_| self.background) {
            entry.release_refresh();
        }
    }
}

impl Inner {
    /// The response head is there.
    pub(super) fn response(&self, exchange: &mut Exchange, head: &mut ResponseHeader, fetch: &mut Fetch) -> Turn {
        if fetch.asks && head.status == StatusCode::NOT_MODIFIED {
            return self.revalidated(exchange, head, fetch);
        }
        if let Some(turn) = self.stands_in(exchange, head, fetch) {
            return turn;
        }
        if exchange.request.method == Method::HEAD {
            self.head_says(exchange, head, fetch);
            self.forwarded(head, fetch, false, fetch.detail);
            return Turn::Keep;
        }
        match self.begin(exchange, head, fetch) {
            Ok(receiving) => {
                self.forwarded(head, fetch, true, fetch.detail);
                let stored = &receiving.head.reuse;
                let fact = if stored.no_cache || stored.lifetime.is_zero() {
                    Fact::Kind("to_ask")
                } else {
                    Fact::Time(stored.lifetime)
                };
                exchange.ledger.enter_with(NAME, "stored", fact);
                if fetch.silent {
                    not_modified(head);
                }
                fetch.receiving = Some(receiving);
            }
            Err(Refused { reason, lasting }) => {
                if lasting && !fetch.background && self.rules.collapse.is_some() {
                    self.store.put(fetch.key.clone(), Slot::Pass, PASS_FOR);
                } else if head.status.is_success() && fetch.stale.is_some() {
                    self.store.remove(&fetch.key);
                }
                fetch.give_up();
                let fact = match reason {
                    "body_too_large" => Fact::Size(self.rules.max_body),
                    _ => Fact::None,
                };
                exchange.ledger.enter_with(NAME, reason, fact);
                self.forwarded(head, fetch, false, Some(reason));
            }
        }
        Turn::Keep
    }

    /// Says on the response, and counts, that it came from the app.
    fn forwarded(&self, head: &mut ResponseHeader, fetch: &Fetch, stored: bool, detail: Option<&'static str>) {
        if !fetch.background {
            self.counters.count(Served::Miss);
        }
        let status = head.status;
        status::forwarded(head, fetch.forward, Some(status), stored, detail);
    }

    /// The app says that what is stored is still good.
    fn revalidated(&self, exchange: &mut Exchange, head: &ResponseHeader, fetch: &mut Fetch) -> Turn {
        let Some(entry) = fetch.stale.clone() else {
            return Turn::Keep;
        };
        let (shown, stored) = if update::is_validated(&entry, &head.headers) {
            self.update(exchange, &head.headers, fetch, &entry)
        } else {
            // It was asked about this version alone, and says that another is still good: this once.
            self.store.remove(&fetch.key);
            (entry.clone(), false)
        };
        if let Some(lead) = fetch.lead.take() {
            lead.fill().done();
        }
        if !fetch.background {
            self.counters.count_saved(Served::Revalidated, entry.cost);
        }
        let now = received(exchange);
        let left = shown.reuse.lifetime.saturating_sub(shown.age(now));
        exchange.ledger.enter_with(NAME, "revalidated", Fact::Time(left));
        let mut response = answer(
            &shown,
            &exchange.request.method,
            &conditions(exchange, fetch),
            now,
            None,
        );
        for cookie in head.headers.get_all(SET_COOKIE) {
            // For this client, and nobody else.
            let _ = response.head.append_header(SET_COOKIE, cookie.clone());
        }
        status::forwarded(
            &mut response.head,
            fetch.forward,
            Some(head.status),
            stored,
            fetch.detail,
        );
        Turn::Replace(response)
    }

    /// What is stored, with what a newer response without a body says of it; and whether that may be stored in its place. If
    /// not, nothing is.
    fn update(&self, exchange: &Exchange, newer: &HeaderMap, fetch: &Fetch, entry: &Entry) -> (Arc<Entry>, bool) {
        let stored = entry.headers();
        let headers = update::freshened(&stored, newer, &self.rules.targeted, self.rules.policy_of(exchange));
        let control = ResponseControl::of(&headers, &self.rules.targeted);
        let mut tags = entry.tags().to_vec();
        let names = self.tag_names(newer);
        tags.extend(names.iter().map(|name| self.cache.tags.get(name)));
        let fresh = Arc::new(self.entry(exchange, entry.status, &headers, fetch, tags, entry.body.clone()));
        fresh.inherit(entry);
        // Under its key it is found by those fields that it varied by.
        let may = Vary::of(&headers) == Vary::of(&stored)
            && self.permits(exchange, entry.status, &headers, &control, fetch).is_ok()
            && (names.is_empty() || self.cache.tags.remembers(fetch.born));
        if may {
            self.keep(fetch, fresh.clone(), self.lasts(&fresh));
        } else {
            self.store.remove(&fetch.key);
        }
        (fresh, may)
    }

    /// A stored response in place of an error, where that is allowed.
    fn stands_in(&self, exchange: &mut Exchange, head: &ResponseHeader, fetch: &mut Fetch) -> Option<Turn> {
        if !matches!(head.status.as_u16(), 500 | 502 | 503 | 504) {
            return None;
        }
        let entry = fetch.stale.clone()?;
        let now = received(exchange);
        let reason = if reuse::usable_on_error(&entry.reuse, entry.age(now), &fetch.asked) {
            "stale_if_error"
        } else if exchange.plan.accept_stale && reuse::usable_for_want_of_better(&entry.reuse, &fetch.asked) {
            "stale_accepted"
        } else {
            return None;
        };
        fetch.give_up();
        if !fetch.background {
            self.counters.count_saved(Served::Stale, entry.cost);
        }
        entry.used();
        exchange.ledger.enter_with(NAME, reason, entry.in_time(now));
        let mut response = answer(
            &entry,
            &exchange.request.method,
            &conditions(exchange, fetch),
            now,
            None,
        );
        status::forwarded(
            &mut response.head,
            fetch.forward,
            Some(head.status),
            false,
            Some(reason),
        );
        Some(Turn::Replace(response))
    }

    /// What a response to HEAD tells of the response to GET that is stored (RFC 9111, section 4.3.5).
    fn head_says(&self, exchange: &mut Exchange, head: &ResponseHeader, fetch: &mut Fetch) {
        let Some(Slot::Entry(entry)) = self.store.peek(&fetch.key) else {
            return;
        };
        let is_current = entry.is_current(&self.cache.tags, url_of(&fetch.key));
        if head.status != entry.status || head.status != StatusCode::OK || !is_current {
            return;
        }
        if update::is_of_same(&entry, &head.headers) {
            self.update(exchange, &head.headers, fetch, &entry);
        } else {
            self.store.remove(&fetch.key);
        }
    }

    /// Begins to store a response.
    fn begin(
        &self,
        exchange: &mut Exchange,
        head: &mut ResponseHeader,
        fetch: &mut Fetch,
    ) -> Result<Receiving, Refused> {
        let control = ResponseControl::of(&head.headers, &self.rules.targeted);
        self.may_store(exchange, head, &control, fetch)?;
        let expected = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let mut reserved = self.store.reserve();
        if expected.is_some_and(|length| length > self.rules.max_body) {
            return Err(Refused::lasting("body_too_large"));
        }
        if !reserved.grow(expected.unwrap_or(0)) {
            return Err(Refused::now("store_busy"));
        }
        fetch.chosen_by = self.settle_key(exchange, head, fetch);
        let names = self.tag_names(&head.headers);
        let has_tags = !names.is_empty();
        let mut tags: Vec<Arc<Tag>> = names.iter().map(|name| self.cache.tags.get(name)).collect();
        tags.push(fetch.url.clone());
        let mut headers = head.headers.clone();
        for name in storable::fields_to_drop(&control, self.rules.policy_of(exchange), &head.headers) {
            headers.remove(name);
        }
        headers.remove(CONTENT_LENGTH);
        headers.remove(super::status::CACHE_STATUS);
        // The engine says on what it forwards that it did; what is stored says it itself (RFC 9110, section 7.6.3).
        headers.append(VIA, HeaderValue::from_static(via(head.version)));
        if !headers.contains_key(DATE) {
            headers.insert(DATE, date(received_at(exchange)));
        }
        let shared = self.entry(exchange, head.status, &headers, fetch, tags, Bytes::new());
        fetch.silent = is_not_modified(&shared, &exchange.request.method, &fetch.client);
        if let Some(lead) = &fetch.lead {
            lead.fill().begin();
            if let Some(length) = expected {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                let tags = shared.tags().to_vec();
                let streamed = self.entry(exchange, head.status, &headers, fetch, tags, Bytes::new());
                lead.fill().share(Arc::new(streamed));
            }
        }
        // The app is done soon, however slow the client is.
        exchange.plan.read_ahead = usize::try_from(self.rules.max_body).unwrap_or(usize::MAX);
        Ok(Receiving {
            lasts: self.lasts(&shared),
            head: shared,
            has_tags,
            pieces: Vec::new(),
            size: 0,
            most: self.rules.max_body,
            expected,
            reserved,
            began: exchange.timing.started,
        })
    }

    fn may_store(
        &self,
        exchange: &Exchange,
        head: &ResponseHeader,
        control: &ResponseControl,
        fetch: &Fetch,
    ) -> Result<(), Refused> {
        let source = self.permits(exchange, head.status, &head.headers, control, fetch)?;
        if exchange.ends_with_connection {
            return Err(Refused::lasting("ends_with_connection"));
        }
        let kind = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        if kind.starts_with(b"text/event-stream") {
            return Err(Refused::lasting("event_stream"));
        }
        if self.rules.may_be_personal(exchange, source) {
            return Err(Refused::now("cookie"));
        }
        Ok(())
    }

    /// Whether the RFC allows it.
    fn permits(
        &self,
        exchange: &Exchange,
        status: StatusCode,
        headers: &HeaderMap,
        control: &ResponseControl,
        fetch: &Fetch,
    ) -> Result<Source, Refused> {
        let request = &exchange.request;
        let lifetime = self.lifetime(exchange, status, headers, control);
        let asked = Asked {
            // A POST whose body is part of the key is as good as a GET, and HEAD tells of one.
            method: if matches!(request.method, Method::POST | Method::HEAD) {
                &Method::GET
            } else {
                &request.method
            },
            authorization: request.headers.contains_key(AUTHORIZATION) && !self.rules.key.covers_authorization(),
            no_store: fetch.asked.no_store,
        };
        let policy = self.rules.policy_of(exchange);
        storable::may_store(&asked, status, headers, control, lifetime, policy).map_err(|reason| Refused {
            reason,
            lasting: status.is_success() && !matches!(reason, "request_no_store" | "partial"),
        })?;
        Ok(lifetime.1)
    }

    fn lifetime(
        &self,
        exchange: &Exchange,
        status: StatusCode,
        headers: &HeaderMap,
        control: &ResponseControl,
    ) -> (Duration, Source) {
        freshness::lifetime(
            status,
            headers,
            control,
            self.rules.policy_of(exchange),
            received_at(exchange),
        )
    }

    /// Writes the key anew if the response varies by fields that are not in it.
    fn settle_key(&self, exchange: &Exchange, head: &ResponseHeader, fetch: &mut Fetch) -> Option<Fields> {
        let Vary::Names(mut names) = Vary::of(&head.headers) else {
            // A response for all: the newest that matches is used (RFC 9111, section 4), so those before it are not.
            if fetch.key.len() > fetch.primary {
                fetch.move_to(fetch.key[..fetch.primary].into());
            }
            return self.rules.key.chosen_by(&[], &exchange.request.headers);
        };
        let primary = &fetch.key[..fetch.primary];
        let known = match self.store.peek(primary) {
            Some(Slot::Varies(known)) => Some(known),
            _ => None,
        };
        // Whoever is told apart by more fields is told apart by fewer, too; the reverse would mix them up.
        let known = known.as_deref().unwrap_or_default();
        names.extend(
            known
                .iter()
                .filter(|name| !names.contains(name))
                .cloned()
                .collect::<Vec<_>>(),
        );
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        if names != known || fetch.key.len() == fetch.primary {
            let mut key = primary.to_vec();
            let varies: Arc<[HeaderName]> = names.as_slice().into();
            self.store.put_varies(primary.into(), varies);
            let mut asked = exchange.request.headers.clone();
            asked.extend(fetch.client.clone());
            self.write_secondary(&names, &asked, None, &mut key);
            fetch.move_to(key.into());
        }
        self.rules.key.chosen_by(&names, &exchange.request.headers)
    }

    fn tag_names(&self, headers: &HeaderMap) -> Vec<Vec<u8>> {
        let lines = self.rules.tags.iter().flat_map(|name| headers.get_all(name));
        let names = lines.flat_map(|line| line.as_bytes().split(|byte| matches!(byte, b',' | b' ' | b'\t')));
        names
            .filter(|name| !name.is_empty())
            .take(64)
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn entry(
        &self,
        exchange: &Exchange,
        status: StatusCode,
        headers: &HeaderMap,
        fetch: &Fetch,
        tags: Vec<Arc<Tag>>,
        body: Bytes,
    ) -> Entry {
        let control = ResponseControl::of(headers, &self.rules.targeted);
        let lifetime = self.lifetime(exchange, status, headers, &control);
        Entry::new(Parts {
            status,
            headers,
            body,
            reuse: Stored::of(&control, lifetime, self.rules.policy_of(exchange)),
            age: freshness::initial_age(headers, exchange.timing.started_at, received_at(exchange)),
            then: received(exchange),
            born: fetch.born,
            tags,
            cost: received(exchange).saturating_duration_since(exchange.timing.started),
            chosen_by: fetch.chosen_by.clone(),
        })
    }

    /// How long an entry is of use: fresh, or stale and standing in, or worth asking about.
    pub(super) fn lasts(&self, entry: &Entry) -> Duration {
        let validator = entry.has_validator();
        let stale = [
            entry.reuse.stale_while_revalidate,
            entry.reuse.stale_if_error,
            validator.then_some(self.rules.keep),
        ];
        let stale = stale.into_iter().flatten().max().unwrap_or_default();
        let lasts = entry.reuse.lifetime.saturating_add(stale);
        // moka's longest is a thousand years.
        lasts.min(Duration::from_secs(10 * 365 * 86_400))
    }

    /// Stores an entry, unless it was purged on its way, or is a slow one that another has overtaken.
    fn keep(&self, fetch: &Fetch, entry: Arc<Entry>, lasts: Duration) {
        let is_current = |entry: &Entry| entry.is_current(&self.cache.tags, url_of(&fetch.key));
        let newer = |slot| matches!(slot, Slot::Entry(other) if other.is_newer_than(&entry) && is_current(&other));
        if is_current(&entry) && !self.store.peek(&fetch.key).is_some_and(newer) {
            self.store.put(fetch.key.clone(), Slot::Entry(entry), lasts);
        }
    }

    /// A piece of the response body, or its end.
    pub(super) fn body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool, fetch: &mut Fetch) {
        // Nothing of it follows a 304, whatever becomes of it here.
        let kept = if fetch.silent { chunk.take() } else { None };
        let Some(receiving) = &mut fetch.receiving else {
            return;
        };
        if let Some(piece) = kept.as_ref().or(chunk.as_ref()).filter(|piece| !piece.is_empty()) {
            let length = piece.len() as u64;
            receiving.size += length;
            let reserved = receiving.expected.is_some() || receiving.reserved.grow(length);
            if receiving.size > receiving.most || !reserved {
                exchange.plan.read_ahead = 0;
                let most = Fact::Size(self.rules.max_body);
                exchange.ledger.enter_with(NAME, "body_too_large", most);
                if receiving.size > receiving.most {
                    self.store.put(fetch.key.clone(), Slot::Pass, PASS_FOR);
                }
                fetch.give_up();
                return;
            }
            // A piece may be a small part of a large buffer.
            let piece = Bytes::copy_from_slice(piece);
            if let Some(lead) = &fetch.lead {
                lead.fill().push(piece.clone());
            }
            receiving.pieces.push(piece);
        }
        if end {
            self.received(exchange, fetch);
        }
    }

    /// The response is there as a whole.
    fn received(&self, exchange: &mut Exchange, fetch: &mut Fetch) {
        let Some(receiving) = fetch.receiving.take() else {
            return;
        };
        if receiving.expected.is_some_and(|expected| expected != receiving.size) {
            exchange.ledger.enter(NAME, "incomplete");
            fetch.give_up();
            return;
        }
        let mut pieces = receiving.pieces;
        let body = if pieces.len() == 1 {
            pieces.pop().unwrap_or_default()
        } else {
            Bytes::from(pieces.concat())
        };
        let mut entry = receiving.head.with_body(body);
        entry.cost = receiving.began.elapsed();
        if let Some(stale) = &fetch.stale {
            entry.inherit(stale);
        }
        if !receiving.has_tags || self.cache.tags.remembers(fetch.born) {
            self.keep(fetch, Arc::new(entry), receiving.lasts);
        }
        if let Some(lead) = fetch.lead.take() {
            lead.fill().done();
        }
    }
}

impl Refused {
    fn lasting(reason: &'static str) -> Self {
        Self { reason, lasting: true }
    }

    fn now(reason: &'static str) -> Self {
        Self { reason, lasting: false }
    }
}

/// The client's own conditions, wherever they are.
fn conditions(exchange: &Exchange, fetch: &Fetch) -> HeaderMap {
    let mut headers = exchange.request.headers.clone();
    if fetch.asks {
        headers.remove(IF_NONE_MATCH);
        headers.remove(IF_MODIFIED_SINCE);
    }
    headers.extend(fetch.client.clone());
    headers
}

/// When the response head arrived: now, if it is the sidecar's own. By tokio's clock, which tests advance.
fn received(exchange: &Exchange) -> Instant {
    let now = || tokio::time::Instant::now().into_std();
    exchange.timing.first_byte.unwrap_or_else(now)
}

/// The same on the wall clock.
fn received_at(exchange: &Exchange) -> SystemTime {
    let took = received(exchange).saturating_duration_since(exchange.timing.started);
    exchange.timing.started_at + took
}

fn date(at: SystemTime) -> HeaderValue {
    HeaderValue::try_from(httpdate::fmt_http_date(at)).unwrap_or(HeaderValue::from_static(""))
}

/// Makes a 304 of a 200 (RFC 9110, section 15.4.5).
fn not_modified(head: &mut ResponseHeader) {
    let _ = head.set_status(StatusCode::NOT_MODIFIED);
    for name in [
        http::header::CONTENT_LENGTH,
        http::header::CONTENT_TYPE,
        http::header::CONTENT_ENCODING,
        http::header::CONTENT_LANGUAGE,
        http::header::TRANSFER_ENCODING,
    ] {
        head.remove_header(&name);
    }
}
