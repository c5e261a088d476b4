//! One exchange from its request head to its end: the chain in, the attempts, the chain out.

mod answer;
mod attempt;
mod connect_method;

use std::sync::Arc;

use http::{Method, StatusCode};
use pillion_filters::{AttemptRecord, Chain, Direction, End, Exchange, Outcome, Refusal, Response, Timing, Way};
use pingora_http::RequestHeader;

use super::down::{Down, Kept};
use super::heads::{self, Taken};
use super::pump::{Counts, Stop};
use super::tunnel;
use crate::listener::{Client, Worker};
use crate::snapshot::{CompiledRoute, Side};
use crate::upstream::{Endpoint, Upstream};

use self::attempt::Tried;

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
