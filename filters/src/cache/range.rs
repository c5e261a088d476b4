//! Which part of a stored response a request asks for (RFC 9110, section 14).
//!
//! Answered are GET requests for one range of bytes. Anything else gets the whole, as the standard allows (section
//! 14.2): several ranges, other units, what is malformed, and an `If-Range` that does not hold.

use http::{HeaderMap, HeaderName, Method, header};

use super::conditional::strong_match;
use super::syntax::{Quotes, digits, members, parse_date};

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranged {
    Whole,
    /// A 206 with these bytes, the last included.
    Part {
        first: u64,
        last: u64,
    },
    /// A 416.
    Unsatisfiable,
}

/// What of a response of `length` bytes is asked for.
pub(super) fn evaluate(
    headers: &HeaderMap,
    method: &Method,
    length: u64,
    etag: Option<&[u8]>,
    last_modified: Option<&[u8]>,
) -> Ranged {
    let range = || {
        let range = only(headers, &header::RANGE)?;
        (*method == Method::GET && same_version(headers, etag, last_modified)).then_some(range)
    };
    range()
        .and_then(|range| satisfy(range, length))
        .unwrap_or(Ranged::Whole)
}

/// The value of a field that has one line.
fn only<'a>(headers: &'a HeaderMap, field: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(field).iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}

/// Whether `If-Range`, if there is one, names what is stored (RFC 9110, section 13.1.5). A date does by being the same
/// text as `Last-Modified`: whether that is a strong validator (section 8.8.2.2), only the origin knows.
fn same_version(headers: &HeaderMap, etag: Option<&[u8]>, last_modified: Option<&[u8]>) -> bool {
    if !headers.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(validator) = only(headers, &header::IF_RANGE) else {
        return false;
    };
    etag.is_some_and(|etag| strong_match(validator, etag))
        || (last_modified == Some(validator) && parse_date(validator).is_some())
}

/// The one range of a `Range` field; `None` if it is to be ignored (RFC 9110, section 14.1.2).
fn satisfy(range: &[u8], length: u64) -> Option<Ranged> {
    let (unit, ranges) = split(range, b'=')?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut ranges = members(ranges, Quotes::String);
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return None;
    };
    let (first, last) = split(range, b'-')?;
    let number = |text: &[u8]| digits(text.iter().copied());
    let (first, last) = match (first, last) {
        (b"", suffix) => {
            let suffix = number(suffix)?;
            if suffix == 0 {
                return Some(Ranged::Unsatisfiable);
            }
            // Satisfiable though empty, but no `Content-Range` can say so.
            let last = length.checked_sub(1)?;
            (length.saturating_sub(suffix), last)
        }
        (first, b"") => (number(first)?, u64::MAX),
        (first, last) => (number(first)?, number(last)?),
    };
    if last < first {
        None
    } else if first >= length {
        Some(Ranged::Unsatisfiable)
    } else {
        let last = last.min(length - 1);
        Some(Ranged::Part { first, last })
    }
}

/// What is before and after the first such byte.
fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = text.iter().position(|byte| *byte == at)?;
    Some((&text[..position], &text[position + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::head;
    use Ranged::{Part, Unsatisfiable, Whole};

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn part(first: u64, last: u64) -> Ranged {
        Part { first, last }
    }

    #[test]
    fn one_range_of_bytes_is_answered() {
        for (range, length, expected) in [
            ("bytes=0-1", 11, part(0, 1)),
            ("bytes=1-", 11, part(1, 10)),
            ("bytes=-1", 11, part(10, 10)),
            ("bytes=0-0", 1, part(0, 0)),
            ("bytes=5-99", 11, part(5, 10)),
            ("bytes=-99", 11, part(0, 10)),
            ("bytes=-11", 11, part(0, 10)),
            ("BYTES=0-1", 11, part(0, 1)),
            ("bytes= 0-1 ,", 11, part(0, 1)),
            ("bytes=010-0010", 11, part(10, 10)),
            ("bytes=5-99999999999999999999999", 11, part(5, 10)),
            ("bytes=-99999999999999999999999", 11, part(0, 10)),
            ("bytes=11-", 11, Unsatisfiable),
            ("bytes=11-12", 11, Unsatisfiable),
            ("bytes=99999999999999999999999-", 11, Unsatisfiable),
            ("bytes=-0", 11, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
        ] {
            let found = evaluate(&head(&[("range", range)]), &Method::GET, length, None, None);
            assert_eq!(found, expected, "{range} of {length}");
        }
    }

    #[test]
    fn anything_else_gets_the_whole() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=,",
            "bytes=2-1",
            "bytes=0-1,3-4",
            "bytes=0-1, 0-1",
            "bytes=a-b",
            "bytes=0-1-2",
            "bytes=0 - 1",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1",
            "bytes =0-1",
            "items=0-1",
            "0-1",
        ] {
            let found = evaluate(&head(&[("range", range)]), &Method::GET, 11, None, None);
            assert_eq!(found, Whole, "{range}");
        }
        let get = |lines: &[(&'static str, &str)]| evaluate(&head(lines), &Method::GET, 11, None, None);
        assert_eq!(get(&[]), Whole);
        assert_eq!(get(&[("if-range", DATE)]), Whole);
        assert_eq!(get(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]), Whole);
        for method in [Method::HEAD, Method::POST] {
            assert_eq!(
                evaluate(&head(&[("range", "bytes=0-1")]), &method, 11, None, None),
                Whole,
                "{method}"
            );
        }
    }

    #[test]
    fn if_range_must_name_what_is_stored() {
        for (condition, etag, modified, holds) in [
            ("\"a\"", Some("\"a\""), None, true),
            ("\"a\"", Some("\"b\""), None, false),
            ("\"a\"", None, Some(DATE), false),
            ("W/\"a\"", Some("W/\"a\""), None, false),
            ("\"a\"", Some("W/\"a\""), None, false),
            ("a", Some("a"), None, false),
            (DATE, None, Some(DATE), true),
            (DATE, Some("\"a\""), Some(DATE), true),
            (DATE, None, None, false),
            (DATE, None, Some("Sun, 06 Nov 1994 08:49:36 GMT"), false),
            // The same time, but another text.
            ("Sunday, 06-Nov-94 08:49:37 GMT", None, Some(DATE), false),
            ("yesterday", None, Some("yesterday"), false),
            ("", Some(""), Some(""), false),
        ] {
            let headers = head(&[("range", "bytes=20-"), ("if-range", condition)]);
            let (etag, modified) = (etag.map(str::as_bytes), modified.map(str::as_bytes));
            let found = evaluate(&headers, &Method::GET, 11, etag, modified);
            let expected = if holds { Unsatisfiable } else { Whole };
            assert_eq!(found, expected, "{condition} {etag:?} {modified:?}");
        }
        let twice = head(&[("range", "bytes=0-1"), ("if-range", DATE), ("if-range", DATE)]);
        assert_eq!(evaluate(&twice, &Method::GET, 11, None, Some(DATE.as_bytes())), Whole);
    }
}
