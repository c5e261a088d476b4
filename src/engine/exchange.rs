//! One exchange from its request head to its end: the chain in, the attempts, the chain out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderValue, Method, StatusCode};
use pillion_filters::{
    Attempt, AttemptRecord, AttemptResult, Body, Chain, Direction, End, Exchange, Failure, Outcome, Refusal, Response,
    Timing, Verdict, Way,
};
use pingora_http::{RequestHeader, ResponseHeader};

use super::down::{Down, DownEvent, Kept};
use super::heads::{self, Hop, Style, Taken};
use super::pool::PoolLimits;
use super::pump::{Counts, Pump, Stop, grpc_status};
use super::tunnel;
use super::up::Up;
use crate::clock;
use crate::listener::wire::Wire;
use crate::listener::{Client, Worker};
use crate::snapshot::{CompiledRoute, Side};
use crate::upstream::{Endpoint, Protocol, Upstream};

/// Request bytes read and dropped so that a connection whose request was refused can live on.
const READ_AND_DROP: usize = 64 * 1024;

/// No exchange is tried more often, whatever its filters want.
const MAX_ATTEMPTS: u32 = 16;

/// What came of an attempt.
enum Tried {
    /// The response was sent to its end, or as far as it goes.
    Over(End),
    /// The chain gave this in place of the upstream's answer.
    Replaced(Response),
    /// A filter answered instead of the try.
    Answered(Response),
    /// A filter wants another try, and the request can still be sent.
    Again,
    /// A pooled connection was dead before it saw the request: try once more on a fresh one.
    Stale,
    /// No response head.
    Stopped(Stop),
}

/// Serves one exchange; gives an HTTP/1 connection back when it can serve another request.
pub(crate) async fn serve(
    worker: &Worker,
    direction: Direction,
    client: &Client,
    down: Down,
    mut head: Box<RequestHeader>,
) -> Option<Kept> {
    let timing = Timing::now();
    let snapshot = worker.snapshot();
    let side = snapshot.side(direction)?;
    let mut connection = client.connection.clone();
    connection.version = head.version;
    let received = heads::receive(
        &mut head,
        &connection,
        direction,
        &side.forwarding,
        client.address.as_ref(),
    );
    let authority = match &received {
        Ok((authority, _)) => authority.clone(),
        Err(_) => head.headers.get(http::header::HOST).cloned(),
    };
    let route = side.route(&head, authority.as_ref());
    let mut exchange = Exchange::new(route.route.clone(), connection, head, timing);
    exchange.authority = authority;
    let mut run = Run {
        worker,
        client,
        side,
        route,
        exchange,
        down,
        counts: Counts::default(),
        taken: Taken::default(),
        attempts: Vec::new(),
        status: None,
    };
    let end = match received {
        Ok(_) if run.exchange.request.method == Method::CONNECT => return run.tunnel().await,
        Ok((_, taken)) => {
            run.taken = taken;
            run.exchange().await
        }
        Err(refusal) => run.malformed(refusal).await,
    };
    run.complete(end).await
}

struct Run<'a> {
    worker: &'a Worker,
    client: &'a Client,
    side: &'a Side,
    route: &'a CompiledRoute,
    exchange: Exchange,
    down: Down,
    counts: Counts,
    taken: Taken,
    attempts: Vec<AttemptRecord>,
    status: Option<StatusCode>,
}

impl Run<'_> {
    fn chain(&self) -> &Chain {
        &self.route.chain
    }

    async fn exchange(&mut self) -> End {
        if let Some(response) = self.way_in().await {
            return self.answer(response).await;
        }
        let endpoint = match self.endpoint() {
            Ok(endpoint) => endpoint,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let mut fresh = false;
        loop {
            match self.attempt(&endpoint, fresh).await {
                Tried::Over(end) => return end,
                Tried::Replaced(response) => return self.send(response).await,
                Tried::Answered(response) => return self.answer(response).await,
                Tried::Again => {}
                Tried::Stale => fresh = true,
                Tried::Stopped(Stop::Gone) => return End::ClientAborted,
                Tried::Stopped(Stop::Refused(refusal)) => {
                    let response = refusal.render(&self.exchange);
                    return self.answer(response).await;
                }
                Tried::Stopped(Stop::Failed(failure)) => return self.fail(failure).await,
            }
        }
    }

    /// The request phases; an answer if a filter gave one.
    async fn way_in(&mut self) -> Option<Response> {
        let mut way = self.route.chain.request(&mut self.exchange);
        loop {
            match way {
                Way::Through => return None,
                Way::Answer(response) => return Some(response),
                Way::Wait(waiting) => {
                    let step = waiting.await(&mut self.exchange);
                    way = self.route.chain.resume(&mut self.exchange, step);
                }
            }
        }
    }

    /// Where the request goes.
    fn endpoint(&self) -> Result<Arc<Endpoint>, Refusal> {
        match &self.route.upstream {
            Upstream::App(endpoint) => Ok(endpoint.clone()),
            Upstream::Authority => {
                let authority = self.exchange.authority.as_ref().and_then(|value| value.to_str().ok());
                let (host, port) = authority
                    .and_then(|authority| tunnel::host_and_port(authority, Some(80)))
                    .ok_or(tunnel::NO_DESTINATION)?;
                Ok(Arc::new(Endpoint::http1(host, port)))
            }
        }
    }

    async fn attempt(&mut self, endpoint: &Endpoint, fresh: bool) -> Tried {
        let number = self.attempts.len() as u32 + 1;
        let mut attempt = Attempt {
            number,
            endpoint: endpoint.name.clone(),
        };
        if let Some(response) = self.before_attempt(&mut attempt).await {
            return Tried::Answered(response);
        }
        let started = Instant::now();
        let connected = self.connect(endpoint, fresh, started).await;
        let (mut up, reused) = match connected {
            Ok(connected) => connected,
            Err(stop) => {
                if let Stop::Failed(failure) = stop {
                    self.record(endpoint, started, Instant::now(), false, AttemptResult::Failed(failure));
                    if self.wants_another(&attempt, AttemptResult::Failed(failure)) {
                        return Tried::Again;
                    }
                }
                return Tried::Stopped(stop);
            }
        };
        let connected = if reused { started } else { Instant::now() };
        self.exchange.timing.connected = Some(connected);
        let mut pump = Pump {
            chain: &self.route.chain,
            exchange: &mut self.exchange,
            down: &mut self.down,
            up: &mut up,
            counts: &mut self.counts,
            request_sent: false,
            body_started: false,
            moved: connected,
            switched: false,
        };
        if pump.down.request_ended()
            && let Err(stop) = pump.end_request().await
        {
            return Tried::Stopped(stop);
        }
        let head = pump.until_head().await;
        let (request_sent, body_started, heard) = (pump.request_sent, pump.body_started, pump.moved);
        let result = match &head {
            Ok(head) => AttemptResult::Answered(head.status),
            Err(Stop::Failed(failure)) => AttemptResult::Failed(*failure),
            // The client's doing: the endpoint is not to blame.
            Err(Stop::Gone | Stop::Refused(_)) => AttemptResult::Failed(Failure::MalformedRequest),
        };
        self.record(endpoint, started, heard, reused, result);
        let again = self.wants_another(&attempt, result) && !body_started;
        match head {
            Ok(_) | Err(Stop::Failed(_)) if again => Tried::Again,
            Ok(head) => self.respond(endpoint, up, head, request_sent, heard).await,
            Err(Stop::Failed(Failure::UpstreamClosed))
                if reused && !fresh && !body_started && up.heard_nothing() && self.may_repeat(&up) =>
            {
                self.exchange.ledger.enter("engine", "stale_connection_retried");
                self.worker.metrics.keepalive_race_retried.inc();
                Tried::Stale
            }
            Err(stop) => {
                if reused && up.heard_nothing() && matches!(stop, Stop::Failed(Failure::UpstreamClosed)) {
                    self.worker.metrics.keepalive_race_failed.inc();
                }
                Tried::Stopped(stop)
            }
        }
    }

    /// The attempt phases; an answer if a filter gave one.
    async fn before_attempt(&mut self, attempt: &mut Attempt) -> Option<Response> {
        let mut way = self.route.chain.attempt(&mut self.exchange, attempt);
        loop {
            match way {
                Way::Through => return None,
                Way::Answer(response) => return Some(response),
                Way::Wait(waiting) => {
                    let step = waiting.await(&mut self.exchange);
                    way = self.route.chain.resume_attempt(&mut self.exchange, attempt, step);
                }
            }
        }
    }

    /// Tells the filters what came of a try, and whether one of them wants another.
    fn wants_another(&mut self, attempt: &Attempt, result: AttemptResult) -> bool {
        let verdict = self.route.chain.attempt_done(&mut self.exchange, attempt, result);
        verdict != Verdict::Keep && attempt.number < MAX_ATTEMPTS
    }

    /// Whether the request may reach an upstream twice (RFC 9110, section 9.2.2).
    fn may_repeat(&self, up: &Up) -> bool {
        let method = &self.exchange.request.method;
        let idempotent = matches!(
            *method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        self.down.request_ended() && (idempotent || up.sent_nothing())
    }

    async fn connect(&mut self, endpoint: &Endpoint, fresh: bool, now: Instant) -> Result<(Up, bool), Stop> {
        let limits = self.limits();
        let timeout = self.connect_timeout();
        let ended = self.down.request_ended();
        let connector = &self.worker.connector;
        match endpoint.protocol {
            Protocol::Http1 => {
                let pooled = if fresh {
                    None
                } else {
                    connector.reuse(endpoint, limits, now)
                };
                let reused = pooled.is_some();
                let wire = match pooled {
                    Some(wire) => wire,
                    None => connector.open(endpoint, timeout).await.map_err(Stop::Failed)?,
                };
                let head = &self.exchange.request;
                let up = Up::http1(wire, head, self.hop(), self.taken, !ended)
                    .await
                    .map_err(Stop::Failed)?;
                Ok((up, reused))
            }
            Protocol::H2c => {
                let head = heads::for_http2(&self.exchange.request, self.taken, self.hop()).map_err(Stop::Refused)?;
                let (lease, reused) = connector.stream(endpoint, timeout).await.map_err(Stop::Failed)?;
                let expects = self.exchange.request.headers.contains_key(EXPECT);
                if expects && !ended {
                    // HTTP/2 upstreams are sent the body at once, so the client is told to go on.
                    if let Ok(go_on) = ResponseHeader::build_no_case(StatusCode::CONTINUE, Some(0)) {
                        self.down.interim(&go_on);
                    }
                }
                let up = Up::http2(lease, head, ended).map_err(Stop::Failed)?;
                Ok((up, reused))
            }
        }
    }

    /// What this hop adds to the request.
    fn hop(&self) -> Hop<'_> {
        let exchange = &self.exchange;
        Hop {
            via: heads::via(exchange.connection.version),
            x_forwarded: exchange.route.direction == Direction::Inbound
                && self.side.forwarding.style == Style::XForwarded,
            client: self.client.address.as_ref(),
            scheme: exchange.connection.scheme,
            authority: exchange.authority.as_ref(),
        }
    }

    /// A client is told with its last answer that the connection ends, so that it does not send another request into it.
    fn close_if_draining(&mut self) {
        if self.worker.is_draining() {
            self.down.close_after();
        }
    }

    fn connect_timeout(&self) -> Option<Duration> {
        let timeouts = &self.exchange.plan.timeouts;
        let left = timeouts
            .exchange
            .map(|limit| limit.saturating_sub(self.exchange.timing.started.elapsed()));
        match (timeouts.connect, left) {
            (Some(connect), Some(left)) => Some(connect.min(left)),
            (connect, left) => connect.or(left),
        }
    }

    fn limits(&self) -> PoolLimits {
        self.side.pool
    }

    fn record(&mut self, endpoint: &Endpoint, started: Instant, ended: Instant, reused: bool, result: AttemptResult) {
        self.attempts.push(AttemptRecord {
            endpoint: endpoint.name.clone(),
            started,
            ended,
            reused,
            result,
            span_id: None,
        });
    }

    /// Sends the upstream's response through the chain to the client.
    async fn respond(
        &mut self,
        endpoint: &Endpoint,
        mut up: Up,
        mut head: Box<ResponseHeader>,
        request_sent: bool,
        heard: Instant,
    ) -> Tried {
        self.exchange.timing.first_byte = Some(heard);
        let via = heads::via(head.version);
        if let Err(failure) = heads::receive_response(&mut head) {
            return Tried::Stopped(Stop::Failed(failure));
        }
        if !request_sent && self.counts.request_bytes == 0 && self.exchange.request.headers.contains_key(EXPECT) {
            // The client may send the body or the next request now; nobody could tell which (RFC 9110, section 10.1.1).
            self.down.close_after();
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // The session writes this head itself.
            let _ = head.append_header(http::header::VIA, HeaderValue::from_static(via));
            return self.switch(up, head).await;
        }
        if let Some(response) = self.route.chain.response(&mut self.exchange, &mut head) {
            return Tried::Replaced(response);
        }
        self.counts.grpc_status = grpc_status(&head.headers);
        self.status = Some(head.status);
        let ended = up.ended_with_head();
        let at_once = ended && !self.chain().reads_response_body();
        self.close_if_draining();
        if !self.down.head(&mut head, Some(via), at_once) {
            return Tried::Over(End::ClientAborted);
        }
        let limits = self.limits();
        let mut pump = Pump {
            chain: &self.route.chain,
            exchange: &mut self.exchange,
            down: &mut self.down,
            up: &mut up,
            counts: &mut self.counts,
            request_sent,
            body_started: false,
            moved: heard,
            switched: false,
        };
        let sent = pump.until_end().await;
        let (request_sent, moved) = (pump.request_sent, pump.moved);
        match sent {
            Ok(()) => {
                if let Some(wire) = up.into_idle(request_sent).await {
                    self.worker.connector.keep(endpoint, wire, limits, moved);
                }
                Tried::Over(self.flush().await)
            }
            Err(Stop::Gone) => Tried::Over(End::ClientAborted),
            Err(Stop::Failed(failure)) => {
                self.exchange.ledger.enter("engine", failure.reason());
                if failure == Failure::ResponseIncomplete {
                    // What did come is the client's.
                    self.flush().await;
                }
                Tried::Over(End::Failed(failure))
            }
            // The head is out already, so all that is left is to cut the response short.
            Err(Stop::Refused(_)) => Tried::Over(End::Failed(Failure::MalformedRequest)),
        }
    }

    /// Passes bytes both ways after 101 until both are done.
    async fn switch(&mut self, mut up: Up, mut head: Box<ResponseHeader>) -> Tried {
        self.route.chain.response(&mut self.exchange, &mut head);
        self.status = Some(head.status);
        if !self.down.upgrade(head).await {
            return Tried::Stopped(Stop::Failed(Failure::MalformedResponse));
        }
        let mut pump = Pump {
            chain: Chain::empty(),
            exchange: &mut self.exchange,
            down: &mut self.down,
            up: &mut up,
            counts: &mut self.counts,
            request_sent: true,
            body_started: true,
            moved: Instant::now(),
            switched: true,
        };
        let end = match pump.until_end().await {
            Ok(()) | Err(Stop::Failed(Failure::ResponseIncomplete)) => self.flush().await,
            Err(Stop::Gone) => End::Complete,
            Err(Stop::Failed(failure)) => End::Failed(failure),
            Err(Stop::Refused(_)) => End::Failed(Failure::Internal),
        };
        Tried::Over(end)
    }

    /// Waits until the client took all of the response, for as long as it takes some of it now and then.
    async fn flush(&mut self) -> End {
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

    async fn fail(&mut self, failure: Failure) -> End {
        self.exchange.ledger.enter("engine", failure.reason());
        let response = Refusal::from(failure).render(&self.exchange);
        match self.answer(response).await {
            End::Complete => End::Failed(failure),
            end => end,
        }
    }

    async fn refuse(&mut self, refusal: Refusal) -> End {
        self.exchange.ledger.enter("engine", refusal.reason);
        let response = refusal.render(&self.exchange);
        self.answer(response).await
    }

    /// Answers a request that must not be forwarded; what follows on the connection cannot be trusted.
    async fn malformed(&mut self, refusal: Refusal) -> End {
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
    async fn answer(&mut self, mut response: Response) -> End {
        if let Some(replacement) = self.route.chain.response(&mut self.exchange, &mut response.head) {
            response = replacement;
        }
        self.send(response).await
    }

    /// Sends an answer that has passed the response phases.
    async fn send(&mut self, response: Response) -> End {
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

    fn send_full(&mut self, mut head: Box<ResponseHeader>, body: Bytes) {
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
    async fn read_and_drop(&mut self) {
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

    /// A CONNECT request: bytes both ways until both sides are done (RFC 9110, section 9.3.6).
    async fn tunnel(mut self) -> Option<Kept> {
        if let Some(response) = self.way_in().await {
            let end = self.answer(response).await;
            return self.complete(end).await;
        }
        let opened = self.open_tunnel().await;
        let upstream = match opened {
            Ok(upstream) => upstream,
            Err(stop) => {
                let end = match stop {
                    Stop::Refused(refusal) => self.refuse(refusal).await,
                    Stop::Failed(failure) => self.fail(failure).await,
                    Stop::Gone => End::ClientAborted,
                };
                return self.complete(end).await;
            }
        };
        let mut head = tunnel::established();
        self.route.chain.response(&mut self.exchange, &mut head);
        self.status = Some(head.status);
        let idle = self.exchange.plan.timeouts.tunnel;
        let moved = tunnel::run(self.down, &head, upstream, idle, &self.worker.metrics).await;
        self.counts.request_bytes = moved.sent;
        let outcome = Outcome {
            status: self.status,
            end: End::Complete,
            duration: self.exchange.timing.started.elapsed(),
            request_bytes: moved.sent,
            response_bytes: moved.received,
            grpc_status: None,
            attempts: self.attempts,
        };
        self.route.chain.complete(&mut self.exchange, &outcome);
        None
    }

    async fn open_tunnel(&mut self) -> Result<Box<Wire>, Stop> {
        let authority = self.exchange.authority.as_ref().and_then(|value| value.to_str().ok());
        let destination = tunnel::destination(
            self.exchange.route.direction,
            self.exchange.connection.version,
            authority,
        );
        let endpoint = destination.map_err(Stop::Refused)?;
        let started = Instant::now();
        let opened = self.worker.connector.open(&endpoint, self.connect_timeout()).await;
        let result = match &opened {
            Ok(_) => AttemptResult::Answered(StatusCode::OK),
            Err(failure) => AttemptResult::Failed(*failure),
        };
        self.record(&endpoint, started, Instant::now(), false, result);
        opened.map_err(Stop::Failed)
    }

    /// Tells every filter how it ended, and ends the client's side.
    async fn complete(mut self, end: End) -> Option<Kept> {
        let outcome = Outcome {
            status: self.status,
            end,
            duration: self.exchange.timing.started.elapsed(),
            request_bytes: self.counts.request_bytes,
            response_bytes: self.down.sent(),
            grpc_status: self.counts.grpc_status,
            attempts: self.attempts,
        };
        self.route.chain.complete(&mut self.exchange, &outcome);
        match end {
            End::Complete => self.down.finish().await,
            End::ClientAborted => {
                self.down.cut(h2::Reason::CANCEL);
                None
            }
            // An error answer of our own that was sent whole ends like any other.
            End::Failed(_) if self.down.is_whole() => self.down.finish().await,
            End::Failed(_) => {
                self.down.cut(h2::Reason::INTERNAL_ERROR);
                None
            }
        }
    }
}
