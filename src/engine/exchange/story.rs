//! What filters are told when an exchange is over, which they are told once, however it ends.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use pillion_filters::{AttemptRecord, AttemptResult, Chain, End, Exchange, Failure, Outcome};

use crate::engine::pump::Counts;
use crate::engine::words;
use crate::explain::{Explain, Record, Recorder, Story as Known};
use crate::upstream::Endpoint;

/// An exchange and what is remembered of it until its end.
pub(super) struct Story<'a> {
    chain: &'a Chain,
    pub(super) exchange: Exchange,
    pub(super) counts: Counts,
    pub(super) attempts: Vec<AttemptRecord>,
    /// What the client was answered.
    pub(super) status: Option<StatusCode>,
    /// What only an explanation tells.
    pub(super) known: Known,
    explain: &'a Explain,
    recorder: &'a Recorder,
    told: bool,
}

impl<'a> Story<'a> {
    pub(super) fn new(chain: &'a Chain, exchange: Exchange, explain: &'a Explain, recorder: &'a Recorder) -> Self {
        Self {
            chain,
            exchange,
            counts: Counts::default(),
            attempts: Vec::new(),
            status: None,
            known: Known::default(),
            explain,
            recorder,
            told: false,
        }
    }

    /// Remembers a try, and when it began, had its connection and ended.
    pub(super) fn tried(
        &mut self,
        endpoint: &Endpoint,
        (started, connected, ended): (Instant, Option<Instant>, Instant),
        reused: bool,
        result: AttemptResult,
    ) {
        self.attempts.push(AttemptRecord {
            endpoint: Arc::clone(&endpoint.name),
            started,
            connected,
            ended,
            reused,
            result,
            span_id: None,
        });
    }

    /// Enters what went wrong in the ledger.
    pub(super) fn failed(&mut self, failure: Failure) {
        let fact = words::fact(failure, &self.exchange.plan.timeouts);
        self.exchange.ledger.enter_with("engine", failure.reason(), fact);
    }

    /// Tells every filter that was entered how it ended, and remembers it if it is worth that.
    pub(super) fn end(&mut self, end: End) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        if self.attempts.len() > 1 {
            // One of two that were under way at once ends before the other.
            self.attempts.sort_by_key(|attempt| attempt.started);
        }
        let outcome = Outcome {
            status: self.status,
            end,
            duration: self.exchange.timing.started.elapsed(),
            request_bytes: self.counts.request_bytes,
            response_bytes: self.counts.response_bytes,
            grpc_status: self.counts.grpc_status,
            attempts: std::mem::take(&mut self.attempts),
        };
        self.chain.complete(&mut self.exchange, &outcome);
        if let Some(why) = self.explain.keeps(&self.exchange, &outcome, self.known.streams) {
            let record = Record::of(&mut self.exchange, outcome, self.known, why, self.explain);
            self.recorder.keep(record);
        }
    }
}

/// An exchange that is dropped on its way, because its grace period is over or its task panicked, is told of as well: what
/// filters count up they must count down.
impl Drop for Story<'_> {
    fn drop(&mut self) {
        self.end(End::Failed(if std::thread::panicking() {
            Failure::Internal
        } else {
            Failure::Stopped
        }));
    }
}
