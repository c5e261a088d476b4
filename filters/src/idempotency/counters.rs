//! What was done, counted by route; what is kept, by filter.

use prometheus::{IntCounter, IntGauge};

use crate::{BuildError, Context};

/// What became of a request with a key, or without one that must have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It went to the app, as the first or like one.
    First,
    /// It got the first answer.
    Replayed,
    /// Refused: the first is still under way.
    InProgress,
    /// Refused: the first answer was lost.
    Unknown,
    /// Refused: the key was used with another payload.
    Reused,
    /// Refused: it has no key.
    Missing,
    /// Refused: the key cannot be read.
    Malformed,
    /// It went to the app as if it had no key: its body is too large, or there is no room.
    Unprotected,
}

impl Served {
    pub(super) const ALL: [(Self, &'static str); 8] = [
        (Self::First, "first"),
        (Self::Replayed, "replayed"),
        (Self::InProgress, "in_progress"),
        (Self::Unknown, "unknown"),
        (Self::Reused, "reused"),
        (Self::Missing, "missing"),
        (Self::Malformed, "malformed"),
        (Self::Unprotected, "unprotected"),
    ];
}

/// What became of a first try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Its answer is kept.
    Stored,
    /// The app has not acted on it: a repeat is tried like a first.
    Released,
    /// The app may have acted on it, and there is no answer to keep.
    Lost,
}

impl Came {
    pub(super) const ALL: [(Self, &'static str); 3] = [
        (Self::Stored, "stored"),
        (Self::Released, "released"),
        (Self::Lost, "lost"),
    ];
}

/// The counters of one route.
pub(super) struct Counters {
    results: [IntCounter; 8],
    came: [IntCounter; 3],
    /// Requests that waited for another.
    pub(super) waits: IntCounter,
    /// Keys added to requests.
    pub(super) added: IntCounter,
}

/// What is counted of one store.
#[derive(Clone)]
pub(super) struct StoreMetrics {
    pub(super) entries: IntGauge,
    pub(super) running: IntGauge,
    pub(super) bytes: IntGauge,
    pub(super) evictions: IntCounter,
}

impl Counters {
    pub(super) fn of(context: &Context<'_>) -> Result<Self, BuildError> {
        let values = [
            &*context.route.service,
            context.route.direction.as_str(),
            &*context.route.name,
        ];
        let route = ["service", "direction", "route"];
        let with = |label| [route[0], route[1], route[2], label];
        let requests = context.telemetry.metrics.counters(
            "pillion_idempotency_requests_total",
            "Requests with a key, or that must have one, by what was done with them.",
            &with("result"),
        )?;
        let outcomes = context.telemetry.metrics.counters(
            "pillion_idempotency_outcomes_total",
            "First tries, by what became of them.",
            &with("outcome"),
        )?;
        let waits = "pillion_idempotency_waits_total";
        let added = "pillion_idempotency_keys_added_total";
        let name = |name| [values[0], values[1], values[2], name];
        Ok(Self {
            results: Served::ALL.map(|(_, result)| requests.with_label_values(&name(result))),
            came: Came::ALL.map(|(_, outcome)| outcomes.with_label_values(&name(outcome))),
            waits: context
                .telemetry
                .metrics
                .counters(waits, "Requests that waited for another with the same key.", &route)?
                .with_label_values(&values),
            added: context
                .telemetry
                .metrics
                .counters(added, "Keys added to requests that had none.", &route)?
                .with_label_values(&values),
        })
    }

    pub(super) fn count(&self, result: Served) {
        self.results[result as usize].inc();
    }

    pub(super) fn came(&self, came: Came) {
        self.came[came as usize].inc();
    }
}

impl StoreMetrics {
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            entries: IntGauge::new("entries", "entries").unwrap(),
            running: IntGauge::new("running", "running").unwrap(),
            bytes: IntGauge::new("bytes", "bytes").unwrap(),
            evictions: IntCounter::new("evictions", "evictions").unwrap(),
        }
    }

    pub(super) fn of(context: &Context<'_>) -> Result<Self, BuildError> {
        let labels = &["service", "direction", "filter"];
        let values = [
            &*context.route.service,
            context.route.direction.as_str(),
            context.filter,
        ];
        let gauge = |name: &str, help: &str| {
            let family = context.telemetry.metrics.gauges(name, help, labels)?;
            Ok(family.with_label_values(&values))
        };
        let evictions = "pillion_idempotency_evictions_total";
        Ok(Self {
            entries: gauge(
                "pillion_idempotency_entries",
                "Keys that are remembered with their answer, or that it was lost.",
            )?,
            running: gauge("pillion_idempotency_in_progress", "Keys whose first try is under way.")?,
            bytes: gauge(
                "pillion_idempotency_bytes",
                "Bytes that keys and their answers take up.",
            )?,
            evictions: context
                .telemetry
                .metrics
                .counters(
                    evictions,
                    "Keys forgotten before their time to make room for others.",
                    labels,
                )?
                .with_label_values(&values),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_in_the_order_of_their_numbers() {
        for (index, (result, _)) in Served::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, index);
        }
        for (index, (came, _)) in Came::ALL.into_iter().enumerate() {
            assert_eq!(came as usize, index);
        }
    }
}
