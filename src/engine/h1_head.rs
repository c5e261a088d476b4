//! Writes HTTP/1 heads and frames response bodies (RFC 9112, sections 3 to 7).
//!
//! pingora-core's writer replaces the app's `Date`, always adds `Connection` and drops trailers; a response passes it
//! through a copy. This one writes the head as the chain left it into the connection's buffer.

use bytes::{BufMut, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use pingora_http::{RequestHeader, ResponseHeader};

use super::heads::{self, Hop};

/// How the end of a response body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes are still to come.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// The body ends with the connection.
    Close,
}

/// What of the request decides the response's framing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// The request was HEAD, so there is never a body.
    pub(super) head_only: bool,
    /// The request's version.
    pub(super) version: Version,
    /// The client keeps the connection if we do.
    pub(super) keep_alive: bool,
}

/// Sets the framing and connection headers and says how the body is to be written and whether the connection lives on.
pub(super) fn frame(head: &mut ResponseHeader, asked: Asked) -> (Framing, bool) {
    let framing = framing(head, asked);
    match framing {
        Framing::Chunked => set(head, TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
        Framing::Empty if head.status == StatusCode::NO_CONTENT => {
            // RFC 9110, section 8.6: no Content-Length with 204.
            head.remove_header(&CONTENT_LENGTH);
        }
        _ => {}
    }
    let keep = asked.keep_alive && framing != Framing::Close;
    if !keep {
        set(head, CONNECTION, HeaderValue::from_static("close"));
    } else if asked.version == Version::HTTP_10 {
        set(head, CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    (framing, keep)
}

fn framing(head: &ResponseHeader, asked: Asked) -> Framing {
    if asked.head_only || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Framing::Empty;
    }
    let length = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match length {
        Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
        None if asked.version == Version::HTTP_11 => Framing::Chunked,
        None => Framing::Close,
    }
}

/// Writes status line and headers; `via` names this hop on a response that was forwarded. A final response without `Date` gets one (RFC 9110, section 6.6.1).
pub(super) fn write(
    head: &ResponseHeader,
    via: Option<&'static str>,
    date: impl FnOnce() -> HeaderValue,
    out: &mut BytesMut,
) {
    out.reserve(512);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(head.status.as_str().as_bytes());
    out.put_u8(b' ');
    if let Some(reason) = head.get_reason_phrase() {
        out.put_slice(reason.as_bytes());
    }
    out.put_slice(b"\r\n");
    head.header_to_h1_wire(out);
    if let Some(via) = via {
        heads::write_via(via, out);
    }
    if !head.status.is_informational() && !head.headers.contains_key(DATE) {
        out.put_slice(b"Date: ");
        out.put_slice(date().as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
}

/// What an HTTP/1 request says of its body beside the headers it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestBody {
    /// Nothing: there is none, or its length is among the headers.
    AsIs,
    /// It comes in chunks.
    Chunked,
    /// There is none, where one would be expected (RFC 9110, section 8.6).
    Zero,
}

/// Writes request line and headers; `upgrade` asks to switch protocols.
pub(super) fn write_request(head: &RequestHeader, hop: Hop<'_>, body: RequestBody, upgrade: bool, out: &mut BytesMut) {
    out.reserve(1024);
    out.put_slice(head.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(head.raw_path());
    out.put_slice(b" HTTP/1.1\r\n");
    head.header_to_h1_wire(out);
    hop.write(&head.headers, out);
    match body {
        RequestBody::AsIs => {}
        RequestBody::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        RequestBody::Zero => out.put_slice(b"Content-Length: 0\r\n"),
    }
    if upgrade {
        out.put_slice(b"Connection: upgrade\r\n");
    }
    out.put_slice(b"\r\n");
}

/// Writes one chunk of a chunked body. An empty one would end the body, so it is left out.
pub(super) fn write_chunk(chunk: &[u8], out: &mut BytesMut) {
    if chunk.is_empty() {
        return;
    }
    write_chunk_size(chunk.len(), out);
    out.extend_from_slice(chunk);
    out.put_slice(b"\r\n");
}

/// Hexadecimal length and CRLF.
fn write_chunk_size(length: usize, out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.put_u8(DIGITS[(length >> (place * 4)) & 15]);
    }
    out.put_slice(b"\r\n");
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Ends a chunked body, with the trailers an upstream sent.
pub(super) fn write_last_chunk(trailers: Option<&HeaderMap>, out: &mut BytesMut) {
    out.put_slice(LAST_CHUNK);
    if let Some(trailers) = trailers {
        add_trailers(trailers, out);
    }
}

/// Puts trailers into the end of a chunked body that was just written.
pub(super) fn add_trailers(trailers: &HeaderMap, out: &mut BytesMut) {
    if !out.ends_with(LAST_CHUNK) {
        return;
    }
    out.truncate(out.len() - 2);
    for (name, value) in trailers {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"\r\n");
}

fn set(head: &mut ResponseHeader, name: http::HeaderName, value: HeaderValue) {
    // Fails only on more fields than a header map can hold; the head was parsed with far fewer.
    let _ = head.insert_header(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked {
        head_only: false,
        version: Version::HTTP_11,
        keep_alive: true,
    };

    fn head(status: u16, fields: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn wire(head: &ResponseHeader) -> String {
        let mut out = BytesMut::new();
        write(head, None, || HeaderValue::from_static("now"), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_length_is_kept_and_nothing_else_added() {
        let mut head = head(200, &[("Content-Length", "5"), ("Date", "then")]);
        assert_eq!(frame(&mut head, ASKED), (Framing::Length(5), true));
        assert_eq!(
            wire(&head),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: then\r\n\r\n"
        );
    }

    #[test]
    fn an_unknown_length_is_chunked_for_1_1_and_ends_with_the_connection_for_1_0() {
        let mut response = head(200, &[]);
        assert_eq!(frame(&mut response, ASKED), (Framing::Chunked, true));
        assert_eq!(
            wire(&response),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nDate: now\r\n\r\n"
        );
        let old = Asked {
            version: Version::HTTP_10,
            ..ASKED
        };
        let mut response = head(200, &[]);
        assert_eq!(frame(&mut response, old), (Framing::Close, false));
        assert!(wire(&response).contains("Connection: close"));
    }

    #[test]
    fn head_204_and_304_have_no_body() {
        let mut not_modified = head(304, &[("Content-Length", "5")]);
        assert_eq!(frame(&mut not_modified, ASKED).0, Framing::Empty);
        assert!(wire(&not_modified).contains("Content-Length: 5"));
        let mut no_content = head(204, &[("Content-Length", "0")]);
        assert_eq!(frame(&mut no_content, ASKED).0, Framing::Empty);
        assert!(!wire(&no_content).contains("Content-Length"));
        let asked = Asked {
            head_only: true,
            ..ASKED
        };
        assert_eq!(
            frame(&mut head(200, &[("Content-Length", "5")]), asked).0,
            Framing::Empty
        );
    }

    #[test]
    fn chunks_are_sized_in_hexadecimal() {
        let mut out = BytesMut::new();
        write_chunk(&[b'x'; 26], &mut out);
        write_chunk(b"", &mut out);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        write_last_chunk(Some(&trailers), &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(text, format!("1a\r\n{}\r\n0\r\ngrpc-status: 0\r\n\r\n", "x".repeat(26)));
    }
}
