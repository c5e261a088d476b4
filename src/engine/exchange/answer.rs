//! Answers that do not come from the upstream: errors, refusals, a filter's own; and the end of every response.

use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderValue, StatusCode};
use pillion_filters::conditions::grpc_status;
use pillion_filters::{Body, End, Fact, Failure, Refusal, Response};
use pingora_http::ResponseHeader;

use super::Run;
use crate::clock;
use crate::engine::down::DownEvent;
use crate::engine::pump::{CLIENT_STALLED, LEAST, Stop};
use crate::explain::header::{self, Asked};

/// Request bytes read and dropped so that a connection whose request was refused can live on.
const READ_AND_DROP: usize = 64 * 1024;

/// An answer of the sidecar's own up to this size is taken by the client's socket at once: when it was there is when it was sent.
const TAKEN_AT_ONCE: usize = 64 * 1024;

impl Run<'_> {
    /// Writes the explanation to a response head on its way to the client, if it was asked for.
    pub(super) fn explain(&mut self, head: &mut ResponseHeader) {
        if self.asked != Asked::Off {
            let words = &self.worker.recorder.words;
            header::write(head, self.asked, &self.story.exchange, &self.story.attempts, words);
        }
    }

    /// A client is told with its last answer that the connection ends, so that it does not send another request into it.
    pub(super) fn close_if_leaving(&mut self) {
        if self.client.is_leaving() {
            self.down.close_after();
        }
    }

    /// Waits until the client took all of the response, for as long as it takes some of it now and then and the exchange
    /// has time left. An answer that says the time is over has its own.
    pub(super) async fn flush(&mut self) -> End {
        let whole = self
            .time_left()
            .filter(|left| !left.is_zero())
            .map(|left| Instant::now() + left);
        loop {
            let before = self.down.taken();
            let left = whole.map(|end| end.saturating_duration_since(Instant::now()));
            let idle = self.story.exchange.plan.timeouts.idle;
            let limit = idle.into_iter().chain(left).min();
            let down = &mut self.down;
            let flushing = std::future::poll_fn(|cx| down.poll_flush(cx));
            match clock::within(limit, flushing).await {
                Some(Ok(())) => return End::Complete,
                Some(Err(())) => return End::ClientAborted,
                None if left.is_some_and(|left| limit == Some(left)) => return End::Failed(Failure::ExchangeTimeout),
                None if self.down.taken() - before >= LEAST => {}
                None => {
                    let limit = idle.map_or(Fact::None, Fact::Time);
                    self.story.exchange.ledger.enter_with("engine", CLIENT_STALLED, limit);
                    return End::ClientAborted;
                }
            }
        }
    }

    pub(super) async fn fail(&mut self, failure: Failure) -> End {
        self.story.failed(failure);
        let response = Refusal::from(failure).render(&self.story.exchange);
        match self.answer(response).await {
            End::Complete => End::Failed(failure),
            end => end,
        }
    }

    pub(super) async fn refuse(&mut self, refusal: Refusal) -> End {
        let ledger = &mut self.story.exchange.ledger;
        ledger.enter_with("engine", refusal.reason, refusal.fact);
        let response = refusal.render(&self.story.exchange);
        self.answer(response).await
    }

    /// Answers a request that must not be forwarded; what follows on the connection cannot be trusted.
    pub(super) async fn malformed(&mut self, refusal: Refusal) -> End {
        let way = self.way_in().await;
        self.down.close_after();
        match way {
            Ok(Some(response)) => self.answer(response).await,
            Ok(None) => self.refuse(refusal).await,
            Err(stop) => self.stopped(stop).await,
        }
    }

    /// Sends an answer that did not come from the upstream, through the filters before the one that gave it.
    pub(super) async fn answer(&mut self, mut response: Response) -> End {
        if let Some(replacement) = self.route.chain.response(&mut self.story.exchange, &mut response.head) {
            response = replacement;
        }
        self.send(response).await
    }

    /// Sends an answer that has passed the response phases.
    pub(super) async fn send(&mut self, response: Response) -> End {
        self.read_and_drop().await;
        self.close_if_leaving();
        let Response { mut head, body } = response;
        self.story.status = Some(head.status);
        if self.story.counts.grpc_status.is_none() {
            self.story.counts.grpc_status = grpc_status(&head.headers);
        }
        self.explain(&mut head);
        if !matches!(&body, Body::Empty) && !matches!(&body, Body::Full(bytes) if bytes.len() <= TAKEN_AT_ONCE) {
            self.story.known.answered = Some(Instant::now());
        }
        match body {
            Body::Empty => self.send_full(head, Bytes::new()),
            Body::Full(bytes) => self.send_full(head, bytes),
            Body::Stream(mut stream) => {
                if !self.down.head(&mut head, None, false) {
                    return End::ClientAborted;
                }
                loop {
                    let piece = match self.wait(stream.next()).await {
                        Ok(None) => break,
                        Ok(Some(Ok(piece))) => piece,
                        Ok(Some(Err(_))) => return End::Failed(Failure::ResponseIncomplete),
                        Err(Stop::Failed(failure)) => return End::Failed(failure),
                        Err(Stop::Gone | Stop::Refused(_)) => return End::ClientAborted,
                    };
                    let mut piece = Some(piece);
                    if self
                        .route
                        .chain
                        .response_body(&mut self.story.exchange, &mut piece, false)
                        .is_err()
                    {
                        return End::Failed(Failure::Internal);
                    }
                    if !piece.is_none_or(|piece| self.down.body(piece)) {
                        return End::Failed(Failure::ResponseIncomplete);
                    }
                    match self.flush().await {
                        End::Complete => {}
                        end => return end,
                    }
                }
                let mut last = None;
                let _ = self
                    .route
                    .chain
                    .response_body(&mut self.story.exchange, &mut last, true);
                if !(last.is_none_or(|piece| self.down.body(piece)) && self.down.end(None)) {
                    return End::Failed(Failure::ResponseIncomplete);
                }
            }
        }
        self.flush().await
    }

    pub(super) fn send_full(&mut self, mut head: Box<ResponseHeader>, body: Bytes) {
        let mut chunk = Some(body);
        if self.chain().reads_response_body() {
            // A filter that fails here leaves the chunk as it was, which is complete.
            let _ = self
                .route
                .chain
                .response_body(&mut self.story.exchange, &mut chunk, true);
        }
        let body = chunk.unwrap_or_default();
        let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !bodiless {
            let _ = head.insert_header(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let empty = bodiless || body.is_empty();
        if self.down.head(&mut head, None, empty) && !empty {
            self.down.body(body);
            self.down.end(None);
        }
    }

    /// Reads what is there of a request body nobody wants, so that the connection can serve the next request; one with
    /// more to come closes after the answer.
    pub(super) async fn read_and_drop(&mut self) {
        if self.down.request_ended() {
            return;
        }
        let waits = self.story.exchange.request.headers.contains_key(EXPECT);
        let mut dropped = 0;
        while !waits && dropped <= READ_AND_DROP && !self.down.request_ended() {
            let down = &mut self.down;
            let event = std::future::poll_fn(|cx| match down.poll_event(cx, true) {
                std::task::Poll::Ready(event) => std::task::Poll::Ready(Some(event)),
                std::task::Poll::Pending => std::task::Poll::Ready(None),
            });
            match event.await {
                Some(DownEvent::Body(chunk)) => dropped += chunk.len(),
                Some(DownEvent::End(_) | DownEvent::Gone | DownEvent::Malformed) | None => break,
            }
        }
        if !self.down.request_ended() {
            self.down.close_after();
        }
    }
}
