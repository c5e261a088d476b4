//! Metric handles made on first use and found again without a label lookup.

use std::sync::OnceLock;

/// A handful of handles by key. A route sees few methods and statuses, so a walk over the keys seen so far is shorter
/// than hashing labels would be, and takes no lock. What comes after `N` different keys is made anew each time: slower,
/// and counted all the same.
pub(super) struct Handles<K, H, const N: usize>([OnceLock<(K, H)>; N]);

impl<K, H, const N: usize> Default for Handles<K, H, N> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; N])
    }
}

impl<K: Copy + PartialEq, H, const N: usize> Handles<K, H, N> {
    /// Calls `with` with the handle of `key`, made by `make` if it is new.
    pub(super) fn with(&self, key: K, make: impl Fn() -> Option<H>, with: impl FnOnce(&H)) {
        for place in &self.0 {
            if place.get().is_none() {
                let Some(handle) = make() else { return };
                // Another thread may have taken the place meanwhile, perhaps for this very key: look again.
                let _ = place.set((key, handle));
            }
            if let Some((_, handle)) = place.get().filter(|(taken, _)| *taken == key) {
                return with(handle);
            }
        }
        if let Some(handle) = make() {
            with(&handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_handle_is_made_once_while_there_is_room() {
        let handles = Handles::<u32, u32, 2>::default();
        let made = Cell::new(0);
        let get = |key| {
            let got = Cell::new(0);
            let make = || {
                made.set(made.get() + 1);
                Some(key * 10)
            };
            handles.with(key, make, |handle| got.set(*handle));
            got.get()
        };
        assert_eq!([get(1), get(2), get(1), get(2)], [10, 20, 10, 20]);
        assert_eq!(made.get(), 2);
        assert_eq!([get(3), get(3)], [30, 30]);
        assert_eq!(made.get(), 4, "no room: made each time");
    }

    #[test]
    fn what_cannot_be_made_is_left_out() {
        let handles = Handles::<u32, u32, 1>::default();
        handles.with(1, || None, |_| panic!("there is no handle"));
    }

    #[test]
    fn threads_share_a_handle() {
        let handles = Handles::<usize, usize, 4>::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let handles = &handles;
                scope.spawn(move || {
                    for round in 0..100 {
                        let key = (thread + round) % 4;
                        handles.with(key, || Some(key), |handle| assert_eq!(*handle, key));
                    }
                });
            }
        });
        let mut keys: Vec<_> = handles.0.iter().filter_map(|place| Some(place.get()?.0)).collect();
        keys.sort_unstable();
        assert_eq!(keys, [0, 1, 2, 3]);
    }
}
