//! The families of one direction, as they are registered.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

use crate::exchange::Direction;
use crate::{BuildError, Context};

/// The families of one direction.
#[derive(Clone)]
pub(super) struct Families {
    pub(super) durations: HistogramVec,
    pub(super) active: IntGaugeVec,
    pub(super) request_bytes: IntCounterVec,
    pub(super) response_bytes: IntCounterVec,
    pub(super) failures: IntCounterVec,
}

impl Families {
    /// Registers the families, or finds them where another route or snapshot has.
    pub(super) fn of(context: &Context<'_>) -> Result<Self, BuildError> {
        let inbound = context.route.direction == Direction::Inbound;
        let (side, whose) = if inbound {
            ("server", "inbound")
        } else {
            ("client", "outbound")
        };
        let metrics = &context.telemetry.metrics;
        let route = &["service", "route"];

        let counter = |name: String, help: String, labels: &[&str]| metrics.counters(&name, &help, labels);
        let bytes = |what: &str| {
            counter(
                format!("http_{side}_{what}_body_bytes_total"),
                format!("Bytes of {what} bodies of {whose} exchanges."),
                route,
            )
        };
        let durations = format!("http_{side}_request_duration_seconds");
        let active = format!("http_{side}_active_requests");
        Ok(Self {
            durations: metrics.required(&durations, || {
                let help = format!("Duration of {whose} exchanges, from request head to the response's last byte.");
                let options = HistogramOpts::new(&durations, help);
                let options = options.buckets(context.telemetry.histogram_buckets.to_vec());
                HistogramVec::new(options, &["service", "route", "method", "status_code"])
            })?,
            active: metrics.required(&active, || {
                let help = format!("{} exchanges under way.", if inbound { "Inbound" } else { "Outbound" });
                IntGaugeVec::new(Opts::new(&active, help), route)
            })?,
            request_bytes: bytes("request")?,
            response_bytes: bytes("response")?,
            failures: counter(
                "pillion_failures_total".to_owned(),
                "Exchanges that did not end well, by reason.".to_owned(),
                &["service", "direction", "route", "reason"],
            )?,
        })
    }
}
