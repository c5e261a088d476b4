//! What the cache did, counted by route.

use std::time::Duration;

use prometheus::{Counter, CounterVec, IntCounter, IntGauge, Opts};

use crate::{BuildError, Context};

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// The store, fresh.
    Hit,
    /// The store, stale, with leave.
    Stale,
    /// The store, after the app said that it is still good.
    Revalidated,
    /// Another's fetch.
    Collapsed,
    /// The app.
    Miss,
    /// The app, because the cache leaves such requests alone.
    Bypass,
}

impl Served {
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::Hit, "hit"),
        (Self::Stale, "stale"),
        (Self::Revalidated, "revalidated"),
        (Self::Collapsed, "collapsed"),
        (Self::Miss, "miss"),
        (Self::Bypass, "bypass"),
    ];
}

/// The counters of one route.
pub(super) struct Counters {
    results: [IntCounter; 6],
    /// Requests that waited for another's fetch.
    pub(super) collapsed: IntCounter,
    /// Fetches nobody waits for.
    pub(super) refreshes: IntCounter,
    saved: Counter,
}

/// What is counted of one store.
#[derive(Clone)]
pub(super) struct StoreMetrics {
    pub(super) entries: IntGauge,
    pub(super) bytes: IntGauge,
    pub(super) evictions: IntCounter,
}

impl Counters {
    pub(super) fn of(context: &Context<'_>) -> Result<Self, BuildError> {
        let route = &["service", "direction", "route"];
        let labels = [
            &*context.route.service,
            context.route.direction.as_str(),
            &*context.route.name,
        ];
        let requests = context.telemetry.metrics.counters(
            "pillion_cache_requests_total",
            "Requests by what the cache did.",
            &["service", "direction", "route", "result"],
        )?;
        let results = Served::ALL.map(|(_, name)| requests.with_label_values(&[labels[0], labels[1], labels[2], name]));
        let saved = "pillion_cache_upstream_seconds_saved_total";
        let saved: CounterVec = context.telemetry.metrics.required(saved, || {
            let help = "Seconds the app would have taken to answer what was answered from the store.";
            CounterVec::new(Opts::new(saved, help), route)
        })?;
        Ok(Self {
            results,
            collapsed: context
                .telemetry
                .metrics
                .counters(
                    "pillion_cache_collapsed_total",
                    "Requests that waited for another's fetch instead of asking the app.",
                    route,
                )?
                .with_label_values(&labels),
            refreshes: context
                .telemetry
                .metrics
                .counters(
                    "pillion_cache_refreshes_total",
                    "Fetches that no client waited for.",
                    route,
                )?
                .with_label_values(&labels),
            saved: saved.with_label_values(&labels),
        })
    }

    pub(super) fn count(&self, served: Served) {
        self.results[served as usize].inc();
    }

    /// Counts an answer that spared the app so much time.
    pub(super) fn count_saved(&self, served: Served, cost: Duration) {
        self.count(served);
        self.saved.inc_by(cost.as_secs_f64());
    }

    /// How often each thing was done, and the seconds saved.
    pub(super) fn read(&self) -> ([u64; 6], f64) {
        (self.results.each_ref().map(IntCounter::get), self.saved.get())
    }
}

impl StoreMetrics {
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            entries: IntGauge::new("entries", "entries").unwrap(),
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
        let gauge = |name: &str, help: &str| -> Result<IntGauge, BuildError> {
            let family = context.telemetry.metrics.gauges(name, help, labels)?;
            Ok(family.with_label_values(&values))
        };
        Ok(Self {
            entries: gauge("pillion_cache_entries", "Entries in the store.")?,
            bytes: gauge("pillion_cache_bytes", "Bytes the entries of the store take up.")?,
            evictions: context
                .telemetry
                .metrics
                .counters(
                    "pillion_cache_evictions_total",
                    "Entries that made room for others, or were not let in.",
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
    fn results_are_in_the_order_of_their_numbers() {
        for (index, (served, _)) in Served::ALL.into_iter().enumerate() {
            assert_eq!(served as usize, index);
        }
    }
}
