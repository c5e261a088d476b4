//! Jaeger's own `uber-trace-id`: `<trace id>:<span id>:<parent>:<flags>`, of which some clients encode the colons.
//!
//! Numbers may be written without their leading zeros. The parent is deprecated and not looked at beyond its form.

use super::hex;
use super::propagation::Remote;
use crate::trace_context::TraceContext;

const LENGTH: usize = 32 + 1 + 16 + 4;
const SAMPLED: u128 = 1;
const DEBUG: u128 = 2;

/// Reads an `uber-trace-id`. `None`: malformed.
pub(super) fn parse(text: &[u8]) -> Option<Remote> {
    let (trace_id, rest) = field(text)?;
    let (span_id, rest) = field(rest)?;
    let (parent, flags) = field(rest)?;
    number(parent)?;
    let flags = number(flags).filter(|_| flags.len() <= 2)?;
    Remote::new(
        number(trace_id)?,
        number(span_id)?,
        Some(flags & (SAMPLED | DEBUG) != 0),
    )
}

/// What stands before the next colon, and what after it.
fn field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|&byte| matches!(byte, b':' | b'%'))?;
    let (field, rest) = text.split_at_checked(end)?;
    match rest {
        [b':', rest @ ..] | [b'%', b'3', b'A' | b'a', rest @ ..] => Some((field, rest)),
        _ => None,
    }
}

fn number(text: &[u8]) -> Option<u128> {
    hex::read(text, hex::either)
}

/// Writes an `uber-trace-id`.
pub(super) fn write(trace: &TraceContext) -> hex::Text<LENGTH> {
    let mut text = hex::Text::new();
    text.push(&trace.trace_id_hex);
    text.push(b":").push_hex(&trace.span_id.to_bytes());
    text.push(if trace.sampled { b":0:1" } else { b":0:0" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        for (text, sampled) in [
            ("80f198ee56343ba864fe8b2a57d3eff7:e457b5a2e4d86bd1:0:1", true),
            ("80f198ee56343ba864fe8b2a57d3eff7:e457b5a2e4d86bd1:0:00", false),
            (
                "80f198ee56343ba864fe8b2a57d3eff7:e457b5a2e4d86bd1:05e3ac9a4f6e3b90:03",
                true,
            ),
            ("80F198EE56343BA864FE8B2A57D3EFF7:E457B5A2E4D86BD1:0:2", true),
            ("80f198ee56343ba864fe8b2a57d3eff7%3Ae457b5a2e4d86bd1%3A0%3A4", false),
            ("80f198ee56343ba864fe8b2a57d3eff7%3ae457b5a2e4d86bd1%3a0:f1", true),
        ] {
            let remote = parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                remote.trace_id.to_string(),
                "80f198ee56343ba864fe8b2a57d3eff7",
                "{text}"
            );
            assert_eq!(remote.parent.to_string(), "e457b5a2e4d86bd1", "{text}");
            assert_eq!(remote.sampled, Some(sampled), "{text}");
        }
    }

    #[test]
    fn leading_zeros_may_be_missing() {
        let remote = parse(b"abc:1:0:1").unwrap();
        assert_eq!(remote.trace_id.to_string(), "00000000000000000000000000000abc");
        assert_eq!(remote.parent.to_string(), "0000000000000001");
    }

    #[test]
    fn refuses_a_malformed_header() {
        for text in [
            "",
            ":::",
            "1:2:3",
            "1:2:0:",
            "1:2::1",
            ":2:0:1",
            "1::0:1",
            "0:2:0:1",
            "1:0:0:1",
            "1:2:0:1:",
            "1:2:0:001",
            "1:2:0:x",
            "1:2:g:1",
            "g:2:0:1",
            "1:g:0:1",
            "1%3B2%3A0%3A1",
            "1%3",
            "1%",
            "1 :2:0:1",
            "100000000000000000000000000000000:2:0:1",
            "1:10000000000000000:0:1",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
