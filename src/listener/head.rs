//! Reads the head of an HTTP/1 request, whole and within bounds, before the session parses it.

use bytes::{Buf, BytesMut};
use http::StatusCode;
use pillion_filters::{Fact, Failure, Refusal};
use tokio::io::AsyncReadExt;

use super::wire::Wire;
use crate::strict::{Chunks, Flaw, Kind, Scanner};

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

impl From<Flaw> for Unread {
    fn from(flaw: Flaw) -> Self {
        Self::Refused(match flaw {
            Flaw::Malformed(why) => Refusal {
                message: why,
                fact: Fact::Text(why),
                ..Failure::MalformedRequest.into()
            },
            Flaw::TooLarge => TOO_LARGE,
            Flaw::TooMany => TOO_MANY,
        })
    }
}

/// Adds to `bytes` until they begin with a whole head.
pub(super) async fn read(wire: &mut Wire, bytes: &mut BytesMut) -> Result<(), Unread> {
    let mut scanner = Scanner::new(Kind::Request);
    let mut scanned = 0;
    // Those of a body that was read and dropped are nobody's.
    wire.set_trailers(None);
    loop {
        if scanned == 0 {
            skip_empty_lines(bytes);
        }
        // Half an empty line is no beginning yet.
        if scanned > 0 || **bytes != *b"\r" {
            let fresh = bytes.get(scanned..).unwrap_or_default();
            if let Some(end) = scanner.feed(fresh)? {
                if scanner.is_chunked() {
                    let mut chunks = Chunks::new();
                    if chunks.feed(fresh.get(end..).unwrap_or_default())?.is_some() {
                        wire.set_trailers(chunks.into_trailers());
                    } else {
                        wire.expect_chunks(chunks);
                    }
                }
                return Ok(());
            }
            scanned = bytes.len();
        }
        if bytes.capacity() == bytes.len() {
            bytes.reserve(FIRST_READ);
        }
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
