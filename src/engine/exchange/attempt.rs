//! One try towards an endpoint, until it has a response head or has failed.

use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::EXPECT;
use pillion_filters::{Attempt, AttemptResult, End, Fact, Failure, Response, Tried, Verdict, Way};
use pingora_http::ResponseHeader;

use super::hedge::{self, Won};
use super::opening::Opening;
use super::target::Target;
use super::{Run, time_left, wait};
use crate::clock;
use crate::engine::pool::PoolLimits;
use crate::engine::pump::{Pump, Stop};
use crate::engine::replay::Replay;
use crate::engine::up::Up;
use crate::upstream::{Endpoint, Protocol};

/// No exchange is tried more often, whatever its filters want.
const MAX_ATTEMPTS: u32 = 16;

/// What came of an attempt.
pub(super) enum Came {
    /// The response was sent to its end, or as far as it goes.
    Over(End),
    /// The chain gave this in place of the upstream's answer.
    Replaced(Response),
    /// A filter answered instead of the try.
    Answered(Response),
    /// A filter wants another try after so long, and the request can still be sent.
    Again(Duration),
    /// A pooled connection was dead before it saw the request: try once more on a fresh one.
    Stale,
    /// No response head.
    Stopped(Stop),
}

/// A try under way.
struct Try {
    attempt: Attempt,
    target: Target,
    started: Instant,
    connected: Instant,
    up: Up,
    reused: bool,
}

/// What a try has come to.
struct Heard {
    head: Result<Box<ResponseHeader>, Stop>,
    request_sent: bool,
    at: Instant,
}

impl Run<'_> {
    pub(super) async fn attempt(&mut self, mut target: Target, fresh: bool) -> Came {
        let mut attempt = Attempt {
            number: self.story.attempts.len() as u32 + 1,
            endpoint: target.endpoint.name.clone(),
        };
        match self.before_attempt(&mut attempt).await {
            Ok(None) => {}
            Ok(Some(response)) => {
                self.attempt_done(&attempt, Tried::abandoned(true));
                return Came::Answered(response);
            }
            Err(stop) => {
                self.attempt_done(&attempt, Tried::abandoned(true));
                return Came::Stopped(stop);
            }
        }
        let started = Instant::now();
        let (up, reused) = match self.connect(&target.endpoint, fresh, started).await {
            Ok(connected) => connected,
            Err(stop) => {
                let (result, ended) = (stop.result(), Instant::now());
                self.story
                    .tried(&target.endpoint, (started, None, ended), false, result);
                target.heard(result, None, ended - started, ended);
                let tried = Tried {
                    result,
                    head: None,
                    took: ended - started,
                    // Who went away, or was refused, did so before there was a connection.
                    unprocessed: !matches!(stop, Stop::Failed(failure) if !failure.nothing_was_sent()),
                    whole: true,
                    beside: false,
                };
                return match self.attempt_done(&attempt, tried) {
                    Some(after) => Came::Again(after),
                    None => Came::Stopped(stop),
                };
            }
        };
        let mut under_way = Try {
            attempt,
            target,
            started,
            connected: started,
            up,
            reused,
        };
        let heard = self.head_of(&mut under_way).await;
        self.judge(under_way, heard, fresh).await
    }

    /// Sends the request and waits for the head of the response; if that takes too long, with a second try beside the first, which then
    /// may take its place.
    async fn head_of(&mut self, under_way: &mut Try) -> Heard {
        let connected = if under_way.reused {
            under_way.started
        } else {
            Instant::now()
        };
        under_way.connected = connected;
        let exchange = &mut self.story.exchange;
        exchange.timing.connected = Some(connected);
        let head_until = exchange.plan.timeouts.attempt.map(|limit| under_way.started + limit);
        let hedge = exchange.plan.hedge.clone();
        let hedge = hedge.filter(|_| self.down.request_ended() && self.replay.is_empty());
        let mut pump = Pump::new(
            &self.route.chain,
            exchange,
            &mut self.story.counts,
            &mut self.down,
            &mut under_way.up,
            connected,
        );
        pump.head_until = head_until;
        let mut denied = None;
        let sending = pump.send_until_head(&mut self.replay);
        let head = match &hedge {
            None => sending.await,
            Some(hedge) => match clock::within(Some(hedge.after), sending).await {
                Some(head) => head,
                None if pump.request_sent && hedge.permit.take() => return Box::pin(self.race(under_way)).await,
                None => {
                    denied = pump.request_sent.then_some(hedge.after);
                    pump.until_head().await
                }
            },
        };
        let heard = Heard {
            head,
            request_sent: pump.request_sent,
            at: pump.moved,
        };
        if let Some(after) = denied {
            let ledger = &mut self.story.exchange.ledger;
            ledger.enter_with("engine", "hedge_denied", Fact::Time(after));
        }
        heard
    }

    /// Goes on with two tries, of which the one that is heard first stays.
    async fn race(&mut self, first: &mut Try) -> Heard {
        let chain = &self.route.chain;
        let slow = Instant::now();
        let timeouts = &self.story.exchange.plan.timeouts;
        let until = [
            (timeouts.attempt.map(|limit| slow + limit), Failure::AttemptTimeout),
            (timeouts.first_byte.map(|limit| slow + limit), Failure::FirstByteTimeout),
            (self.time_left().map(|left| slow + left), Failure::ExchangeTimeout),
        ];
        let until = until.into_iter().filter_map(|(at, failure)| Some((at?, failure)));
        let until = until.min_by_key(|(at, _)| *at);
        self.avoid_last();
        let Ok(target) = self.target() else {
            // Nothing to hedge with: the first goes on alone.
            return self.go_on(first).await;
        };
        let mut attempt = Attempt {
            number: first.attempt.number + 1,
            endpoint: target.endpoint.name.clone(),
        };
        let exchange = &mut self.story.exchange;
        if !chain.attempt_beside(exchange, &mut attempt) {
            return self.go_on(first).await;
        }
        let after = Fact::Time(slow.saturating_duration_since(first.started));
        exchange.ledger.enter_with("engine", "hedged", after);
        let connector = &self.worker.connector;
        let opening = Opening::new(connector, self.client, self.side, exchange, self.taken, true);
        let wanted = exchange.plan.wanted.clone();
        let (won, other) = hedge::race(&mut self.down, wanted, &mut first.up, opening, &target.endpoint, until).await;
        let at = Instant::now();
        let outrun = matches!(won, Ok(Won::Second { .. }));
        let (head, lost) = match won {
            Ok(Won::First(head)) => (Ok(head), (attempt, target, slow, None, false)),
            Ok(Won::Second {
                up,
                head,
                reused,
                connected,
            }) => {
                self.story.exchange.ledger.enter("engine", "hedge_won");
                let second = Try {
                    attempt,
                    target,
                    started: slow,
                    connected,
                    up,
                    reused,
                };
                let Try {
                    attempt,
                    target,
                    started,
                    connected,
                    reused,
                    ..
                } = std::mem::replace(first, second);
                (Ok(head), (attempt, target, started, Some(connected), reused))
            }
            Err(stop) => (Err(stop), (attempt, target, slow, None, false)),
        };
        let (attempt, mut target, started, connected, reused) = lost;
        let tried = Tried {
            result: other.result,
            head: other.head.as_deref(),
            took: at - started,
            beside: true,
            ..Tried::abandoned(false)
        };
        chain.attempt_done_beside(&mut self.story.exchange, &attempt, tried);
        target.passed_over(&other, outrun, at - started, at);
        self.story
            .tried(&target.endpoint, (started, connected, at), reused, other.result);
        Heard {
            head,
            request_sent: true,
            at,
        }
    }

    /// Waits for the head of a try whose request is sent.
    async fn go_on(&mut self, under_way: &mut Try) -> Heard {
        let limit = self.story.exchange.plan.timeouts.attempt;
        let mut pump = Pump::new(
            &self.route.chain,
            &mut self.story.exchange,
            &mut self.story.counts,
            &mut self.down,
            &mut under_way.up,
            Instant::now(),
        );
        pump.head_until = limit.map(|limit| under_way.started + limit);
        pump.request_sent = true;
        let head = pump.until_head().await;
        Heard {
            head,
            request_sent: true,
            at: pump.moved,
        }
    }

    /// What becomes of a try that has ended or has a response head.
    async fn judge(&mut self, under_way: Try, heard: Heard, fresh: bool) -> Came {
        let Try {
            attempt,
            mut target,
            started,
            connected,
            up,
            reused,
        } = under_way;
        let Heard { head, request_sent, at } = heard;
        let (result, unprocessed) = match &head {
            Ok(head) => (AttemptResult::Answered(head.status), false),
            Err(stop) => (stop.result(), up.is_unprocessed()),
        };
        self.story
            .tried(&target.endpoint, (started, Some(connected), at), reused, result);
        if target.endpoint.protocol == Protocol::Auto && !reused && matches!(head, Err(Stop::Failed(_))) {
            self.worker.connector.doubt_protocol(&target.endpoint);
        }
        let whole = self.replay.is_whole();
        let races =
            matches!(head, Err(Stop::Failed(Failure::UpstreamClosed))) && up.heard_nothing() && (reused || unprocessed);
        if races && !fresh && whole && (self.story.exchange.is_repeatable() || unprocessed) {
            // Nobody's failure, and no try of its own for those who count them.
            self.attempt_done(&attempt, Tried::abandoned(unprocessed));
            self.story.exchange.ledger.enter("engine", "stale_connection_retried");
            self.worker.metrics.keepalive_race_retried.inc();
            return Came::Stale;
        }
        let tried = Tried {
            result,
            head: head.as_deref().ok(),
            took: at.saturating_duration_since(started),
            unprocessed,
            whole,
            beside: false,
        };
        target.heard(result, tried.head, tried.took, at);
        if let Some(after) = self.attempt_done(&attempt, tried) {
            if let Ok(head) = head {
                self.leave_unread(&target.endpoint, up, head, request_sent, at).await;
            }
            return Came::Again(after);
        }
        match head {
            Ok(head) => {
                self.replay = Replay::default();
                self.respond(&target.endpoint, up, head, request_sent, at).await
            }
            Err(stop) => {
                if races {
                    self.worker.metrics.keepalive_race_failed.inc();
                }
                Came::Stopped(stop)
            }
        }
    }

    /// The attempt phases; an answer if a filter gave one.
    pub(super) async fn before_attempt(&mut self, attempt: &mut Attempt) -> Result<Option<Response>, Stop> {
        let mut way = self.route.chain.attempt(&mut self.story.exchange, attempt);
        loop {
            match way {
                Way::Through => return Ok(None),
                Way::Answer(response) => return Ok(Some(response)),
                Way::Wait(waiting) => {
                    let resume = self.wait(waiting).await?;
                    let step = resume(&mut self.story.exchange);
                    way = self.route.chain.resume_attempt(&mut self.story.exchange, attempt, step);
                }
                // Some of the body may be with an endpoint already.
                Way::Body(_, resume) => {
                    let step = resume(&mut self.story.exchange, None);
                    way = self.route.chain.resume_attempt(&mut self.story.exchange, attempt, step);
                }
            }
        }
    }

    /// Tells the filters what came of a try; after how long there shall be another one, if one of them wants it and it can be.
    pub(super) fn attempt_done(&mut self, attempt: &Attempt, tried: Tried<'_>) -> Option<Duration> {
        let verdict = self.route.chain.attempt_done(&mut self.story.exchange, attempt, tried);
        let may = tried.whole && tried.result != AttemptResult::Abandoned && attempt.number < MAX_ATTEMPTS;
        match verdict {
            // One that there is no time for would only take the answer away that there is.
            Verdict::Retry(after) if may && self.time_left().is_none_or(|left| after < left) => Some(after),
            Verdict::Retry(_) => {
                let why = if !tried.whole {
                    "the request body was not kept"
                } else if may {
                    "there is no time left"
                } else {
                    "no request is tried more often"
                };
                let ledger = &mut self.story.exchange.ledger;
                ledger.enter_with("engine", "not_tried_again", Fact::Text(why));
                None
            }
            Verdict::Keep | Verdict::Stop => None,
        }
    }

    async fn connect(&mut self, endpoint: &Endpoint, fresh: bool, now: Instant) -> Result<(Up, bool), Stop> {
        let ended = self.down.request_ended() && self.replay.is_empty();
        let exchange = &self.story.exchange;
        let connector = &self.worker.connector;
        let opening = Opening::new(connector, self.client, self.side, exchange, self.taken, ended);
        let (left, wanted) = (time_left(exchange), exchange.plan.wanted.clone());
        let opened = wait(&mut self.down, left, wanted, opening.open(endpoint, fresh, now)).await?;
        let exchange = &self.story.exchange;
        let opened = opened.map_err(|stop| match stop {
            // That the caller had so little time is not the endpoint's fault.
            Stop::Failed(Failure::ConnectTimeout) if time_left(exchange) == Some(Duration::ZERO) => {
                Stop::Failed(Failure::ExchangeTimeout)
            }
            stop => stop,
        })?;
        if matches!(opened.0, Up::H2(_)) && !ended && exchange.request.headers.contains_key(EXPECT) {
            // HTTP/2 upstreams are sent the body at once, so the client is told to go on.
            if let Ok(go_on) = ResponseHeader::build_no_case(StatusCode::CONTINUE, Some(0)) {
                self.down.interim(&go_on);
            }
        }
        Ok(opened)
    }

    pub(super) fn connect_timeout(&self) -> Option<Duration> {
        let timeouts = &self.story.exchange.plan.timeouts;
        [timeouts.connect, timeouts.attempt, self.time_left()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn limits(&self) -> PoolLimits {
        self.side.pool
    }
}
