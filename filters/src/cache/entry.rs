//! A stored response: one block for its head, one for its body.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use super::reuse::Stored;
use super::tags::{Tag, Tags};
use super::warm::Fields;
use crate::failure::empty_head;

/// What the store spends on an entry beside its key, head and body: its own nodes and counters, and this struct. Measured
/// with 100,000 entries; see `docs/filters/cache.md`.
pub(super) const OVERHEAD: u64 = 560;

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

/// A stored response.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    /// Name and value of each field, each after its length.
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
    pub(super) fn with_body(&self, body: Bytes) -> Self {
        Self {
            status: self.status,
            fields: self.fields.clone(),
            body,
            reuse: self.reuse,
            age: self.age,
            then: self.then,
            born: self.born,
            outlived: AtomicU64::new(self.born),
            tags: self.tags.clone(),
            hits: AtomicU32::new(0),
            refreshing: AtomicBool::new(false),
            cost: self.cost,
            chosen_by: self.chosen_by.clone(),
        }
    }

    /// Its age at that moment (RFC 9111, section 4.2.3), by a clock that never jumps.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_duration_since(self.then))
    }

    /// Whether it arrived later than another.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.then > other.then
    }

    /// Bytes it takes up with a key of that length.
    pub(super) fn weight(&self, key: usize) -> u64 {
        (key + self.fields.len() + self.body.len() + self.tags.len() * 96) as u64 + OVERHEAD
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
        self.fields()
            .find(|(found, _)| *found == name.as_str().as_bytes())
            .map(|(_, value)| value)
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], Bytes)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let name_length = usize::from(u16::from_le_bytes(self.fields.get(at..at + 2)?.try_into().ok()?));
            let value_at = at + 6 + name_length;
            let value_length = u32::from_le_bytes(self.fields.get(at + 2..at + 6)?.try_into().ok()?) as usize;
            let name = self.fields.get(at + 6..value_at)?;
            at = value_at + value_length;
            (at <= self.fields.len()).then(|| (name, self.fields.slice(value_at..at)))
        })
    }

    /// All its header fields.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(16);
        for (name, value) in self.fields() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value)) {
                headers.append(name, value);
            }
        }
        headers
    }

    /// Its head, as stored.
    pub(super) fn head(&self) -> Box<ResponseHeader> {
        self.some_of_head(self.status, |_| true)
    }

    /// The head of a 304 in its place.
    pub(super) fn not_modified(&self) -> Box<ResponseHeader> {
        self.some_of_head(StatusCode::NOT_MODIFIED, |name| OF_NOT_MODIFIED.contains(name))
    }

    fn some_of_head(&self, status: StatusCode, wanted: impl Fn(&HeaderName) -> bool) -> Box<ResponseHeader> {
        let mut head = Box::new(empty_head(status));
        for (name, value) in self.fields() {
            // What was stored was valid.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value))
                && wanted(&name)
            {
                let _ = head.append_header(name, value);
            }
        }
        head
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

fn encode(headers: &HeaderMap) -> Bytes {
    let size = headers
        .iter()
        .map(|(name, value)| 6 + name.as_str().len() + value.len());
    let mut fields = BytesMut::with_capacity(size.sum());
    for (name, value) in headers {
        // Both lengths are bounded far below by what is read of a head.
        fields.put_u16_le(name.as_str().len() as u16);
        fields.put_u32_le(value.len() as u32);
        fields.put_slice(name.as_str().as_bytes());
        fields.put_slice(value.as_bytes());
    }
    fields.freeze()
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
        assert_eq!(entry.head().headers, headers);
        assert_eq!(entry.field(&ETAG).unwrap(), "\"a\"");
        assert_eq!(entry.field(&DATE), None);
        let not_modified = entry.not_modified();
        assert_eq!(not_modified.status, 304);
        assert_eq!(not_modified.headers.len(), 1);
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
