//! Field lines (RFC 9112, section 5), and what they say of the message's length (section 6).

use super::Flaw;

/// The characters of tokens (RFC 9110, section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let text = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut at = 0;
    while at < text.len() {
        table[text[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether it is a token.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| TOKEN[usize::from(byte)])
}

/// Whether it holds no control character but tabs. A CR or LF is one.
#[allow(clippy::needless_bitwise_bool, reason = "see below")]
pub(super) fn is_text(text: &[u8]) -> bool {
    // Without a branch, so that the compiler makes it many bytes at a time.
    !text.iter().fold(false, |bad, &byte| {
        bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
    })
}

/// Name and value, the value without the space around it.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Flaw> {
    let colon = line.iter().position(|&byte| !TOKEN[usize::from(byte)]);
    let (name, rest) = line.split_at(colon.unwrap_or(line.len()));
    match rest {
        [b':', value @ ..] if !name.is_empty() && is_text(value) => Ok((name, value.trim_ascii())),
        [b':', ..] if name.is_empty() => Err(Flaw::Malformed("a field without a name")),
        [b':', ..] => Err(Flaw::Malformed("a control character in a field")),
        [b' ' | b'\t', ..] if name.is_empty() => Err(Flaw::Malformed("a folded line")),
        [b' ' | b'\t', ..] => Err(Flaw::Malformed("a space before a colon")),
        _ => Err(Flaw::Malformed("a line that is no field")),
    }
}

/// What was said of the length so far.
#[derive(Debug, Default)]
pub(super) struct Framing {
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    /// Takes note of a field.
    pub(super) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Flaw> {
        if name.eq_ignore_ascii_case(b"content-length") {
            for member in value.split(|&byte| byte == b',') {
                let length = number(member.trim_ascii())?;
                // The same said twice is taken once (RFC 9112, section 6.3).
                if self.length.is_some_and(|before| before != length) {
                    return Err(Flaw::Malformed("lengths that differ"));
                }
                self.length = Some(length);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Flaw::Malformed("a transfer coding that is not chunked alone"));
            }
            self.chunked = true;
        }
        Ok(())
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Whether what was said fits together.
    pub(super) fn settle(&self, is_http_1_0: bool) -> Result<(), Flaw> {
        if self.chunked && self.length.is_some() {
            return Err(Flaw::Malformed("a length beside a transfer coding"));
        }
        if self.chunked && is_http_1_0 {
            // RFC 9112, section 6.1.
            return Err(Flaw::Malformed("a transfer coding in HTTP/1.0"));
        }
        Ok(())
    }
}

/// Digits alone: no sign, no space, no more than fits.
fn number(text: &[u8]) -> Result<u64, Flaw> {
    let digits = std::str::from_utf8(text).ok();
    digits
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or(Flaw::Malformed("a length that is no number"))
}
