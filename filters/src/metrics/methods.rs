//! The request methods that get a label of their own. A client may send any word; labels and span names stay few.

use http::Method;

/// How many [`index`]es there are.
pub(crate) const COUNT: usize = 11;

/// By [`index`]: the methods of RFC 9110, RFC 5789 (PATCH) and QUERY, then OpenTelemetry's word for all others.
pub(crate) const NAMES: [&str; COUNT] = [
    "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY", OTHER,
];

/// The word for methods without a name of their own.
pub(crate) const OTHER: &str = "_OTHER";

/// A method's place in [`NAMES`].
pub(crate) fn index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::POST => 1,
        Method::PUT => 2,
        Method::DELETE => 3,
        Method::HEAD => 4,
        Method::OPTIONS => 5,
        Method::PATCH => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        Method::QUERY => 9,
        _ => COUNT - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_at_its_index() {
        for (place, name) in NAMES.iter().enumerate() {
            assert_eq!(index(&name.parse().unwrap()), place);
        }
        assert_eq!(index(&Method::from_bytes(b"get").unwrap()), COUNT - 1);
        assert_eq!(index(&Method::from_bytes(b"PROPFIND").unwrap()), COUNT - 1);
    }
}
