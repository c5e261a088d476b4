//! One endpoint of a group, with what is known of it: counters that all workers share.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::Endpoint;
use super::group::Group;
use super::recent::{Recent, Tick, compared, good_after, latency_after, penalty};
use super::settings::{Algorithm, Settings};

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An answer that says the endpoint works: any status below 500, and 501, 505 and the like where the caller says so.
    Success,
    /// An answer that says it does not, such as a 500.
    Failure,
    /// No answer at all, in time or whole; or a 502, 503 or 504.
    GatewayFailure,
    /// Another's answer to a second try was there first, and this one was given up. It may only be slow; or it answers no more, which
    /// nobody would see otherwise.
    Outrun,
}

/// One that is only slow now and then is not outrun as often as this times `consecutive_failures` without an answer in between...
const OUTRUN: u32 = 2;
/// ...nor for as long as this, in which a pause of its process would be over.
const OUTRUN_FOR: Duration = Duration::from_secs(1);

/// An endpoint of a group.
#[derive(Debug)]
pub(crate) struct Member {
    endpoint: Arc<Endpoint>,
    epoch: Instant,
    group: Weak<Group>,
    rules: Arc<ArcSwap<Settings>>,
    active: AtomicUsize,
    /// Active calls of the whole group, kept only where the algorithm bounds loads by them.
    all_active: Arc<AtomicUsize>,
    /// Seconds.
    latency: Recent,
    good: Recent,
    failures_in_a_row: AtomicU32,
    gateway_failures_in_a_row: AtomicU32,
    outrun_in_a_row: AtomicU32,
    /// When that row began, in microseconds since the epoch.
    outrun_since: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
    busy_micros: AtomicU64,
}

/// What a member has done since it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Calls that went well.
    pub(crate) successes: u64,
    /// Calls that did not.
    pub(crate) failures: u64,
    /// How long those that went well took, added up.
    pub(crate) busy: Duration,
}

impl Member {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        group: Weak<Group>,
        epoch: Instant,
        rules: Arc<ArcSwap<Settings>>,
        all_active: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            endpoint,
            epoch,
            group,
            rules,
            active: AtomicUsize::new(0),
            all_active,
            latency: Recent::unknown(),
            good: Recent::unknown(),
            failures_in_a_row: AtomicU32::new(0),
            gateway_failures_in_a_row: AtomicU32::new(0),
            outrun_in_a_row: AtomicU32::new(0),
            outrun_since: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            busy_micros: AtomicU64::new(0),
        }
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Calls that have begun and not ended.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// What it has done since it came.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            successes: self.successes.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            busy: Duration::from_micros(self.busy_micros.load(Ordering::Relaxed)),
        }
    }

    /// The latency it is judged by, and its share of good answers; `None` while nothing was heard of it.
    pub(crate) fn recent(&self, now: Instant) -> (Option<Duration>, Option<f32>) {
        let (tick, decay) = (Tick::at(self.epoch, now), Tick::steps(self.rules.load().decay));
        let latency = self.latency.read(tick, decay);
        let good = self.good.read(tick, decay);
        (
            latency.map(|(seconds, _)| Duration::try_from_secs_f32(seconds).unwrap_or_default()),
            good.map(|(share, left)| 1.0 - (1.0 - share) * left),
        )
    }

    /// Begins a call. It counts as active until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Call {
        self.active.fetch_add(1, Ordering::Relaxed);
        let rules = self.rules.load();
        let counted = matches!(rules.algorithm, Algorithm::ConsistentHash { max_load: Some(_) });
        if counted {
            self.all_active.fetch_add(1, Ordering::Relaxed);
        }
        Call {
            member: Arc::clone(self),
            counted,
            heard: false,
        }
    }

    /// Forgets what was heard, for one that comes back.
    pub(super) fn begin_anew(&self) {
        self.latency.forget();
        self.good.forget();
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.gateway_failures_in_a_row.store(0, Ordering::Relaxed);
        self.outrun_in_a_row.store(0, Ordering::Relaxed);
    }

    /// How likely each of two is to take long, at that load. Lower is better.
    pub(super) fn costs(one: (&Self, f32), other: (&Self, f32), now: Tick, decay: f32) -> (f32, f32) {
        let ((one, load), (other, other_load)) = (one, other);
        let latencies = compared(one.latency.read(now, decay), other.latency.read(now, decay));
        let penalties = (one.penalty(now, decay), other.penalty(now, decay));
        (
            latencies.0 * penalties.0 * (1.0 + load),
            latencies.1 * penalties.1 * (1.0 + other_load),
        )
    }

    fn penalty(&self, now: Tick, decay: f32) -> f32 {
        // By far the most members have never failed.
        if self.good.value() >= 1.0 {
            return 1.0;
        }
        penalty(self.good.read(now, decay))
    }

    /// Whatever there would have been to hear, it took longer than that.
    fn outlasted(&self, took: Duration, now: Instant) {
        let (tick, decay) = (Tick::at(self.epoch, now), Tick::steps(self.rules.load().decay));
        let (known, seconds) = (self.latency.read(tick, decay), took.as_secs_f32());
        if known.is_some_and(|(before, _)| seconds > before) {
            self.latency.update(tick, decay, |known| latency_after(known, seconds));
        }
    }

    fn heard(self: &Arc<Self>, result: Heard, took: Duration, now: Instant) {
        let rules = self.rules.load();
        let (tick, decay) = (Tick::at(self.epoch, now), Tick::steps(rules.decay));
        let seconds = took.as_secs_f32();
        if result == Heard::Outrun {
            // It would have taken longer than that.
            self.outlasted(took, now);
            return self.outrun(&rules, now);
        }
        clear(&self.outrun_in_a_row);
        let is_good = result == Heard::Success;
        self.good.update(tick, decay, |known| good_after(known, is_good));
        if is_good {
            self.latency.update(tick, decay, |known| latency_after(known, seconds));
            self.busy_micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
            self.successes.fetch_add(1, Ordering::Relaxed);
            clear(&self.failures_in_a_row);
            clear(&self.gateway_failures_in_a_row);
            return;
        }
        // A fast failure says nothing of how fast the member is; a timeout does.
        self.outlasted(took, now);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let Some(outliers) = &rules.outliers else { return };
        let mut why = None;
        if reaches(&self.failures_in_a_row, outliers.consecutive_failures) {
            why = Some("consecutive_failures");
        }
        if result != Heard::GatewayFailure {
            clear(&self.gateway_failures_in_a_row);
        } else if reaches(&self.gateway_failures_in_a_row, outliers.consecutive_gateway_failures) {
            why = Some("consecutive_gateway_failures");
        }
        if let Some(why) = why
            && let Some(group) = self.group.upgrade()
        {
            group.eject(self, why, now);
        }
    }

    /// Second tries hide from clients that a member answers no more, and from all else that looks at answers.
    fn outrun(self: &Arc<Self>, rules: &Settings, now: Instant) {
        let Some(limit) = rules.outliers.as_ref().and_then(|rules| rules.consecutive_failures) else {
            return;
        };
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        if self.outrun_in_a_row.load(Ordering::Relaxed) == 0 {
            self.outrun_since.store(micros, Ordering::Relaxed);
        }
        let since = self.outrun_since.load(Ordering::Relaxed);
        let lasts = Duration::from_micros(micros.saturating_sub(since)) >= OUTRUN_FOR;
        if reaches(&self.outrun_in_a_row, Some(limit.saturating_mul(OUTRUN)))
            && lasts
            && let Some(group) = self.group.upgrade()
        {
            group.eject(self, "outrun", now);
        }
    }
}

/// Written only if it changes something: the line stays shared between the workers' cores.
fn clear(in_a_row: &AtomicU32) {
    if in_a_row.load(Ordering::Relaxed) != 0 {
        in_a_row.store(0, Ordering::Relaxed);
    }
}

/// Counts one more, and tells at every multiple of the limit: an ejection that the cap forbade is asked for again, but not at
/// each failure.
fn reaches(in_a_row: &AtomicU32, limit: Option<u32>) -> bool {
    let count = in_a_row.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    limit.is_some_and(|limit| count.is_multiple_of(limit.max(1)))
}

/// A call that has begun. Dropped before anything was heard, it counts as nothing: the client gave up.
#[derive(Debug)]
pub(crate) struct Call {
    member: Arc<Member>,
    counted: bool,
    heard: bool,
}

impl Call {
    /// The member that is called.
    #[cfg(test)]
    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Says what became of it. The first word counts; the call stays active until it is dropped, so that a body still on its
    /// way counts as load.
    pub(crate) fn heard(&mut self, result: Heard, took: Duration, now: Instant) {
        if !std::mem::replace(&mut self.heard, true) {
            self.member.heard(result, took, now);
        }
    }

    /// Says that it was given up after that time for another that was sooner: neither good nor bad, but slow.
    pub(crate) fn outlasted(&mut self, took: Duration, now: Instant) {
        if !std::mem::replace(&mut self.heard, true) {
            self.member.outlasted(took, now);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.member.active.fetch_sub(1, Ordering::Relaxed);
        if self.counted {
            self.member.all_active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
