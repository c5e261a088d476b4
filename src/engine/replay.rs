//! The beginning of a request body, kept until there is a response head, so that the request can be sent once more.

use bytes::Bytes;
use http::HeaderMap;

/// Pieces kept of one request, at least: many small ones cost more than their bytes.
const PIECES: usize = 64;
/// Bytes that may be kept for each piece more.
const PIECE: usize = 4 * 1024;

/// What the upstream was sent of a request after its head.
#[derive(Default)]
pub(super) struct Replay {
    /// What was read before the first attempt, and is still to be sent.
    early: Vec<Bytes>,
    /// The trailers of a body that was read whole before the first attempt.
    early_trailers: Option<HeaderMap>,
    pieces: Vec<Bytes>,
    bytes: usize,
    /// There was more than is kept.
    lost: bool,
    /// The body is complete.
    ended: bool,
    trailers: Option<HeaderMap>,
}

impl Replay {
    /// Whether all that was sent can be sent again.
    pub(super) fn is_whole(&self) -> bool {
        !self.lost
    }

    /// Whether nothing of a body was sent.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.lost && self.early.is_empty()
    }

    /// Keeps a piece that was read before the first attempt.
    pub(super) fn read_early(&mut self, piece: Bytes) {
        self.early.push(piece);
    }

    /// Keeps the trailers of a body that was read whole before the first attempt.
    pub(super) fn read_early_end(&mut self, trailers: Option<HeaderMap>) {
        self.early_trailers = trailers;
    }

    /// All that was read before the first attempt, as one.
    pub(super) fn early(&mut self) -> Bytes {
        if self.early.len() != 1 {
            self.early = vec![Bytes::from(self.early.concat())];
        }
        self.early.first().cloned().unwrap_or_default()
    }

    /// The trailers that were read before the first attempt.
    pub(super) fn take_early_trailers(&mut self) -> Option<HeaderMap> {
        self.early_trailers.take()
    }

    /// What was read before the first attempt, to be sent.
    pub(super) fn take_early(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.early)
    }

    /// Takes note of a piece; no more than `most` bytes are kept.
    pub(super) fn keep(&mut self, piece: &Bytes, most: usize) {
        self.bytes += piece.len();
        self.lost |= self.bytes > most || self.pieces.len() >= PIECES.max(most / PIECE);
        if self.lost {
            self.pieces = Vec::new();
        } else {
            self.pieces.push(piece.clone());
        }
    }

    /// Takes note of the end.
    pub(super) fn end(&mut self, trailers: Option<HeaderMap>) {
        self.ended = true;
        self.trailers = trailers;
    }

    /// What was sent, to be sent again.
    pub(super) fn pieces(&self) -> Vec<Bytes> {
        self.pieces.clone()
    }

    /// Whether the end was sent.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// What was sent with the end.
    pub(super) fn trailers(&self) -> Option<HeaderMap> {
        self.trailers.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_much_is_kept() {
        const MOST: usize = 64 * 1024;
        let mut replay = Replay::default();
        assert!(replay.is_whole() && replay.is_empty());
        replay.keep(&Bytes::from(vec![0; MOST]), MOST);
        assert!(replay.is_whole() && !replay.is_empty());
        replay.keep(&Bytes::from_static(b"x"), MOST);
        assert!(!replay.is_whole() && !replay.is_empty());
        assert!(replay.pieces().is_empty());
        let mut replay = Replay::default();
        for _ in 0..=PIECES {
            replay.keep(&Bytes::from_static(b"x"), MOST);
        }
        assert!(!replay.is_whole());
    }
}
