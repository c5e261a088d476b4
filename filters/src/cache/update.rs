//! What a response without a body tells of a stored one (RFC 9111, sections 3.2, 4.3.4 and 4.3.5).

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, VIA,
};
use http::{HeaderMap, HeaderName};

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
pub(super) fn freshened(
    stored: &HeaderMap,
    newer: &HeaderMap,
    control: &ResponseControl,
    policy: &Policy,
) -> HeaderMap {
    let mut headers = stored.clone();
    let dropped = storable::fields_to_drop(control, policy, newer);
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
    // An age that was counted before is over.
    if !newer.contains_key(http::header::AGE) {
        headers.remove(http::header::AGE);
    }
    headers
}

/// Whether a response to HEAD is of the version that is stored.
pub(super) fn is_of_same(entry: &Entry, head: &HeaderMap) -> bool {
    let same = |name: &HeaderName| match (entry.field(name), head.get(name)) {
        (Some(stored), Some(said)) => stored == said.as_bytes(),
        _ => true,
    };
    let length = head
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    same(&ETAG) && same(&LAST_MODIFIED) && length.is_none_or(|length: usize| length == entry.body.len())
}
