//! Pieces of field syntax that the decisions share: lists, numbers and dates.

use std::time::{Duration, SystemTime};

/// The longest time that a field can name. A cache takes a larger number for this one (RFC 9111, section 1.2.2); it
/// keeps all sums of times far from overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(1 << 31);

/// What a backslash means between double quotes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Quotes {
    /// It quotes the byte after it, as in a quoted-string (RFC 9110, section 5.6.4).
    String,
    /// Nothing, as in an entity tag (RFC 9110, section 8.8.3).
    Tag,
}

/// The members of a comma-separated list, without whitespace around them and without empty ones (RFC 9110, section
/// 5.6.1). A comma between quotes belongs to its member. A quote that is never closed is an ordinary byte: otherwise it
/// would hide all that follows, a `no-store` for one.
pub(super) fn members(line: &[u8], quotes: Quotes) -> Members<'_> {
    Members {
        rest: line,
        quotes,
        unclosed: false,
    }
}

/// See [`members`].
pub(super) struct Members<'a> {
    rest: &'a [u8],
    quotes: Quotes,
    /// A quote without its end was met; looking for it again at each later quote would take quadratic time.
    unclosed: bool,
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (member, rest) = self.rest.split_at(self.end());
            self.rest = rest.get(1..).unwrap_or_default();
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

impl Members<'_> {
    /// Where the first member of the rest ends: at a comma or at the end.
    fn end(&mut self) -> usize {
        let mut at = 0;
        while let Some(&byte) = self.rest.get(at) {
            at += match byte {
                b',' => return at,
                b'"' if !self.unclosed => {
                    let quoted = closing_quote(&self.rest[at + 1..], self.quotes);
                    self.unclosed = quoted.is_none();
                    quoted.map_or(1, |length| length + 2)
                }
                _ => 1,
            };
        }
        at
    }
}

/// The position of the quote that closes a quoted text, given what follows its opening quote.
pub(super) fn closing_quote(text: &[u8], quotes: Quotes) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' if quotes == Quotes::String => at += 2,
            _ => at += 1,
        }
    }
}

/// A byte of a token (RFC 9110, section 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A number of digits only, so neither signed nor fractional. One that is too large is the largest there is.
pub(super) fn digits(text: impl IntoIterator<Item = u8>) -> Option<u64> {
    let mut text = text.into_iter().peekable();
    text.peek()?;
    text.try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// A number of seconds (RFC 9111, section 1.2.2).
pub(super) fn delta_seconds(text: impl IntoIterator<Item = u8>) -> Option<Duration> {
    Some(Duration::from_secs(digits(text)?).min(LONGEST))
}

/// A date in any of the three forms of RFC 9110, section 5.6.7. Names of days, months and the zone are taken in any
/// case, and no zone but GMT (RFC 9111, section 4.2). An abbreviated day of the week may be the wrong one: it says
/// nothing that the rest does not.
pub(super) fn parse_date(value: &[u8]) -> Option<SystemTime> {
    const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    // The longest form is `Wednesday, 06-Nov-94 08:49:37 GMT`.
    let mut canonical = [0; 33];
    let value = value.trim_ascii();
    let canonical = canonical.get_mut(..value.len())?;
    let mut in_word = false;
    for (to, from) in canonical.iter_mut().zip(value) {
        *to = if in_word {
            from.to_ascii_lowercase()
        } else {
            from.to_ascii_uppercase()
        };
        in_word = from.is_ascii_alphabetic();
    }
    if let Some(zone) = canonical.strip_suffix(b" Gmt").map(<[u8]>::len) {
        canonical[zone..].make_ascii_uppercase();
    }
    let parse = |date: &[u8]| httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok();
    if let Some(date) = parse(canonical) {
        return Some(date);
    }
    if !DAYS.iter().any(|day| canonical.starts_with(*day)) {
        return None;
    }
    DAYS.iter().find_map(|day| {
        canonical[..3].copy_from_slice(*day);
        parse(canonical)
    })
}

/// A head for tests.
#[cfg(test)]
pub(super) fn head(lines: &[(&'static str, &str)]) -> http::HeaderMap {
    let value = |text: &str| http::HeaderValue::from_bytes(text.as_bytes()).unwrap();
    let lines = lines.iter();
    let mut headers = http::HeaderMap::new();
    for (name, text) in lines {
        headers.append(*name, value(text));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_split_at_commas_outside_quotes() {
        for (line, quotes, expected) in [
            ("", Quotes::String, &[][..]),
            (" , ,\t,", Quotes::String, &[]),
            ("a", Quotes::String, &["a"]),
            (" a ,b\t, ,c,", Quotes::String, &["a", "b", "c"]),
            (r#"a="x, y", b"#, Quotes::String, &[r#"a="x, y""#, "b"]),
            (r#"a="x\", y", b"#, Quotes::String, &[r#"a="x\", y""#, "b"]),
            // In an entity tag a backslash is a character like any other.
            (r#""x\", "y""#, Quotes::Tag, &[r#""x\""#, r#""y""#]),
            // Never closed, so not a quote.
            (r#"a="x, no-store"#, Quotes::String, &[r#"a="x"#, "no-store"]),
            (r#"a="x\", b="y, c"#, Quotes::String, &[r#"a="x\", b="y"#, "c"]),
            (r#"a="x\"#, Quotes::String, &[r#"a="x\"#]),
        ] {
            let found: Vec<_> = members(line.as_bytes(), quotes).collect();
            let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn unclosed_quotes_cost_no_quadratic_time() {
        let line = br#"\""#.repeat(500_000);
        assert_eq!(members(&line, Quotes::String).count(), 1);
    }

    #[test]
    fn numbers_have_digits_only_and_do_not_overflow() {
        for (text, expected) in [
            ("0", Some(0)),
            ("003600", Some(3600)),
            ("18446744073709551616", Some(u64::MAX)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1 ", None),
            ("1a", None),
        ] {
            assert_eq!(digits(text.bytes()), expected, "{text}");
        }
        assert_eq!(
            delta_seconds("2147483647".bytes()),
            Some(Duration::from_secs(2_147_483_647))
        );
        assert_eq!(delta_seconds("2147483649".bytes()), Some(LONGEST));
    }

    #[test]
    fn dates_come_in_three_forms_and_any_case() {
        let secs = |date: &str| {
            let date = parse_date(date.as_bytes())?;
            Some(date.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        for (date, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            (" SUN, 06 nov 1994 08:49:37 gMt ", Some(784_111_777)),
            ("wednesday, 18-AUG-49 02:01:18 GMT", Some(2_512_864_878)),
            ("Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599)),
            // Not the day it was.
            ("Thu Aug  8 02:01:18 2050", Some(2_543_536_878)),
            ("Xyz Aug  8 02:01:18 2050", None),
            ("Thu, 18 Aug 2050 02:01:18 UTC", None),
            ("Thu, 18 Aug 2050 02:01:18 AEST", None),
            ("Thu, 18 Aug 50 02:01:18 GMT", None),
            ("Thu 18 Aug 2050 02:01:18 GMT", None),
            ("Thu, 18  Aug  2050 02:01:18 GMT", None),
            ("Thu, 18-Aug-2050 02:01:18 GMT", None),
            ("Thu, 18 Aug 2050 02.01.18 GMT", None),
            ("Thu, 18 Aug 2050 2:01:18 GMT", None),
            ("Fri, 30 Feb 2050 02:01:18 GMT", None),
            ("", None),
            ("0", None),
            ("-1", None),
            ("Wednesday, 06-Nov-94 08:49:37 GMT and more", None),
            ("S\u{fc}n, 06 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(secs(date), expected, "{date}");
        }
    }
}
