//! Answers a repeated request from the answer that its first try got, by `Idempotency-Key`.
//!
//! | what is known of the key | what a request with it gets |
//! | --- | --- |
//! | nothing | it goes to the app; its answer is kept |
//! | another payload | 422, `idempotency_key_reused` |
//! | the first is under way | it waits; after `wait`, 409 with `Retry-After`, `idempotency_in_progress` |
//! | the first was answered | that answer, with `Idempotent-Replayed: true` |
//! | the first answer was lost, nobody knows what the app did | 409, `idempotency_outcome_unknown`, or another try, by `unknown` |
//! | the first never reached the app, or the app said that it has not acted | it goes to the app |
//!
//! A key is its caller's own and counts for one method, URL and upstream. It is read as the IETF's draft has it
//! (draft-ietf-httpapi-idempotency-key-header), quoted, or as Stripe's clients send it, bare; one that is neither gets 400,
//! `idempotency_key_malformed`, and one that is missing where it is required 400, `idempotency_key_missing`. Of credentials and
//! payloads, hashes are kept and nothing else.
//!
//! A request with a key goes on to its end when its client leaves, so that the repeat finds the answer.
//!
//! The filter may give requests without a key one, and vouches for keys that the upstream honours: then a request may be sent
//! again.
//!
//! gRPC, upgrades and methods that are not configured pass untouched.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pingora_http::ResponseHeader;

use crate::{
    Attempt, BuildError, Context, Exchange, Failure, Filter, Link, Outcome, Phases, Plugin, Recoder, Step, Tried, Turn,
    Verdict,
};

mod answer;
mod config;
mod counters;
mod keep;
mod key;
mod lookup;
#[cfg(test)]
mod model;
#[cfg(test)]
mod play;
mod rules;
mod scope;
mod store;
#[cfg(test)]
mod tests;
mod words;

pub use config::Config;

use counters::{Counters, StoreMetrics};
use keep::State;
use rules::Rules;
use store::{Share, Store};

const NAME: &str = "idempotency";

/// The `idempotency` plugin.
pub struct Idempotency;

impl Plugin for Idempotency {
    const NAME: &'static str = NAME;
    type Config = Config;
    const WORDS: crate::Words = words::WORDS;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let (size, warning) = (config.max_size.0, rules::warning(&config, context.route.direction));
        let rules = Rules::new(config)?;
        if let Some(warning) = warning {
            context.warn(warning);
        }
        let metrics = StoreMetrics::of(context)?;
        let store = context.shared(|| Store::new(metrics));
        Ok(Arc::new(Repeats(Arc::new(Inner {
            share: store.share(size),
            counters: Counters::of(context)?,
            rules,
            recoder: OnceLock::new(),
        }))))
    }
}

/// What a route's filter works with.
struct Inner {
    share: Share,
    counters: Counters,
    rules: Rules,
    /// What a filter after this one makes of stored bodies.
    recoder: OnceLock<Arc<dyn Recoder>>,
}

impl Inner {
    fn store(&self) -> &Arc<Store> {
        self.share.store()
    }
}

struct Repeats(Arc<Inner>);

impl Filter for Repeats {
    fn phases(&self) -> Phases {
        if self.0.rules.replay {
            Phases::REQUEST | Phases::ATTEMPT | Phases::RESPONSE | Phases::RESPONSE_BODY | Phases::COMPLETE
        } else {
            Phases::REQUEST
        }
    }

    fn linked(&self, after: &[Link]) {
        if let Some(recoder) = after.iter().find_map(|link| link.filter.recoder()) {
            // A chain is compiled once.
            let _ = self.0.recoder.set(recoder);
        }
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        self.0.request(exchange)
    }

    fn attempt(&self, exchange: &mut Exchange, _: &mut Attempt) -> Step {
        self.0.attempt(exchange);
        Step::Continue
    }

    fn attempt_done(&self, exchange: &mut Exchange, _: &Attempt, tried: Tried<'_>) -> Verdict {
        self.0.attempt_done(exchange, tried);
        Verdict::Keep
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHeader) -> Turn {
        self.0.response(exchange, head);
        Turn::Keep
    }

    fn response_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Failure> {
        self.0.body(exchange, chunk.as_ref(), end);
        Ok(())
    }

    fn complete(&self, exchange: &mut Exchange, _: &Outcome) {
        // One that is still there did not come to its end.
        if let Some(state) = exchange.take_state::<State>() {
            self.0.settle(state);
        }
    }
}
