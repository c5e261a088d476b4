//! How many calls there were lately, and how many of them went badly: buckets of time that any thread may count in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The window slides by a tenth of itself.
pub(super) const BUCKETS: u64 = 10;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

/// Calls within the last so many seconds.
pub(super) struct Window {
    began: Instant,
    pub(super) length: Duration,
    tick: u64,
    buckets: [AtomicU64; BUCKETS as usize],
}

/// One bucket as a number, so that one exchange of it counts a call: which tick it is of, and what was counted in that. Of
/// the tick there is only the end, 22 bits; a bucket is mistaken for a new one if nobody counted in it for four million
/// ticks, of which the shortest is 100 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    tick: u64,
    sum: Sum,
}

const COUNT_BITS: u32 = 14;
const MOST: u32 = (1 << COUNT_BITS) - 1;
const TICK_MASK: u64 = (1 << (64 - 3 * COUNT_BITS)) - 1;

impl Bucket {
    fn unpack(bits: u64) -> Self {
        let count = |at: u32| (bits >> (at * COUNT_BITS)) as u32 & MOST;
        Self {
            tick: bits >> (3 * COUNT_BITS),
            sum: Sum {
                calls: count(0),
                failed: count(1),
                slow: count(2),
            },
        }
    }

    fn pack(self) -> u64 {
        let counts = [self.sum.calls, self.sum.failed, self.sum.slow];
        let counts = counts
            .iter()
            .zip(0..)
            .fold(0, |bits, (count, at)| bits | u64::from(*count) << (at * COUNT_BITS));
        self.tick << (3 * COUNT_BITS) | counts
    }

    /// The same with more in it. One that is full is halved first: what it says of shares stays true.
    fn with(mut self, more: Sum) -> Self {
        let sum = &mut self.sum;
        if sum.calls.max(sum.failed).max(sum.slow) >= MOST {
            *sum = Sum {
                calls: sum.calls / 2,
                failed: sum.failed / 2,
                slow: sum.slow / 2,
            };
        }
        sum.calls += more.calls;
        sum.failed += more.failed;
        sum.slow += more.slow;
        self
    }
}

impl Window {
    pub(super) fn new(began: Instant, length: Duration) -> Self {
        Self {
            began,
            length,
            tick: (length.as_nanos() as u64 / BUCKETS).max(1),
            buckets: Default::default(),
        }
    }

    /// From 1 on: an empty bucket is of none.
    fn tick_of(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_nanos() as u64 / self.tick + 1
    }

    /// Counts one call, or what is learned of one later: each number is 0 or 1.
    pub(super) fn add(&self, now: Instant, more: Sum) {
        let tick = self.tick_of(now);
        let Some(bucket) = self.buckets.get((tick % BUCKETS) as usize) else {
            return;
        };
        let tick = tick & TICK_MASK;
        let counted = |bits: u64| {
            let bucket = Bucket::unpack(bits);
            let bucket = if bucket.tick == tick {
                bucket
            } else {
                Bucket {
                    tick,
                    sum: Sum::default(),
                }
            };
            Some(bucket.with(more).pack())
        };
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    /// What was counted in the window that ends now.
    pub(super) fn sum(&self, now: Instant) -> Sum {
        let tick = self.tick_of(now);
        let first = tick.saturating_sub(BUCKETS - 1).max(1);
        let mut sum = Sum::default();
        for tick in first..=tick {
            let Some(bucket) = self.buckets.get((tick % BUCKETS) as usize) else {
                continue;
            };
            let bucket = Bucket::unpack(bucket.load(Ordering::Relaxed));
            if bucket.tick == tick & TICK_MASK {
                sum.calls += bucket.sum.calls;
                sum.failed += bucket.sum.failed;
                sum.slow += bucket.sum.slow;
            }
        }
        // A failure may be learned of after its call has left the window.
        sum.failed = sum.failed.min(sum.calls);
        sum
    }

    pub(super) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Sum = Sum {
        calls: 1,
        failed: 0,
        slow: 0,
    };
    const FAILED: Sum = Sum {
        calls: 1,
        failed: 1,
        slow: 0,
    };
    const SLOW: Sum = Sum {
        calls: 1,
        failed: 0,
        slow: 1,
    };

    fn numbers(sum: Sum) -> [u32; 3] {
        [sum.calls, sum.failed, sum.slow]
    }

    #[test]
    fn calls_leave_the_window_as_it_slides() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let window = Window::new(began, Duration::from_secs(10));
        window.add(at(0), FAILED);
        window.add(at(999), OK);
        window.add(at(1000), SLOW);
        assert_eq!(numbers(window.sum(at(1000))), [3, 1, 1]);
        assert_eq!(numbers(window.sum(at(9_999))), [3, 1, 1]);
        assert_eq!(numbers(window.sum(at(10_000))), [1, 0, 1]);
        assert_eq!(numbers(window.sum(at(10_999))), [1, 0, 1]);
        assert_eq!(numbers(window.sum(at(11_000))), [0, 0, 0]);
        // A bucket is used again for another time.
        window.add(at(11_500), OK);
        assert_eq!(numbers(window.sum(at(11_500))), [1, 0, 0]);
        assert_eq!(numbers(window.sum(at(20_999))), [1, 0, 0]);
        window.clear();
        assert_eq!(numbers(window.sum(at(11_500))), [0, 0, 0]);
    }

    #[test]
    fn a_window_nobody_looked_at_for_long_is_empty() {
        let began = Instant::now();
        let window = Window::new(began, Duration::from_secs(1));
        for _ in 0..50 {
            window.add(began, FAILED);
        }
        for days in [1, 2, 30] {
            let later = began + Duration::from_secs(days * 86_400);
            assert_eq!(numbers(window.sum(later)), [0, 0, 0], "{days}");
        }
    }

    #[test]
    fn what_is_learned_late_makes_no_more_failures_than_calls() {
        let began = Instant::now();
        let window = Window::new(began, Duration::from_secs(1));
        let late = Sum {
            calls: 0,
            failed: 1,
            slow: 0,
        };
        window.add(began, OK);
        window.add(began, late);
        window.add(began, late);
        assert_eq!(numbers(window.sum(began)), [1, 1, 0]);
    }

    #[test]
    fn a_full_bucket_keeps_its_shares() {
        let began = Instant::now();
        let window = Window::new(began, Duration::from_secs(600));
        for number in 0..100_000 {
            window.add(began, if number % 4 == 0 { FAILED } else { OK });
        }
        let sum = window.sum(began);
        assert!((8_000..=MOST).contains(&sum.calls), "{sum:?}");
        let share = f64::from(sum.failed) / f64::from(sum.calls);
        assert!((share - 0.25).abs() < 0.01, "{sum:?}");
    }

    #[test]
    fn threads_lose_no_call() {
        let began = Instant::now();
        let window = Window::new(began, Duration::from_secs(10));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..3_000_u32 {
                        let at = began + Duration::from_millis(u64::from(number % 8) * 1000);
                        window.add(at, if number % 2 == 0 { FAILED } else { SLOW });
                    }
                });
            }
        });
        let sum = window.sum(began + Duration::from_secs(8));
        assert_eq!(numbers(sum), [12_000, 6_000, 6_000]);
    }
}
