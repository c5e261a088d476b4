//! CONNECT requests: a tunnel in place of a response.

use std::time::Instant;

use http::StatusCode;
use pillion_filters::{AttemptResult, End, Outcome};

use super::Run;
use crate::engine::down::Kept;
use crate::engine::pump::Stop;
use crate::engine::tunnel;
use crate::listener::wire::Wire;

impl Run<'_> {
    /// A CONNECT request: bytes both ways until both sides are done (RFC 9110, section 9.3.6).
    pub(super) async fn tunnel(mut self) -> Option<Kept> {
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

    pub(super) async fn open_tunnel(&mut self) -> Result<Box<Wire>, Stop> {
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
}
