//! The deadlines of what the app is doing now, by trace: what the app sends meanwhile in the same trace is for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Places; a power of two. Two traces that want the same one take it from each other, and one of them is forgotten.
const PLACES: usize = 4096;

#[derive(Default)]
struct Place {
    trace: AtomicU64,
    /// Microseconds after the beginning, mixed with the trace: whoever reads the two while they are written knows it.
    until: AtomicU64,
}

/// Deadlines by trace: of a fixed size, and without a lock.
pub(super) struct Known {
    began: Instant,
    places: Box<[Place]>,
}

impl Known {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            places: (0..PLACES).map(|_| Place::default()).collect(),
        }
    }

    fn place(&self, trace: u64) -> &Place {
        &self.places[trace as usize % PLACES]
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_micros() as u64
    }

    /// What the app does in that trace has time until then.
    pub(super) fn remember(&self, trace: u64, until: Instant) {
        let place = self.place(trace);
        place.trace.store(trace, Ordering::Relaxed);
        place.until.store(self.micros(until) ^ trace, Ordering::Release);
    }

    /// The app is done with it, unless somebody else has the place by now.
    pub(super) fn forget(&self, trace: u64, until: Instant) {
        let said = self.micros(until) ^ trace;
        let _ = self
            .place(trace)
            .until
            .compare_exchange(said, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How much time is left for what is done in that trace, if that is known.
    pub(super) fn left(&self, trace: u64, now: Instant) -> Option<Duration> {
        let place = self.place(trace);
        let until = place.until.load(Ordering::Acquire);
        if until == 0 || place.trace.load(Ordering::Relaxed) != trace {
            return None;
        }
        let (until, now) = (until ^ trace, self.micros(now));
        // Another trace's deadline, read while the place changed hands, is far from any.
        let left = until.checked_sub(now).map(Duration::from_micros);
        match left {
            Some(left) if left > LONGEST => None,
            Some(left) => Some(left),
            None if now - until > LONGEST.as_micros() as u64 => None,
            None => Some(Duration::ZERO),
        }
    }
}

/// No deadline is further away, nor of use so long after it has passed.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_known_by_its_trace_until_it_is_forgotten() {
        let now = Instant::now();
        let known = Known::new(now);
        let until = now + Duration::from_secs(3);
        assert_eq!(known.left(7, now), None);
        known.remember(7, until);
        assert_eq!(
            known.left(7, now + Duration::from_secs(1)),
            Some(Duration::from_secs(2))
        );
        assert_eq!(known.left(7, now + Duration::from_secs(4)), Some(Duration::ZERO));
        assert_eq!(known.left(7 + PLACES as u64, now), None);
        known.forget(7, until + Duration::from_secs(1));
        assert!(known.left(7, now).is_some());
        known.forget(7, until);
        assert_eq!(known.left(7, now), None);
    }

    #[test]
    fn a_place_changes_hands() {
        let now = Instant::now();
        let known = Known::new(now);
        let until = now + Duration::from_secs(3);
        let other = 7 + PLACES as u64;
        known.remember(7, until);
        known.remember(other, until);
        assert_eq!(known.left(7, now), None);
        assert!(known.left(other, now).is_some());
        known.forget(7, until);
        assert!(known.left(other, now).is_some());
    }
}
