//! Trailers, which are forwarded as trailers or not at all.

use http::{HeaderMap, HeaderName, header};

/// Fields that mean something else before a message than after it, where some read them all the same: framing, routing,
/// authentication, and what a response says of itself (RFC 9110, section 6.5.1).
const NEVER: [HeaderName; 26] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::FORWARDED,
    header::HOST,
    super::KEEP_ALIVE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    super::PROXY_CONNECTION,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::WWW_AUTHENTICATE,
];

/// Makes received trailers fit to be forwarded; none where none of them are.
pub(in crate::engine) fn receive_trailers(mut trailers: HeaderMap) -> Option<HeaderMap> {
    for name in &NEVER {
        trailers.remove(name);
    }
    (!trailers.is_empty()).then_some(trailers)
}
