//! Reads the head of an HTTP/1 request, whole and within bounds, before the session parses it.
//!
//! The session would read on for as long as bytes come and take a bare LF for a line's end, which the app behind may not
//! (RFC 9112, section 2.2, lets a recipient choose, and that is how requests are smuggled).

use bytes::{Buf, BytesMut};
use http::StatusCode;
use pillion_filters::{Failure, Refusal};
use tokio::io::AsyncReadExt;

use super::wire::Wire;

/// Bytes of request line and fields. The `limits` filter has a lower limit of its own.
const MAX_BYTES: usize = 128 * 1024;
/// Fields; the session's parser knows no more.
const MAX_FIELDS: usize = 256;
/// Room for the first bytes of a request, and for all of most heads.
pub(super) const FIRST_READ: usize = 4096;

const TOO_LARGE: Refusal = Refusal::denied(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    "the request head is larger than 128 KiB",
);
const TOO_MANY: Refusal = Refusal::denied(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too_many_headers",
    "the request has more than 256 header fields",
);

/// Why there is no head.
pub(super) enum Unread {
    /// The client left; there is nobody to answer.
    Closed,
    /// What came is refused.
    Refused(Refusal),
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure.into())
    }
}

/// Adds to `bytes` until they begin with a whole head.
pub(super) async fn read(wire: &mut Wire, bytes: &mut BytesMut) -> Result<(), Unread> {
    let mut lines = Lines::default();
    loop {
        if lines.seen == 0 {
            skip_empty_lines(bytes);
        }
        if lines.end_in(bytes)? {
            return Ok(());
        }
        if bytes.len() > MAX_BYTES {
            return Err(Unread::Refused(TOO_LARGE));
        }
        bytes.reserve(FIRST_READ);
        match wire.read_buf(bytes).await {
            Ok(0) | Err(_) => return Err(Unread::Closed),
            Ok(_) => {}
        }
    }
}

/// Some clients send an empty line after a body (RFC 9112, section 2.2).
pub(super) fn skip_empty_lines(bytes: &mut BytesMut) {
    while bytes.starts_with(b"\r\n") {
        bytes.advance(2);
    }
}

/// The lines of a head that comes in pieces.
#[derive(Default)]
struct Lines {
    /// Bytes looked at.
    looked: usize,
    seen: usize,
}

impl Lines {
    /// Whether the head ends in these bytes.
    fn end_in(&mut self, bytes: &[u8]) -> Result<bool, Unread> {
        // Who speaks TLS, or anything else, is told so rather than waited for.
        if bytes
            .first()
            .is_some_and(|first| !first.is_ascii_graphic() && *first != b'\r')
        {
            return Err(Failure::MalformedRequest.into());
        }
        let fresh = bytes.get(self.looked..).unwrap_or_default();
        for found in memchr::memchr_iter(b'\n', fresh) {
            let before = bytes.get(..self.looked + found).unwrap_or_default();
            if !before.ends_with(b"\r") {
                return Err(Failure::MalformedRequest.into());
            }
            if before.ends_with(b"\r\n\r") {
                return Ok(true);
            }
            self.seen += 1;
            // The first is the request line.
            if self.seen > MAX_FIELDS + 1 {
                return Err(Unread::Refused(TOO_MANY));
            }
        }
        self.looked = bytes.len();
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a head that comes in these pieces is whole in the end; the reason if it is refused.
    fn ends(pieces: &[&[u8]]) -> Result<bool, &'static str> {
        let (mut lines, mut bytes) = (Lines::default(), Vec::new());
        for piece in pieces {
            bytes.extend_from_slice(piece);
            match lines.end_in(&bytes) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(Unread::Refused(refusal)) => return Err(refusal.reason),
                Err(Unread::Closed) => return Err("closed"),
            }
        }
        Ok(false)
    }

    #[test]
    fn a_head_ends_with_an_empty_line_wherever_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            let (first, second) = head.split_at(cut);
            assert_eq!(ends(&[first]), Ok(false), "{cut}");
            assert_eq!(ends(&[first, second]), Ok(true), "{cut}");
        }
        assert_eq!(ends(&[head, b"body\n"]), Ok(true));
    }

    #[test]
    fn what_is_no_text_is_refused_at_once() {
        assert_eq!(ends(&[b"\x16\x03\x01"]), Err("malformed_request"));
        assert_eq!(ends(&[b" GET"]), Err("malformed_request"));
    }

    #[test]
    fn a_bare_lf_ends_no_line() {
        for bad in [&b"GET / HTTP/1.1\n"[..], b"GET / HTTP/1.1\r\nHost: a\n\r\n"] {
            assert_eq!(ends(&[bad]), Err("malformed_request"));
        }
    }

    #[test]
    fn fields_are_counted() {
        let head = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
        assert_eq!(ends(&[head(256).as_bytes()]), Ok(true));
        assert_eq!(ends(&[head(257).as_bytes()]), Err("too_many_headers"));
    }
}
