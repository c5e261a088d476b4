//! Tells those who fill a queue whether the one who empties it must be woken.
//!
//! Waking a thread is a system call, far dearer than what is put into the queue. So it is done for the first entry after a
//! pause, and when a batch is full; between the two the sleeper's own timer does.

use std::sync::atomic::{AtomicU8, Ordering};

/// Looks at the queue before it sleeps again.
const AWAKE: u8 = 0;
/// Sleeps for a while, or until there is enough.
const GATHERING: u8 = 1;
/// Sleeps until there is anything.
const IDLE: u8 = 2;

/// What the one who empties a queue is doing.
#[derive(Default)]
pub(super) struct Doorbell(AtomicU8);

impl Doorbell {
    /// After something was put into the queue: whether to wake the one who empties it. True for one caller only.
    pub(super) fn rings(&self, enough: impl FnOnce() -> bool) -> bool {
        // Sequentially consistent, here and below, as are the queue's own indices: either this sees the sleeper, or the
        // sleeper, which looks at the queue once more after saying so, sees the entry.
        let state = self.0.load(Ordering::SeqCst);
        let wakes = state == IDLE || (state == GATHERING && enough());
        wakes
            && self
                .0
                .compare_exchange(state, AWAKE, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    /// Nothing to do: the next entry shall ring. Look at the queue again before sleeping.
    pub(super) fn idle(&self) {
        self.0.store(IDLE, Ordering::SeqCst);
    }

    /// Something is there but not enough. Look at the queue again before sleeping.
    pub(super) fn gather(&self) {
        self.0.store(GATHERING, Ordering::SeqCst);
    }

    /// At work: nobody needs to ring.
    pub(super) fn awake(&self) {
        self.0.store(AWAKE, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_once_for_the_first_entry_and_once_for_a_full_batch() {
        let bell = Doorbell::default();
        assert!(!bell.rings(|| true), "awake");
        bell.idle();
        assert!(bell.rings(|| false));
        assert!(!bell.rings(|| true), "rung already");
        bell.gather();
        assert!(!bell.rings(|| false), "not enough yet");
        assert!(bell.rings(|| true));
        assert!(!bell.rings(|| true), "rung already");
        bell.idle();
        bell.awake();
        assert!(!bell.rings(|| true));
    }
}
