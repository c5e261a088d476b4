//! Targeted fields such as `CDN-Cache-Control` (RFC 9213): dictionaries of structured fields (RFC 8941, section 3.2),
//! read strictly.
//!
//! A field that is empty or breaks the grammar is as good as absent (RFC 9213, section 2.1). So is one that gives a
//! known directive a value of the wrong type: how others read it cannot be known.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::directives::Argument;
use super::{ResponseControl, Slot};
use crate::cache::syntax::{LONGEST, is_token_byte};

/// What the field says; `None` where it is absent, empty or invalid.
pub(super) fn read(headers: &HeaderMap, field: &HeaderName) -> Option<ResponseControl> {
    let mut lines = headers.get_all(field).iter();
    let first = lines.next()?.as_bytes();
    let Some(second) = lines.next() else {
        return interpret(first);
    };
    let mut joined = first.to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    interpret(&joined)
}

fn interpret(field: &[u8]) -> Option<ResponseControl> {
    let members = Parser { rest: field }.dictionary()?;
    if members.is_empty() {
        return None;
    }
    let mut control = ResponseControl {
        targeted: true,
        ..ResponseControl::default()
    };
    for (name, value) in members {
        match (control.slot(name), value) {
            (None, _) => {}
            (Some(Slot::Restricts(flag) | Slot::Permits(flag)), Value::True) => *flag = true,
            // The type is right, the number is invalid: stale, as in `Cache-Control`.
            (Some(Slot::Seconds(time)), Value::Integer(seconds)) => {
                let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                *time = Some(seconds.min(LONGEST));
            }
            (Some(Slot::Fields(fields)), Value::True) => *fields = Argument::None.fields(),
            (Some(Slot::Fields(fields)), Value::String(list)) => *fields = Argument::Text(list).fields(),
            (Some(_), _) => return None,
        }
    }
    Some(control)
}

/// A member's value, as far as cache directives tell values apart.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    True,
    Integer(i64),
    /// Still with its backslashes; no list of field names has any.
    String(&'a [u8]),
    Other,
}

/// The parser of RFC 8941, section 4.2; each part takes what it parses from the front of `rest`.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    /// The members; the last of those with the same key counts.
    fn dictionary(mut self) -> Option<Vec<(&'a [u8], Value<'a>)>> {
        let mut members: Vec<(&[u8], Value<'_>)> = Vec::new();
        self.rest = self.rest.trim_ascii_end();
        self.spaces();
        while !self.rest.is_empty() {
            let key = self.key()?;
            let value = if self.take(b'=') { self.member()? } else { Value::True };
            self.parameters()?;
            match members.iter_mut().find(|(other, _)| *other == key) {
                Some((_, old)) => *old = value,
                None => members.push((key, value)),
            }
            self.rest = self.rest.trim_ascii_start();
            if !self.rest.is_empty() {
                // After a comma there must be more.
                let comma = self.take(b',');
                self.rest = self.rest.trim_ascii_start();
                if !comma || self.rest.is_empty() {
                    return None;
                }
            }
        }
        Some(members)
    }

    fn member(&mut self) -> Option<Value<'a>> {
        if !self.take(b'(') {
            return self.bare_item();
        }
        loop {
            self.spaces();
            if self.take(b')') {
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !matches!(self.rest.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.spaces();
            self.key()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let start = matches!(self.rest.first()?, b'a'..=b'z' | b'*');
        let key = self.take_while(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'));
        start.then_some(key)
    }

    fn bare_item(&mut self) -> Option<Value<'a>> {
        match self.rest.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b':' => self.bytes(),
            b'?' => self.boolean(),
            byte if byte.is_ascii_alphabetic() || *byte == b'*' => {
                self.take_while(|byte| is_token_byte(byte) || byte == b':' || byte == b'/');
                Some(Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value<'a>> {
        let sign = if self.take(b'-') { -1 } else { 1 };
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if self.take(b'.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            let fits = (1..=12).contains(&digits.len()) && (1..=3).contains(&fraction.len());
            return fits.then_some(Value::Other);
        }
        if !(1..=15).contains(&digits.len()) {
            return None;
        }
        let number = digits
            .iter()
            .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(Value::Integer(sign * number))
    }

    fn string(&mut self) -> Option<Value<'a>> {
        self.take(b'"');
        let text = self.rest;
        loop {
            match self.next()? {
                b'"' => return Some(Value::String(&text[..text.len() - self.rest.len() - 1])),
                b'\\' if !matches!(self.next()?, b'"' | b'\\') => return None,
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn bytes(&mut self) -> Option<Value<'a>> {
        self.take(b':');
        self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        self.take(b':').then_some(Value::Other)
    }

    fn boolean(&mut self) -> Option<Value<'a>> {
        self.take(b'?');
        match self.next()? {
            b'1' => Some(Value::True),
            b'0' => Some(Value::Other),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, byte: u8) -> bool {
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn take_while(&mut self, wanted: fn(u8) -> bool) -> &'a [u8] {
        let count = self.rest.iter().take_while(|byte| wanted(**byte)).count();
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    fn spaces(&mut self) {
        self.take_while(|byte| byte == b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::control::Fields;
    use crate::cache::syntax::head;

    fn parse(field: &[u8]) -> Option<Vec<(&[u8], Value<'_>)>> {
        Parser { rest: field }.dictionary()
    }

    #[test]
    fn what_breaks_the_grammar_is_no_dictionary() {
        for field in [
            "a,",
            ",a",
            "a,,b",
            "a b",
            "A",
            "MaX-aGe=1",
            "1a",
            "a=",
            "a= 1",
            "a =1",
            "a=1 2",
            "a, &&&&&",
            "a=--1",
            "a=1.",
            "a=.5",
            "a=1.2345",
            "a=1234567890123456",
            "a=1234567890123.0",
            "a=\"",
            "a=\"b",
            "a=\"\\x\"",
            "a=\"\u{e9}\"",
            "a=:!:",
            "a=:YQ==",
            "a=?2",
            "a=?",
            "a=(1",
            "a=(1,2)",
            "a=(1)2",
            "a;",
            "a;B",
            "a;b=",
            "a=@1",
            "a=%\"x\"",
        ] {
            assert_eq!(parse(field.as_bytes()), None, "{field}");
        }
    }

    #[test]
    fn all_types_are_parsed_and_parameters_ignored() {
        let field =
            br#"  a, b=-5;x=1;  y, c="s\"\\",d=tok:en/1	,	e=:YQ==:, f=?0, g=?1, h=( 1;q "x" ), i=1.5, *j=() ,b=7 "#;
        let expected = [
            (&b"a"[..], Value::True),
            (b"b", Value::Integer(7)),
            (b"c", Value::String(br#"s\"\\"#)),
            (b"d", Value::Other),
            (b"e", Value::Other),
            (b"f", Value::Other),
            (b"g", Value::True),
            (b"h", Value::Other),
            (b"i", Value::Other),
            (b"*j", Value::Other),
        ];
        assert_eq!(parse(field).as_deref(), Some(&expected[..]));
        assert_eq!(parse(b"   "), Some(Vec::new()));
    }

    #[test]
    fn a_known_directive_of_the_wrong_type_makes_the_field_invalid() {
        for field in [
            "",
            " ",
            "max-age=\"10\"",
            "max-age=1.0",
            "max-age=ten",
            "max-age",
            "max-age=?1",
            "no-store=1",
            "no-store=?0",
            "no-cache=set-cookie",
            "private=(a b)",
            "max-age=5, public=\"\"",
        ] {
            assert!(interpret(field.as_bytes()).is_none(), "{field}");
        }
    }

    #[test]
    fn valid_fields_are_understood() {
        let read = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("cdn-cache-control", *line)).collect();
            read(&head(&lines), &HeaderName::from_static("cdn-cache-control"))
        };
        let secs = |seconds| Some(Duration::from_secs(seconds));
        let control = read(&[
            "max-age=10;ext=1, foobar",
            "max-age=20, private=\"set-cookie, a\", bar=(1 2)",
        ])
        .unwrap();
        assert!(control.targeted);
        assert_eq!(control.max_age, secs(20));
        let names = ["set-cookie", "a"].map(HeaderName::from_static);
        assert_eq!(control.private, Fields::Named(names.to_vec()));

        assert_eq!(read(&["max-age=99999999999"]).unwrap().max_age, Some(LONGEST));
        assert_eq!(read(&["max-age=-5"]).unwrap().max_age, secs(0));
        assert_eq!(read(&["max-age=\"x\", max-age=5"]).unwrap().max_age, secs(5));
        assert_eq!(read(&["no-cache, no-store"]).unwrap().no_cache, Fields::All);
        // An extension alone is a valid field too, and says that nothing else counts.
        assert!(read(&["foo"]).unwrap().targeted);
        assert!(read(&["max-age=5", ""]).is_none());
        assert!(read(&[]).is_none());
    }
}
