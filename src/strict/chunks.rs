//! Chunked bodies (RFC 9112, section 7.1), looked at as they pass. The session behind decodes them, but takes a chunk
//! extension with a bare LF in it, which others take for a line's end.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Flaw, fields};

/// Bytes of one size line, extensions included. Nobody needs them.
const MAX_LINE: usize = 4 * 1024;
/// Bytes of a trailer section.
const MAX_TRAILERS: usize = 64 * 1024;

const BAD_SIZE: Flaw = Flaw::Malformed("a chunk size that is none");
const NO_FIELD: Flaw = Flaw::Malformed("a trailer field that is none");

/// Checks a chunked body that comes in pieces.
#[derive(Debug)]
pub(crate) struct Chunks {
    state: State,
    /// The size line or trailer line whose end has not come yet.
    partial: Vec<u8>,
    /// Bytes of the trailer section.
    trailer_bytes: usize,
    /// Its fields; the session behind drops them.
    trailers: Option<Box<HeaderMap>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size,
    /// So many bytes of data are still to come, and a CRLF.
    Data(u64),
    Trailers,
}

impl Chunks {
    /// Nothing seen yet.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size,
            partial: Vec::new(),
            trailer_bytes: 0,
            trailers: None,
        }
    }

    /// The fields of the trailer section, if there were any.
    pub(crate) fn into_trailers(self) -> Option<Box<HeaderMap>> {
        self.trailers
    }

    /// Looks at what came next. Where the body ends in it, the number of bytes that belong to the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<usize>, Flaw> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let State::Data(left) = self.state {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                rest = rest.get(taken..).unwrap_or_default();
                let left = left - taken as u64;
                self.state = State::Data(left);
                if left > 0 || rest.is_empty() {
                    break;
                }
            }
            let Some(line) = self.line(&mut rest)? else { break };
            if self.take(line.get(..line.len() - 2).unwrap_or_default())? {
                return Ok(Some(bytes.len() - rest.len()));
            }
        }
        Ok(None)
    }

    /// The next line with its CRLF, if it is whole.
    fn line<'b>(&mut self, rest: &mut &'b [u8]) -> Result<Option<Cow<'b, [u8]>>, Flaw> {
        let end = memchr::memchr(b'\n', rest);
        let (line, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        *rest = after;
        let most = match self.state {
            State::Data(_) => 2,
            State::Size => MAX_LINE,
            State::Trailers => MAX_TRAILERS - self.trailer_bytes,
        };
        if self.partial.len() + line.len() > most {
            return Err(BAD_SIZE);
        }
        if end.is_none() {
            self.partial.extend_from_slice(line);
            return Ok(None);
        }
        let line = if self.partial.is_empty() {
            Cow::Borrowed(line)
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(line);
            Cow::Owned(whole)
        };
        if line.ends_with(b"\r\n") {
            Ok(Some(line))
        } else {
            Err(Flaw::Malformed("a line that ends with LF alone"))
        }
    }

    /// A whole line. True for the empty one that ends the body.
    fn take(&mut self, line: &[u8]) -> Result<bool, Flaw> {
        match self.state {
            State::Size => {
                self.state = match size(line)? {
                    0 => State::Trailers,
                    size => State::Data(size),
                };
            }
            State::Data(_) if line.is_empty() => self.state = State::Size,
            State::Data(_) => return Err(Flaw::Malformed("a chunk longer than its size")),
            State::Trailers if line.is_empty() => return Ok(true),
            State::Trailers => {
                self.trailer_bytes += line.len();
                let (name, value) = fields::split(line)?;
                let name = HeaderName::from_bytes(name).map_err(|_| NO_FIELD)?;
                let value = HeaderValue::from_bytes(value.trim_ascii()).map_err(|_| NO_FIELD)?;
                let trailers = self.trailers.get_or_insert_default();
                if trailers.try_append(name, value).is_err() {
                    return Err(Flaw::TooMany);
                }
            }
        }
        Ok(false)
    }
}

/// `chunk-size [ chunk-ext ]`
fn size(line: &[u8]) -> Result<u64, Flaw> {
    let digits = line
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(line.len());
    let (digits, extensions) = line.split_at(digits);
    let extended = extensions.trim_ascii_start().starts_with(b";");
    if !(extensions.is_empty() || extended) || !fields::is_text(extensions) {
        return Err(BAD_SIZE);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BAD_SIZE)?;
    u64::from_str_radix(digits, 16).map_err(|_| BAD_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(pieces: &[&[u8]]) -> Result<Option<usize>, Flaw> {
        let mut chunks = Chunks::new();
        let mut found = Ok(None);
        for piece in pieces {
            found = chunks.feed(piece);
            if !matches!(found, Ok(None)) {
                break;
            }
        }
        found
    }

    #[test]
    fn a_body_ends_with_its_last_chunk_wherever_it_is_cut() {
        let body = b"5\r\nhe\nlo\r\n00A;a=\"b\" ; c\r\n0\r\n\r\n01234\r\n0\r\nX: y\r\n\r\n";
        for cut in 0..body.len() {
            let (first, second) = body.split_at(cut);
            assert_eq!(feed(&[first]), Ok(None), "{cut}");
            let more = [second, b"GET /"].concat();
            assert_eq!(feed(&[first, &more]), Ok(Some(second.len())), "{cut}");
        }
        let bytes: Vec<_> = body.chunks(1).collect();
        assert_eq!(feed(&bytes), Ok(Some(1)));
        assert_eq!(feed(&[b"0\r\n\r\n"]), Ok(Some(5)));
    }

    #[test]
    fn trailers_are_kept() {
        let mut chunks = Chunks::new();
        let body = b"0\r\nX: y \r\nx: z\r\nEmpty:\r\n\r\n";
        assert_eq!(chunks.feed(body), Ok(Some(body.len())));
        let trailers = chunks.into_trailers().unwrap();
        assert_eq!(trailers.get_all("x").iter().collect::<Vec<_>>(), ["y", "z"]);
        assert_eq!(trailers["empty"], "");
    }

    #[test]
    fn what_is_in_doubt_is_refused() {
        for body in [
            &b"\r\n"[..],
            b"+5\r\n",
            b"-5\r\n",
            b"0x5\r\n",
            b"5 \r\n",
            b" 5\r\n",
            b"5,5\r\n",
            b";a\r\n",
            b"5\n",
            b"5\rhello\r\n",
            b"5;a\nb\r\n",
            b"5;a\rb\r\n",
            b"5;\0\r\n",
            b"g\r\n",
            b"10000000000000000\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n",
            b"5\r\nhello0\r\n",
            b"0\r\nno colon\r\n",
            b"0\r\nA : b\r\n",
            b"0\r\nA: b\n",
        ] {
            assert!(feed(&[body]).is_err(), "{body:?}");
            let bytes: Vec<_> = body.chunks(1).collect();
            assert!(feed(&bytes).is_err(), "{body:?}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        let long = format!("5;{}", "a".repeat(MAX_LINE));
        assert!(feed(&[long.as_bytes()]).is_err());
        let field = format!("A: {}\r\n", "b".repeat(1000));
        let trailers = format!("0\r\n{}", field.repeat(70));
        assert!(feed(&[trailers.as_bytes()]).is_err());
    }
}
