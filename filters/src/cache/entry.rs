//! A stored response: one block for its head, one for its body.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use super::reuse::Stored;
use super::tags::{Tag, Tags};
use super::warm::Fields;
use crate::Fact;

/// What the store spends on whatever it keeps, beside its key: nodes of its map, of its queue by use and of its clock of
/// what ends, and the share of its tables. Measured: `cargo bench --package pillion-filters --bench cache -- memory`.
const NODES: usize = 400;
/// A tag that no other response has: its place here, itself, and its place among all tags.
const TAG: usize = 96;
/// What a [`Bytes`] needs beside its bytes once there are two of it, as there are of what is received.
const SHARED: usize = 32;

/// Fields of a 304 (RFC 9110, section 15.4.5), beside those that name the copy.
const OF_NOT_MODIFIED: [HeaderName; 7] = [
    CACHE_CONTROL,
    CONTENT_LOCATION,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    VARY,
];

/// Names that most responses have, kept as their place in this list: shorter, and nothing to parse for every hit.
static KNOWN: [HeaderName; 39] = [
    header::DATE,
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::ETAG,
    header::LAST_MODIFIED,
    header::VARY,
    header::SERVER,
    header::EXPIRES,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::AGE,
    header::VIA,
    header::ACCEPT_RANGES,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_DISPOSITION,
    header::CONTENT_SECURITY_POLICY,
    header::STRICT_TRANSPORT_SECURITY,
    header::X_CONTENT_TYPE_OPTIONS,
    header::X_FRAME_OPTIONS,
    header::X_XSS_PROTECTION,
    header::X_DNS_PREFETCH_CONTROL,
    header::REFERRER_POLICY,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::ALT_SVC,
    header::LINK,
    header::LOCATION,
    header::PRAGMA,
    header::SET_COOKIE,
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-request-id"),
];

/// Room for what most responses have, and for what is added to a stored one.
const FIELDS: usize = 12;

/// A stored response.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    /// Name and value of each field; see [`encode`].
    fields: Bytes,
    pub(super) body: Bytes,
    /// What governs its reuse.
    pub(super) reuse: Stored,
    /// How old it was then.
    age: Duration,
    then: Instant,
    /// The purge it was fetched after; see [`Tags`].
    born: u64,
    /// The last purge by prefix it is known to have outlived.
    outlived: AtomicU64,
    tags: Box<[Arc<Tag>]>,
    /// Times it was served.
    hits: AtomicU32,
    /// A refresh is under way.
    refreshing: AtomicBool,
    /// What its fetch took.
    pub(super) cost: Duration,
    /// The request fields it was chosen by; `None` where they must not be kept.
    chosen_by: Option<Fields>,
}

/// Bytes that a slot of the store takes up with a key of that length, without what is in it.
pub(super) fn weight_of_slot(key: usize) -> u64 {
    (NODES + allocated(key)) as u64
}

/// What an allocator gives to who asks for so many bytes: it has sizes in steps of an eighth to a quarter.
pub(super) fn allocated(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step)
}

/// What an entry is made of.
pub(super) struct Parts<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Bytes,
    pub(super) reuse: Stored,
    pub(super) age: Duration,
    pub(super) then: Instant,
    pub(super) born: u64,
    pub(super) tags: Vec<Arc<Tag>>,
    pub(super) cost: Duration,
    pub(super) chosen_by: Option<Fields>,
}

impl Entry {
    pub(super) fn new(parts: Parts<'_>) -> Self {
        Self {
            status: parts.status,
            fields: encode(parts.headers),
            body: parts.body,
            reuse: parts.reuse,
            age: parts.age,
            then: parts.then,
            born: parts.born,
            outlived: AtomicU64::new(parts.born),
            tags: parts.tags.into(),
            hits: AtomicU32::new(0),
            refreshing: AtomicBool::new(false),
            cost: parts.cost,
            chosen_by: parts.chosen_by,
        }
    }

    /// The same with its body.
    pub(super) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// The same in another coding.
    pub(super) fn recoded(&self, headers: &HeaderMap, body: Bytes) -> Self {
        Self::new(Parts {
            status: self.status,
            headers,
            body,
            reuse: self.reuse,
            age: self.age,
            then: self.then,
            born: self.born,
            tags: self.tags.to_vec(),
            cost: self.cost,
            chosen_by: self.chosen_by.clone(),
        })
    }

    /// Its age at that moment (RFC 9111, section 4.2.3), by a clock that never jumps.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_duration_since(self.then))
    }

    /// How old it is at that moment, and how long it is fresh from then on or has been stale; for the ledger.
    pub(super) fn in_time(&self, now: Instant) -> Fact {
        let age = self.age(now);
        Fact::Times(age, self.reuse.lifetime.abs_diff(age))
    }

    /// Whether it arrived later than another.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.then > other.then
    }

    /// Bytes it takes up with a key of that length.
    pub(super) fn weight(&self, key: usize) -> u64 {
        let chosen_by = self.chosen_by.iter().flatten();
        let chosen_by = chosen_by.map(|(name, value)| {
            size_of::<(HeaderName, HeaderValue)>()
                + allocated(name.as_str().len())
                + allocated(value.len())
                + 2 * SHARED
        });
        let own = allocated(size_of::<Self>()) + 2 * SHARED + allocated(self.fields.len()) + allocated(self.body.len());
        weight_of_slot(key) + (own + self.tags.len() * TAG + chosen_by.sum::<usize>()) as u64
    }

    /// Whether no purge has met it.
    pub(super) fn is_current(&self, tags: &Tags, url: &[u8]) -> bool {
        let outlived = self.outlived.load(Ordering::Relaxed);
        if !tags.has_outlived(outlived, url) {
            return false;
        }
        let wide = tags.wide();
        if wide > outlived && tags.has_outlived(self.born, url) {
            self.outlived.store(wide, Ordering::Relaxed);
        }
        !self.tags.iter().any(|tag| tag.is_purged_since(self.born))
    }

    /// The purge it was fetched after.
    pub(super) fn born(&self) -> u64 {
        self.born
    }

    /// The request fields it was chosen by, if it may be fetched again by them.
    pub(super) fn chosen_by(&self) -> Option<&Fields> {
        self.chosen_by.as_ref()
    }

    /// Its tags.
    pub(super) fn tags(&self) -> &[Arc<Tag>] {
        &self.tags
    }

    /// Counts a use; how often it was used before.
    pub(super) fn used(&self) -> u32 {
        self.hits.fetch_add(1, Ordering::Relaxed)
    }

    /// How often it was used.
    pub(super) fn hits(&self) -> u32 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Takes over how often another was used: a new version of a popular response is popular.
    pub(super) fn inherit(&self, other: &Self) {
        self.hits.store(other.hits() / 2, Ordering::Relaxed);
    }

    /// True for the one who is to refresh it.
    pub(super) fn claim_refresh(&self) -> bool {
        !self.refreshing.load(Ordering::Relaxed) && !self.refreshing.swap(true, Ordering::AcqRel)
    }

    /// The refresh came to nothing; another may be tried.
    pub(super) fn release_refresh(&self) {
        self.refreshing.store(false, Ordering::Release);
    }

    /// Whether the origin can be asked if it is still good.
    pub(super) fn has_validator(&self) -> bool {
        self.field(&ETAG).is_some() || self.field(&LAST_MODIFIED).is_some()
    }

    /// The first value of a field.
    pub(super) fn field(&self, name: &HeaderName) -> Option<Bytes> {
        self.fields().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    fn fields(&self) -> impl Iterator<Item = (HeaderName, Bytes)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let name = usize::from(u16::from_le_bytes(self.fields.get(at..at + 2)?.try_into().ok()?));
            let value_length = u32::from_le_bytes(self.fields.get(at + 2..at + 6)?.try_into().ok()?) as usize;
            let name_at = at + 6;
            let (name, value_at) = if let Some(known) = KNOWN.get(name) {
                (known.clone(), name_at)
            } else {
                let value_at = name_at + name - KNOWN.len();
                // What was stored was valid.
                (
                    HeaderName::from_bytes(self.fields.get(name_at..value_at)?).ok()?,
                    value_at,
                )
            };
            at = value_at + value_length;
            (at <= self.fields.len()).then(|| (name, self.fields.slice(value_at..at)))
        })
    }

    fn some_headers(&self, wanted: impl Fn(&HeaderName) -> bool) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(FIELDS);
        for (name, value) in self.fields().filter(|(name, _)| wanted(name)) {
            if let Ok(value) = HeaderValue::from_maybe_shared(value) {
                headers.append(name, value);
            }
        }
        headers
    }

    /// All its header fields.
    pub(super) fn headers(&self) -> HeaderMap {
        self.some_headers(|_| true)
    }

    /// Those of a 304 in its place.
    pub(super) fn headers_of_not_modified(&self) -> HeaderMap {
        self.some_headers(|name| OF_NOT_MODIFIED.contains(name))
    }

    #[cfg(test)]
    pub(super) fn for_tests(body: &'static str) -> Self {
        Self::new(Parts {
            status: StatusCode::OK,
            headers: &HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            reuse: Stored::default(),
            age: Duration::ZERO,
            then: Instant::now(),
            born: 0,
            tags: Vec::new(),
            cost: Duration::ZERO,
            chosen_by: None,
        })
    }
}

/// Each field as a number for its name, the length of its value, the name if it is not [`KNOWN`], the value. The number is
/// the name's place among the known ones, or else how many there are of those and the name's length.
fn encode(headers: &HeaderMap) -> Bytes {
    let place = |name: &HeaderName| KNOWN.iter().position(|known| known == name);
    let size = headers.iter().map(|(name, value)| {
        let name = place(name).map_or(name.as_str().len(), |_| 0);
        6 + name + value.len()
    });
    let mut fields = BytesMut::with_capacity(size.sum());
    for (name, value) in headers {
        let known = place(name);
        let text = name.as_str();
        // Both lengths are bounded far below by what is read of a head.
        fields.put_u16_le(known.unwrap_or(KNOWN.len() + text.len()) as u16);
        fields.put_u32_le(value.len() as u32);
        if known.is_none() {
            fields.put_slice(text.as_bytes());
        }
        fields.put_slice(value.as_bytes());
    }
    fields.freeze()
}

/// A head made at once: adding fields to one that is there costs much more.
pub(super) fn head(status: StatusCode, headers: HeaderMap) -> Box<ResponseHeader> {
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    parts.headers = headers;
    Box::new(parts.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_out_as_it_went_in() {
        let mut headers = HeaderMap::new();
        headers.append(ETAG, HeaderValue::from_static("\"a\""));
        headers.append("x-list", HeaderValue::from_static("1"));
        headers.append("x-list", HeaderValue::from_static(""));
        headers.append("x-bytes", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let entry = Entry::new(Parts {
            headers: &headers,
            ..parts()
        });
        assert_eq!(entry.headers(), headers);
        assert_eq!(entry.field(&ETAG).unwrap(), "\"a\"");
        assert_eq!(entry.field(&DATE), None);
        assert_eq!(entry.headers_of_not_modified().len(), 1);
        let head = head(StatusCode::NOT_FOUND, headers.clone());
        assert_eq!((head.status, &head.headers), (StatusCode::NOT_FOUND, &headers));
    }

    fn parts() -> Parts<'static> {
        static NONE: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
        Parts {
            status: StatusCode::OK,
            headers: &NONE,
            body: Bytes::new(),
            reuse: Stored::default(),
            age: Duration::from_secs(5),
            then: Instant::now(),
            born: 0,
            tags: Vec::new(),
            cost: Duration::ZERO,
            chosen_by: None,
        }
    }

    #[test]
    fn sizes_are_those_of_allocators() {
        for (bytes, given) in [
            (0, 0),
            (1, 16),
            (100, 112),
            (1024, 1024),
            (1025, 1280),
            (10_240, 10_240),
            (10_241, 12_288),
        ] {
            assert_eq!(allocated(bytes), given, "{bytes}");
        }
    }

    #[test]
    fn it_grows_older() {
        let entry = Entry::new(parts());
        assert_eq!(entry.age(entry.then), Duration::from_secs(5));
        assert_eq!(entry.age(entry.then + Duration::from_secs(2)), Duration::from_secs(7));
        assert_eq!(
            entry.age(entry.then.checked_sub(Duration::from_secs(2)).unwrap()),
            Duration::from_secs(5)
        );
    }

    #[test]
    fn a_purge_ends_it() {
        let tags = Arc::new(Tags::default());
        let entry = Entry::new(Parts {
            tags: vec![tags.get(b"orders")],
            ..parts()
        });
        assert!(entry.is_current(&tags, b"http://a/x"));
        tags.purge_prefix(b"http://b");
        assert!(entry.is_current(&tags, b"http://a/x"));
        assert_eq!(entry.outlived.load(Ordering::Relaxed), tags.wide());
        tags.purge_tag(b"orders");
        assert!(!entry.is_current(&tags, b"http://a/x"));
    }

    #[test]
    fn one_is_to_refresh_it() {
        let entry = Entry::new(parts());
        assert!(entry.claim_refresh());
        assert!(!entry.claim_refresh());
        entry.release_refresh();
        assert!(entry.claim_refresh());
    }
}
