//! What a response without a body tells of a stored one (RFC 9111, sections 3.2, 4.3.4 and 4.3.5).

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::conditional::weak_match;
use super::control::ResponseControl;
use super::entry::Entry;
use super::freshness::Policy;
use super::status::CACHE_STATUS;
use super::storable;

/// Fields that describe the stored body, which has not changed.
const OF_THE_BODY: [HeaderName; 5] = [
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
];

/// The stored fields, with those that a newer response without a body has in their place.
pub(super) fn freshened(stored: &HeaderMap, newer: &HeaderMap, targeted: &[HeaderName], policy: &Policy) -> HeaderMap {
    let mut headers = stored.clone();
    let dropped = storable::fields_to_drop(&ResponseControl::of(newer, targeted), policy, newer);
    let mut before = None;
    for (name, value) in newer {
        if OF_THE_BODY.contains(name) || dropped.contains(name) || name == CACHE_STATUS || name == VIA {
            continue;
        }
        if before == Some(name) {
            headers.append(name, value.clone());
        } else {
            headers.insert(name, value.clone());
            before = Some(name);
        }
    }
    // The newer directives may name older fields.
    for name in storable::fields_to_drop(&ResponseControl::of(&headers, targeted), policy, &headers) {
        headers.remove(name);
    }
    // An age that was counted before is over.
    if !newer.contains_key(http::header::AGE) {
        headers.remove(http::header::AGE);
    }
    headers
}

/// Whether a 304 is of the version that is stored and was asked about (RFC 9111, section 4.3.4).
pub(super) fn is_validated(entry: &Entry, newer: &HeaderMap) -> bool {
    let is_same = |stored: &[u8], said: &HeaderValue| stored == said.as_bytes();
    match (entry.field(&ETAG), newer.get(ETAG)) {
        (Some(stored), Some(said)) => {
            is_same(&stored, said) || (said.as_bytes().starts_with(b"W/") && weak_match(&stored, said.as_bytes()))
        }
        (None, Some(_)) => false,
        (Some(_), None) => true,
        (None, None) => newer
            .get(LAST_MODIFIED)
            .is_none_or(|said| entry.field(&LAST_MODIFIED).is_some_and(|stored| is_same(&stored, said))),
    }
}

/// Whether a response to HEAD is of the version that is stored.
pub(super) fn is_of_same(entry: &Entry, head: &HeaderMap) -> bool {
    let same = |name: &HeaderName| {
        let said = head.get(name);
        said.is_none_or(|said| entry.field(name).is_some_and(|stored| stored == said.as_bytes()))
    };
    let length = head
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    same(&ETAG) && same(&LAST_MODIFIED) && length.is_none_or(|length: usize| length == entry.body.len())
}
