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
pub(super) fn is_text(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

/// How many CRs and LFs there are; none where there is another control character than these and tabs.
#[allow(
    clippy::needless_bitwise_bool,
    reason = "without a branch the compiler looks at many bytes at a time"
)]
pub(super) fn count_ends(lines: &[u8]) -> Option<(usize, usize)> {
    let (mut bad, mut returns, mut feeds) = (false, 0, 0);
    for piece in lines.chunks(128) {
        // Eight bits hold a piece's count, and leave room for more bytes at a time.
        let (mut some_returns, mut some_feeds) = (0_u8, 0_u8);
        for &byte in piece {
            let (is_return, is_feed) = (byte == b'\r', byte == b'\n');
            some_returns += u8::from(is_return);
            some_feeds += u8::from(is_feed);
            bad |= ((byte < b' ') & (byte != b'\t') & !is_return & !is_feed) | (byte == 0x7f);
        }
        returns += usize::from(some_returns);
        feeds += usize::from(some_feeds);
    }
    (!bad).then_some((returns, feeds))
}

/// Name and value of a field line, the value with the space around it.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Flaw> {
    let (name, value) = split_loosely(line)?;
    if is_token(name) && is_text(value) {
        Ok((name, value))
    } else {
        Err(Flaw::Malformed("a field that is none"))
    }
}

/// The same for a parser behind that knows what a name may be, as long as it is not led to take spaces for something else.
pub(super) fn split_loosely(line: &[u8]) -> Result<(&[u8], &[u8]), Flaw> {
    let colon = line.iter().position(|&byte| byte == b':');
    let (name, value) = line.split_at(colon.ok_or(Flaw::Malformed("a line that is no field"))?);
    match name {
        [] => Err(Flaw::Malformed("a field without a name")),
        [b' ' | b'\t', ..] => Err(Flaw::Malformed("a folded line")),
        [.., b' ' | b'\t'] => Err(Flaw::Malformed("a space before a colon")),
        _ => Ok((name, value.get(1..).unwrap_or_default())),
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
            if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
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
