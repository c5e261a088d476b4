//! One try towards an endpoint, and the response that comes of it.

use std::time::{Duration, Instant};

use http::header::EXPECT;
use http::{HeaderValue, Method, StatusCode};
use pillion_filters::{Attempt, AttemptRecord, AttemptResult, Chain, Direction, End, Failure, Response, Verdict, Way};
use pingora_http::ResponseHeader;

use super::Run;
use crate::engine::heads::{self, Hop, Style};
use crate::engine::pool::PoolLimits;
use crate::engine::pump::{Pump, Stop, grpc_status};
use crate::engine::up::Up;
use crate::upstream::{Endpoint, Protocol};

/// No exchange is tried more often, whatever its filters want.
const MAX_ATTEMPTS: u32 = 16;

/// What came of an attempt.
pub(super) enum Tried {
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

impl Run<'_> {
    pub(super) async fn attempt(&mut self, endpoint: &Endpoint, fresh: bool) -> Tried {
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
    pub(super) async fn before_attempt(&mut self, attempt: &mut Attempt) -> Option<Response> {
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
    pub(super) fn wants_another(&mut self, attempt: &Attempt, result: AttemptResult) -> bool {
        let verdict = self.route.chain.attempt_done(&mut self.exchange, attempt, result);
        verdict != Verdict::Keep && attempt.number < MAX_ATTEMPTS
    }

    /// Whether the request may reach an upstream twice (RFC 9110, section 9.2.2).
    pub(super) fn may_repeat(&self, up: &Up) -> bool {
        let method = &self.exchange.request.method;
        let idempotent = matches!(
            *method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        self.down.request_ended() && (idempotent || up.sent_nothing())
    }

    pub(super) async fn connect(&mut self, endpoint: &Endpoint, fresh: bool, now: Instant) -> Result<(Up, bool), Stop> {
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
    pub(super) fn hop(&self) -> Hop<'_> {
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

    pub(super) fn connect_timeout(&self) -> Option<Duration> {
        let timeouts = &self.exchange.plan.timeouts;
        let left = timeouts
            .exchange
            .map(|limit| limit.saturating_sub(self.exchange.timing.started.elapsed()));
        match (timeouts.connect, left) {
            (Some(connect), Some(left)) => Some(connect.min(left)),
            (connect, left) => connect.or(left),
        }
    }

    pub(super) fn limits(&self) -> PoolLimits {
        self.side.pool
    }

    pub(super) fn record(
        &mut self,
        endpoint: &Endpoint,
        started: Instant,
        ended: Instant,
        reused: bool,
        result: AttemptResult,
    ) {
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
    pub(super) async fn respond(
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
    pub(super) async fn switch(&mut self, mut up: Up, mut head: Box<ResponseHeader>) -> Tried {
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
}
