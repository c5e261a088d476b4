//! Answers that do not come from the upstream: errors, refusals, a filter's own; and the end of every response.

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderValue, StatusCode};
use pillion_filters::{Body, End, Failure, Refusal, Response};
use pingora_http::ResponseHeader;

use super::Run;
use crate::clock;
use crate::engine::down::DownEvent;
use crate::engine::pump::grpc_status;

/// Request bytes read and dropped so that a connection whose request was refused can live on.
const READ_AND_DROP: usize = 64 * 1024;

impl Run<'_> {
    /// A client is told with its last answer that the connection ends, so that it does not send another request into it.
    pub(super) fn close_if_draining(&mut self) {
        if self.worker.is_draining() {
            self.down.close_after();
        }
    }

    /// Waits until the client took all of the response, for as long as it takes some of it now and then.
    pub(super) async fn flush(&mut self) -> End {
        loop {
            let before = self.down.taken();
            let down = &mut self.down;
            let flushing = std::future::poll_fn(|cx| down.poll_flush(cx));
            match clock::within(self.exchange.plan.timeouts.idle, flushing).await {
                Some(Ok(())) => return End::Complete,
                None if self.down.taken() > before => {}
                Some(Err(())) | None => return End::ClientAborted,
            }
        }
    }

    pub(super) async fn fail(&mut self, failure: Failure) -> End {
        self.exchange.ledger.enter("engine", failure.reason());
        let response = Refusal::from(failure).render(&self.exchange);
        match self.answer(response).await {
            End::Complete => End::Failed(failure),
            end => end,
        }
    }

    pub(super) async fn refuse(&mut self, refusal: Refusal) -> End {
        self.exchange.ledger.enter("engine", refusal.reason);
        let response = refusal.render(&self.exchange);
        self.answer(response).await
    }

    /// Answers a request that must not be forwarded; what follows on the connection cannot be trusted.
    pub(super) async fn malformed(&mut self, refusal: Refusal) -> End {
        let response = if let Some(response) = self.way_in().await {
            response
        } else {
            self.exchange.ledger.enter("engine", refusal.reason);
            refusal.render(&self.exchange)
        };
        self.down.close_after();
        self.answer(response).await
    }

    /// Sends an answer that did not come from the upstream, through the filters before the one that gave it.
    pub(super) async fn answer(&mut self, mut response: Response) -> End {
        if let Some(replacement) = self.route.chain.response(&mut self.exchange, &mut response.head) {
            response = replacement;
        }
        self.send(response).await
    }

    /// Sends an answer that has passed the response phases.
    pub(super) async fn send(&mut self, response: Response) -> End {
        self.read_and_drop().await;
        self.close_if_draining();
        let Response { mut head, body } = response;
        self.status = Some(head.status);
        if self.counts.grpc_status.is_none() {
            self.counts.grpc_status = grpc_status(&head.headers);
        }
        match body {
            Body::Empty => self.send_full(head, Bytes::new()),
            Body::Full(bytes) => self.send_full(head, bytes),
            Body::Stream(mut stream) => {
                if !self.down.head(&mut head, None, false) {
                    return End::ClientAborted;
                }
                while let Some(piece) = stream.next().await {
                    let Ok(piece) = piece else {
                        return End::Failed(Failure::ResponseIncomplete);
                    };
                    let mut piece = Some(piece);
                    if self
                        .route
                        .chain
                        .response_body(&mut self.exchange, &mut piece, false)
                        .is_err()
                    {
                        return End::Failed(Failure::Internal);
                    }
                    if !piece.is_none_or(|piece| self.down.body(piece)) {
                        return End::Failed(Failure::ResponseIncomplete);
                    }
                    if self.flush().await != End::Complete {
                        return End::ClientAborted;
                    }
                }
                let mut last = None;
                let _ = self.route.chain.response_body(&mut self.exchange, &mut last, true);
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
            let _ = self.route.chain.response_body(&mut self.exchange, &mut chunk, true);
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
        let waits = self.exchange.request.headers.contains_key(EXPECT);
        let mut dropped = 0;
        while !waits && dropped <= READ_AND_DROP && !self.down.request_ended() {
            let down = &mut self.down;
            let event = std::future::poll_fn(|cx| match down.poll_event(cx, true) {
                std::task::Poll::Ready(event) => std::task::Poll::Ready(Some(event)),
                std::task::Poll::Pending => std::task::Poll::Ready(None),
            });
            match event.await {
                Some(DownEvent::Body(chunk)) => dropped += chunk.len(),
                Some(DownEvent::End | DownEvent::Gone | DownEvent::Malformed) | None => break,
            }
        }
        if !self.down.request_ended() {
            self.down.close_after();
        }
    }
}
