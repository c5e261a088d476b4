//! How a group stands, for the admin API.

use std::time::Instant;

use serde::Serialize;

use super::group::Group;
use super::settings::Settings;
use super::state::Entry;

/// How a group stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GroupStatus {
    pub(crate) name: String,
    pub(crate) algorithm: &'static str,
    /// Whether too few members are in service, so that all are used.
    pub(crate) panicking: bool,
    /// How often that was so.
    pub(crate) panics: u64,
    /// How often a member was ejected.
    pub(crate) ejections: u64,
    /// How often one would have been, but too many were out.
    pub(crate) spared: u64,
    pub(crate) members: Vec<MemberStatus>,
}

/// How a member stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MemberStatus {
    pub(crate) address: String,
    pub(crate) weight: u32,
    /// Calls that go on now.
    pub(crate) active: usize,
    /// What active checks say; `true` where there are none.
    pub(crate) healthy: bool,
    /// Whether it is healthy and not ejected.
    pub(crate) in_service: bool,
    /// For how many more seconds it is ejected.
    pub(crate) ejected_for: Option<f64>,
    /// The latency it is judged by, in milliseconds; `None` while it has not answered.
    pub(crate) latency_ms: Option<f64>,
    /// Which part of its recent answers were good.
    pub(crate) success_share: Option<f32>,
    /// Which part of its share it gets, below 1 in a slow start.
    pub(crate) slow_start_share: f32,
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

impl GroupStatus {
    pub(super) fn of(group: &Group, settings: &Settings, entries: &[Entry], now: Instant) -> Self {
        let totals = group.totals();
        Self {
            name: group.name().as_ref().to_owned(),
            algorithm: settings.algorithm.as_str(),
            panicking: group.is_panicking(),
            panics: totals.panics,
            ejections: totals.ejections,
            spared: totals.spared,
            members: entries
                .iter()
                .map(|entry| MemberStatus::of(entry, settings, now))
                .collect(),
        }
    }
}

impl MemberStatus {
    fn of(entry: &Entry, settings: &Settings, now: Instant) -> Self {
        let (latency, success_share) = entry.member.recent(now);
        let totals = entry.member.totals();
        let until = entry.ejection.until();
        Self {
            address: entry.member.endpoint().name.as_ref().to_owned(),
            weight: entry.weight,
            active: entry.member.active(),
            healthy: entry.is_healthy,
            in_service: entry.in_service(),
            ejected_for: until.map(|until| until.saturating_duration_since(now).as_secs_f64()),
            latency_ms: latency.map(|latency| latency.as_secs_f64() * 1000.0),
            success_share,
            slow_start_share: entry.share(settings, now),
            successes: totals.successes,
            failures: totals.failures,
        }
    }
}
