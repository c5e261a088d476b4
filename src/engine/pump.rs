//! Moves an exchange's bytes both ways at once, with backpressure both ways.
//!
//! One step looks at both sides: it sends what waits, reads what the other side has room for, and otherwise waits for
//! whichever moves first or for the deadline. Nothing is read that could not be passed on, so memory per exchange is a
//! chunk and a buffer each way.

use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use pillion_filters::conditions::grpc_status;
use pillion_filters::{AttemptResult, Chain, Exchange, Fact, Failure, Refusal};
use pingora_http::ResponseHeader;
use tokio::time::Sleep;

use super::down::{Down, DownEvent};
use super::heads;
use super::replay::Replay;
use super::up::{Up, UpEvent};

/// An app that sends more interim responses than this is broken or hostile.
const MAX_INTERIM: u32 = 64;

/// Bytes that a peer takes in an idle timeout of what waits for it, or it counts as stalled.
pub(super) const LEAST: u64 = 1024;

/// Body bytes that filters work on before others have their turn.
const SLICE: usize = 64 * 1024;

/// For the ledger: the client had the response to read and did not.
pub(crate) const CLIENT_STALLED: &str = "client_stalled";

/// How moving bytes came to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client went away.
    Gone,
    /// The upstream, or a deadline, failed the exchange.
    Failed(Failure),
    /// A filter or the engine refuses the rest of the request.
    Refused(Refusal),
}

impl Stop {
    /// What it says of the attempt it ended.
    pub(super) fn result(&self) -> AttemptResult {
        match self {
            Self::Failed(Failure::MalformedRequest | Failure::RequestTimeout) | Self::Gone | Self::Refused(_) => {
                AttemptResult::Abandoned
            }
            Self::Failed(failure) => AttemptResult::Failed(*failure),
        }
    }
}

/// What one step saw.
enum Event {
    Up(UpEvent),
    Down(DownEvent),
    Deadline,
}

/// What is counted over all attempts of an exchange.
#[derive(Default)]
pub(super) struct Counts {
    /// Request body bytes read from the client.
    pub(super) request_bytes: u64,
    /// Response body bytes written to the client.
    pub(super) response_bytes: u64,
    /// `grpc-status` of the response.
    pub(super) grpc_status: Option<u16>,
}

/// One attempt under way.
pub(super) struct Pump<'a> {
    chain: &'a Chain,
    exchange: &'a mut Exchange,
    counts: &'a mut Counts,
    pub(super) down: &'a mut Down,
    up: &'a mut Up,
    /// The request is with the upstream as a whole.
    pub(super) request_sent: bool,
    /// Where what is sent of the request is kept, until there is a response head.
    replay: Option<&'a mut Replay>,
    /// When something last moved.
    pub(super) moved: Instant,
    /// When the try must have its response head.
    pub(super) head_until: Option<Instant>,
    carries: Carries,
    /// Body bytes that filters have worked on since others had their turn.
    worked: usize,
}

/// What an attempt's bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    Http,
    /// Whatever the two sides switched to; it may rest for long.
    Anything,
    /// The same, and one side will send no more.
    Rest,
}

impl<'a> Pump<'a> {
    /// Nothing of the request has gone to the upstream but its head.
    pub(super) fn new(
        chain: &'a Chain,
        exchange: &'a mut Exchange,
        counts: &'a mut Counts,
        down: &'a mut Down,
        up: &'a mut Up,
        moved: Instant,
    ) -> Self {
        Self {
            chain,
            exchange,
            counts,
            down,
            up,
            request_sent: false,
            replay: None,
            moved,
            head_until: None,
            carries: Carries::Http,
            worked: 0,
        }
    }

    /// Sends the request, first what an earlier attempt has sent of it, until the final response head is there.
    pub(super) async fn send_until_head(&mut self, replay: &'a mut Replay) -> Result<Box<ResponseHeader>, Stop> {
        for piece in replay.pieces() {
            self.up.body(piece).await;
        }
        let (ended, trailers) = (replay.is_ended(), replay.trailers());
        let (early, early_trailers) = (replay.take_early(), replay.take_early_trailers());
        self.replay = Some(replay);
        for piece in early {
            self.request(DownEvent::Body(piece)).await?;
        }
        if ended {
            self.up.end(trailers).await;
            self.request_sent = true;
        } else if self.down.request_ended() {
            let trailers = early_trailers.or_else(|| self.down.take_trailers());
            self.end_request(trailers).await?;
        }
        self.until_head().await
    }

    /// Waits for the final response head.
    pub(super) async fn until_head(&mut self) -> Result<Box<ResponseHeader>, Stop> {
        let mut interim = 0;
        loop {
            match self.step().await {
                Event::Up(UpEvent::Head(head)) => return Ok(head),
                Event::Up(UpEvent::Interim(mut head)) => {
                    interim += 1;
                    if interim > MAX_INTERIM {
                        return Err(Stop::Failed(Failure::MalformedResponse));
                    }
                    heads::receive_response(&mut head);
                    self.down.interim(&head);
                }
                Event::Up(UpEvent::Failed(failure)) => return Err(Stop::Failed(failure)),
                Event::Up(UpEvent::Body(_) | UpEvent::End(_)) => return Err(Stop::Failed(Failure::Internal)),
                Event::Down(event) => self.request(event).await?,
                Event::Deadline => return Err(self.overdue(true)),
            }
        }
    }

    /// Passes the response body on until it is complete and sent.
    pub(super) async fn until_end(&mut self) -> Result<(), Stop> {
        loop {
            match self.step().await {
                Event::Up(UpEvent::Body(chunk)) => {
                    let mut chunk = Some(chunk);
                    if self.chain.reads_response_body() {
                        self.let_others_work(chunk.as_ref()).await;
                        self.chain
                            .response_body(self.exchange, &mut chunk, false)
                            .map_err(Stop::Failed)?;
                    }
                    if !chunk.is_none_or(|chunk| self.down.body(chunk)) {
                        return Err(Stop::Failed(Failure::MalformedResponse));
                    }
                    if self.down.is_left() && !self.exchange.plan.is_wanted() {
                        return Err(Stop::Gone);
                    }
                    // What is known to be the last piece takes the end along; alone it would cost a frame or a send.
                    if self.up.ends_here() {
                        let trailers = self.up.take_trailers();
                        return self.finish(trailers);
                    }
                }
                Event::Up(UpEvent::End(trailers)) => return self.finish(trailers),
                Event::Up(UpEvent::Failed(failure)) => return Err(Stop::Failed(failure)),
                Event::Up(UpEvent::Interim(_) | UpEvent::Head(_)) => {
                    return Err(Stop::Failed(Failure::MalformedResponse));
                }
                Event::Down(event) => self.request(event).await?,
                Event::Deadline => return Err(self.overdue(false)),
            }
        }
    }

    /// After 101: passes bytes on until both sides will send no more. Each may stop sending before the other.
    pub(super) async fn until_closed(&mut self) -> Result<(), Stop> {
        (self.carries, self.request_sent) = (Carries::Anything, true);
        let (mut client_done, mut upstream_done) = (false, false);
        while !(client_done && upstream_done) {
            match self.step().await {
                Event::Up(UpEvent::Body(chunk)) => {
                    self.down.body(chunk);
                }
                Event::Up(UpEvent::End(_)) => {
                    upstream_done = true;
                    self.down.close_write();
                }
                Event::Up(UpEvent::Failed(_) | UpEvent::Interim(_) | UpEvent::Head(_))
                | Event::Down(DownEvent::Gone | DownEvent::Malformed) => return Err(Stop::Gone),
                Event::Down(DownEvent::End(_)) => {
                    client_done = true;
                    self.up.end(None).await;
                }
                Event::Down(event) => self.request(event).await?,
                // Who has stopped sending has most likely gone, and is not waited for as long as two who just rest.
                Event::Deadline if self.carries == Carries::Rest => return Ok(()),
                Event::Deadline => return Err(self.overdue(false)),
            }
            if client_done || upstream_done {
                self.carries = Carries::Rest;
            }
        }
        Ok(())
    }

    /// Ends the response towards the client.
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), Stop> {
        let trailers = trailers.and_then(heads::receive_trailers);
        let mut last = None;
        if self.chain.reads_response_body() {
            self.chain
                .response_body(self.exchange, &mut last, true)
                .map_err(Stop::Failed)?;
        }
        if let Some(trailers) = &trailers {
            self.counts.grpc_status = grpc_status(trailers);
        }
        let whole = last.is_none_or(|chunk| self.down.body(chunk)) && self.down.end(trailers);
        if whole {
            Ok(())
        } else {
            Err(Stop::Failed(Failure::ResponseIncomplete))
        }
    }

    /// What the client did, passed on to the upstream.
    async fn request(&mut self, event: DownEvent) -> Result<(), Stop> {
        match event {
            DownEvent::Gone if self.request_sent && self.exchange.plan.is_wanted() => {
                self.down.let_go();
                Ok(())
            }
            DownEvent::Gone => Err(Stop::Gone),
            DownEvent::Malformed => Err(Stop::Failed(Failure::MalformedRequest)),
            DownEvent::Body(chunk) => {
                self.counts.request_bytes += chunk.len() as u64;
                let mut chunk = Some(chunk);
                if self.chain.reads_request_body() && self.carries == Carries::Http {
                    self.let_others_work(chunk.as_ref()).await;
                    self.chain
                        .request_body(self.exchange, &mut chunk, false)
                        .map_err(Stop::Refused)?;
                }
                if let Some(chunk) = chunk {
                    self.send(chunk).await;
                }
                Ok(())
            }
            DownEvent::End(trailers) => self.end_request(trailers).await,
        }
    }

    /// Filters that work on bodies take their time, and a body that comes as fast as it is read would take all of it: after so
    /// many bytes it is the turn of the worker's other exchanges.
    async fn let_others_work(&mut self, chunk: Option<&Bytes>) {
        self.worked += chunk.map_or(0, Bytes::len);
        if self.worked >= SLICE {
            self.worked = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Tells the upstream that the request is complete.
    async fn end_request(&mut self, trailers: Option<HeaderMap>) -> Result<(), Stop> {
        let trailers = trailers.and_then(heads::receive_trailers);
        if self.chain.reads_request_body() && self.carries == Carries::Http {
            let mut last = None;
            self.chain
                .request_body(self.exchange, &mut last, true)
                .map_err(Stop::Refused)?;
            if let Some(chunk) = last {
                self.send(chunk).await;
            }
        }
        if let Some(replay) = &mut self.replay {
            replay.end(trailers.clone());
        }
        self.up.end(trailers).await;
        self.request_sent = true;
        Ok(())
    }

    /// Sends a piece of the request body.
    async fn send(&mut self, piece: Bytes) {
        if let Some(replay) = &mut self.replay
            && !piece.is_empty()
        {
            replay.keep(&piece, self.exchange.plan.replay);
        }
        self.up.body(piece).await;
    }

    async fn step(&mut self) -> Event {
        // Only who has to wait looks at the clock and arms a timer.
        let mut timer = pin!(None::<Sleep>);
        let mut progress = 0;
        let event = std::future::poll_fn(|cx| {
            if let Some(event) = self.look(cx) {
                return Poll::Ready(event);
            }
            loop {
                match timer.as_mut().as_pin_mut() {
                    Some(timer) => ready!(timer.poll(cx)),
                    None => self.moved = Instant::now(),
                }
                // A peer that takes a little now and then gives no event, but is not idle.
                let taken = self.up.taken() + self.down.taken();
                let first = timer.is_none();
                // A few bytes only to look alive are not enough of what waits.
                let waits = !(self.up.is_drained() && self.down.is_drained());
                let least = if waits { LEAST } else { 1 };
                if !first && taken - progress < least {
                    return Poll::Ready(Event::Deadline);
                }
                progress = taken;
                if !first {
                    self.moved = Instant::now();
                    if self.is_overdue() || self.has_no_head_in_time() {
                        return Poll::Ready(Event::Deadline);
                    }
                }
                match self.deadline() {
                    Some(deadline) => timer.set(Some(tokio::time::sleep_until(deadline.into()))),
                    None => return Poll::Pending,
                }
            }
        });
        let event = event.await;
        self.counts.response_bytes = self.down.sent();
        if !matches!(event, Event::Up(UpEvent::End(_))) {
            self.moved = Instant::now();
        }
        event
    }

    /// Whether the whole exchange has taken too long.
    fn is_overdue(&self) -> bool {
        let limit = self.exchange.plan.timeouts.exchange;
        self.carries == Carries::Http && limit.is_some_and(|limit| self.exchange.timing.started.elapsed() >= limit)
    }

    /// Whether the try has taken too long.
    fn has_no_head_in_time(&self) -> bool {
        self.head_until.is_some_and(|until| until <= Instant::now())
    }

    /// Sends what waits on either side and gives the next event, if there is one.
    fn look(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        let Self { up, down, .. } = self;
        let may_wait = self.exchange.plan.read_ahead;
        // The upstream first: what it has is what the client waits for. It gets no further than the client's buffer, so
        // it cannot keep the client from being served.
        let had_room = down.is_ready(may_wait);
        if let Poll::Ready(event) = up.poll_event(cx, had_room) {
            return Some(Event::Up(event));
        }
        let upstream_had_room = up.is_ready();
        if let Poll::Ready(event) = down.poll_event(cx, upstream_had_room) {
            return Some(Event::Down(event));
        }
        // Sending may just have made the room that a side was not read for, and nothing would wake us for it.
        if !had_room
            && down.is_ready(may_wait)
            && let Poll::Ready(event) = up.poll_event(cx, true)
        {
            return Some(Event::Up(event));
        }
        None
    }

    /// When this step has waited long enough.
    fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.exchange.plan.timeouts;
        let step = if self.carries == Carries::Anything {
            timeouts.tunnel
        } else if self.request_sent && self.exchange.timing.first_byte.is_none() {
            timeouts.first_byte
        } else {
            timeouts.idle
        };
        let step = step.map(|limit| self.moved + limit);
        let whole = timeouts
            .exchange
            .filter(|_| self.carries == Carries::Http)
            .map(|limit| self.exchange.timing.started + limit);
        [step, whole, self.head_until].into_iter().flatten().min()
    }

    /// Whose fault a passed deadline is.
    fn overdue(&mut self, awaiting_head: bool) -> Stop {
        Stop::Failed(if self.is_overdue() {
            Failure::ExchangeTimeout
        } else if self.has_no_head_in_time() {
            Failure::AttemptTimeout
        } else if !self.down.is_drained() {
            // There is something to read for the client, and it does not.
            let limit = self.exchange.plan.timeouts.idle.map_or(Fact::None, Fact::Time);
            self.exchange.ledger.enter_with("engine", CLIENT_STALLED, limit);
            return Stop::Gone;
        } else if awaiting_head && self.request_sent {
            Failure::FirstByteTimeout
        } else if awaiting_head && self.up.is_drained() {
            // The upstream took all there was: it is the client that sends no more.
            Failure::RequestTimeout
        } else {
            Failure::IdleTimeout
        })
    }
}
