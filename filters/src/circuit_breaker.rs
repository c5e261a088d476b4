//! Sends nothing more to an upstream that fails, until it has shown that it answers again.
//!
//! | state | a request |
//! | --- | --- |
//! | closed | goes on; how it went is counted |
//! | open | gets the fallback: a stale response of the cache, a fixed answer, another upstream, or 503 with `Retry-After` |
//! | half-open | goes on as one of a few probes, or gets the fallback |
//!
//! It opens on failures in a row, on a share of failed calls and on a share of slow ones, each of which can be lifted. Open, it
//! sends probes after an interval; a probe that fails makes the next interval longer, enough that went well close it.
//!
//! There is one breaker for each upstream, shared by its routes and by the snapshots before and after a reload, or one for
//! each route; for requests to hosts that they name themselves, one for each host.
//!
//! What is counted is tries, not exchanges: each of several is a call, and none is made once the breaker is open. A call is
//! judged by its response head, and once more by what comes after it: a body that ends early, the `grpc-status` of trailers.
//!
//! The filter stands after the cache, so that a hit never meets an open breaker and a stale response can stand in, and before
//! what tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::conditions::grpc_status;
use crate::{
    Attempt, AttemptResult, BuildError, Context, End, Exchange, Fact, Failure, Filter, Outcome, Phases, Plugin, Remark,
    Step, Tried, Verdict,
};

mod breaker;
mod breakers;
#[cfg(test)]
mod cases;
mod config;
mod fallback;
mod host;
mod machine;
mod meters;
mod reason;
mod settings;
#[cfg(test)]
mod simulation;
mod window;
mod words;

pub use breakers::{BreakerReport, Breakers};
pub use config::{Config, FailuresConfig, Fallback, HalfOpenConfig, OpenConfig, Scope, SlowConfig, StaticResponse};
pub use machine::{Force, State};

use breaker::{Admitted, Breaker, Call, Permit};
use breakers::{Asked, now};
use fallback::{Compiled, refusal};
use meters::Families;
use settings::Settings;
use window::Window;

const NAME: &str = "circuit_breaker";

/// The `circuit_breaker` plugin.
pub struct CircuitBreaker;

impl Plugin for CircuitBreaker {
    const NAME: &'static str = NAME;
    type Config = Config;
    const WORDS: crate::Words = words::WORDS;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let settings = Settings::of(&config).map_err(BuildError::Mistakes)?;
        let fallback = Compiled::of(config.fallback).map_err(BuildError::Mistakes)?;
        if let Some(Compiled::Upstream(name)) = &fallback {
            let mistake = |message| Err(BuildError::Mistakes(vec![Remark::new("fallback.upstream", message)]));
            if context.route.upstream.as_ref() == Some(name) {
                return mistake(format!("`{name}` is the upstream that fails"));
            }
            if context.upstreams.is_some_and(|known| !known.contains(name)) {
                return mistake(format!("there is no upstream `{name}` in `upstreams`"));
            }
        }
        let families = Families::of(context)?;
        let route = context.route;
        let breakers = context.shared(|| Breakers::new(route.service.clone(), route.direction, families));
        let scope = (config.per == Scope::Route).then(|| route.name.clone());
        let handle = |upstream: &Arc<str>| {
            let breaker = breakers.of(upstream, scope.as_ref());
            let window = breaker.window(settings.window);
            (upstream.clone(), Handle { breaker, window })
        };
        let own = route.upstream.as_ref().map(handle);
        let second = match &fallback {
            Some(Compiled::Upstream(name)) => Some(handle(name)),
            _ => None,
        };
        Ok(Arc::new(Guard {
            asked: breakers.asked(scope.as_ref()),
            ends_badly: breakers.ends_badly.clone(),
            breakers,
            scope,
            own,
            second,
            settings,
            fallback,
        }))
    }
}

/// A breaker, and the window that this filter counts in.
struct Handle {
    breaker: Arc<Breaker>,
    window: Arc<Window>,
}

/// One that is at hand, or one that was looked up and whose window is looked up where it is needed.
enum Found<'a> {
    AtHand(&'a Handle),
    Looked(Arc<Breaker>),
}

impl Found<'_> {
    fn breaker(&self) -> &Arc<Breaker> {
        match self {
            Self::AtHand(handle) => &handle.breaker,
            Self::Looked(breaker) => breaker,
        }
    }

    fn called(&self, settings: &Settings, call: Call) {
        match self {
            Self::AtHand(handle) => handle.breaker.called(&handle.window, settings, call),
            Self::Looked(breaker) => breaker.called(&breaker.window(settings.window), settings, call),
        }
    }

    fn ended(&self, settings: &Settings, began: Instant, failed: bool) {
        match self {
            Self::AtHand(handle) => handle.breaker.ended(&handle.window, settings, began, now, failed),
            Self::Looked(breaker) => breaker.ended(&breaker.window(settings.window), settings, began, now, failed),
        }
    }
}

/// Left only by the few exchanges that are probes, and by calls whose `grpc-status` was judged with their head.
enum Left {
    Probe(Permit),
    Judged,
}

struct Guard {
    breakers: Arc<Breakers>,
    asked: Arc<Asked>,
    /// The route, if it has its own breakers.
    scope: Option<Arc<str>>,
    /// Those of the route's upstream and of the fallback's, by name.
    own: Option<(Arc<str>, Handle)>,
    second: Option<(Arc<str>, Handle)>,
    settings: Settings,
    fallback: Option<Compiled>,
    /// Whether any call of any snapshot has ever failed after its head.
    ends_badly: Arc<AtomicBool>,
}

impl Filter for Guard {
    fn phases(&self) -> Phases {
        Phases::REQUEST | Phases::ATTEMPT | Phases::COMPLETE
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        self.enter(exchange, true)
    }

    fn attempt(&self, exchange: &mut Exchange, attempt: &mut Attempt) -> Step {
        // It may have opened while the next try was waited for.
        if attempt.number == 1 || matches!(exchange.state(), Some(Left::Probe(_))) {
            return Step::Continue;
        }
        drop(exchange.take_state::<Left>());
        self.enter(exchange, false)
    }

    fn attempt_done(&self, exchange: &mut Exchange, _: &Attempt, tried: Tried<'_>) -> Verdict {
        let Some(found) = self.find(exchange) else {
            return Verdict::Keep;
        };
        let heard = self.hear(exchange, &tried);
        if let Some(heard) = heard {
            self.count(exchange, &found, &tried, heard);
        }
        if found.breaker().is_closed() {
            return Verdict::Keep;
        }
        let failed = heard.is_some_and(|heard| heard.failed);
        if failed && tried.whole && (tried.unprocessed || exchange.is_repeatable()) {
            exchange.ledger.enter(NAME, "not_retried");
        }
        Verdict::Stop
    }

    fn complete(&self, exchange: &mut Exchange, outcome: &Outcome) {
        let left = exchange.take_state::<Left>();
        if matches!(left, Some(Left::Judged)) {
            return;
        }
        let failed = self.failed_after_head(exchange, outcome);
        match (left, failed) {
            (Some(Left::Probe(permit)), Some(failed)) => permit.settle(!failed, now(), &self.settings),
            (Some(Left::Probe(permit)), None) => drop(permit),
            (_, Some(failed)) if outcome.end != End::ClientAborted => {
                // As long as none has failed after its head, a good end has no row to end.
                if failed {
                    self.ends_badly.store(true, Ordering::Relaxed);
                } else if !self.ends_badly.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(began) = outcome.attempts.last().map(|attempt| attempt.started)
                    && let Some(found) = self.find(exchange)
                {
                    found.ended(&self.settings, began, failed);
                }
            }
            _ => {}
        }
    }
}

/// What a response head, or that there is none, tells of a call.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
struct Heard {
    failed: bool,
    slow: bool,
    /// Whether nothing that comes after it is judged.
    settled: bool,
    /// Whether it was the `grpc-status` in the head that was judged.
    grpc: bool,
}

impl Guard {
    /// The breaker of the upstream that the exchange is on its way to; `None` for a host that is no name.
    fn find(&self, exchange: &Exchange) -> Option<Found<'_>> {
        let breaker = if let Some(name) = exchange.upstream() {
            let at_hand = [&self.own, &self.second].into_iter().flatten();
            for (known, handle) in at_hand {
                if Arc::ptr_eq(known, name) || known == name {
                    return Some(Found::AtHand(handle));
                }
            }
            self.asked.named(&self.breakers, name, self.scope.as_ref())
        } else {
            let host = host::of(exchange)?;
            self.asked.host(&self.breakers, &host, self.scope.as_ref())
        };
        Some(Found::Looked(breaker))
    }

    /// Lets an exchange through, or gives it the fallback. Another upstream only if it `may_turn` there.
    fn enter(&self, exchange: &mut Exchange, may_turn: bool) -> Step {
        let Some(found) = self.find(exchange) else {
            return Step::Continue;
        };
        match found.breaker().admit(now, &self.settings) {
            Admitted::Pass => Step::Continue,
            Admitted::Probe(permit) => probe(exchange, permit),
            Admitted::Refused(left) => {
                let why = found.breaker().why(exchange.timing.started);
                self.fall_back(exchange, left, why, may_turn)
            }
        }
    }

    fn fall_back(&self, exchange: &mut Exchange, left: machine::End<Duration>, why: Fact, may_turn: bool) -> Step {
        let seconds = whole_seconds(match left {
            machine::End::Known(left) => left,
            machine::End::Unknown => self.settings.open.first,
        });
        match &self.fallback {
            Some(Compiled::Stale) => exchange.plan.accept_stale = true,
            // No gRPC client could read it.
            Some(Compiled::Response(fixed)) if !exchange.is_grpc() => {
                exchange.ledger.enter_with(NAME, "fallback_response", why);
                return Step::Respond(fixed.answer(seconds));
            }
            Some(Compiled::Upstream(name)) if may_turn && exchange.upstream() != Some(name) => {
                exchange.ledger.enter_with(NAME, "fallback_upstream", why);
                exchange.plan.upstream = Some(name.clone());
                return self.enter(exchange, false);
            }
            _ => {}
        }
        Step::Refuse(refusal(seconds, why))
    }

    /// What a try tells of the upstream; `None` if nothing.
    fn hear(&self, exchange: &Exchange, tried: &Tried<'_>) -> Option<Heard> {
        let counts = &self.settings.counts;
        let slow = self.settings.slow_after.is_some_and(|after| tried.took > after);
        let status = match tried.result {
            AttemptResult::Abandoned => return None,
            // Whoever gives a request a millisecond must not close the upstream to all others. All that is known is how long it took.
            AttemptResult::Failed(Failure::ExchangeTimeout) if is_cut_short(exchange) => {
                return slow.then_some(Heard {
                    failed: false,
                    slow,
                    settled: true,
                    grpc: false,
                });
            }
            AttemptResult::Failed(failure) => {
                return counts.has_failure(failure, tried.unprocessed).then_some(Heard {
                    failed: true,
                    slow,
                    settled: true,
                    grpc: false,
                });
            }
            AttemptResult::Answered(status) => status,
        };
        let grpc = tried
            .head
            .filter(|_| counts.looks_at_grpc() && exchange.is_grpc())
            .and_then(|head| grpc_status(&head.headers));
        let by_status = counts.has_status(status);
        Some(Heard {
            failed: by_status || grpc.is_some_and(|code| counts.has_grpc(code)),
            slow,
            settled: by_status || is_tunnel(&exchange.request.method, status),
            grpc: grpc.is_some(),
        })
    }

    /// Counts a call, or settles a probe, as far as its head tells.
    fn count(&self, exchange: &mut Exchange, found: &Found<'_>, tried: &Tried<'_>, heard: Heard) {
        let now = now();
        if let Some(Left::Probe(permit)) = exchange.state::<Left>() {
            if heard.failed || heard.slow || heard.settled {
                if let Some(Left::Probe(permit)) = exchange.take_state() {
                    permit.settle(!heard.failed && !heard.slow, now, &self.settings);
                }
            } else {
                permit.answering(now);
            }
            return;
        }
        let call = Call {
            began: now.checked_sub(tried.took).unwrap_or(now),
            now,
            failed: heard.failed,
            slow: heard.slow,
        };
        found.called(&self.settings, call);
        if heard.grpc && heard.failed {
            exchange.set_state(Left::Judged);
        }
    }

    /// Whether a call whose head was good failed after that; `None` if that is not known, or was judged by its head.
    fn failed_after_head(&self, exchange: &Exchange, outcome: &Outcome) -> Option<bool> {
        let AttemptResult::Answered(status) = outcome.attempts.last()?.result else {
            return None;
        };
        let counts = &self.settings.counts;
        if counts.has_status(status) || is_tunnel(&exchange.request.method, status) {
            return None;
        }
        match outcome.end {
            End::Complete => Some(outcome.grpc_status.is_some_and(|code| counts.has_grpc(code))),
            // A good status is good, whatever the client did with the rest; what the trailers would have said nobody knows.
            End::ClientAborted => (!exchange.is_grpc()).then_some(false),
            // It may have been the client that read too slowly.
            End::Failed(Failure::ExchangeTimeout) => None,
            End::Failed(failure) => counts.has_failure(failure, false).then_some(true),
        }
    }
}

fn probe(exchange: &mut Exchange, permit: Permit) -> Step {
    exchange.ledger.enter(NAME, "probe");
    exchange.set_state(Left::Probe(permit));
    Step::Continue
}

/// Whether the caller has less time than the route gives.
fn is_cut_short(exchange: &Exchange) -> bool {
    exchange.plan.timeouts.exchange != exchange.route.plan.timeouts.exchange
}

/// Whether what follows is no response any more.
fn is_tunnel(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success())
}

/// Rounded up, so that nobody comes back too early.
fn whole_seconds(left: Duration) -> u32 {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}
