//! Metrics of upstreams, read from them when they are asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pillion_filters::Metrics;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use super::TelemetryError;
use crate::upstream::{GroupStatus, Upstreams};

/// Shows how these upstreams stand.
pub(crate) fn watch_upstreams(metrics: &Metrics, upstreams: Arc<Upstreams>) -> Result<(), TelemetryError> {
    const NAME: &str = "pillion_upstream";
    let collector = metrics.family(NAME, || UpstreamCollector::new(upstreams));
    collector
        .map(drop)
        .ok_or_else(|| TelemetryError::Metric(NAME.to_owned()))
}

/// Reads how upstreams stand on every scrape. Labels are the names of upstreams, which the configuration bounds; endpoints come and
/// go, and are shown by the admin API alone.
#[derive(Clone)]
struct UpstreamCollector {
    upstreams: Arc<Upstreams>,
    endpoints: IntGaugeVec,
    active: IntGaugeVec,
    panicking: IntGaugeVec,
    calls: IntCounterVec,
    ejections: IntCounterVec,
    spared: IntCounterVec,
    panics: IntCounterVec,
    /// Two scrapes at once must not mix what they read.
    reading: Arc<Mutex<()>>,
}

impl UpstreamCollector {
    fn new(upstreams: Arc<Upstreams>) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        Ok(Self {
            upstreams,
            endpoints: gauge(
                "pillion_upstream_endpoints",
                "Endpoints of an upstream: in service, ejected for what they answered, or unhealthy by their checks.",
                &["upstream", "state"],
            )?,
            active: gauge(
                "pillion_upstream_requests_active",
                "Requests under way at an upstream.",
                &["upstream"],
            )?,
            panicking: gauge(
                "pillion_upstream_panicking",
                "1 while too few endpoints are in service, so that all are used.",
                &["upstream"],
            )?,
            calls: counter(
                "pillion_upstream_tries_total",
                "Tries at the endpoints an upstream has now, by result.",
                &["upstream", "result"],
            )?,
            ejections: counter(
                "pillion_upstream_ejections_total",
                "Endpoints taken out for what they answered.",
                &["upstream"],
            )?,
            spared: counter(
                "pillion_upstream_ejections_spared_total",
                "Endpoints that would have been taken out, were not too many out already.",
                &["upstream"],
            )?,
            panics: counter(
                "pillion_upstream_panics_total",
                "How often too few endpoints were in service.",
                &["upstream"],
            )?,
            reading: Arc::default(),
        })
    }

    fn gauges(&self) -> [&IntGaugeVec; 3] {
        [&self.endpoints, &self.active, &self.panicking]
    }

    fn counters(&self) -> [&IntCounterVec; 4] {
        [&self.calls, &self.ejections, &self.spared, &self.panics]
    }

    fn read(&self, status: &GroupStatus) {
        let name = [status.name.as_str()];
        let count = |fits: &dyn Fn(bool, bool) -> bool| {
            let members = status.members.iter();
            let counted = members.filter(|member| fits(member.healthy, member.ejected_for.is_some()));
            i64::try_from(counted.count()).unwrap_or(i64::MAX)
        };
        let endpoints = |state: &str| self.endpoints.with_label_values(&[name[0], state]);
        endpoints("in_service").set(count(&|healthy, ejected| healthy && !ejected));
        endpoints("ejected").set(count(&|healthy, ejected| healthy && ejected));
        endpoints("unhealthy").set(count(&|healthy, _| !healthy));
        let active: usize = status.members.iter().map(|member| member.active).sum();
        self.active
            .with_label_values(&name)
            .set(i64::try_from(active).unwrap_or(i64::MAX));
        self.panicking.with_label_values(&name).set(status.panicking.into());
        let tries = |result: &str, count: u64| self.calls.with_label_values(&[name[0], result]).inc_by(count);
        tries("success", status.members.iter().map(|member| member.successes).sum());
        tries("failure", status.members.iter().map(|member| member.failures).sum());
        self.ejections.with_label_values(&name).inc_by(status.ejections);
        self.spared.with_label_values(&name).inc_by(status.spared);
        self.panics.with_label_values(&name).inc_by(status.panics);
    }
}

impl Collector for UpstreamCollector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges().into_iter().flat_map(Collector::desc);
        gauges
            .chain(self.counters().into_iter().flat_map(Collector::desc))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauges().into_iter().for_each(IntGaugeVec::reset);
        self.counters().into_iter().for_each(IntCounterVec::reset);
        let now = Instant::now();
        for group in self.upstreams.all() {
            self.read(&group.status(now));
        }
        let gauges = self.gauges().into_iter().flat_map(Collector::collect);
        let families = gauges
            .chain(self.counters().into_iter().flat_map(Collector::collect))
            .collect();
        drop(reading);
        families
    }
}
