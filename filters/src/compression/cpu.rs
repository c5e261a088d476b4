//! Lowers compression levels while the process comes near its share of the CPU.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntGauge;

use super::coding::Coding;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// Steps down: the level, two thirds of it, one third, the lowest.
const STEPS: u32 = 3;
/// How far below the limit it must be for a step up.
const SLACK: f64 = 0.75;
/// Clock ticks a second in `/proc`, the same on every Linux.
const TICKS: f64 = 100.0;

/// How far levels are lowered.
pub(super) struct Cpu {
    step: AtomicU32,
    gauge: IntGauge,
    last: Mutex<Option<Sample>>,
}

/// CPU seconds the process had used at a time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    used: f64,
}

impl Cpu {
    pub(super) fn new(gauge: IntGauge) -> Self {
        Self {
            step: AtomicU32::new(0),
            gauge,
            last: Mutex::new(None),
        }
    }

    /// The level to use now in place of that one.
    pub(super) fn level(&self, coding: Coding, level: u32, limit: Option<f64>, now: Instant) -> u32 {
        let Some(limit) = limit else { return level };
        self.look(limit, now);
        lowered(level, coding.levels().0, self.step.load(Ordering::Relaxed))
    }

    /// Looks again if it is time to. One of the workers does, the others go on.
    fn look(&self, limit: f64, now: Instant) {
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.is_some_and(|sample| now.saturating_duration_since(sample.at) < EVERY) {
            return;
        }
        let Some(used) = used() else { return };
        let sample = Sample { at: now, used };
        if let Some(before) = last.replace(sample) {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let step = next(self.step.load(Ordering::Relaxed), share(before, sample, cores), limit);
            self.step.store(step, Ordering::Relaxed);
            self.gauge.set(i64::from(step));
        }
    }
}

/// The share of its CPU that the process used between two samples.
fn share(before: Sample, after: Sample, cores: usize) -> f64 {
    let passed = after.at.saturating_duration_since(before.at).as_secs_f64();
    (after.used - before.used) / (passed.max(0.001) * cores as f64)
}

/// The next step: one down beyond the limit, one up well below it.
fn next(step: u32, share: f64, limit: f64) -> u32 {
    if share > limit {
        (step + 1).min(STEPS)
    } else if share < limit * SLACK {
        step.saturating_sub(1)
    } else {
        step
    }
}

fn lowered(level: u32, lowest: u32, step: u32) -> u32 {
    let lowest = lowest.max(1).min(level);
    if step >= STEPS {
        lowest
    } else {
        (level * (STEPS - step) / STEPS).max(lowest)
    }
}

/// CPU seconds the process has used, all its threads together.
fn used() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, which may hold anything, ends with the last parenthesis; user and system time are the 14th and 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_go_down_in_steps_and_never_to_nothing() {
        assert_eq!([0, 1, 2, 3].map(|step| lowered(9, 1, step)), [9, 6, 3, 1]);
        assert_eq!([0, 1, 2, 3].map(|step| lowered(4, 0, step)), [4, 2, 1, 1]);
        assert_eq!([0, 1, 2, 3].map(|step| lowered(1, 1, step)), [1, 1, 1, 1]);
        assert_eq!([0, 3].map(|step| lowered(0, 0, step)), [0, 0]);
    }

    #[test]
    fn it_goes_down_beyond_the_limit_and_comes_back_well_below_it() {
        let mut step = 0;
        let mut story = Vec::new();
        for share in [0.5, 0.9, 0.95, 0.85, 0.99, 0.7, 0.7, 0.5, 0.3, 0.2, 0.1] {
            step = next(step, share, 0.8);
            story.push(step);
        }
        assert_eq!(story, [0, 1, 2, 3, 3, 3, 3, 2, 1, 0, 0]);
    }

    #[test]
    fn the_share_is_of_all_cores() {
        let at = Instant::now();
        let before = Sample { at, used: 10.0 };
        let after = Sample {
            at: at + Duration::from_secs(2),
            used: 13.0,
        };
        assert!((share(before, after, 2) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn the_system_tells_what_was_used() {
        assert!(used().unwrap() >= 0.0);
    }
}
