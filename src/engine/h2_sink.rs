//! The sending side of one HTTP/2 stream, with flow control kept apart from reading.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

/// Holds what was pushed until the peer's window takes it: one chunk, unless more may wait.
pub(super) struct H2Sink {
    stream: SendStream<Bytes>,
    queued: VecDeque<Bytes>,
    pending: usize,
    last: Last,
    sent: u64,
}

/// How the stream ends once the queue is empty.
enum Last {
    /// Not yet.
    Open,
    Data,
    Trailers(HeaderMap),
    Done,
}

impl H2Sink {
    /// Wraps a stream whose head was sent; `ended` when the head ended it.
    pub(super) fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self {
            stream,
            queued: VecDeque::new(),
            pending: 0,
            last: if ended { Last::Done } else { Last::Open },
            sent: 0,
        }
    }

    /// Whether the next chunk can be taken.
    pub(super) fn is_ready(&self) -> bool {
        self.queued.is_empty()
    }

    /// Bytes that wait for the peer's window.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Whether everything, the end included, was handed to the connection.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.last, Last::Done)
    }

    /// Takes a chunk. Call only when [ready](Self::is_ready), or when more may wait.
    pub(super) fn push(&mut self, chunk: Bytes) {
        // What has ended with its head, as every answer to HEAD does, has no place for a body.
        if !chunk.is_empty() && !self.is_done() {
            self.pending += chunk.len();
            self.queued.push_back(chunk);
        }
    }

    /// No more chunks; trailers may follow.
    pub(super) fn end(&mut self, trailers: Option<HeaderMap>) {
        if matches!(self.last, Last::Open) {
            self.last = trailers.map_or(Last::Data, Last::Trailers);
        }
    }

    /// Hands over what the windows allow; ready once nothing is left to hand over.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while let Some(first) = self.queued.front_mut() {
            self.stream.reserve_capacity(self.pending);
            let mut capacity = self.stream.capacity();
            if capacity == 0 {
                capacity = match ready!(self.stream.poll_capacity(cx)) {
                    Some(capacity) => capacity?,
                    None => return Poll::Ready(Err(h2::Reason::STREAM_CLOSED.into())),
                };
                if capacity == 0 {
                    // Woken without room, e.g. because a window shrank; an empty frame would be sent for nothing.
                    continue;
                }
            }
            let part = first.split_to(capacity.min(first.len()));
            self.sent += part.len() as u64;
            self.pending -= part.len();
            if first.is_empty() {
                self.queued.pop_front();
            }
            // The end rides on the last frame rather than on an empty one of its own.
            let end = self.queued.is_empty() && matches!(self.last, Last::Data);
            self.stream.send_data(part, end)?;
            if end {
                self.last = Last::Done;
            }
        }
        match std::mem::replace(&mut self.last, Last::Done) {
            Last::Open => self.last = Last::Open,
            Last::Data => self.stream.send_data(Bytes::new(), true)?,
            Last::Trailers(trailers) => self.stream.send_trailers(trailers)?,
            Last::Done => {}
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer reset the stream.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<h2::Reason, h2::Error>> {
        self.stream.poll_reset(cx)
    }

    /// Gives the stream up.
    pub(super) fn reset(&mut self, reason: h2::Reason) {
        self.stream.send_reset(reason);
    }

    /// Body bytes handed over.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
}
