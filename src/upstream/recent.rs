//! What was heard of a member lately, fading with time: one word of memory, no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time in steps of 65 µs since a group began. It wraps after 78 hours: a value that old counts as fresh again, until
/// the next call corrects it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick(u32);

impl Tick {
    const SHIFT: u32 = 16;

    pub(super) fn at(epoch: Instant, now: Instant) -> Self {
        Self((now.saturating_duration_since(epoch).as_nanos() >> Self::SHIFT) as u32)
    }

    /// So many steps, for the decay.
    pub(super) fn steps(duration: Duration) -> f32 {
        ((duration.as_nanos() >> Self::SHIFT) as f32).max(1.0)
    }

    /// How much of what was known at `stamp` is left. Threads read the clock at different times, so a stamp may lie ahead.
    fn left_of(self, stamp: u32, decay: f32) -> f32 {
        let age = self.0.wrapping_sub(stamp);
        if age == 0 || age > u32::MAX / 2 {
            return 1.0;
        }
        (-(age as f32) / decay).exp()
    }
}

/// A value with the time it was last changed. NaN stands for unknown.
#[derive(Debug)]
pub(super) struct Recent(AtomicU64);

impl Recent {
    /// How often a change is tried again that another thread got in before. One sample more or less is no loss.
    const TRIES: usize = 4;

    pub(super) fn unknown() -> Self {
        Self(AtomicU64::new(pack(f32::NAN, 0)))
    }

    pub(super) fn forget(&self) {
        self.0.store(pack(f32::NAN, 0), Ordering::Relaxed);
    }

    /// The value, and how much it counts for still, 0 to 1.
    pub(super) fn read(&self, now: Tick, decay: f32) -> Option<(f32, f32)> {
        let (value, stamp) = unpack(self.0.load(Ordering::Relaxed));
        (!value.is_nan()).then(|| (value, now.left_of(stamp, decay)))
    }

    /// Changes the value: `change` is given what it was and how much of that is left.
    pub(super) fn update(&self, now: Tick, decay: f32, change: impl Fn(Option<(f32, f32)>) -> f32) {
        let mut word = self.0.load(Ordering::Relaxed);
        for _ in 0..Self::TRIES {
            let (value, stamp) = unpack(word);
            let known = (!value.is_nan()).then(|| (value, now.left_of(stamp, decay)));
            let new = pack(change(known), now.0);
            match self
                .0
                .compare_exchange_weak(word, new, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }
}

fn pack(value: f32, stamp: u32) -> u64 {
    u64::from(value.to_bits()) << 32 | u64::from(stamp)
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// The latency after a call: the peak at once, and what is lower by and by (Finagle's peak EWMA). So a member that turns slow is
/// avoided from its first slow answer on.
pub(super) fn latency_after(known: Option<(f32, f32)>, took: f32) -> f32 {
    match known {
        Some((before, left)) if took <= before => before * left + took * (1.0 - left),
        _ => took,
    }
}

/// The least share of good answers that is kept, so that one that recovers is seen to.
const LEAST_GOOD: f32 = 0.01;
/// What one call counts for in the share of good answers, however soon it follows the last. By time alone a member that fails
/// ten thousand calls a second would be found out no sooner than one that fails ten.
const CALL_WEIGHT: f32 = 0.1;

/// The share of good answers after a call.
pub(super) fn good_after(known: Option<(f32, f32)>, good: bool) -> f32 {
    let (before, left) = known.unwrap_or((1.0, 1.0));
    let weight = (1.0 - left).max(CALL_WEIGHT);
    let heard = if good { 1.0 } else { 0.0 };
    (before + (heard - before) * weight).max(LEAST_GOOD)
}

/// By how much a member's cost is raised for the calls it failed. The share of good answers counts three times: half of them good
/// costs eightfold, a tenth a thousandfold, which no load on the others comes up to.
pub(super) fn penalty(known: Option<(f32, f32)>) -> f32 {
    let Some((good, left)) = known else { return 1.0 };
    // What is not heard of any more is given another try.
    let good = 1.0 - (1.0 - good) * left;
    1.0 / (good * good * good)
}

/// The latencies two members are compared by. What is known of one counts less as it ages, and in its place it is taken to be as
/// fast as the other: so one that nothing is known of is chosen by its load alone, neither flooded nor starved.
pub(super) fn compared(one: Option<(f32, f32)>, other: Option<(f32, f32)>) -> (f32, f32) {
    match (one, other) {
        (Some((one, sure)), Some((other, as_sure))) => (
            one * sure + other * (1.0 - sure),
            other * as_sure + one * (1.0 - as_sure),
        ),
        _ => (1.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    #[test]
    fn peaks_count_at_once_and_fade() {
        let (epoch, decay) = (Instant::now(), Tick::steps(DECAY));
        let latency = Recent::unknown();
        let heard = |took: f32, after: u64| {
            let now = Tick::at(epoch, epoch + Duration::from_secs(after));
            latency.update(now, decay, |known| latency_after(known, took));
            latency.read(now, decay).unwrap().0
        };
        assert!((heard(10.0, 0) - 10.0).abs() < 0.01);
        assert!((heard(100.0, 1) - 100.0).abs() < 0.01, "a peak counts whole");
        let later = heard(10.0, 11);
        assert!((later - (10.0 + 90.0 / std::f32::consts::E)).abs() < 0.5, "{later}");
    }

    #[test]
    fn what_is_old_counts_less_and_what_is_ahead_counts_whole() {
        let (epoch, decay) = (Instant::now(), Tick::steps(DECAY));
        let at = |seconds| Tick::at(epoch, epoch + Duration::from_secs(seconds));
        let latency = Recent::unknown();
        assert!(latency.read(at(0), decay).is_none());
        latency.update(at(20), decay, |known| latency_after(known, 5.0));
        let left = |seconds| latency.read(at(seconds), decay).unwrap().1;
        assert!(
            (left(19) - 1.0).abs() < f32::EPSILON,
            "another thread's clock was read later"
        );
        assert!((left(30) - 0.3679).abs() < 0.001);
        assert!(left(120) < 0.0001);
        latency.forget();
        assert!(latency.read(at(20), decay).is_none());
    }

    #[test]
    fn a_failing_member_costs_a_hundredfold_within_twenty_calls_and_is_tried_again_later() {
        let mut good = None;
        for _ in 0..20 {
            good = Some((good_after(good, false), 1.0));
        }
        assert!(penalty(good) > 100.0, "{good:?}");
        let share = good.unwrap().0;
        assert!(penalty(Some((share, 0.01))) < 1.1);
        // One failure in a hundred is hardly felt.
        let mut good = None;
        for call in 0..1000 {
            good = Some((good_after(good, call % 100 != 0), 1.0));
        }
        assert!(penalty(good) < 1.1, "{good:?}");
    }

    #[test]
    fn the_unknown_is_as_fast_as_what_it_is_compared_with() {
        let same = |(one, other): (f32, f32)| (one - other).abs() < 0.01;
        assert!(same(compared(None, Some((50.0, 1.0)))));
        assert!(same(compared(None, None)));
        assert!(same(compared(Some((500.0, 0.0)), Some((50.0, 1.0)))));
        let (slow, fast) = compared(Some((500.0, 1.0)), Some((50.0, 1.0)));
        assert!((slow - 500.0).abs() < 0.01 && (fast - 50.0).abs() < 0.01);
    }
}
