//! What a cache knows of statuses.

use http::StatusCode;

/// The statuses that are cacheable without a word about it (RFC 9110, section 15.1).
pub(super) fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Whether the requirements of a status are known: all registered final ones (RFC 9110, section 15), but for those that
/// answer only part of a question.
pub(super) fn understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 207 | 208 | 226 | 300..=303 | 305 | 307 | 308 | 400..=415 | 417 | 421..=426 | 428 | 429 | 431 | 451
            | 500..=508 | 510 | 511
    )
}

/// Statuses that no later request may be answered with, whatever the response says:
///
/// - not final, or not a status at all (RFC 9110, section 15);
/// - 428, 429, 431 and 511 (RFC 6585: each "MUST NOT be stored by a cache");
/// - those that tell of fields which another request does not send and no key contains: 401 and 407 of credentials, 412
///   of a precondition, 417 of an expectation, 425 of early data. An app that adds `max-age` to all that it sends would
///   otherwise turn all callers away for the mistake of one.
pub(super) fn never_stored(status: StatusCode) -> bool {
    !matches!(status.as_u16(), 200..=599)
        || matches!(status.as_u16(), 401 | 407 | 412 | 417 | 425 | 428 | 429 | 431 | 511)
}
