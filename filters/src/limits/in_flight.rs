//! How many exchanges are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Exchanges under way.
#[derive(Default)]
pub(super) struct InFlight(AtomicU64);

impl InFlight {
    /// A place, unless `max` are taken. Never counts above `max`, not even for a moment: a request that is refused must
    /// not cost another its place.
    pub(super) fn enter(self: &Arc<Self>, max: u64) -> Option<Place> {
        let one_more = |count: u64| (count < max).then_some(count + 1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Place(self.clone()))
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A place among the exchanges under way. Given back on drop, so that it cannot leak even where an exchange ends
/// without being completed.
pub(super) struct Place(Arc<InFlight>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_never_hold_more_places_than_there_are() {
        let in_flight = Arc::new(InFlight::default());
        let most = Arc::new(AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let place = in_flight.enter(2);
                        most.fetch_max(in_flight.count(), Ordering::Relaxed);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(in_flight.count(), 0);
        assert!(most.load(Ordering::Relaxed) <= 2);
    }
}
