//! Tells cleartext HTTP/2 from HTTP/1 by the first bytes of a connection (RFC 9113, section 3.4).

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::wire::Wire;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Anything that is not HTTP/2.
    Http1,
    /// The connection preface of HTTP/2.
    Http2,
}

fn judge(bytes: &[u8]) -> Option<Spoken> {
    if bytes.len() >= PREFACE.len() {
        return Some(if bytes.starts_with(PREFACE) {
            Spoken::Http2
        } else {
            Spoken::Http1
        });
    }
    (!PREFACE.starts_with(bytes)).then_some(Spoken::Http1)
}

/// Reads until the first byte that differs from the preface, or all of it, and puts what was read back. `None` when the
/// client left without a byte.
pub(super) async fn sniff(wire: &mut Wire) -> Option<Spoken> {
    let mut seen = BytesMut::with_capacity(4096);
    loop {
        if wire.read_buf(&mut seen).await.ok()? == 0 {
            return None;
        }
        if let Some(spoken) = judge(&seen) {
            wire.set_prefix(Bytes::from(seen));
            return Some(spoken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_different_byte_is_enough() {
        assert_eq!(judge(b"G"), Some(Spoken::Http1));
        assert_eq!(judge(b"PRI * HTTP/1.1"), Some(Spoken::Http1));
        assert_eq!(judge(b"PUT"), Some(Spoken::Http1));
        assert_eq!(judge(b"P"), None);
        assert_eq!(judge(&PREFACE[..23]), None);
        assert_eq!(judge(PREFACE), Some(Spoken::Http2));
        assert_eq!(judge(&[PREFACE, b"\0\0\0"].concat()), Some(Spoken::Http2));
        assert_eq!(judge(b"GET / HTTP/1.0\r\n\r\n"), Some(Spoken::Http1));
    }
}
