//! Tries a request again that failed, where that is safe and there is a budget for it.
//!
//! | a try that failed | is made again |
//! | --- | --- |
//! | of which nothing was sent, or which the upstream says it has not looked at | whatever its method |
//! | of a method that is idempotent (RFC 9110, section 9.2.2), or named in `unsafe_methods` | if `on` names what went wrong |
//! | of another method | never: it may have been acted on |
//! | whose body is longer than `max_body`, or once a byte of the response has gone out | never |
//!
//! The budget is of the upstream: however many requests fail, what they are tried again with stays a share of them. With
//! `hedge`, a second try is made beside one that is slow, out of the same budget.
//!
//! The filter stands last, so that all others see each try.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::UPGRADE;

use crate::conditions::{Condition, Conditions, Trouble};
use crate::{
    Attempt, AttemptResult, BuildError, Context, Exchange, Fact, Filter, Hedge, Permit, Phases, Plugin, Remark, Step,
    Tried, Verdict,
};

mod budget;
mod config;
mod counters;
mod decide;
mod latency;
mod words;

pub use config::Config;

use budget::{Allowance, Budget};
use config::After;
use counters::Counters;
use decide::{Failed, Limits, Said, decide};
use latency::Latency;

const NAME: &str = "retry";

/// The `retry` plugin.
pub struct Retry;

impl Plugin for Retry {
    const NAME: &'static str = NAME;
    type Config = Config;
    const WORDS: crate::Words = words::WORDS;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let wrong = mistakes(&config);
        if !wrong.is_empty() {
            return Err(BuildError::Mistakes(wrong));
        }
        let now = Instant::now();
        let allowance = Allowance {
            ratio: config.budget.ratio,
            floor: config.budget.min_per_second,
        };
        let counters = Arc::new(Counters::of(context)?);
        let budgets = context.shared(Budgets::default);
        let purse = |upstream: Option<&str>| {
            Arc::new(Purse {
                budget: budgets.of(upstream, now),
                allowance,
                counters: counters.clone(),
            })
        };
        let upstream = context.route.upstream.as_deref();
        let others = context.upstreams.unwrap_or_default().iter();
        let others = others.filter(|name| Some(&***name) != upstream);
        let hedging = config.hedge.enabled.then(|| Hedging {
            after: config.hedge.after,
            latency: Latency::new(
                match config.hedge.after {
                    After::Percentile(percent) => percent,
                    After::Time(_) => 95,
                },
                now,
            ),
        });
        Ok(Arc::new(Retrier {
            on: Conditions::new(&config.on),
            limits: Limits {
                attempts: config.attempts.get(),
                base: config.backoff.base.0,
                max: config.backoff.max.0,
            },
            unsafe_methods: config.unsafe_methods.into_iter().map(|method| method.0).collect(),
            per_try_timeout: config.per_try_timeout.0.map(|limit| limit.0),
            max_body: usize::try_from(config.max_body.0).unwrap_or(usize::MAX),
            own: purse(upstream),
            others: others.map(|name| (name.clone(), purse(Some(name)))).collect(),
            counters,
            hedging,
        }))
    }
}

/// What is wrong with single settings, as far as their types do not tell.
fn mistakes(config: &Config) -> Vec<Remark> {
    let mut wrong = Vec::new();
    if config.attempts.get() > 10 {
        wrong.push(Remark::new("attempts", "expected a number from 1 to 10"));
    }
    if !(0.0..=1.0).contains(&config.budget.ratio) {
        wrong.push(Remark::new("budget.ratio", "expected a share, from 0 to 1"));
    }
    if config.backoff.max.0 < config.backoff.base.0 {
        let help = "the longest wait at all cannot be shorter than the first";
        wrong.push(Remark::new("backoff.max", "is less than `backoff.base`").with_help(help));
    }
    if config.max_body.0 > MOST_BODY {
        let help = "it is memory of every request that is under way";
        wrong.push(Remark::new("max_body", "expected at most 16MiB").with_help(help));
    }
    let safe = config.unsafe_methods.iter().position(|method| method.0.is_idempotent());
    if let Some(index) = safe {
        let help = "leave it out";
        let remark = Remark::new("unsafe_methods", "this method is idempotent, and tried again anyway");
        wrong.push(remark.of_element(index).with_help(help));
    }
    let partly = config
        .on
        .iter()
        .position(|one| *one == Condition::Trouble(Trouble::Incomplete));
    if let Some(index) = partly {
        let help = "the client has a part of the answer by then; leave it out";
        let remark = Remark::new("on", "`incomplete` cannot be tried again");
        wrong.push(remark.of_element(index).with_help(help));
    }
    if matches!(config.per_try_timeout.0, Some(limit) if limit.0.is_zero()) {
        wrong.push(Remark::new("per_try_timeout", "must be longer than 0s"));
    }
    wrong
}

/// The most of a body that is kept of one request.
const MOST_BODY: u64 = 16 * 1024 * 1024;

/// The budgets of one direction, by upstream. Outbound requests to hosts that they name themselves share one.
#[derive(Default)]
struct Budgets(Mutex<Vec<Owned>>);

/// An upstream's name and its budget.
type Owned = (Option<Arc<str>>, Arc<Budget>);

impl Budgets {
    fn of(&self, upstream: Option<&str>, now: Instant) -> Arc<Budget> {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = budgets.iter().find(|(name, _)| name.as_deref() == upstream);
        if let Some((_, budget)) = known {
            return budget.clone();
        }
        let budget = Arc::new(Budget::new(now));
        budgets.push((upstream.map(Arc::from), budget.clone()));
        budget
    }
}

struct Retrier {
    on: Conditions,
    limits: Limits,
    unsafe_methods: Box<[http::Method]>,
    per_try_timeout: Option<Duration>,
    max_body: usize,
    /// What the tries towards the route's upstream are paid with, and those towards others: a host that the request names may
    /// stand for one, or a filter may have turned it there.
    own: Arc<Purse>,
    others: Box<[(Arc<str>, Arc<Purse>)]>,
    counters: Arc<Counters>,
    hedging: Option<Hedging>,
}

impl Retrier {
    fn purse(&self, exchange: &Exchange) -> &Arc<Purse> {
        let Some(name) = &exchange.plan.upstream else {
            return &self.own;
        };
        let found = self.others.iter().find(|(known, _)| known == name);
        found.map_or(&self.own, |(_, purse)| purse)
    }
}

/// Second tries beside the first.
struct Hedging {
    after: After,
    latency: Latency,
}

impl Hedging {
    /// Whether a try says something of how long answers take. What fails at once would have all others taken for slow. One that was
    /// given up after longer than most take counts as that: with only the sooner ones of two counted, ever more would look slow.
    fn counts(&self, tried: &Tried<'_>) -> bool {
        match tried.result {
            AttemptResult::Answered(status) => !status.is_server_error(),
            AttemptResult::Abandoned => self.latency.percentile().is_some_and(|usual| tried.took > usual),
            AttemptResult::Failed(_) => false,
        }
    }
}

/// An upstream's budget, and how much of it this route may spend.
struct Purse {
    budget: Arc<Budget>,
    allowance: Allowance,
    counters: Arc<Counters>,
}

impl Purse {
    fn pays(&self) -> bool {
        self.budget.withdraw(self.allowance, Instant::now())
    }
}

/// Leave for a second try.
impl Permit for Purse {
    fn take(&self) -> bool {
        let may = self.pays();
        if may {
            self.counters.tried_again("hedge");
        } else {
            self.counters.denied("budget_exhausted");
        }
        may
    }
}

/// Of an exchange that was tried again.
struct State {
    tries: u32,
    /// What the try that is to come is for. An open breaker may still forbid it.
    cause: Option<(&'static str, Fact)>,
}

impl Filter for Retrier {
    fn phases(&self) -> Phases {
        Phases::REQUEST | Phases::ATTEMPT
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        let method = &exchange.request.method;
        if self.unsafe_methods.contains(method) {
            exchange.plan.repeatable = true;
        }
        if let Some(hedging) = &self.hedging
            && method.is_safe()
            && !exchange.has_body
            // Two connections would be opened of what the client wants one of.
            && !exchange.request.headers.contains_key(UPGRADE)
        {
            let after = match hedging.after {
                After::Time(after) => Some(after),
                After::Percentile(_) => hedging.latency.percentile(),
            };
            exchange.plan.hedge = after.map(|after| Hedge {
                after,
                permit: self.purse(exchange).clone(),
            });
        }
        let plan = &mut exchange.plan;
        // A filter before may have read more already, which is kept anyway.
        let is_raised = plan.replay > exchange.route.plan.replay;
        plan.replay = if is_raised { plan.replay } else { 0 }.max(self.max_body);
        if self.per_try_timeout.is_some() {
            plan.timeouts.attempt = self.per_try_timeout;
        }
        self.purse(exchange).budget.deposit(exchange.timing.started);
        Step::Continue
    }

    fn attempt(&self, exchange: &mut Exchange, _: &mut Attempt) -> Step {
        if let Some((cause, fact)) = exchange.state::<State>().and_then(|state| state.cause.take()) {
            exchange.ledger.enter_with(NAME, cause, fact);
            self.counters.tried_again(cause);
        }
        Step::Continue
    }

    fn attempt_done(&self, exchange: &mut Exchange, _: &Attempt, tried: Tried<'_>) -> Verdict {
        if let Some(hedging) = &self.hedging
            && hedging.counts(&tried)
        {
            hedging.latency.record(tried.took, exchange.timing.started + tried.took);
        }
        if tried.beside {
            return Verdict::Keep;
        }
        let Some(cause) = self.on.cause(&tried) else {
            if matches!(tried.result, AttemptResult::Answered(_)) && exchange.state::<State>().is_some() {
                self.counters.succeeded();
            }
            return Verdict::Keep;
        };
        let tries = exchange.state::<State>().map_or(1, |state| state.tries);
        let failed = Failed {
            tries,
            repeatable: tried.unprocessed || exchange.is_repeatable(),
            whole: tried.whole,
            said: tried.head.map_or(Said::Nothing, |head| {
                decide::said(&head.headers, std::time::SystemTime::now())
            }),
            left: exchange
                .plan
                .timeouts
                .exchange
                .map(|limit| limit.saturating_sub(exchange.timing.started.elapsed())),
        };
        let decided = decide(self.limits, failed, fastrand::f64()).and_then(|after| {
            let may = self.purse(exchange).pays();
            may.then_some(after).ok_or("budget_exhausted")
        });
        match decided {
            Ok(after) => {
                exchange.set_state(State {
                    tries: tries + 1,
                    cause: Some((cause, words::tried_again(&tried, after))),
                });
                Verdict::Retry(after)
            }
            Err(reason) => {
                let fact = words::denied(reason, self.limits, failed, self.max_body);
                exchange.ledger.enter_with(NAME, reason, fact);
                self.counters.denied(reason);
                Verdict::Keep
            }
        }
    }
}

#[cfg(test)]
mod tests;
