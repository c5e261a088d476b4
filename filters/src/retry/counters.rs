//! What was tried again and what was not, counted by route.

use prometheus::{IntCounter, IntCounterVec};

use crate::{BuildError, Context};

const CAUSES: [&str; 8] = [
    "connect",
    "refused",
    "reset",
    "malformed",
    "timeout",
    "status",
    "grpc",
    "hedge",
];
const DENIALS: [&str; 7] = [
    "attempts_exhausted",
    "not_repeatable",
    "body_too_large",
    "retry_after_too_long",
    "not_wanted_by_upstream",
    "no_time_left",
    "budget_exhausted",
];

/// The counters of one route.
pub(super) struct Counters {
    attempts: [IntCounter; CAUSES.len()],
    denied: [IntCounter; DENIALS.len()],
    succeeded: IntCounter,
}

impl Counters {
    pub(super) fn of(context: &Context<'_>) -> Result<Self, BuildError> {
        let labels = [
            &*context.route.service,
            context.route.direction.as_str(),
            &*context.route.name,
        ];
        let metrics = &context.telemetry.metrics;
        let attempts = metrics.counters(
            "pillion_retry_attempts_total",
            "Tries beyond the first, by what went wrong with the one before; `hedge` where that was only slow.",
            &["service", "direction", "route", "cause"],
        )?;
        let denied = metrics.counters(
            "pillion_retry_denied_total",
            "Failed tries after which there was no other, by the reason.",
            &["service", "direction", "route", "reason"],
        )?;
        let succeeded = metrics.counters(
            "pillion_retry_succeeded_total",
            "Tries beyond the first that did not fail.",
            &["service", "direction", "route"],
        )?;
        let with = |family: &IntCounterVec, last| family.with_label_values(&[labels[0], labels[1], labels[2], last]);
        Ok(Self {
            attempts: CAUSES.map(|cause| with(&attempts, cause)),
            denied: DENIALS.map(|reason| with(&denied, reason)),
            succeeded: succeeded.with_label_values(&labels),
        })
    }

    pub(super) fn tried_again(&self, cause: &'static str) {
        count(&CAUSES, &self.attempts, cause);
    }

    pub(super) fn denied(&self, reason: &'static str) {
        count(&DENIALS, &self.denied, reason);
    }

    pub(super) fn succeeded(&self) {
        self.succeeded.inc();
    }
}

/// Counts a failure's kind: there are few, and failures are rare.
fn count(known: &[&'static str], counters: &[IntCounter], which: &'static str) {
    let place = known.iter().position(|known| *known == which);
    if let Some(counter) = place.and_then(|place| counters.get(place)) {
        counter.inc();
    }
}
