//! The way in: what the cache does with a request.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, PRAGMA, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora_http::RequestHeader;

use super::answer::{answer, is_not_modified};
use super::control::RequestControl;
use super::counters::Served;
use super::entry::{self, Entry};
use super::fetch::Fetch;
use super::fill::{Fill, Follower, Progress};
use super::key;
use super::reuse::{self, Verdict};
use super::status::{self, Forward};
use super::store::{Key, Slot};
use super::{Inner, NAME, State, url_of};
use crate::{Background, Body, Exchange, Fact, Refusal, Response, Resume, Step};

/// The longest wait for a lead to say what its response is worth, over and over.
pub(super) const MOST_TRIES: u32 = 3;

const ONLY_IF_CACHED: Refusal = Refusal::denied(
    StatusCode::GATEWAY_TIMEOUT,
    "only_if_cached",
    "no stored response answers the request, which wants no other",
);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A key as it is written for one lookup.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) key: &'a [u8],
    /// Where the key without the fields the response varies by ends.
    pub(super) primary: usize,
}

/// How often, and how long, a request has waited for another's fetch.
#[derive(Clone, Copy, Default)]
pub(super) struct Waits {
    pub(super) tries: u32,
    pub(super) took: Duration,
}

/// A refresh, as the exchange that makes it finds it.
pub(super) struct Refresh {
    key: Key,
    primary: usize,
    /// What is refreshed; none when a URL is warmed.
    entry: Option<Arc<Entry>>,
}

impl Refresh {
    /// A fetch of what may not be stored yet.
    pub(super) fn warm() -> Self {
        Self {
            key: Key::default(),
            primary: 0,
            entry: None,
        }
    }
}

impl Inner {
    /// The request head is there.
    pub(super) fn request(self: &Arc<Self>, exchange: &mut Exchange) -> Step {
        if let Some(refresh) = exchange.take_state::<Refresh>() {
            return self.refresh(exchange, refresh);
        }
        let method = &exchange.request.method;
        let is_post = *method == Method::POST;
        if is_post && self.rules.post.is_some() && !exchange.is_grpc() {
            return self.search(exchange);
        }
        if *method != Method::GET && *method != Method::HEAD {
            let is_safe = matches!(*method, Method::OPTIONS | Method::TRACE);
            exchange.set_state(if is_safe { State::Method } else { State::Unsafe });
            return Step::Continue;
        }
        if let Some(reason) = self.leaves_alone(exchange) {
            return self.bypass(exchange, reason);
        }
        self.decide(exchange, None, Waits::default())
    }

    fn leaves_alone(&self, exchange: &Exchange) -> Option<&'static str> {
        if !self.rules.get {
            Some("method")
        } else if exchange.has_body {
            // What a body means in a GET is anybody's guess (RFC 9110, section 9.3.1).
            Some("request_body")
        } else if self.rules.bypass.matches(exchange) {
            Some("configured")
        } else {
            exchange.request.headers.keys().find_map(out_of_key)
        }
    }

    fn bypass(&self, exchange: &mut Exchange, reason: &'static str) -> Step {
        exchange.ledger.enter_with(NAME, "bypass", Fact::Kind(reason));
        self.counters.count(Served::Bypass);
        exchange.set_state(State::Bypass(reason));
        Step::Continue
    }

    /// A POST whose body is part of the key.
    fn search(self: &Arc<Self>, exchange: &mut Exchange) -> Step {
        if self.rules.bypass.matches(exchange) {
            return self.bypass(exchange, "configured");
        }
        let inner = self.clone();
        let limit = self.rules.post.unwrap_or_default();
        Step::Body(
            limit,
            Box::new(move |exchange, body| match body {
                Some(body) => inner.decide(exchange, Some(&body), Waits::default()),
                None => inner.bypass(exchange, "request_body_too_large"),
            }),
        )
    }

    pub(super) fn decide(self: &Arc<Self>, exchange: &mut Exchange, body: Option<&Bytes>, waits: Waits) -> Step {
        SCRATCH.with_borrow_mut(|key| {
            self.rules.key.write(exchange, body.map(|body| &body[..]), key);
            if key.len() > key::LONGEST {
                return self.bypass(exchange, "key_too_long");
            }
            self.look(exchange, key, body, waits)
        })
    }

    fn look(self: &Arc<Self>, exchange: &mut Exchange, key: &mut Vec<u8>, body: Option<&Bytes>, waits: Waits) -> Step {
        let primary = key.len();
        let mut slot = self.store.get(key);
        let mut varies = None;
        if let Some(Slot::Varies(names)) = slot {
            self.write_secondary(&names, &exchange.request.headers, None, key);
            slot = self.store.get(key);
            varies = Some(names);
        }
        let written = Written { key, primary };
        let now = exchange.timing.started + waits.took;
        let (entry, passes) = match slot {
            Some(Slot::Entry(entry))
                if entry.is_current(&self.cache.tags, url_of(written.key))
                    && self.can_read(&entry, &exchange.request.headers) =>
            {
                (Some(entry), false)
            }
            Some(Slot::Pass) => (None, true),
            _ => (None, false),
        };
        let asked = self.asked(&exchange.request.headers);
        let mut forward = if varies.is_some() {
            Forward::VaryMiss
        } else {
            Forward::UriMiss
        };
        let (mut detail, mut fact) = (None, Fact::None);
        if let Some(entry) = &entry {
            match reuse::judge(&entry.reuse, entry.age(now), &asked, true) {
                Verdict::Fresh => {
                    self.refresh_ahead(exchange, entry, written);
                    self.improve(entry, written.key);
                    return self.serve(exchange, entry, now, Served::Hit, None);
                }
                Verdict::StaleWhileRevalidate => {
                    self.refresh_behind(exchange, entry, written);
                    return self.serve(exchange, entry, now, Served::Stale, Some("stale_while_revalidate"));
                }
                Verdict::StaleAsked => return self.serve(exchange, entry, now, Served::Stale, Some("max_stale")),
                Verdict::Revalidate(reason) => {
                    detail = Some(reason);
                    fact = entry.in_time(now);
                    forward = match reason {
                        "stale" | "no_cache" => Forward::Stale,
                        _ => Forward::Request,
                    };
                }
            }
        }
        if let Some(names) =
            varies.filter(|_| entry.is_none() && body.is_none() && !passes && waits.tries <= MOST_TRIES)
            && let Some(step) = self.recode(exchange, written, &names, &asked, waits)
        {
            return step;
        }
        if asked.only_if_cached {
            exchange.ledger.enter(NAME, "miss");
            self.counters.count(Served::Miss);
            return Step::Refuse(ONLY_IF_CACHED);
        }
        let leads = !passes && waits.tries <= MOST_TRIES;
        if leads && !exchange.request.headers.contains_key(RANGE) {
            // Who wants part of what is not stored, or what cannot be, goes alone.
            if let Some(step) = self.join(exchange, written, &asked, body, waits) {
                return step;
            }
        } else if leads && entry.is_none() {
            forward = Forward::Partial;
        }
        if detail.is_none() {
            fact = match forward {
                Forward::Partial => Fact::Kind("partial"),
                _ if passes => Fact::Kind("unstorable"),
                Forward::VaryMiss => Fact::Kind("vary"),
                _ => Fact::None,
            };
        }
        let why = Why {
            forward,
            detail,
            fact,
            leads,
        };
        self.fetch(exchange, written, entry, why, asked)
    }

    fn asked(&self, headers: &HeaderMap) -> RequestControl {
        if self.rules.client_directives {
            RequestControl::of(headers)
        } else {
            RequestControl::default()
        }
    }

    /// Answers with a stored response.
    pub(super) fn serve(
        &self,
        exchange: &mut Exchange,
        entry: &Arc<Entry>,
        now: Instant,
        served: Served,
        detail: Option<&'static str>,
    ) -> Step {
        entry.used();
        self.counters.count_saved(served, entry.cost);
        exchange
            .ledger
            .enter_with(NAME, detail.unwrap_or("hit"), entry.in_time(now));
        let request = &exchange.request;
        let said = status::hit(entry.reuse.lifetime, entry.age(now), detail);
        Step::Respond(answer(entry, &request.method, &request.headers, now, said))
    }

    /// Follows another's fetch, if there is one that may be worth it.
    fn join(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        written: Written<'_>,
        asked: &RequestControl,
        body: Option<&Bytes>,
        waits: Waits,
    ) -> Option<Step> {
        let wait = self.rules.collapse?;
        if asked.no_cache || asked.no_store || exchange.request.method == Method::HEAD {
            return None;
        }
        let fill = self.store.filling(written.key)?;
        let follower = fill.follow();
        match fill.progress() {
            Progress::Streaming(head) => {
                let age = head.age(exchange.timing.started + waits.took);
                let verdict = reuse::judge(&head.reuse, age, asked, true);
                // What may not be served once it is stored may not be served on its way there either.
                let is_current = head.is_current(&self.cache.tags, url_of(written.key));
                let may = is_current
                    && !matches!(verdict, Verdict::Revalidate(_))
                    && self.can_read(&head, &exchange.request.headers);
                may.then(|| self.stream(exchange, &head, age, follower))
            }
            Progress::Waiting => {
                if waits.tries == 0 {
                    self.counters.collapsed.inc();
                }
                let (inner, body) = (self.clone(), body.cloned());
                Some(Step::Wait(Box::pin(async move {
                    let began = tokio::time::Instant::now();
                    let known = tokio::time::timeout(wait, follower.known()).await.is_ok();
                    let took = waits.took + began.elapsed();
                    let resume: Resume = Box::new(move |exchange| {
                        let worth = known && !matches!(fill.progress(), Progress::Nothing);
                        let tries = if worth { waits.tries + 1 } else { MOST_TRIES + 1 };
                        let step = inner.decide(exchange, body.as_ref(), Waits { tries, took });
                        drop(follower);
                        step
                    });
                    resume
                })))
            }
            Progress::Done | Progress::Nothing => None,
        }
    }

    /// Answers with what another is still receiving.
    fn stream(&self, exchange: &mut Exchange, head: &Arc<Entry>, age: Duration, follower: Follower) -> Step {
        exchange.ledger.enter(NAME, "collapsed");
        self.counters.count_saved(Served::Collapsed, head.cost);
        let request = &exchange.request;
        let (status, fields, body) = if is_not_modified(head, &request.method, &request.headers) {
            (StatusCode::NOT_MODIFIED, head.headers_of_not_modified(), Body::Empty)
        } else {
            (head.status, head.headers(), Body::Stream(Box::pin(follower)))
        };
        let mut response = Response {
            head: entry::head(status, fields),
            body,
        };
        let _ = response.head.insert_header(AGE, HeaderValue::from(age.as_secs()));
        status::collapsed(&mut response.head);
        Step::Respond(response)
    }

    /// Lets the request go to the app, and its response be stored if it can be.
    fn fetch(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        written: Written<'_>,
        entry: Option<Arc<Entry>>,
        why: Why,
        asked: RequestControl,
    ) -> Step {
        exchange.ledger.enter_with(NAME, why.detail.unwrap_or("miss"), why.fact);
        let born = self.cache.tags.now();
        let url = self.cache.tags.get(url_of(written.key));
        let is_head = exchange.request.method == Method::HEAD;
        let lead = if why.leads
            && !is_head
            && self.rules.collapse.is_some()
            && !exchange.request.headers.contains_key(RANGE)
        {
            self.store.lead(written.key, || Fill::new(born, url.clone()))
        } else {
            None
        };
        if let Some(lead) = &lead {
            exchange.plan.want(lead.fill().clone());
        }
        let mut fetch = Fetch::new(written, url, born, why.forward, why.detail, asked, lead);
        let asks = entry.as_deref().is_some_and(Entry::has_validator);
        let alone = exchange.request.headers.contains_key(RANGE) || is_head || !why.leads;
        let take = if alone { asks } else { true };
        fetch.client = take_conditions(&mut exchange.request, take);
        fetch.revalidates(exchange, entry);
        exchange.set_state(State::Fetch(Box::new(fetch)));
        Step::Continue
    }

    /// Has an entry fetched anew before it is stale, if it is much asked for.
    fn refresh_ahead(&self, exchange: &Exchange, entry: &Arc<Entry>, written: Written<'_>) {
        let lifetime = entry.reuse.lifetime;
        if self.rules.refresh_ahead <= 0.0 || entry.hits() < self.rules.refresh_min_hits {
            return;
        }
        let left = lifetime.saturating_sub(entry.age(exchange.timing.started));
        if left > lifetime.mul_f64(self.rules.refresh_ahead) || lifetime < Duration::from_secs(1) {
            return;
        }
        self.refresh_behind(exchange, entry, written);
    }

    /// Has an entry fetched anew while it is served.
    fn refresh_behind(&self, exchange: &Exchange, entry: &Arc<Entry>, written: Written<'_>) {
        let is_search = exchange.request.method == Method::POST;
        if is_search || self.store.filling(written.key).is_some() || !entry.claim_refresh() {
            return;
        }
        let mut request = exchange.request.clone();
        request.set_method(Method::GET);
        // Neither what the client has nor what it would put up with is the cache's.
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE, CACHE_CONTROL, PRAGMA] {
            request.remove_header(&name);
        }
        let queued = self.background.dispatch(Background {
            direction: exchange.route.direction,
            filter: self.filter.clone(),
            request,
            authority: exchange.authority.clone(),
            connection: exchange.connection.clone(),
            state: Box::new(Refresh {
                key: written.key.into(),
                primary: written.primary,
                entry: Some(entry.clone()),
            }),
        });
        if !queued {
            entry.release_refresh();
        }
    }

    /// The request of a refresh.
    fn refresh(self: &Arc<Self>, exchange: &mut Exchange, refresh: Refresh) -> Step {
        self.counters.refreshes.inc();
        let Refresh { key, primary, entry } = refresh;
        let (key, primary) = if key.is_empty() {
            let mut key = Vec::new();
            self.rules.key.write(exchange, None, &mut key);
            let primary = key.len();
            (key, primary)
        } else {
            (key.into_vec(), primary)
        };
        let born = self.cache.tags.now();
        let url = self.cache.tags.get(url_of(&key));
        let Some(lead) = self.store.lead(&key, || Fill::new(born, url.clone())) else {
            // Somebody was faster.
            return Step::Respond(Response {
                head: Box::new(crate::failure::empty_head(StatusCode::NO_CONTENT)),
                body: Body::Empty,
            });
        };
        let written = Written { key: &key, primary };
        let mut fetch = Fetch::new(
            written,
            url,
            born,
            Forward::Stale,
            None,
            RequestControl::default(),
            Some(lead),
        );
        fetch.background = true;
        // It may have been purged since it was served.
        let entry = entry.filter(|entry| entry.is_current(&self.cache.tags, url_of(&key)));
        fetch.revalidates(exchange, entry);
        exchange.set_state(State::Fetch(Box::new(fetch)));
        Step::Continue
    }
}

/// Whether a field makes of the request something that its key does not tell.
fn out_of_key(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "upgrade" => Some("upgrade"),
        // They guard the app's state, not what was stored of it (RFC 9110, section 13.1).
        "if-match" | "if-unmodified-since" => Some("precondition"),
        // Some frameworks take these for the target and the method.
        "x-original-url" | "x-rewrite-url" | "x-http-method-override" | "x-http-method" | "x-method-override" => {
            Some("rewritten")
        }
        _ => None,
    }
}

/// Why a request goes to the app.
#[derive(Clone, Copy)]
struct Why {
    forward: Forward,
    detail: Option<&'static str>,
    fact: Fact,
    /// Whether others may wait for what comes of it.
    leads: bool,
}

/// Takes the client's conditions out of a request that is to fetch what can be stored, to be weighed against that.
fn take_conditions(request: &mut RequestHeader, take: bool) -> HeaderMap {
    let mut taken = HeaderMap::new();
    if take {
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            take_all(request, &name, &mut taken);
        }
    }
    taken
}

fn take_all(request: &mut RequestHeader, name: &HeaderName, taken: &mut HeaderMap) {
    for value in request.headers.get_all(name) {
        taken.append(name, value.clone());
    }
    request.remove_header(name);
}
