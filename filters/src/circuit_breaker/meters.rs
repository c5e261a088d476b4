//! What is counted of one breaker.
//!
//! The breaker of a configured upstream has its series from the start. That of a host that the app's requests name has them
//! once it has opened, and loses them when it is dropped: so their number is bounded, and those that are there tell
//! something.

use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::machine::{Probed, Transition};
use crate::{BuildError, Context, Direction, Metrics};

/// Which breaker it is.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    pub(super) service: Arc<str>,
    pub(super) direction: Direction,
    /// The upstream's name, or the host.
    pub(super) upstream: Arc<str>,
    /// The route, if each has its own.
    pub(super) route: Option<Arc<str>>,
}

impl Labels {
    fn values(&self) -> [&str; 4] {
        let route = self.route.as_deref().unwrap_or_default();
        [&self.service, self.direction.as_str(), &self.upstream, route]
    }
}

/// The metrics of all breakers.
#[derive(Clone)]
pub(super) struct Families {
    state: IntGaugeVec,
    transitions: IntCounterVec,
    rejected: IntCounterVec,
    probes: IntCounterVec,
}

const LABELS: [&str; 4] = ["service", "direction", "upstream", "route"];

/// What probes are counted by.
const PROBED: [&str; 3] = ["success", "failure", "unknown"];

impl Families {
    pub(super) fn of(context: &Context<'_>) -> Result<Self, BuildError> {
        let metrics = &context.telemetry.metrics;
        let name = "pillion_circuit_breaker_state";
        let help = "State of the breaker: 0 for closed, 1 for half-open, 2 for open.";
        Ok(Self {
            state: metrics.gauges(name, help, &LABELS)?,
            transitions: counters(
                metrics,
                "pillion_circuit_breaker_transitions_total",
                "Changes of state, by the new one and what led to it.",
                &["to", "reason"],
            )?,
            rejected: counters(
                metrics,
                "pillion_circuit_breaker_rejected_total",
                "Requests that were not sent on because the breaker was open.",
                &[],
            )?,
            probes: counters(
                metrics,
                "pillion_circuit_breaker_probes_total",
                "Requests that were sent on to see whether the upstream answers again, by how they went.",
                &["result"],
            )?,
        })
    }
}

fn counters(metrics: &Metrics, name: &str, help: &str, more: &[&str]) -> Result<IntCounterVec, BuildError> {
    metrics.counters(name, help, &[&LABELS[..], more].concat())
}

/// The series of one breaker.
pub(super) struct Meters {
    families: Families,
    labels: Labels,
    series: OnceLock<Series>,
}

struct Series {
    state: IntGauge,
    rejected: IntCounter,
    probes: [IntCounter; 3],
}

impl Meters {
    pub(super) fn new(families: Families, labels: Labels, from_the_start: bool) -> Self {
        let meters = Self {
            families,
            labels,
            series: OnceLock::new(),
        };
        if from_the_start {
            meters.series();
        }
        meters
    }

    fn series(&self) -> &Series {
        self.series.get_or_init(|| {
            let [service, direction, upstream, route] = self.labels.values();
            let probes = |result| {
                let values = [service, direction, upstream, route, result];
                self.families.probes.with_label_values(&values)
            };
            Series {
                state: self.families.state.with_label_values(&self.labels.values()),
                rejected: self.families.rejected.with_label_values(&self.labels.values()),
                probes: PROBED.map(probes),
            }
        })
    }

    pub(super) fn rejected(&self) {
        self.series().rejected.inc();
    }

    pub(super) fn probed(&self, went: Probed) {
        let [well, badly, unknown] = &self.series().probes;
        match went {
            Probed::Well => well.inc(),
            Probed::Badly => badly.inc(),
            Probed::Unknown => unknown.inc(),
        }
    }

    pub(super) fn changed(&self, transition: &Transition) {
        self.series().state.set(transition.to.number());
        let [service, direction, upstream, route] = self.labels.values();
        let (to, reason) = (transition.to.as_str(), transition.reason.as_str());
        let values = [service, direction, upstream, route, to, reason];
        self.families.transitions.with_label_values(&values).inc();
    }

    /// Takes the series out of what is scraped.
    pub(super) fn forget(&self) {
        use super::machine::State;
        if self.series.get().is_none() {
            return;
        }
        let values = self.labels.values();
        // One that is not there is as good as gone.
        let _ = self.families.state.remove_label_values(&values);
        let _ = self.families.rejected.remove_label_values(&values);
        let [service, direction, upstream, route] = values;
        for result in PROBED {
            let values = [service, direction, upstream, route, result];
            let _ = self.families.probes.remove_label_values(&values);
        }
        for to in [State::Closed, State::HalfOpen, State::Open] {
            for reason in super::reason::Reason::NAMES {
                let values = [service, direction, upstream, route, to.as_str(), reason];
                let _ = self.families.transitions.remove_label_values(&values);
            }
        }
    }
}
