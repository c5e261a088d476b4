//! Which request fields a response was chosen by, and the part of a cache key they make (RFC 9111, section 4.1).

use http::{HeaderMap, HeaderName, header};

use super::syntax::{Quotes, closing_quote, members};

/// More names than this are taken for `*`: each of them costs every later request.
const MOST_NAMES: usize = 16;

/// What `Vary` says (RFC 9110, section 12.5.5).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Vary {
    None,
    /// Chosen by something that no key holds: no later request matches.
    Any,
    /// Sorted, each once.
    Names(Vec<HeaderName>),
}

impl Vary {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::VARY).iter();
        let mut names: Vec<HeaderName> = Vec::new();
        for member in lines.flat_map(|line| members(line.as_bytes(), Quotes::String)) {
            // `*` is a valid name too, if not one of a field.
            let Some(name) = HeaderName::from_bytes(member).ok().filter(|_| member != b"*") else {
                return Self::Any;
            };
            if let Err(place) = names.binary_search_by(|other| other.as_str().cmp(name.as_str())) {
                if names.len() == MOST_NAMES {
                    return Self::Any;
                }
                names.insert(place, name);
            }
        }
        if names.is_empty() {
            Self::None
        } else {
            Self::Names(names)
        }
    }
}

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

/// Appends what the request says in these fields. Each name and value is preceded by its length, so that no two
/// requests that differ in them make the same key, except in ways that mean the same:
///
/// - several lines are one with commas between;
/// - whitespace around commas outside quotes is removed;
/// - in `Accept`, `Accept-Charset`, `Accept-Encoding` and `Accept-Language` the order of the members and the case of
///   names
///   do not count, nor does how a weight is written.
///
/// A field that is absent differs from an empty one.
pub(super) fn write_secondary(names: &[HeaderName], request: &HeaderMap, key: &mut Vec<u8>) {
    for name in names {
        with_length(key, |key| key.extend_from_slice(name.as_str().as_bytes()));
        if !request.contains_key(name) {
            key.push(ABSENT);
            continue;
        }
        key.push(PRESENT);
        with_length(key, |key| {
            if negotiates(name) {
                write_preferences(name, request, key);
            } else {
                write_plain(name, request, key);
            }
        });
    }
}

/// Appends a value in place of what the request says in a field.
pub(super) fn write_value(name: &HeaderName, value: &str, key: &mut Vec<u8>) {
    with_length(key, |key| key.extend_from_slice(name.as_str().as_bytes()));
    key.push(PRESENT);
    with_length(key, |key| key.extend_from_slice(value.as_bytes()));
}

/// Writes the length of what is written, then that.
fn with_length(key: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = key.len();
    key.extend_from_slice(&[0; 4]);
    write(key);
    // A head is nowhere near 4 GiB.
    let length = u32::try_from(key.len() - start - 4).unwrap_or(u32::MAX);
    key[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn negotiates(name: &HeaderName) -> bool {
    const FIELDS: [HeaderName; 4] = [
        header::ACCEPT,
        header::ACCEPT_CHARSET,
        header::ACCEPT_ENCODING,
        header::ACCEPT_LANGUAGE,
    ];
    FIELDS.contains(name)
}

/// The lines, joined, without whitespace around the commas between quotes. A quoted text may go on in the next line.
fn write_plain(name: &HeaderName, request: &HeaderMap, key: &mut Vec<u8>) {
    let (mut quoted, mut escaped) = (false, false);
    for (index, line) in request.get_all(name).iter().enumerate() {
        // The first byte of this line's last member.
        let mut start = key.len();
        if index > 0 {
            key.push(b',');
            start += 1;
        }
        for &byte in line.as_bytes().trim_ascii() {
            if byte == b',' && !quoted {
                trim_end(key, start);
                key.push(byte);
                start = key.len();
                continue;
            }
            let leads = key.len() == start && matches!(byte, b' ' | b'\t');
            if quoted || !leads {
                key.push(byte);
            }
            let quote = byte == b'"' && !escaped;
            escaped = quoted && byte == b'\\' && !escaped;
            quoted ^= quote;
        }
    }
}

fn trim_end(key: &mut Vec<u8>, start: usize) {
    while key.len() > start && key.last().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        key.pop();
    }
}

/// The members, each normalised, sorted, and preceded by its length.
fn write_preferences(name: &HeaderName, request: &HeaderMap, key: &mut Vec<u8>) {
    let mut scratch = Vec::new();
    let mut ranges = Vec::new();
    let lines = request.get_all(name).iter();
    for member in lines.flat_map(|line| members(line.as_bytes(), Quotes::String)) {
        let start = scratch.len();
        write_preference(member, &mut scratch);
        ranges.push(start..scratch.len());
    }
    ranges.sort_unstable_by(|one, other| scratch[one.clone()].cmp(&scratch[other.clone()]));
    for range in ranges {
        with_length(key, |key| key.extend_from_slice(&scratch[range]));
    }
}

/// A member such as `text/html;level=1;q=0.5` (RFC 9110, section 12.5.1). The values of parameters keep their case:
/// what it means is the business of each.
fn write_preference(member: &[u8], out: &mut Vec<u8>) {
    let mut rest = Some(member);
    let mut first = true;
    while let Some(text) = rest {
        let part;
        (part, rest) = split_parameter(text);
        let part = part.trim_ascii();
        if first {
            out.extend(part.iter().map(u8::to_ascii_lowercase));
            first = false;
            continue;
        }
        let weight = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="));
        match weight.and_then(weight_digits) {
            // The weight where none is given, and nothing follows that it would set apart.
            Some(b"1") if rest.is_none() => {}
            Some(digits) => {
                out.extend_from_slice(b";q=");
                out.extend_from_slice(digits);
            }
            None => {
                let name = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
                out.push(b';');
                out.extend(part[..name].iter().map(u8::to_ascii_lowercase));
                out.extend_from_slice(&part[name..]);
            }
        }
    }
}

/// Up to the next semicolon outside quotes, and what follows it.
fn split_parameter(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += match byte {
            b';' => return (&text[..at], Some(&text[at + 1..])),
            b'"' => closing_quote(&text[at + 1..], Quotes::String).map_or(text.len() - at, |length| length + 2),
            _ => 1,
        };
    }
    (text, None)
}

/// A weight (RFC 9110, section 12.4.2) in its shortest form: `0`, `1` or `0.5`. `None` if it is none.
fn weight_digits(weight: &[u8]) -> Option<&[u8]> {
    let (whole, fraction) = match weight {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] => (whole, fraction),
        _ => return None,
    };
    let most = if *whole == b'1' { b'0' } else { b'9' };
    let valid = matches!(whole, b'0' | b'1')
        && fraction.len() <= 3
        && fraction.iter().all(|digit| (b'0'..=most).contains(digit));
    let zeros = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
    let length = match fraction.len() - zeros {
        0 => 1,
        digits => digits + 2,
    };
    valid.then(|| &weight[..length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::head;

    fn vary(lines: &[&str]) -> Vary {
        let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
        Vary::of(&head(&lines))
    }

    fn key(names: &[&'static str], request: &[(&'static str, &str)]) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| HeaderName::from_static(name)).collect();
        let mut key = Vec::new();
        write_secondary(&names, &head(request), &mut key);
        key
    }

    /// Whether two requests are the same to a response that varies by the field.
    fn same(field: &'static str, one: &[&str], other: &[&str]) -> bool {
        let key = |lines: &[&str]| key(&[field], &lines.iter().map(|line| (field, *line)).collect::<Vec<_>>());
        key(one) == key(other)
    }

    #[test]
    fn vary_is_read_over_all_lines() {
        let names =
            |names: &[&'static str]| Vary::Names(names.iter().map(|name| HeaderName::from_static(name)).collect());
        for (lines, expected) in [
            (&[][..], Vary::None),
            (&[""], Vary::None),
            (&[" , ,"], Vary::None),
            (&["Foo"], names(&["foo"])),
            (&["Foo, Bar", "baz,foo"], names(&["bar", "baz", "foo"])),
            (&["*"], Vary::Any),
            (&["*, *"], Vary::Any),
            (&["*", "*"], Vary::Any),
            (&[", *"], Vary::Any),
            (&["", "*"], Vary::Any),
            (&["*, Foo"], Vary::Any),
            (&["Foo, *"], Vary::Any),
            (&["Foo bar"], Vary::Any),
            (&["Foo, b\u{e9}"], Vary::Any),
            (&["\"Foo, *\""], Vary::Any),
        ] {
            assert_eq!(vary(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn too_many_names_are_any() {
        let list = |count: usize| {
            (0..count)
                .map(|number| format!("f{number}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert!(matches!(vary(&[&list(MOST_NAMES)]), Vary::Names(names) if names.len() == MOST_NAMES));
        assert!(matches!(vary(&[&list(MOST_NAMES), &list(MOST_NAMES)]), Vary::Names(_)));
        assert_eq!(vary(&[&list(MOST_NAMES + 1)]), Vary::Any);
    }

    #[test]
    fn keys_are_unambiguous() {
        let keys = [
            key(&[], &[("a", "1")]),
            key(&["a"], &[]),
            key(&["a"], &[("a", "")]),
            key(&["a"], &[("a", "1")]),
            key(&["b"], &[("b", "1")]),
            key(&["a", "b"], &[("a", "1")]),
            key(&["a", "b"], &[("b", "1")]),
            key(&["a", "b"], &[("a", "1"), ("b", "1")]),
            key(&["accept"], &[]),
            key(&["accept"], &[("accept", "")]),
            key(&["accept"], &[("accept", "a")]),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(keys[index + 1..].iter().all(|other| other != one), "{index}");
        }
        let written = key(&["a", "b"], &[("a", " 1 , 2")]);
        assert_eq!(written, b"\0\0\0\x01a\x01\0\0\0\x031,2\0\0\0\x01b\0");
        // Other fields do not count.
        assert_eq!(
            key(&["a"], &[("a", "1"), ("b", "2")]),
            key(&["a"], &[("a", "1"), ("b", "3")])
        );
    }

    #[test]
    fn unknown_fields_are_the_same_but_for_lines_and_whitespace() {
        for (one, other, expected) in [
            (&["1,2"][..], &["1, 2"][..], true),
            (&["1,2"], &[" 1 ,\t 2 "], true),
            (&["1, 2"], &["1", "2"], true),
            (&["1,2,3"], &["1 , 2", "3"], true),
            (&["1 2"], &["1  2"], false),
            (&["1,2"], &["2,1"], false),
            (&["a"], &["A"], false),
            (&["1,2"], &["1,,2"], false),
            (&["\"a, b\""], &["\"a,b\""], false),
            (&["\"a\" , b"], &["\"a\",b"], true),
            (&["\"a\\\", b\""], &["\"a\\\",b\""], false),
            (&["\"a\\\\\", b"], &["\"a\\\\\",b"], true),
            (&["\" a\""], &["\"a\""], false),
            // A quote that goes on in the next line.
            (&["\"a", "b, c\""], &["\"a,b,c\""], false),
        ] {
            assert_eq!(same("foo", one, other), expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn preferences_are_the_same_in_any_order_and_spelling() {
        for (one, other, expected) in [
            (&["en, de"][..], &["de, en"][..], true),
            (&["en, de"], &["eN, De"], true),
            (&["en, de"], &[" en ,   de"], true),
            (&["en", "de"], &["de,en"], true),
            (&["en;q=1"], &["en"], true),
            (&["en;q=1.000"], &["en"], true),
            (&["en ; Q=1."], &["en"], true),
            (&["en;q=0.50"], &["en;q=0.5"], true),
            (&["en;q=0.000"], &["en;q=0"], true),
            (&["en;q=0.5"], &["en"], false),
            (&["en;q=0.5"], &["en;q=0.05"], false),
            (&["en;q=0.5, de"], &["en, de;q=0.5"], false),
            (&["en;q=0"], &["en"], false),
            // No weights, so left as they are.
            (&["en;q=2"], &["en"], false),
            (&["en;q=1.1"], &["en"], false),
            (&["en;q=0.5000"], &["en;q=0.5"], false),
            (&["en;q=.5"], &["en;q=0.5"], false),
            (&["en;q="], &["en"], false),
            (&["en"], &["en, de"], false),
        ] {
            for field in ["accept-language", "accept", "accept-encoding", "accept-charset"] {
                assert_eq!(same(field, one, other), expected, "{field}: {one:?} {other:?}");
            }
        }
    }

    #[test]
    fn parameters_of_media_types_keep_their_meaning() {
        for (one, other, expected) in [
            ("Text/HTML ; Level=1;q=1", "text/html;level=1", true),
            ("a/b;p=\"x, y\"", "a/b;p=\"x,y\"", false),
            ("a/b;p=\"X\"", "a/b;p=\"x\"", false),
            ("a/b;p=X", "a/b;p=x", false),
            ("a/b;p=\"x;q=1\"", "a/b;p=\"x", false),
            ("a/b;p=\"\\\";q=1\"", "a/b;p=\"\\\"\"", false),
            // What follows a weight is no parameter of the type.
            ("a/b;q=1;p=1", "a/b;p=1", false),
            ("a/b;q=1.0;p=1", "a/b;q=1;p=1", true),
            ("a/b;p=\"", "a/b;p=", false),
        ] {
            assert_eq!(same("accept", &[one], &[other]), expected, "{one} {other}");
        }
    }
}
