//! Cache directives as `Cache-Control` and `Pragma` write them (RFC 9111, section 5.2), read leniently.
//!
//! Nothing is allocated, and what is malformed stays visible as such: a directive that forbids must be heard however
//! badly it is written, one that allows must not.

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName};
use std::time::Duration;

use super::Fields;
use crate::cache::syntax::{Quotes, closing_quote, delta_seconds, is_token_byte, members};

/// A directive and its argument.
pub(super) struct Directive<'a> {
    name: &'a [u8],
    pub(super) argument: Argument<'a>,
}

/// What follows the name of a directive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Argument<'a> {
    None,
    /// A token, or what stands between quotes. Quoted bytes are still marked by backslashes; a token has none.
    Text(&'a [u8]),
    /// Neither, or with whitespace around the `=`.
    Malformed,
}

/// All directives of a field, over all its lines.
pub(super) fn directives(headers: &HeaderMap, field: impl AsHeaderName) -> impl Iterator<Item = Directive<'_>> {
    let lines = headers.get_all(field).into_iter();
    lines
        .flat_map(|line| members(line.as_bytes(), Quotes::String))
        .filter_map(Directive::parse)
}

/// The longest name that is known: `stale-while-revalidate`.
pub(super) const LONGEST_NAME: usize = 22;

impl<'a> Directive<'a> {
    fn parse(member: &'a [u8]) -> Option<Self> {
        let name = member.iter().take_while(|byte| is_token_byte(**byte)).count();
        let (name, rest) = member.split_at(name);
        let argument = match rest.split_first() {
            None => Argument::None,
            Some((b'=', value)) => Argument::parse(value),
            Some(_) => Argument::Malformed,
        };
        (!name.is_empty()).then_some(Self { name, argument })
    }

    /// The name in lower case, written to `buffer`; empty for one too long to be known.
    pub(super) fn name<'b>(&self, buffer: &'b mut [u8; LONGEST_NAME]) -> &'b [u8] {
        let Some(lower) = buffer.get_mut(..self.name.len()) else {
            return &[];
        };
        lower.copy_from_slice(self.name);
        lower.make_ascii_lowercase();
        lower
    }
}

impl<'a> Argument<'a> {
    fn parse(value: &'a [u8]) -> Self {
        let quoted = value.strip_prefix(b"\"");
        let text = match quoted {
            // The closing quote must be the end of it.
            Some(quoted) => closing_quote(quoted, Quotes::String)
                .filter(|end| end + 1 == quoted.len())
                .map(|end| &quoted[..end]),
            None => (!value.is_empty() && value.iter().all(|byte| is_token_byte(*byte))).then_some(value),
        };
        text.map_or(Self::Malformed, Self::Text)
    }

    /// As seconds. An argument that is none counts as zero: invalid freshness is stale (RFC 9111, section 4.2.1).
    pub(super) fn seconds(self) -> Duration {
        let Self::Text(text) = self else {
            return Duration::ZERO;
        };
        let mut bytes = text.iter().copied();
        let unquoted = std::iter::from_fn(|| {
            bytes
                .next()
                .and_then(|byte| if byte == b'\\' { bytes.next() } else { Some(byte) })
        });
        delta_seconds(unquoted).unwrap_or(Duration::ZERO)
    }

    /// As a list of field names. An argument that is none, or names what no field can be called, makes the directive
    /// mean all of the response: the stricter reading.
    pub(super) fn fields(self) -> Fields {
        match self {
            Self::Text(text) => names(text).map_or(Fields::All, Fields::Named),
            Self::None | Self::Malformed => Fields::All,
        }
    }
}

fn names(list: &[u8]) -> Option<Vec<HeaderName>> {
    let names = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let names = names.filter(|name| !name.is_empty()).map(HeaderName::from_bytes);
    let names: Vec<_> = names.collect::<Result<_, _>>().ok()?;
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::head;

    #[test]
    fn directives_are_found_over_all_lines_with_their_arguments() {
        let headers = head(&[
            ("cache-control", r#"No-Store, max-age=5,, ext="a, b=\"c\"" ,=6"#),
            ("cache-control", r#"a =1, b= 2, c="3"4, d=, e=5 6, f="7, g"#),
        ]);
        let mut buffer = [0; LONGEST_NAME];
        let found: Vec<_> = directives(&headers, "cache-control")
            .map(|directive| {
                let name = String::from_utf8(directive.name(&mut buffer).to_vec()).unwrap();
                (name, directive.argument)
            })
            .collect();
        let expected = [
            ("no-store", Argument::None),
            ("max-age", Argument::Text(b"5")),
            ("ext", Argument::Text(br#"a, b=\"c\""#)),
            ("a", Argument::Malformed),
            ("b", Argument::Malformed),
            ("c", Argument::Malformed),
            ("d", Argument::Malformed),
            ("e", Argument::Malformed),
            ("f", Argument::Malformed),
            ("g", Argument::None),
        ];
        assert_eq!(found, expected.map(|(name, argument)| (name.to_owned(), argument)));
    }

    #[test]
    fn names_too_long_to_be_known_are_no_name() {
        let mut buffer = [0; LONGEST_NAME];
        let mut name =
            |text: &'static str| Directive::parse(text.as_bytes()).map(|found| found.name(&mut buffer).len());
        assert_eq!(name("stale-while-revalidate"), Some(22));
        assert_eq!(name("stale-while-revalidates"), Some(0));
    }

    #[test]
    fn quoted_seconds_count_like_bare_ones() {
        let parse = |text: &'static str| Argument::parse(text.as_bytes()).seconds().as_secs();
        for (argument, expected) in [
            ("10", 10),
            (r#""10""#, 10),
            (r#""\1\0""#, 10),
            (r#""1 0""#, 0),
            (r#""""#, 0),
            ("'10'", 0),
        ] {
            assert_eq!(parse(argument), expected, "{argument}");
        }
        assert_eq!(Argument::None.seconds(), Duration::ZERO);
    }
}
