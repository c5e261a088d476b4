//! CONNECT requests: a tunnel in place of a response.

use std::time::Instant;

use http::StatusCode;
use pillion_filters::{Attempt, AttemptResult, End, Refusal, Response, Tried};
use pingora_http::ResponseHeader;

use super::{Run, leave};
use crate::engine::down::Kept;
use crate::engine::pump::Stop;
use crate::engine::tunnel;
use crate::listener::wire::Wire;

impl Run<'_> {
    /// A CONNECT request: bytes both ways until both sides are done (RFC 9110, section 9.3.6).
    pub(super) async fn tunnel(mut self) -> Option<Kept> {
        let end = match self.way_in().await {
            Ok(Some(response)) => self.answer(response).await,
            Err(stop) => self.stopped(stop).await,
            Ok(None) => match self.open_tunnel().await {
                Ok(Opened::Answered(response)) => self.answer(response).await,
                Err(stop) => self.stopped(stop).await,
                Ok(Opened::Tunnel(upstream)) => {
                    let mut head = tunnel::established();
                    if let Some(response) = self.route.chain.response(&mut self.story.exchange, &mut head) {
                        self.send(response).await
                    } else {
                        self.run_tunnel(*head, upstream).await;
                        return None;
                    }
                }
            },
        };
        self.tell(end);
        leave(self.down, end).await
    }

    async fn run_tunnel(mut self, mut head: ResponseHeader, upstream: Box<Wire>) {
        self.explain(&mut head);
        self.story.status = Some(head.status);
        self.story.exchange.timing.first_byte = Some(Instant::now());
        let idle = self.story.exchange.plan.timeouts.tunnel;
        tunnel::run(
            self.down,
            &head,
            upstream,
            idle,
            &self.worker.metrics,
            &mut self.story.counts,
        )
        .await;
        self.story.end(End::Complete);
    }

    async fn open_tunnel(&mut self) -> Result<Opened, Stop> {
        if !self.down.request_ended() {
            // Others would take what follows for the tunnel's first bytes.
            self.down.close_after();
            return Err(self.deny(tunnel::HAS_BODY));
        }
        let authority = self
            .story
            .exchange
            .authority
            .as_ref()
            .and_then(|value| value.to_str().ok());
        let destination = tunnel::destination(
            self.story.exchange.route.direction,
            self.story.exchange.connection.version,
            authority,
        );
        let endpoint = match destination {
            Ok(endpoint) => endpoint,
            Err(refusal) => return Err(self.deny(refusal)),
        };
        let mut attempt = Attempt {
            number: 1,
            endpoint: endpoint.name.clone(),
        };
        let answered = self.before_attempt(&mut attempt).await;
        let started = Instant::now();
        let opened = match answered {
            Ok(None) => {
                let opening = self.worker.connector.open(&endpoint, self.connect_timeout());
                self.wait(opening)
                    .await
                    .and_then(|opened| opened.map(Opened::Tunnel).map_err(Stop::Failed))
            }
            Ok(Some(response)) => Ok(Opened::Answered(response)),
            Err(stop) => Err(stop),
        };
        let result = match &opened {
            Ok(Opened::Tunnel(_)) => AttemptResult::Answered(StatusCode::OK),
            Ok(Opened::Answered(_)) => AttemptResult::Abandoned,
            Err(stop) => stop.result(),
        };
        if !matches!(opened, Ok(Opened::Answered(_))) {
            let ended = Instant::now();
            let connected = opened.is_ok().then_some(ended);
            self.story.tried(&endpoint, (started, connected, ended), false, result);
        }
        // A tunnel is tried once: there is no response whose status a filter could dislike.
        self.attempt_done(
            &attempt,
            Tried {
                result,
                head: None,
                took: started.elapsed(),
                unprocessed: true,
                whole: false,
                beside: false,
            },
        );
        opened
    }

    /// A refusal by the engine, which is not in the ledger yet.
    fn deny(&mut self, refusal: Refusal) -> Stop {
        let ledger = &mut self.story.exchange.ledger;
        ledger.enter_with("engine", refusal.reason, refusal.fact);
        Stop::Refused(refusal)
    }
}

/// What came of a CONNECT request.
enum Opened {
    Tunnel(Box<Wire>),
    /// A filter answered in place of the try.
    Answered(Response),
}
