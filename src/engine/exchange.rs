//! One exchange from its request head to its end: the chain in, the attempts, the chain out.

mod answer;
mod attempt;
mod connect_method;
mod hedge;
mod opening;
mod respond;
mod story;
mod target;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Method, StatusCode};
use pillion_filters::{Background, Chain, End, Exchange, Failure, Refusal, Response, Timing, WantedBy, Way};
use pingora_http::{RequestHeader, ResponseHeader};

use super::down::{Down, DownEvent, Kept};
use super::heads::{self, Taken};
use super::pump::Stop;
use super::replay::Replay;
use crate::clock;
use crate::explain::header::{self, Asked};
use crate::listener::{Client, Worker};
use crate::snapshot::{CompiledRoute, Destinations, Side, Snapshot, Upstream};
use crate::upstream::Member;

use self::attempt::Came;
use self::story::Story;

/// Serves one exchange; gives an HTTP/1 connection back when it can serve another request.
pub(crate) async fn serve(worker: &Worker, client: &Client, down: Down, mut head: Box<RequestHeader>) -> Option<Kept> {
    let timing = Timing::now();
    let entrance = client.entrance.as_ref()?;
    let direction = entrance.direction();
    let snapshot = entrance.snapshot(&worker.snapshot)?;
    let side = snapshot.side(direction)?;
    let mut connection = client.connection.clone();
    connection.version = head.version;
    let asked = header::asked(&mut head, &connection, direction, &side.forwarding, &snapshot.explain);
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
    exchange.has_body = !down.request_ended();
    stand_in(&snapshot, route, &mut exchange);
    let mut run = Run::new(worker, client, (&snapshot, side), route, down, exchange);
    run.asked = asked;
    // What is rare is put on the heap, so that it is no part of every connection's memory.
    let end = match received {
        Ok(_) if run.story.exchange.request.method == Method::CONNECT => return Box::pin(run.tunnel()).await,
        Ok((_, taken)) => {
            run.taken = taken;
            run.forward().await
        }
        Err(refusal) => Box::pin(run.malformed(refusal)).await,
    };
    run.tell(end);
    leave(run.down, end).await
}

/// Answers what came in place of a request head, as an exchange of its own: it has an id, and telemetry sees it.
pub(crate) async fn refuse_unread(worker: &Worker, client: &Client, down: Down, refusal: Refusal) {
    let Some(entrance) = &client.entrance else { return };
    let Some(snapshot) = entrance.snapshot(&worker.snapshot) else {
        return;
    };
    let Some(side) = snapshot.side(entrance.direction()) else {
        return;
    };
    let route = side.unmatched();
    let head = Box::new(heads::unread());
    let exchange = Exchange::new(route.route.clone(), client.connection.clone(), head, Timing::now());
    let mut run = Run::new(worker, client, (&snapshot, side), route, down, exchange);
    let end = run.malformed(refusal).await;
    run.tell(end);
    leave(run.down, end).await;
}

/// Runs an exchange that no client asked for, from the filter on that wants it.
pub(super) async fn serve_nobody(worker: &Worker, background: Background) {
    let snapshot = worker.snapshot();
    let Some(side) = snapshot.side(background.direction) else {
        // A reload has taken the side away since.
        return;
    };
    let route = side.route(&background.request, background.authority.as_ref());
    let Some(position) = route.chain.position(&background.filter) else {
        return;
    };
    let client = Client {
        connection: background.connection,
        address: None,
        entrance: None,
    };
    let mut exchange = Exchange::new(
        route.route.clone(),
        client.connection.clone(),
        background.request,
        Timing::now(),
    );
    exchange.authority = background.authority;
    exchange.enter_at(position, background.state);
    stand_in(&snapshot, route, &mut exchange);
    let mut run = Run::new(worker, &client, (&snapshot, side), route, Down::nobody(), exchange);
    let end = run.forward().await;
    run.tell(end);
}

/// A host that the request names may stand for an upstream.
fn stand_in(snapshot: &Snapshot, route: &CompiledRoute, exchange: &mut Exchange) {
    if !snapshot.destinations.has_hosts() || !matches!(route.upstream, Upstream::Authority(_)) {
        return;
    }
    let destination = target::destination_of(exchange);
    let name = destination.and_then(|(host, port)| snapshot.destinations.of_host(host, port));
    exchange.plan.upstream = name.cloned();
}

/// Ends the client's side; gives an HTTP/1 connection back when it can serve another request.
async fn leave(down: Down, end: End) -> Option<Kept> {
    match end {
        End::Complete => down.finish().await,
        // An error answer of our own that was sent whole ends like any other.
        End::Failed(_) if down.is_whole() => down.finish().await,
        End::Failed(_) => {
            down.cut(h2::Reason::INTERNAL_ERROR);
            None
        }
        End::ClientAborted => {
            down.cut(h2::Reason::CANCEL);
            None
        }
    }
}

struct Run<'a> {
    worker: &'a Worker,
    client: &'a Client,
    side: &'a Side,
    route: &'a CompiledRoute,
    down: Down,
    story: Story<'a>,
    taken: Taken,
    /// Whether the response is to be explained.
    asked: Asked,
    snapshot: &'a Snapshot,
    replay: Replay,
    /// The upstreams there are.
    destinations: &'a Destinations,
    /// The endpoint of the last try, and those that were given up.
    picked: Option<Arc<Member>>,
    tried: Vec<Arc<Member>>,
}

impl<'a> Run<'a> {
    fn new(
        worker: &'a Worker,
        client: &'a Client,
        (snapshot, side): (&'a Snapshot, &'a Side),
        route: &'a CompiledRoute,
        down: Down,
        exchange: Exchange,
    ) -> Self {
        Self {
            worker,
            client,
            side,
            route,
            down,
            story: Story::new(&route.chain, exchange, &snapshot.explain, &worker.recorder),
            taken: Taken::default(),
            asked: Asked::default(),
            snapshot,
            replay: Replay::default(),
            destinations: &snapshot.destinations,
            picked: None,
            tried: Vec::new(),
        }
    }

    fn chain(&self) -> &Chain {
        &self.route.chain
    }

    async fn forward(&mut self) -> End {
        match self.way_in().await {
            Ok(None) => {}
            Ok(Some(response)) => return self.answer(response).await,
            Err(stop) => return Box::pin(self.stopped(stop)).await,
        }
        let mut fresh = false;
        loop {
            let target = match self.target() {
                Ok(target) => target,
                Err(Stop::Refused(refusal)) => return Box::pin(self.refuse(refusal)).await,
                Err(stop) => return Box::pin(self.stopped(stop)).await,
            };
            match self.attempt(target, fresh).await {
                Came::Over(end) => return end,
                Came::Replaced(response) => return self.send(response).await,
                Came::Answered(response) => return self.answer(response).await,
                Came::Again(after) => {
                    self.avoid_last();
                    if !after.is_zero()
                        && let Err(stop) = Box::pin(self.wait(tokio::time::sleep(after))).await
                    {
                        return Box::pin(self.stopped(stop)).await;
                    }
                }
                Came::Stale => fresh = true,
                Came::Stopped(stop) => return Box::pin(self.stopped(stop)).await,
            }
        }
    }

    /// The end of an exchange that went wrong before it had a response.
    async fn stopped(&mut self, stop: Stop) -> End {
        match stop {
            Stop::Gone => End::ClientAborted,
            // The filter that refused is in the ledger already.
            Stop::Refused(refusal) => {
                let response = refusal.render(&self.story.exchange);
                self.answer(response).await
            }
            Stop::Failed(failure) => self.fail(failure).await,
        }
    }

    /// The request phases; an answer if a filter gave one.
    async fn way_in(&mut self) -> Result<Option<Response>, Stop> {
        let mut way = self.route.chain.request(&mut self.story.exchange);
        loop {
            match way {
                Way::Through => return Ok(None),
                Way::Answer(response) => return Ok(Some(response)),
                Way::Wait(waiting) => {
                    let resume = self.wait(waiting).await?;
                    let step = resume(&mut self.story.exchange);
                    way = self.route.chain.resume(&mut self.story.exchange, step);
                }
                Way::Body(limit, resume) => {
                    let body = self.read_body(limit).await?;
                    let step = resume(&mut self.story.exchange, body);
                    way = self.route.chain.resume(&mut self.story.exchange, step);
                }
            }
        }
    }

    /// See [`wait`].
    async fn wait<F: Future>(&mut self, future: F) -> Result<F::Output, Stop> {
        let exchange = &self.story.exchange;
        let (left, wanted) = (time_left(exchange), exchange.plan.wanted.clone());
        wait(&mut self.down, left, wanted, future).await
    }

    /// Reads the request body, unless there is more of it than that. What was read is sent with the first attempt.
    async fn read_body(&mut self, limit: usize) -> Result<Option<Bytes>, Stop> {
        if !self.down.request_ended() && self.story.exchange.request.remove_header(&EXPECT).is_some() {
            // The client waits for a word before it sends the body (RFC 9110, section 10.1.1).
            if let Ok(go_on) = ResponseHeader::build_no_case(StatusCode::CONTINUE, Some(0)) {
                self.down.interim(&go_on);
            }
        }
        let mut read = 0;
        while !self.down.request_ended() {
            let limits = [self.time_left(), self.story.exchange.plan.timeouts.idle];
            let down = &mut self.down;
            let event = std::future::poll_fn(|cx| down.poll_event(cx, true));
            let event = clock::within(limits.into_iter().flatten().min(), event).await;
            match event.ok_or(Stop::Failed(Failure::RequestTimeout))? {
                DownEvent::Body(piece) => {
                    read += piece.len();
                    self.replay.read_early(piece);
                    if read > limit {
                        return Ok(None);
                    }
                }
                DownEvent::End(trailers) => self.replay.read_early_end(trailers),
                DownEvent::Gone => return Err(Stop::Gone),
                DownEvent::Malformed => return Err(Stop::Failed(Failure::MalformedRequest)),
            }
        }
        Ok(Some(self.replay.early()))
    }

    /// What is left of the time for the whole exchange, if that is limited.
    fn time_left(&self) -> Option<Duration> {
        time_left(&self.story.exchange)
    }

    /// Tells every filter how it ended.
    fn tell(&mut self, end: End) {
        if !self.down.is_left() {
            self.story.counts.response_bytes = self.down.sent();
        }
        let end = match end {
            End::Complete if self.down.is_left() => End::ClientAborted,
            // A stream of a connection that was cut; the others are dropped on their way.
            End::ClientAborted if self.client.is_cut() => End::Failed(Failure::Stopped),
            end => end,
        };
        self.story.end(end);
    }
}

/// Waits for something beside the exchange's two sides, for as long as there is a client and time.
async fn wait<F: Future>(
    down: &mut Down,
    left: Option<Duration>,
    wanted: Option<WantedBy>,
    future: F,
) -> Result<F::Output, Stop> {
    let mut future = pin!(future);
    let waiting = std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match down.poll_event(cx, false) {
            Poll::Ready(DownEvent::Gone) if wanted.as_ref().is_some_and(|by| by.0.is_wanted()) => {
                down.let_go();
                Poll::Pending
            }
            Poll::Ready(DownEvent::Gone) => Poll::Ready(Err(Stop::Gone)),
            _ => Poll::Pending,
        }
    });
    clock::within(left, waiting)
        .await
        .unwrap_or(Err(Stop::Failed(Failure::ExchangeTimeout)))
}

/// What is left of the time for the whole exchange, if that is limited.
fn time_left(exchange: &Exchange) -> Option<Duration> {
    let limit = exchange.plan.timeouts.exchange?;
    Some(limit.saturating_sub(exchange.timing.started.elapsed()))
}
