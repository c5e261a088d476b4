//! Conditions of a request that a stored response can settle (RFC 9111, section 4.3.2; RFC 9110, section 13), and the
//! comparison of entity tags.
//!
//! `If-None-Match` counts before `If-Modified-Since`. What is invalid is ignored, and the response served whole. Only
//! stored responses of status 200 are to be asked about: for others the conditions mean nothing.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method, header};

use super::syntax::{Quotes, members, parse_date};

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The stored response.
    Serve,
    /// A 304: the client has it.
    NotModified,
}

/// Evaluates the conditions against what is stored. `date` is the response's `Date`, or else when it was received: it
/// stands in for a missing `Last-Modified`.
pub(super) fn evaluate(
    headers: &HeaderMap,
    method: &Method,
    etag: Option<&[u8]>,
    last_modified: Option<&[u8]>,
    date: Option<SystemTime>,
) -> Outcome {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Outcome::Serve;
    }
    let mut tags = headers.get_all(header::IF_NONE_MATCH).iter().peekable();
    let unchanged = if tags.peek().is_some() {
        tags.any(|line| names_tag(line, etag))
    } else {
        single(headers).is_some_and(|since| not_modified_since(since, last_modified, date))
    };
    if unchanged {
        Outcome::NotModified
    } else {
        Outcome::Serve
    }
}

/// Whether a line of `If-None-Match` names the tag. `*` names whatever is stored.
fn names_tag(line: &HeaderValue, etag: Option<&[u8]>) -> bool {
    let line = line.as_bytes();
    line.trim_ascii() == b"*"
        || etag.is_some_and(|etag| members(line, Quotes::Tag).any(|member| weak_match(member, etag)))
}

/// `If-Modified-Since`, which has a single value (RFC 9110, section 13.1.3).
fn single(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(header::IF_MODIFIED_SINCE).iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}

fn not_modified_since(since: &[u8], last_modified: Option<&[u8]>, date: Option<SystemTime>) -> bool {
    // The client sends back what it got, so equal texts name one version even if they are odd dates.
    if last_modified.is_some_and(|modified| !modified.is_empty() && modified == since) {
        return true;
    }
    let modified = match last_modified {
        Some(modified) => parse_date(modified),
        None => date,
    };
    match (modified, parse_date(since)) {
        (Some(modified), Some(since)) => modified <= since,
        _ => false,
    }
}

/// Strong comparison (RFC 9110, section 8.8.3.2): byte for byte the same, and neither weak nor malformed.
pub(super) fn strong_match(one: &[u8], other: &[u8]) -> bool {
    one == other && matches!(one, [b'"', .., b'"'])
}

/// Weak comparison (RFC 9110, section 8.8.3.2): the same but for the mark of weakness. What is no entity tag matches
/// what is byte for byte the same.
pub(super) fn weak_match(one: &[u8], other: &[u8]) -> bool {
    opaque(one) == opaque(other)
}

fn opaque(tag: &[u8]) -> &[u8] {
    let opaque = tag.strip_prefix(b"W/").filter(|opaque| opaque.starts_with(b"\""));
    opaque.unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::head;

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLY_OLD: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
    const LATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    /// Whether a GET with these fields is answered by 304.
    fn unchanged(
        lines: &[(&'static str, &str)],
        etag: Option<&str>,
        modified: Option<&str>,
        date: Option<&str>,
    ) -> bool {
        let headers = head(lines);
        let (etag, modified) = (etag.map(str::as_bytes), modified.map(str::as_bytes));
        let date = date.and_then(|date| parse_date(date.as_bytes()));
        evaluate(&headers, &Method::GET, etag, modified, date) == Outcome::NotModified
    }

    #[test]
    fn if_none_match_lists_what_the_client_has() {
        let quoted = Some("\"abcdef\"");
        for (lines, etag, expected) in [
            (&["\"abcdef\""][..], quoted, true),
            (&["\"abcdeg\""], quoted, false),
            (&["W/\"abcdef\""], quoted, true),
            (&["\"abcdef\""], Some("W/\"abcdef\""), true),
            (&["W/\"abcdef\""], Some("W/\"abcdef\""), true),
            (&["\"abcdef\", \"1234\", \"5678\""], quoted, true),
            (&["\"1234\", \"abcdef\" , \"5678\""], quoted, true),
            (&["\"1234\",\"5678\",W/\"abcdef\""], quoted, true),
            (&["\"1234\"", "\"abcdef\""], quoted, true),
            (&["\"a, b\", \"c\""], Some("\"a, b\""), true),
            (&["\"x\\\", \"c\""], Some("\"x\\\""), true),
            (&["\"a, \"abcdef\", b\""], quoted, false),
            (&["*"], quoted, true),
            (&[" * "], None, true),
            (&["\"1234\", *"], quoted, false),
            (&["\"*\""], quoted, false),
            (&["\"abcdef\""], None, false),
            (&[""], quoted, false),
            (&["\"abcdef\u{fc}\""], Some("\"abcdef\u{fc}\""), true),
            // Malformed tags match themselves only.
            (&["abcdef"], Some("abcdef"), true),
            (&["abcdef"], quoted, false),
            (&["\"abcdef\""], Some("abcdef"), false),
            (&["w/\"abcdef\""], Some("w/\"abcdef\""), true),
            (&["w/\"abcdef\""], quoted, false),
            (&["W\\\"abcdef\""], Some("W\\\"abcdef\""), true),
            (&["W\"abcdef\""], Some("W\"abcdef\""), true),
            (&["W/abc"], Some("abc"), false),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("if-none-match", *line)).collect();
            assert_eq!(unchanged(&lines, etag, None, None), expected, "{lines:?} {etag:?}");
        }
    }

    #[test]
    fn if_modified_since_is_compared_as_a_date() {
        for (since, modified, date, expected) in [
            (EARLY, Some(EARLY), None, true),
            (LATE, Some(EARLY), None, true),
            (EARLY, Some(LATE), None, false),
            (EARLY_OLD, Some(EARLY), None, true),
            (EARLY, Some(EARLY_OLD), None, true),
            ("Sun Nov  6 08:49:38 1994", Some(EARLY), None, true),
            // Without `Last-Modified`, by `Date`.
            (EARLY, None, Some(EARLY), true),
            (EARLY, None, Some(LATE), false),
            (EARLY, None, None, false),
            // `Date` is newer than what it stands in for.
            (EARLY, Some(LATE), Some(EARLY), false),
            (EARLY, Some("yesterday"), Some(EARLY), false),
            ("yesterday", Some(EARLY), None, false),
            ("yesterday", Some("yesterday"), None, true),
            ("", Some(""), None, false),
        ] {
            let lines = [("if-modified-since", since)];
            assert_eq!(
                unchanged(&lines, None, modified, date),
                expected,
                "{since} {modified:?} {date:?}"
            );
        }
        let twice = [("if-modified-since", LATE), ("if-modified-since", LATE)];
        assert!(!unchanged(&twice, None, Some(EARLY), None));
    }

    #[test]
    fn tags_count_before_dates() {
        let lines = |tag| [("if-none-match", tag), ("if-modified-since", EARLY)];
        assert!(unchanged(&lines("\"a\""), Some("\"a\""), Some(LATE), None));
        assert!(!unchanged(&lines("\"b\""), Some("\"a\""), Some(EARLY), None));
        assert!(!unchanged(&lines("\"b\""), None, Some(EARLY), None));
    }

    #[test]
    fn only_reading_methods_are_answered() {
        let headers = head(&[("if-none-match", "*")]);
        let outcome = |method| evaluate(&headers, &method, None, None, None);
        assert_eq!(outcome(Method::GET), Outcome::NotModified);
        assert_eq!(outcome(Method::HEAD), Outcome::NotModified);
        assert_eq!(outcome(Method::POST), Outcome::Serve);
        assert_eq!(
            evaluate(&head(&[]), &Method::GET, Some(b"\"a\""), None, None),
            Outcome::Serve
        );
    }

    #[test]
    fn tags_compare_as_in_the_table_of_the_standard() {
        for (one, other, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
            ("\"\"", "\"\"", true, true),
            ("1", "1", false, true),
            ("\"", "\"", false, true),
        ] {
            let (one, other) = (one.as_bytes(), other.as_bytes());
            assert_eq!(
                (strong_match(one, other), weak_match(one, other)),
                (strong, weak),
                "{one:?} {other:?}"
            );
            assert_eq!((strong_match(other, one), weak_match(other, one)), (strong, weak));
        }
    }
}
