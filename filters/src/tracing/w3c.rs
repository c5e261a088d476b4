//! W3C Trace Context (`traceparent`, `tracestate`) and W3C Baggage (`baggage`).

use super::hex;
use super::propagation::Remote;
use crate::trace_context::SpanId;

/// `00-<trace id>-<parent id>-<flags>`.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;
/// Section 3.3.1.1: no more than this many list-members.
const MAX_MEMBERS: usize = 32;
/// What W3C Baggage (section 3.3.2) asks everybody to pass on; longer ones are dropped.
const MAX_BAGGAGE: usize = 8192;

/// Reads a `traceparent` (section 3.2). `None`: the header is to be ignored and the trace started anew.
pub(super) fn parse(text: &[u8]) -> Option<Remote> {
    let (head, rest) = text.split_at_checked(LENGTH)?;
    let [b'0'..=b'9' | b'a'..=b'f', b'0'..=b'9' | b'a'..=b'f', b'-', ids @ ..] = head else {
        return None;
    };
    match head {
        // Version ff is forbidden.
        [b'f', b'f', ..] => return None,
        // Version 00 has nothing after its flags.
        [b'0', b'0', ..] if !rest.is_empty() => return None,
        // A higher version may, after a dash (section 4.3.2).
        _ if !matches!(rest, [] | [b'-', ..]) => return None,
        _ => {}
    }
    let (trace_id, ids) = ids.split_at_checked(32)?;
    let (parent, flags) = ids.strip_prefix(b"-")?.split_at_checked(16)?;
    let flags = u8::try_from(hex::read(flags.strip_prefix(b"-")?, hex::lower)?).ok()?;
    Remote::new(
        hex::read(trace_id, hex::lower)?,
        hex::read(parent, hex::lower)?,
        Some(flags & SAMPLED != 0),
    )
}

/// Writes a `traceparent` of version 00. Bits other than *sampled* are zero, as section 3.2.2.5.2 asks of those who do
/// not know them.
pub(super) fn write(trace_id: &[u8; 32], span_id: SpanId, sampled: bool) -> hex::Text<LENGTH> {
    let mut text = hex::Text::new();
    text.push(b"00-").push(trace_id);
    text.push(b"-").push_hex(&span_id.to_bytes());
    text.push(if sampled { b"-01" } else { b"-00" });
    text
}

/// Whether the lines of a `tracestate` make a valid list (section 3.3.1).
pub(super) fn tracestate_is_valid<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut count = 0;
    for member in lines.flat_map(|line| line.split(|&byte| byte == b',')) {
        count += 1;
        let member = trim(member);
        // Empty list-members are allowed.
        if count > MAX_MEMBERS || !(member.is_empty() || member_is_valid(member)) {
            return false;
        }
    }
    true
}

fn member_is_valid(member: &[u8]) -> bool {
    let mut parts = member.splitn(2, |&byte| byte == b'=');
    let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
        return false;
    };
    let printable = |&byte: &u8| (0x20..=0x7e).contains(&byte) && byte != b'=';
    key_is_valid(key) && !value.is_empty() && value.len() <= 256 && value.iter().all(printable)
}

/// `simple-key` or `tenant@system` (section 3.3.1.3.1). A simple key may begin with a digit, as the second edition has it.
fn key_is_valid(key: &[u8]) -> bool {
    fn starts_well(text: &[u8]) -> bool {
        matches!(text, [b'a'..=b'z' | b'0'..=b'9', ..])
    }
    let allowed = |&byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let mut parts = key.splitn(2, |&byte| byte == b'@');
    let tenant = parts.next().unwrap_or_default();
    let tenant_fits = match parts.next() {
        None => tenant.len() <= 256,
        Some(system) => tenant.len() <= 241 && system.len() <= 14 && starts_well(system) && system.iter().all(allowed),
    };
    tenant_fits && starts_well(tenant) && tenant.iter().all(allowed)
}

/// Whether the lines of a `baggage` may be passed on: short enough together, and every member a key with a value.
/// Properties and percent-encoding are the app's business.
pub(super) fn baggage_is_valid<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut length = 0;
    for line in lines {
        // One for the comma that joins it to the line before.
        length += line.len() + usize::from(length > 0);
        if length > MAX_BAGGAGE || !line.split(|&byte| byte == b',').all(baggage_member_is_valid) {
            return false;
        }
    }
    true
}

fn baggage_member_is_valid(member: &[u8]) -> bool {
    let member = trim(member);
    let Some(equals) = member.iter().position(|&byte| byte == b'=') else {
        return member.is_empty();
    };
    let (key, value) = member.split_at(equals);
    let key = trim(key);
    let token = |&byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !key.is_empty() && key.iter().all(token) && value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// Without the optional white space of RFC 9110, section 5.6.3.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn one(text: &str) -> bool {
        tracestate_is_valid(std::iter::once(text.as_bytes()))
    }

    #[test]
    fn reads_a_traceparent() {
        let remote = parse(VALID.as_bytes()).unwrap();
        assert_eq!(remote.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(remote.parent.to_string(), "00f067aa0ba902b7");
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("ff", true)] {
            let text = format!("{}{flags}", &VALID[..53]);
            assert_eq!(parse(text.as_bytes()).unwrap().sampled, Some(sampled), "{text}");
        }
    }

    #[test]
    fn a_later_version_may_be_longer() {
        for rest in ["", "-", "-what-the-future-holds"] {
            let text = format!("cc{}{rest}", &VALID[2..]);
            assert!(parse(text.as_bytes()).is_some(), "{text}");
        }
        for rest in ["x", ".", " "] {
            let text = format!("cc{}{rest}", &VALID[2..]);
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn refuses_a_malformed_traceparent() {
        for text in [
            "",
            "00",
            // One byte short, one too long, a version 00 with more.
            &VALID[..54],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
            // Version.
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0F-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ".0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            // Zero ids.
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            // Upper case, no digits.
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bx-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            // Separators.
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn reads_what_it_wrote() {
        let remote = parse(VALID.as_bytes()).unwrap();
        let mut trace_id = [0; 32];
        hex::write(&remote.trace_id.to_bytes(), &mut trace_id);
        assert_eq!(write(&trace_id, remote.parent, true).as_bytes(), VALID.as_bytes());
    }

    #[test]
    fn a_valid_tracestate() {
        let longest = format!("{}={}", "z".repeat(256), "v".repeat(256));
        let tenant = format!("{}@{}=1", "t".repeat(241), "v".repeat(14));
        let many = vec!["a=1"; 32].join(",");
        for text in [
            "",
            "foo=1",
            "foo=1,bar=2",
            "foo=1 , \t bar=2",
            "foo=1,,bar=2",
            "a0_-*/=!~ x",
            "1a=1",
            "fw529a3039@dt=FfAAAA",
            &longest,
            &tenant,
            &many,
        ] {
            assert!(one(text), "{text:?}");
        }
        assert!(tracestate_is_valid([&b"foo=1"[..], b"", b"bar=2"].into_iter()));
    }

    #[test]
    fn an_invalid_tracestate() {
        let long_key = format!("{}=1", "z".repeat(257));
        let long_value = format!("z={}", "v".repeat(257));
        let long_tenant = format!("{}@v=1", "t".repeat(242));
        let long_system = format!("t@{}=1", "v".repeat(15));
        let many = vec!["a=1"; 33].join(",");
        for text in [
            "foo",
            "foo=",
            "=1",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "foo@=1",
            "@foo=1",
            "foo@@bar=1",
            "foo@bar@baz=1",
            "foo@Bar=1",
            "_a=1",
            "foo=1=2",
            "foo=\u{e4}",
            "foo=\u{1}",
            "foo=1;bar=2,baz",
            &long_key,
            &long_value,
            &long_tenant,
            &long_system,
            &many,
        ] {
            assert!(!one(text), "{text:?}");
        }
        let seventeen = vec!["a=1"; 17].join(",");
        assert!(!tracestate_is_valid(
            [seventeen.as_bytes(), seventeen.as_bytes()].into_iter()
        ));
    }

    #[test]
    fn baggage_is_short_and_made_of_pairs() {
        let valid = |text: &str| baggage_is_valid(std::iter::once(text.as_bytes()));
        for text in ["", "a=1", "a=", "userId=Am%C3%A9lie;ttl=1,b = 2 ; c", " a=1 , b=2 "] {
            assert!(valid(text), "{text:?}");
        }
        for text in ["a", "=1", "a b=1", "a=1,b", "a=\u{e9}", "a(=1"] {
            assert!(!valid(text), "{text:?}");
        }
        let half = format!("a={}", "v".repeat(4094));
        assert!(valid(&half));
        assert!(baggage_is_valid(
            [half.as_bytes(), &half.as_bytes()[..4095]].into_iter()
        ));
        assert!(!baggage_is_valid([half.as_bytes(), half.as_bytes()].into_iter()));
    }
}
