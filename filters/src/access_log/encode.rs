//! Values as text: straight into the line, past the formatting machinery.
//!
//! Whatever the bytes, what is written is valid UTF-8 without a control character, so a line stays one line.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use super::Format;

impl Format {
    /// Begins a line.
    pub(super) fn open(self, line: &mut Vec<u8>) {
        if self == Self::Json {
            line.push(b'{');
        }
    }

    /// Writes a key and what stands between it and its value. Keys are plain words.
    pub(super) fn key(self, line: &mut Vec<u8>, key: &str) {
        match self {
            Self::Json => {
                line.push(b'"');
                line.extend_from_slice(key.as_bytes());
                line.extend_from_slice(b"\":");
            }
            Self::Logfmt => {
                line.extend_from_slice(key.as_bytes());
                line.push(b'=');
            }
        }
    }

    /// Stands after each value.
    pub(super) fn separator(self) -> u8 {
        match self {
            Self::Json => b',',
            Self::Logfmt => b' ',
        }
    }

    /// Ends a line in the place of the last separator.
    pub(super) fn close(self, line: &mut Vec<u8>) {
        if line.last() == Some(&self.separator()) {
            line.pop();
        }
        line.extend_from_slice(match self {
            Self::Json => b"}\n",
            Self::Logfmt => b"\n",
        });
    }

    /// What stands before, between and after the texts of a list: an array in JSON, one quoted text in logfmt.
    pub(super) fn list(self) -> (&'static [u8], &'static [u8], &'static [u8]) {
        match self {
            Self::Json => (b"[\"", b"\",\"", b"\"]"),
            Self::Logfmt => (b"\"", b",", b"\""),
        }
    }

    /// Writes a text of any bytes.
    pub(super) fn text(self, line: &mut Vec<u8>, text: &[u8]) {
        if self == Self::Logfmt && is_bare(text) {
            line.extend_from_slice(text);
            return;
        }
        line.push(b'"');
        escape(line, text);
        line.push(b'"');
    }

    /// Writes a text that needs no escaping in either format.
    pub(super) fn plain(self, line: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Self::Json => {
                line.push(b'"');
                write(line);
                line.push(b'"');
            }
            Self::Logfmt => write(line),
        }
    }
}

/// Whether logfmt takes a text without quotes.
fn is_bare(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| matches!(byte, b'!'..=b'~') && !b"\"=\\".contains(byte))
}

/// Writes what stands between the quotes of a JSON string (RFC 8259, section 7), which logfmt quotes the same way.
/// Bytes that are no UTF-8 become U+FFFD.
pub(super) fn escape(line: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(place) = rest.iter().position(|byte| !is_safe(*byte)) {
        let (safe, from) = rest.split_at(place);
        line.extend_from_slice(safe);
        rest = match from {
            [byte @ (b'"' | b'\\'), rest @ ..] => {
                line.extend_from_slice(&[b'\\', *byte]);
                rest
            }
            [byte @ ..0x80, rest @ ..] => {
                escape_unit(line, u16::from(*byte));
                rest
            }
            _ => {
                let end = from.iter().position(u8::is_ascii).unwrap_or(from.len());
                let (others, rest) = from.split_at(end);
                escape_non_ascii(line, others);
                rest
            }
        };
    }
    line.extend_from_slice(rest);
}

/// Whether a byte stands for itself: printable ASCII but the quote and the backslash.
fn is_safe(byte: u8) -> bool {
    SAFE[usize::from(byte)]
}

/// Bytes that stand for themselves in both formats: one look per byte of every line.
const SAFE: [bool; 256] = {
    let mut safe = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        safe[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    safe
};

fn escape_non_ascii(line: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                // Line breaks to some readers of logs (Unicode, section 5.8), and terminals' control codes.
                '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => escape_unit(line, character as u32 as u16),
                _ => line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn escape_unit(line: &mut Vec<u8>, unit: u16) {
    line.extend_from_slice(b"\\u");
    hexadecimal(line, &unit.to_be_bytes());
}

/// In lower case, two digits a byte.
pub(super) fn hexadecimal(line: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        line.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
}

/// In decimal.
pub(super) fn integer(line: &mut Vec<u8>, value: impl itoa::Integer) {
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three decimals.
pub(super) fn milliseconds(line: &mut Vec<u8>, duration: Duration) {
    let micros = duration.as_micros() as u64;
    integer(line, micros / 1000);
    line.push(b'.');
    digits(line, micros % 1000, 100);
}

/// Decimal digits with leading zeros; `place` is the first one's worth.
pub(super) fn digits(line: &mut Vec<u8>, value: u64, place: u64) {
    let mut place = place;
    while place > 0 {
        line.push(b'0' + (value / place % 10) as u8);
        place /= 10;
    }
}

/// An IP address; IPv4 that came over an IPv6 socket is written as IPv4.
pub(super) fn address(line: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    line.push(b'.');
                }
                integer(line, octet);
            }
        }
        // RFC 5952 has rules enough to leave it to the standard library. Writing to a vector does not fail.
        IpAddr::V6(address) => drop(write!(line, "{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).unwrap()
    }

    fn text(format: Format, text: &[u8]) -> String {
        written(|line| format.text(line, text))
    }

    #[test]
    fn texts_are_escaped() {
        for (bytes, json, logfmt) in [
            (&b"plain"[..], r#""plain""#, "plain"),
            (b"", r#""""#, r#""""#),
            (b"two words", r#""two words""#, r#""two words""#),
            (b"a=b", r#""a=b""#, r#""a=b""#),
            (b"say \"hi\"", r#""say \"hi\"""#, r#""say \"hi\"""#),
            (b"back\\slash", r#""back\\slash""#, r#""back\\slash""#),
            (
                b"a\r\nb\x00\x7f",
                r#""a\u000d\u000ab\u0000\u007f""#,
                r#""a\u000d\u000ab\u0000\u007f""#,
            ),
            ("zażółć 🦀".as_bytes(), r#""zażółć 🦀""#, r#""zażółć 🦀""#),
            (b"\xff", "\"\u{fffd}\"", "\"\u{fffd}\""),
            (b"a\xc3", "\"a\u{fffd}\"", "\"a\u{fffd}\""),
            (b"\xf0\x9f\xa6z", "\"\u{fffd}z\"", "\"\u{fffd}z\""),
            ("\u{85}\u{2028}".as_bytes(), r#""\u0085\u2028""#, r#""\u0085\u2028""#),
        ] {
            assert_eq!(text(Format::Json, bytes), json, "{bytes:?}");
            assert_eq!(text(Format::Logfmt, bytes), logfmt, "{bytes:?}");
        }
    }

    #[test]
    fn any_bytes_come_back_from_json_as_they_were() {
        let mut random = fastrand::Rng::with_seed(42);
        for round in 0..5_000 {
            let length = random.usize(..40);
            let bytes: Vec<u8> = if round % 2 == 0 {
                std::iter::repeat_with(|| random.u8(..)).take(length).collect()
            } else {
                let characters = std::iter::repeat_with(|| random.char('\0'..='\u{3000}')).take(length);
                characters.collect::<String>().into_bytes()
            };
            let json = text(Format::Json, &bytes);
            let back: String = serde_json::from_str(&json).unwrap();
            assert_eq!(back, String::from_utf8_lossy(&bytes));
            for written in [json, text(Format::Logfmt, &bytes)] {
                assert!(!written.contains(char::is_control), "{written:?}");
            }
        }
    }

    #[test]
    fn what_logfmt_writes_bare_has_nothing_to_split_it_by() {
        for byte in 0..=u8::MAX {
            let written = text(Format::Logfmt, &[byte]);
            assert!(
                written.starts_with('"') || !written.contains([' ', '=', '"', '\n', '\\']),
                "{byte}"
            );
        }
    }

    #[test]
    fn milliseconds_have_three_decimals() {
        for (micros, expected) in [
            (0, "0.000"),
            (7, "0.007"),
            (1_234_567, "1234.567"),
            (60_000_000, "60000.000"),
        ] {
            assert_eq!(
                written(|line| milliseconds(line, Duration::from_micros(micros))),
                expected
            );
        }
    }

    #[test]
    fn addresses_are_written_the_short_way() {
        for (from, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:0:0::1", "2001:db8::1"),
        ] {
            assert_eq!(written(|line| address(line, from.parse().unwrap())), expected);
        }
    }
}
