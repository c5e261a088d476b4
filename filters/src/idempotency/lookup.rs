//! The way in: what is done with a request.

use std::sync::Arc;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::answer::Answer;
use super::counters::Served;
use super::keep::State;
use super::rules::Without;
use super::scope::{self, Hash};
use super::store::Claim;
use super::{Inner, NAME, key};
use crate::{Exchange, Fact, Refusal, Resume, Step};

const MISSING: Refusal = Refusal::denied(
    StatusCode::BAD_REQUEST,
    "idempotency_key_missing",
    "this operation needs a key for idempotency",
);
const MALFORMED: Refusal = Refusal::denied(
    StatusCode::BAD_REQUEST,
    "idempotency_key_malformed",
    "the key for idempotency is not one string of 1 to 256 visible ASCII characters",
);
const REUSED: Refusal = Refusal::denied(
    StatusCode::UNPROCESSABLE_ENTITY,
    "idempotency_key_reused",
    "the key for idempotency was used with another payload",
);
const IN_PROGRESS: Refusal = Refusal::denied(
    StatusCode::CONFLICT,
    "idempotency_in_progress",
    "the first request with this key is still under way",
)
.retry_after(1);
const UNKNOWN: Refusal = Refusal::denied(
    StatusCode::CONFLICT,
    "idempotency_outcome_unknown",
    "the answer to the first request with this key was lost",
);

/// A larger body is recoded on a thread of its own: it would hold up the worker's other exchanges.
const AT_ONCE: usize = 32 * 1024;

/// Where the key of a request comes from.
enum Source {
    Brought(Vec<u8>),
    Content,
}

/// A request that is looked up.
#[derive(Clone, Copy)]
struct Asked {
    scope: Hash,
    fingerprint: Hash,
    /// Until when it waits for another.
    until: Instant,
    waited: bool,
}

impl Inner {
    /// The request head is there.
    pub(super) fn request(self: &Arc<Self>, exchange: &mut Exchange) -> Step {
        let request = &exchange.request;
        // What becomes another protocol has no answer to keep, and gRPC's is in its trailers.
        if !self.rules.takes(&request.method) || exchange.is_grpc() || request.headers.contains_key(UPGRADE) {
            return Step::Continue;
        }
        let mut keys = request.headers.get_all(&self.rules.header.name).iter();
        let source = match (keys.next(), keys.next()) {
            (Some(value), None) => match key::read(value.as_bytes()) {
                Ok(key) => Source::Brought(key),
                Err(key::Malformed) => return self.refuse(Served::Malformed, MALFORMED),
            },
            (Some(_), Some(_)) => return self.refuse(Served::Malformed, MALFORMED),
            (None, _) => match self.rules.without {
                Without::Pass => return Step::Continue,
                Without::Refuse => return self.refuse(Served::Missing, MISSING),
                Without::Random => {
                    // Nobody will ever repeat it, so nothing is kept for it.
                    self.add(exchange, key::random(), 4);
                    self.vouch(exchange, 0);
                    return Step::Continue;
                }
                Without::Content { .. } => Source::Content,
            },
        };
        let is_in_key = matches!(self.rules.without, Without::Content { body: true, .. });
        let reads = self.rules.replay || (is_in_key && matches!(source, Source::Content));
        if !exchange.has_body || !reads {
            return self.identify(exchange, &source, Some(Bytes::new()));
        }
        let inner = self.clone();
        Step::Body(
            self.rules.max_body,
            Box::new(move |exchange, body| inner.identify(exchange, &source, body)),
        )
    }

    fn refuse(&self, served: Served, refusal: Refusal) -> Step {
        self.counters.count(served);
        Step::Refuse(refusal)
    }

    /// Lets the request go to the app as if it had no key.
    fn pass(&self, exchange: &mut Exchange, reason: &'static str) -> Step {
        self.counters.count(Served::Unprotected);
        let fact = match reason {
            "body_too_large" => Fact::Size(self.rules.max_body as u64),
            _ => Fact::None,
        };
        exchange.ledger.enter_with(NAME, reason, fact);
        Step::Continue
    }

    /// Writes a key to a request that has none.
    fn add(&self, exchange: &mut Exchange, bits: u128, version: u8) -> Vec<u8> {
        let (key, value) = key::written(bits, version, self.rules.quoted);
        if let Some(value) = value {
            self.rules.header.write_request(&mut exchange.request, value);
            self.counters.added.inc();
            exchange.ledger.enter(NAME, "key_added");
        }
        key
    }

    /// Lets a request with a key be sent again, where the upstream knows it by that.
    fn vouch(&self, exchange: &mut Exchange, read: usize) {
        if self.rules.vouches {
            let plan = &mut exchange.plan;
            plan.repeatable = true;
            // What was read already takes up no more memory by being kept.
            plan.replay = plan.replay.max(read);
        }
    }

    /// The body is there, as far as it is wanted; `None` if there is too much of it.
    fn identify(self: &Arc<Self>, exchange: &mut Exchange, source: &Source, body: Option<Bytes>) -> Step {
        let key = match (source, &self.rules.without) {
            (Source::Brought(key), _) => key.clone(),
            (Source::Content, Without::Content { fields, body: counts }) => {
                let part = body.as_ref().filter(|_| *counts).map(|body| &body[..]);
                if *counts && part.is_none() {
                    return self.pass(exchange, "body_too_large");
                }
                match scope::content(exchange, fields, part) {
                    Some(hash) => self.add(exchange, key::bits(&hash), 8),
                    None => return self.pass(exchange, "field_missing"),
                }
            }
            (Source::Content, _) => return Step::Continue,
        };
        self.vouch(exchange, body.as_ref().map_or(0, Bytes::len));
        if !self.rules.replay {
            return Step::Continue;
        }
        let scope = scope::scope(exchange, &self.rules.identity, &key);
        let Some(body) = body else {
            // The payload of what is known was smaller.
            if self.store().knows(&scope) {
                return self.refuse(Served::Reused, REUSED);
            }
            return self.pass(exchange, "body_too_large");
        };
        let asked = Asked {
            scope,
            fingerprint: scope::fingerprint(exchange, &body),
            until: Instant::now() + self.rules.wait,
            waited: false,
        };
        self.look_up(exchange, asked)
    }

    fn look_up(self: &Arc<Self>, exchange: &mut Exchange, asked: Asked) -> Step {
        let retries = |ago| self.rules.retries(ago);
        let store = self.store();
        match store.claim(&asked.scope, &asked.fingerprint, self.rules.ttl, retries) {
            Claim::Lead(lead) => {
                self.counters.count(Served::First);
                if lead.is_in_doubt() {
                    exchange.ledger.enter(NAME, "retried_unknown");
                }
                exchange.plan.want(lead.running().clone());
                exchange.set_state(State::new(lead));
                Step::Continue
            }
            Claim::Answered(answer) => self.replay(exchange, &answer),
            Claim::Reused => self.refuse(Served::Reused, REUSED),
            Claim::Full => self.pass(exchange, "store_full"),
            Claim::Unknown(ago) => {
                let seconds = self.rules.retries_in(ago).map(|left| left.as_secs() + 1);
                let refusal = Refusal {
                    retry_after: seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
                    ..UNKNOWN
                };
                self.refuse(Served::Unknown, refusal)
            }
            Claim::Running(_) if asked.until <= Instant::now() => self.refuse(Served::InProgress, IN_PROGRESS),
            Claim::Running(running) => {
                if !asked.waited {
                    self.counters.waits.inc();
                    exchange.ledger.enter(NAME, "waited");
                }
                let inner = self.clone();
                let asked = Asked { waited: true, ..asked };
                Step::Wait(Box::pin(async move {
                    // Whether in time or not is for the look that follows to say.
                    let _ = tokio::time::timeout_at(asked.until, running.ended()).await;
                    let resume: Resume = Box::new(move |exchange| inner.look_up(exchange, asked));
                    resume
                }))
            }
        }
    }

    /// Answers with what the first got.
    fn replay(self: &Arc<Self>, exchange: &mut Exchange, answer: &Arc<Answer>) -> Step {
        self.counters.count(Served::Replayed);
        exchange.ledger.enter(NAME, "replayed");
        let headers = &exchange.request.headers;
        let (Some(recoder), Some(coding)) = (self.recoder.get(), answer.coding()) else {
            return Step::Respond(answer.replay(None));
        };
        if recoder.accepts(headers, coding.as_bytes()) {
            return Step::Respond(answer.replay(None));
        }
        // Who repeats a request may accept other codings than who sent it first.
        let (recoder, from, to) = (recoder.clone(), answer.clone(), recoder.choose(headers));
        let recode =
            move || -> Option<(HeaderMap, Bytes)> { recoder.recode(from.status, &from.headers(), &from.body, to) };
        if answer.body.len() <= AT_ONCE {
            return Step::Respond(answer.replay(recode()));
        }
        let answer = answer.clone();
        Step::Wait(Box::pin(async move {
            let recoded = tokio::task::spawn_blocking(recode).await.ok().flatten();
            let resume: Resume = Box::new(move |_| Step::Respond(answer.replay(recoded)));
            resume
        }))
    }
}
