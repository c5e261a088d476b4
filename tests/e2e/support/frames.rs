//! HTTP/2 by hand, for what no library sends: frames, and fields in the plainest HPACK.

use std::net::SocketAddr;

use super::{App, Peer};

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The stream that a client opens first; the connections here have one.
const STREAM: u32 = 1;

/// Of the error codes (RFC 9113, section 7).
pub(crate) const PROTOCOL_ERROR: u32 = 1;

/// Name and value, of any bytes.
pub(crate) type Field<'a> = (&'a str, &'a str);

/// How the other side answers what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A response, which has this status.
    Status(u16),
    /// The stream is reset with this error.
    Reset(u32),
    /// All of the connection ends with this error.
    GoAway(u32),
    /// The connection closes without a word.
    Closed,
}

/// A connection with one stream.
pub(crate) struct RawH2(Peer);

impl RawH2 {
    /// A client.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut peer = Peer::connect(address);
        peer.send(PREFACE);
        peer.send(frame(SETTINGS, 0, 0, &[]));
        Self(peer)
    }

    /// An app that was connected to, and was sent a request.
    pub(crate) fn accept(app: &App) -> Self {
        let mut peer = app.accept();
        assert_eq!(peer.read_exactly(PREFACE.len()), PREFACE.as_bytes());
        peer.send(frame(SETTINGS, 0, 0, &[]));
        let mut raw = Self(peer);
        while raw.next().expect("a request").kind != HEADERS {}
        raw
    }

    /// Sends a head or trailers; `end` when nothing follows.
    pub(crate) fn headers(&mut self, fields: &[Field<'_>], end: bool) {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.send(&frame(HEADERS, flags, STREAM, &block(fields)));
    }

    /// Sends a piece of body; `end` when nothing follows.
    pub(crate) fn data(&mut self, bytes: &[u8], end: bool) {
        self.send(&frame(DATA, if end { END_STREAM } else { 0 }, STREAM, bytes));
    }

    fn send(&mut self, frame: &[u8]) {
        // The other side may have heard enough already; what it says of that is for `verdict`.
        let _ = self.0.try_send(frame);
    }

    /// The next frame; none when the connection has closed.
    fn next(&mut self) -> Option<Frame> {
        loop {
            let head = self.0.try_read_exactly(9)?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let payload = self.0.try_read_exactly(length)?;
            let (kind, flags) = (head[3], head[4]);
            if kind == SETTINGS && flags & ACK == 0 {
                self.send(&frame(SETTINGS, ACK, 0, &[]));
            } else {
                return Some(Frame { kind, payload });
            }
        }
    }

    /// Reads until it is clear what became of the stream.
    pub(crate) fn verdict(&mut self) -> Verdict {
        while let Some(Frame { kind, payload }) = self.next() {
            match kind {
                HEADERS => return Verdict::Status(status(&payload)),
                RST_STREAM => return Verdict::Reset(number(&payload)),
                GOAWAY => return Verdict::GoAway(number(&payload[4..])),
                _ => {}
            }
        }
        Verdict::Closed
    }
}

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literal fields without indexing, names and values as they are (RFC 7541, section 6.2.2).
fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a longer length has more than one byte");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The status that a head begins with: one of the static table, or digits in Huffman code (RFC 7541, appendices A and B).
fn status(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x48, 0x82 | 0x83, code @ ..] => huffman_digits(code),
        other => panic!("no status that this knows: {other:02x?}"),
    }
}

/// Three digits: up to 2 they have five bits, the others six.
fn huffman_digits(code: &[u8]) -> u16 {
    let bits = u32::from_be_bytes(code[..4].try_into().unwrap());
    let (mut at, mut digits) = (0, 0);
    for _ in 0..3 {
        let six = (bits << at) >> 26;
        let (digit, length) = if six < 0b011_000 {
            (six >> 1, 5)
        } else {
            (six - 0b011_001 + 3, 6)
        };
        at += length;
        digits = digits * 10 + digit as u16;
    }
    digits
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}
