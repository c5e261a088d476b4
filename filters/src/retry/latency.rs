//! How long a route's answers take: a percentile of the last minute or so, kept in counters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Buckets for each doubling: a percentile is right to a tenth.
const PER_DOUBLING: f64 = 8.0;
/// The upper bound of the first bucket.
const FIRST: f64 = 100e-6;
/// Enough to 13 minutes.
const BUCKETS: usize = 184;
/// How long answers are counted before those counted earlier are forgotten.
const GENERATION: Duration = Duration::from_secs(30);
/// How often the percentile is made anew.
const EVERY: Duration = Duration::from_secs(1);
/// Fewer answers say nothing.
const LEAST: u64 = 100;

struct Counts([AtomicU32; BUCKETS]);

impl Counts {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

/// The times of a route's answers.
pub(super) struct Latency {
    began: Instant,
    /// Those of this generation and of the one before, by turns.
    counts: [Counts; 2],
    /// The generation that is being counted.
    generation: AtomicU64,
    /// When the percentile was made, in units of [`EVERY`] since the beginning.
    made: AtomicU64,
    /// The percentile in microseconds; 0 where there is none yet.
    percentile: AtomicU64,
    share: f64,
}

impl Latency {
    /// Knows nothing yet. `percent` of all answers take no longer than what it gives.
    pub(super) fn new(percent: u8, now: Instant) -> Self {
        Self {
            began: now,
            counts: [Counts::new(), Counts::new()],
            generation: AtomicU64::new(0),
            made: AtomicU64::new(0),
            percentile: AtomicU64::new(0),
            share: f64::from(percent) / 100.0,
        }
    }

    /// The percentile, once there are enough answers to go by.
    pub(super) fn percentile(&self) -> Option<Duration> {
        let micros = self.percentile.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// An answer took this long.
    pub(super) fn record(&self, took: Duration, now: Instant) {
        let since = now.saturating_duration_since(self.began);
        let generation = (since.as_secs_f64() / GENERATION.as_secs_f64()) as u64;
        if self.generation.fetch_max(generation, Ordering::Relaxed) < generation {
            // Whoever is the first of a generation empties what it counts into.
            for count in &self.counts[(generation % 2) as usize].0 {
                count.store(0, Ordering::Relaxed);
            }
        }
        self.counts[(generation % 2) as usize].0[bucket(took)].fetch_add(1, Ordering::Relaxed);
        let moment = (since.as_secs_f64() / EVERY.as_secs_f64()) as u64 + 1;
        if self.made.load(Ordering::Relaxed) < moment && self.made.fetch_max(moment, Ordering::Relaxed) < moment {
            self.make();
        }
    }

    fn make(&self) {
        let of = |bucket: usize| {
            let counts = self
                .counts
                .iter()
                .map(|counts| counts.0[bucket].load(Ordering::Relaxed));
            counts.map(u64::from).sum::<u64>()
        };
        let all: u64 = (0..BUCKETS).map(of).sum();
        if all < LEAST {
            return;
        }
        let wanted = (all as f64 * self.share).ceil() as u64;
        let mut seen = 0;
        let found = (0..BUCKETS).find(|bucket| {
            seen += of(*bucket);
            seen >= wanted
        });
        let bound = FIRST * (found.unwrap_or(BUCKETS - 1) as f64 / PER_DOUBLING).exp2();
        self.percentile.store((bound * 1e6) as u64, Ordering::Relaxed);
    }
}

fn bucket(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() / FIRST).log2();
    ((doublings * PER_DOUBLING).ceil().max(0.0) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_right_to_a_tenth() {
        let now = Instant::now();
        let latency = Latency::new(95, now);
        for millis in 1..=1000u32 {
            latency.record(Duration::from_millis(1) * (millis * 617 % 1000 + 1), now);
        }
        latency.record(Duration::from_millis(1), now + EVERY);
        let millis = latency.percentile().unwrap().as_secs_f64() * 1e3;
        assert!((950.0..1050.0).contains(&millis), "{millis}");
    }

    #[test]
    fn few_answers_say_nothing() {
        let now = Instant::now();
        let latency = Latency::new(95, now);
        (0..99).for_each(|_| latency.record(Duration::from_millis(5), now + EVERY));
        latency.record(Duration::ZERO, now + 2 * EVERY);
        assert!(latency.percentile().is_some());
        let latency = Latency::new(95, now);
        (0..98).for_each(|_| latency.record(Duration::from_millis(5), now));
        latency.record(Duration::from_secs(100_000), now + 2 * EVERY);
        assert_eq!(latency.percentile(), None);
    }

    #[test]
    fn what_was_is_forgotten() {
        let now = Instant::now();
        let latency = Latency::new(50, now);
        (0..1000).for_each(|_| latency.record(Duration::from_millis(500), now));
        let later = now + 2 * GENERATION;
        (0..1000).for_each(|_| latency.record(Duration::from_millis(5), later));
        latency.record(Duration::from_millis(5), later + 2 * EVERY);
        assert!(latency.percentile().unwrap() < Duration::from_millis(6));
    }
}
