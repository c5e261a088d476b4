//! How many more tries an upstream is burdened with: a share of what it is asked anyway, and a floor for when that is little.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seconds that are looked back on.
pub(super) const WINDOW: u64 = 10;

/// Counts of the last seconds. Each slot holds the number of a second and what was counted in it.
#[derive(Default)]
struct Tally([AtomicU64; WINDOW as usize]);

const COUNT: u64 = u32::MAX as u64;

impl Tally {
    fn slot(&self, second: u32) -> &AtomicU64 {
        &self.0[(u64::from(second) % WINDOW) as usize]
    }

    fn add(&self, second: u32) {
        let stamp = u64::from(second) << 32;
        let one_more = |slot: u64| match slot & !COUNT {
            // Somebody counts for a later second already: what comes late is of the past.
            later if later > stamp => None,
            same if same == stamp => Some(slot + u64::from(slot & COUNT < COUNT)),
            _ => Some(stamp | 1),
        };
        let _ = self
            .slot(second)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    }

    /// Takes one back that was added in that second.
    fn take_back(&self, second: u32) {
        let stamp = u64::from(second) << 32;
        let one_less = |slot: u64| (slot & !COUNT == stamp && slot & COUNT > 0).then(|| slot - 1);
        let _ = self
            .slot(second)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// What was counted in the window that ends with that second.
    fn sum(&self, second: u32) -> u64 {
        let in_window = |slot: &AtomicU64| {
            let slot = slot.load(Ordering::Relaxed);
            let age = u64::from(second).checked_sub(slot >> 32);
            // What was counted by somebody who is a little ahead counts as well.
            if age.is_none_or(|age| age < WINDOW) {
                slot & COUNT
            } else {
                0
            }
        };
        self.0.iter().map(in_window).sum()
    }
}

/// What may be spent on more tries towards one upstream, by all its routes and workers.
pub(super) struct Budget {
    began: Instant,
    requests: Tally,
    retries: Tally,
}

/// How much that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Of requests.
    pub(super) ratio: f64,
    /// Each second, however few requests there are.
    pub(super) floor: u32,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            requests: Tally::default(),
            retries: Tally::default(),
        }
    }

    fn second(&self, now: Instant) -> u32 {
        // The first second is the one after a whole window, so that an empty slot is of none.
        (now.saturating_duration_since(self.began).as_secs() + WINDOW) as u32
    }

    /// A request goes out for the first time.
    pub(super) fn deposit(&self, now: Instant) {
        self.requests.add(self.second(now));
    }

    /// Whether there may be one more try; then it is counted.
    pub(super) fn withdraw(&self, allowance: Allowance, now: Instant) -> bool {
        let second = self.second(now);
        // Counted first and asked then: two at once do not both take the last one.
        self.retries.add(second);
        let floor = u64::from(allowance.floor) * WINDOW;
        let most = floor as f64 + allowance.ratio * self.requests.sum(second) as f64;
        let may = self.retries.sum(second) as f64 <= most;
        if !may {
            self.retries.take_back(second);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FIFTH: Allowance = Allowance { ratio: 0.2, floor: 0 };

    #[test]
    fn a_fifth_is_a_fifth_whatever_fails() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let mut granted = 0;
        // 1,000 requests a second for a minute, each of which fails and wants two more tries.
        for request in 0..60_000u64 {
            let now = start + Duration::from_millis(request);
            budget.deposit(now);
            granted += u32::from(budget.withdraw(FIFTH, now)) + u32::from(budget.withdraw(FIFTH, now));
        }
        assert!((11_900..=12_000).contains(&granted), "{granted}");
    }

    #[test]
    fn the_floor_is_there_without_traffic_and_comes_back() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let floor = Allowance { ratio: 0.2, floor: 3 };
        let granted = |now| (0..100).filter(|_| budget.withdraw(floor, now)).count();
        assert_eq!(granted(start), 30);
        assert_eq!(granted(start + Duration::from_secs(9)), 0);
        assert_eq!(granted(start + Duration::from_secs(10)), 30);
    }

    #[test]
    fn what_is_saved_up_is_lost_after_the_window() {
        let start = Instant::now();
        let budget = Budget::new(start);
        (0..1000).for_each(|_| budget.deposit(start));
        let now = start + Duration::from_secs(WINDOW);
        assert!(!budget.withdraw(FIFTH, now));
        (0..100).for_each(|_| budget.deposit(now));
        assert_eq!((0..100).filter(|_| budget.withdraw(FIFTH, now)).count(), 20);
    }

    #[test]
    fn threads_together_get_no_more_than_there_is() {
        let start = Instant::now();
        let budget = Budget::new(start);
        (0..1000).for_each(|_| budget.deposit(start));
        let granted: usize = std::thread::scope(|scope| {
            let ask = || (0..10_000).filter(|_| budget.withdraw(FIFTH, start)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((190..=200).contains(&granted), "{granted}");
    }

    #[test]
    fn a_clock_that_is_late_harms_nothing() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let later = start + Duration::from_secs(100);
        (0..100).for_each(|_| budget.deposit(later));
        budget.deposit(start);
        assert_eq!((0..100).filter(|_| budget.withdraw(FIFTH, later)).count(), 20);
    }
}
