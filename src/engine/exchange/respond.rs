//! The upstream's response on its way to the client, or out of the way of another try; and what becomes of the connection.

use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, EXPECT};
use http::{HeaderValue, StatusCode};
use pillion_filters::conditions::grpc_status;
use pillion_filters::{Chain, End, Failure};
use pingora_http::ResponseHeader;

use super::Run;
use super::attempt::Came;
use crate::engine::heads;
use crate::engine::pump::{Pump, Stop};
use crate::engine::up::{Up, UpEvent};
use crate::explain::header;
use crate::upstream::Endpoint;

/// More of an answer that nobody gets is not read: its connection is closed.
const MOST_UNREAD: usize = 64 * 1024;

/// Whether a response says nothing of the app's speed by how long it lasts: events as they happen, or gRPC, whose calls may be
/// streams.
fn lasts_as_the_app_likes(head: &ResponseHeader) -> bool {
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.unwrap_or_default();
    kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/grpc")
}

impl Run<'_> {
    /// Sends the upstream's response through the chain to the client.
    pub(super) async fn respond(
        &mut self,
        endpoint: &Endpoint,
        mut up: Up,
        mut head: Box<ResponseHeader>,
        request_sent: bool,
        heard: Instant,
    ) -> Came {
        self.story.exchange.timing.first_byte = Some(heard);
        let via = pillion_filters::via(head.version);
        self.story.exchange.ends_with_connection = up.ends_with_connection(&head);
        let keep_alive = heads::receive_response(&mut head);
        header::strip(&mut head, self.asked);
        if !request_sent
            && self.story.counts.request_bytes == 0
            && self.story.exchange.request.headers.contains_key(EXPECT)
        {
            // The client may send the body or the next request now; nobody could tell which (RFC 9110, section 10.1.1).
            self.down.close_after();
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // The session writes this head itself.
            let _ = head.append_header(http::header::VIA, HeaderValue::from_static(via));
            return Box::pin(self.switch(up, head)).await;
        }
        if let Some(response) = self.route.chain.response(&mut self.story.exchange, &mut head) {
            if up.ended_with_head() && up.ends_here() {
                self.give_back(endpoint, up, keep_alive, request_sent, heard);
            }
            return Came::Replaced(response);
        }
        self.story.counts.grpc_status = grpc_status(&head.headers);
        self.story.status = Some(head.status);
        let ended = up.ended_with_head();
        let at_once = ended && !self.chain().reads_response_body();
        self.close_if_leaving();
        self.explain(&mut head);
        if !self.down.head(&mut head, Some(via), at_once) {
            if !self.story.exchange.plan.is_wanted() {
                return Came::Over(End::ClientAborted);
            }
            // It left at this very moment, and is not the only one who wants the response.
            self.down.let_go();
        }
        let mut pump = Pump::new(
            &self.route.chain,
            &mut self.story.exchange,
            &mut self.story.counts,
            &mut self.down,
            &mut up,
            heard,
        );
        pump.request_sent = request_sent;
        let sent = pump.until_end().await;
        let (request_sent, moved) = (pump.request_sent, pump.moved);
        if let Some(attempt) = self.story.attempts.last_mut() {
            attempt.ended = moved;
        }
        if moved.saturating_duration_since(heard) >= self.snapshot.explain.slow() {
            self.story.known.streams = lasts_as_the_app_likes(&head);
        }
        match sent {
            Ok(()) => {
                self.give_back(endpoint, up, keep_alive, request_sent, moved);
                Came::Over(self.flush().await)
            }
            Err(Stop::Gone) => Came::Over(End::ClientAborted),
            Err(Stop::Failed(failure)) => {
                self.story.failed(failure);
                if failure == Failure::ResponseIncomplete {
                    // What did come is the client's.
                    self.flush().await;
                }
                Came::Over(End::Failed(failure))
            }
            // The head is out already, so all that is left is to cut the response short.
            Err(Stop::Refused(_)) => Came::Over(End::Failed(Failure::MalformedRequest)),
        }
    }

    /// Reads what is there of an answer that nobody gets: a connection less that a failing app has to open anew.
    pub(super) async fn leave_unread(
        &mut self,
        endpoint: &Endpoint,
        mut up: Up,
        mut head: Box<ResponseHeader>,
        request_sent: bool,
        at: Instant,
    ) {
        let keep_alive = heads::receive_response(&mut head);
        let mut read = 0;
        let whole = std::future::poll_fn(|cx| {
            if up.ended_with_head() && up.ends_here() {
                return Poll::Ready(true);
            }
            loop {
                match up.poll_event(cx, true) {
                    Poll::Ready(UpEvent::Body(chunk)) => read += chunk.len(),
                    Poll::Ready(UpEvent::End(_)) => return Poll::Ready(true),
                    Poll::Ready(_) | Poll::Pending => return Poll::Ready(false),
                }
                if up.ends_here() {
                    return Poll::Ready(true);
                }
                if read > MOST_UNREAD {
                    return Poll::Ready(false);
                }
            }
        });
        if whole.await {
            self.give_back(endpoint, up, keep_alive, request_sent, at);
        }
    }

    /// Keeps the connection for another request, if it can serve one.
    fn give_back(
        &mut self,
        endpoint: &Endpoint,
        up: Up,
        keep_alive: Option<Duration>,
        request_sent: bool,
        moved: Instant,
    ) {
        if let Some(wire) = up.into_idle(request_sent) {
            let limits = self.limits();
            self.worker.connector.keep(endpoint, wire, limits, keep_alive, moved);
        }
    }

    /// Passes bytes both ways after 101 until both are done.
    pub(super) async fn switch(&mut self, mut up: Up, mut head: Box<ResponseHeader>) -> Came {
        if let Some(response) = self.route.chain.response(&mut self.story.exchange, &mut head) {
            return Came::Replaced(response);
        }
        self.explain(&mut head);
        if !self.down.upgrade(head.clone()).await {
            return Came::Stopped(Stop::Failed(Failure::MalformedResponse));
        }
        self.story.status = Some(head.status);
        let before = self.story.counts.request_bytes;
        let open = self.worker.metrics.tunnel();
        let mut pump = Pump::new(
            Chain::empty(),
            &mut self.story.exchange,
            &mut self.story.counts,
            &mut self.down,
            &mut up,
            Instant::now(),
        );
        let end = match pump.until_closed().await {
            Ok(()) => self.flush().await,
            // Either side may end a connection that is no longer HTTP as it likes.
            Err(Stop::Gone) => End::Complete,
            Err(Stop::Failed(failure)) => End::Failed(failure),
            Err(Stop::Refused(_)) => End::Failed(Failure::Internal),
        };
        open.moved(self.story.counts.request_bytes - before, self.down.sent());
        Came::Over(end)
    }
}
