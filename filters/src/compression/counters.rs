//! What was compressed, counted by route.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::coding::Coding;
use crate::{BuildError, Context};

/// The counters of one route.
pub(super) struct Counters {
    responses: [IntCounter; 3],
    decoded: IntCounter,
    /// Bytes of bodies before compression.
    pub(super) before: IntCounter,
    /// And after.
    pub(super) after: IntCounter,
}

impl Counters {
    pub(super) fn of(context: &Context<'_>) -> Result<Self, BuildError> {
        let labels = [
            &*context.route.service,
            context.route.direction.as_str(),
            &*context.route.name,
        ];
        let responses = context.telemetry.metrics.counters(
            "pillion_compression_responses_total",
            "Responses that were compressed, by coding.",
            &["service", "direction", "route", "coding"],
        )?;
        let bytes = context.telemetry.metrics.counters(
            "pillion_compression_bytes_total",
            "Bytes of the bodies that were compressed, before and after.",
            &["service", "direction", "route", "when"],
        )?;
        let decoded = context.telemetry.metrics.counters(
            "pillion_compression_decoded_total",
            "Bodies that were decompressed, of requests and responses.",
            &["service", "direction", "route"],
        )?;
        let with =
            |family: &IntCounterVec, last: &str| family.with_label_values(&[labels[0], labels[1], labels[2], last]);
        Ok(Self {
            responses: Coding::ALL.map(|coding| with(&responses, coding.as_str())),
            decoded: decoded.with_label_values(&labels),
            before: with(&bytes, "before"),
            after: with(&bytes, "after"),
        })
    }

    pub(super) fn encoded(&self, coding: Coding) {
        self.responses[coding as usize].inc();
    }

    pub(super) fn decoded(&self) {
        self.decoded.inc();
    }
}

/// The steps by which levels are lowered.
pub(super) fn step(context: &Context<'_>) -> Result<IntGauge, BuildError> {
    let name = "pillion_compression_level_step";
    let help = "Steps by which compression levels are lowered to spare the CPU: 0 for none, 3 for the lowest.";
    let family = context
        .telemetry
        .metrics
        .gauges(name, help, &["service", "direction"])?;
    Ok(family.with_label_values(&[&*context.route.service, context.route.direction.as_str()]))
}
