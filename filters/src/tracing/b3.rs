//! Zipkin's B3: one `b3` header, or one `x-b3-*` header a field.
//!
//! Ids are 64 or 128 bits wide on the way in and written with 128. A caller may state its decision without ids, or ids
//! without a decision, which leaves it to us. A debug flag counts as *sampled* and goes on as such.

use super::hex;
use super::propagation::{Found, Remote};
use crate::trace_context::TraceContext;

/// `<trace id>-<span id>-<sampled>-<parent>`.
const LENGTH: usize = 32 + 1 + 16 + 1 + 1 + 1 + 16;

/// Reads a `b3` header. `None`: malformed.
pub(super) fn parse(text: &[u8]) -> Option<Found> {
    if let Some(sampled) = decision(text) {
        return Some(Found::Decision(sampled));
    }
    let mut fields = text.split(|&byte| byte == b'-');
    let (trace_id, span_id) = (fields.next()?, fields.next()?);
    let sampled = match fields.next() {
        None => None,
        Some(state) => Some(decision(state)?),
    };
    if let Some(parent) = fields.next() {
        span(parent)?;
    }
    if fields.next().is_some() {
        return None;
    }
    context(trace_id, span_id, sampled)
}

/// The fields of the `x-b3-*` headers, as they came.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) trace_id: Option<&'a [u8]>,
    pub(super) span_id: Option<&'a [u8]>,
    pub(super) parent: Option<&'a [u8]>,
    pub(super) sampled: Option<&'a [u8]>,
    pub(super) flags: Option<&'a [u8]>,
}

/// Reads the `x-b3-*` headers. `None`: malformed, or none of them there.
pub(super) fn parse_fields(fields: &Fields<'_>) -> Option<Found> {
    let sampled = match (fields.flags, fields.sampled) {
        // Debug implies an accept decision, whatever the other header says. The words are of B3's first days and still
        // sent.
        (Some(b"1"), _) | (None | Some(b"0"), Some(b"1" | b"true")) => Some(true),
        (None | Some(b"0"), Some(b"0" | b"false")) => Some(false),
        (None | Some(b"0"), None) => None,
        _ => return None,
    };
    if let Some(parent) = fields.parent {
        span(parent)?;
    }
    match (fields.trace_id, fields.span_id) {
        (Some(trace_id), Some(span_id)) => context(trace_id, span_id, sampled),
        (None, None) => sampled.map(Found::Decision),
        _ => None,
    }
}

fn decision(state: &[u8]) -> Option<bool> {
    match state {
        b"1" | b"d" => Some(true),
        b"0" => Some(false),
        _ => None,
    }
}

fn span(text: &[u8]) -> Option<u128> {
    (text.len() == 16).then(|| hex::read(text, hex::lower)).flatten()
}

fn context(trace_id: &[u8], span_id: &[u8], sampled: Option<bool>) -> Option<Found> {
    if !matches!(trace_id.len(), 16 | 32) {
        return None;
    }
    Remote::new(hex::read(trace_id, hex::lower)?, span(span_id)?, sampled).map(Found::Context)
}

/// Writes a `b3` header.
pub(super) fn write(trace: &TraceContext) -> hex::Text<LENGTH> {
    let mut text = hex::Text::new();
    text.push(&trace.trace_id_hex);
    text.push(b"-").push_hex(&trace.span_id.to_bytes());
    text.push(if trace.sampled { b"-1" } else { b"-0" });
    if let Some(parent) = trace.parent {
        text.push(b"-").push_hex(&parent.to_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";

    fn sampled(found: Option<Found>) -> Option<bool> {
        match found.unwrap() {
            Found::Context(remote) => {
                assert_eq!(remote.trace_id.to_string(), TRACE);
                assert_eq!(remote.parent.to_string(), SPAN);
                remote.sampled
            }
            Found::Decision(_) => panic!("no ids"),
        }
    }

    #[test]
    fn reads_one_header() {
        for (rest, expected) in [
            ("", None),
            ("-1", Some(true)),
            ("-d", Some(true)),
            ("-0", Some(false)),
            ("-1-05e3ac9a4f6e3b90", Some(true)),
        ] {
            let text = format!("{TRACE}-{SPAN}{rest}");
            assert_eq!(sampled(parse(text.as_bytes())), expected, "{text}");
        }
    }

    #[test]
    fn a_decision_may_come_without_ids() {
        assert_eq!(parse(b"0"), Some(Found::Decision(false)));
        assert_eq!(parse(b"1"), Some(Found::Decision(true)));
        assert_eq!(parse(b"d"), Some(Found::Decision(true)));
        let fields = Fields {
            sampled: Some(b"0"),
            ..Fields::default()
        };
        assert_eq!(parse_fields(&fields), Some(Found::Decision(false)));
        assert_eq!(parse_fields(&Fields::default()), None);
    }

    #[test]
    fn a_64_bit_trace_id_is_padded() {
        let Some(Found::Context(remote)) = parse(b"64fe8b2a57d3eff7-e457b5a2e4d86bd1-1") else {
            panic!("not read");
        };
        assert_eq!(remote.trace_id.to_string(), "000000000000000064fe8b2a57d3eff7");
    }

    #[test]
    fn refuses_a_malformed_header() {
        for text in [
            "",
            "2",
            "-",
            "80f198ee56343ba864fe8b2a57d3eff7",
            "80f198ee56343ba864fe8b2a57d3eff7-",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd",
            "80f198ee56343ba864fe8b2a57d3eff-e457b5a2e4d86bd1-1",
            "80F198EE56343BA864FE8B2A57D3EFF7-e457b5a2e4d86bd1-1",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-2",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-true",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-05e3ac9a4f6e3b90",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b9",
            "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90-1",
            "00000000000000000000000000000000-e457b5a2e4d86bd1-1",
            "80f198ee56343ba864fe8b2a57d3eff7-0000000000000000-1",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn reads_many_headers() {
        let ids = || Fields {
            trace_id: Some(TRACE.as_bytes()),
            span_id: Some(SPAN.as_bytes()),
            ..Fields::default()
        };
        for (state, flags, expected) in [
            (None, None, None),
            (Some("1"), None, Some(true)),
            (Some("true"), None, Some(true)),
            (Some("0"), None, Some(false)),
            (Some("false"), Some("0"), Some(false)),
            (None, Some("1"), Some(true)),
            (Some("0"), Some("1"), Some(true)),
        ] {
            let fields = Fields {
                sampled: state.map(str::as_bytes),
                flags: flags.map(str::as_bytes),
                parent: Some(b"05e3ac9a4f6e3b90"),
                ..ids()
            };
            assert_eq!(sampled(parse_fields(&fields)), expected, "{state:?} {flags:?}");
        }
        let malformed = [
            Fields { span_id: None, ..ids() },
            Fields {
                trace_id: None,
                ..ids()
            },
            Fields {
                trace_id: Some(b"1"),
                ..ids()
            },
            Fields {
                span_id: Some(b"0000000000000000"),
                ..ids()
            },
            Fields {
                parent: Some(b"x"),
                ..ids()
            },
            Fields {
                sampled: Some(b"d"),
                ..ids()
            },
            Fields {
                sampled: Some(b""),
                ..ids()
            },
            Fields {
                flags: Some(b"2"),
                ..ids()
            },
        ];
        for fields in &malformed {
            assert_eq!(parse_fields(fields), None);
        }
    }
}
