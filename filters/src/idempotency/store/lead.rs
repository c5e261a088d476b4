//! A try that is under way: held by who makes it, waited for by others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Known, Store, now};
use crate::Wanted;
use crate::idempotency::answer::Answer;
use crate::idempotency::scope::Hash;

/// A try that is under way, as others see it.
#[derive(Default)]
pub(in crate::idempotency) struct Running {
    over: AtomicBool,
    changed: Notify,
}

impl Running {
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until it is settled.
    pub(in crate::idempotency) async fn ended(&self) {
        // Made before the look: it hears of all that happens from now on, polled or not.
        let changed = self.changed.notified();
        if !self.over.load(Ordering::Acquire) {
            changed.await;
        }
    }
}

impl Wanted for Running {
    fn is_wanted(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }
}

/// A key claimed for a try. Dropped, it is settled: free again if the app cannot have acted on it, unknown otherwise.
pub(in crate::idempotency) struct Lead {
    pub(super) store: Arc<Store>,
    pub(super) scope: Hash,
    pub(super) running: Arc<Running>,
    pub(super) ttl: Duration,
    /// The app may have acted on it.
    pub(in crate::idempotency) acted: bool,
    /// When the answer to an earlier try was lost, and until when that is remembered.
    pub(super) lost: Option<(Instant, Instant)>,
}

impl Lead {
    pub(in crate::idempotency) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Whether it would be unknown if it was dropped now.
    pub(in crate::idempotency) fn is_in_doubt(&self) -> bool {
        self.acted || self.lost.is_some()
    }

    /// The app's whole answer is there.
    pub(in crate::idempotency) fn answered(self, answer: Answer) {
        let until = now() + self.ttl;
        self.store
            .settle(&self, Some((Known::Answered(Arc::new(answer)), until)));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.running.is_wanted() {
            return;
        }
        let known = if self.acted {
            let since = now();
            Some((Known::Unknown { since }, since + self.ttl))
        } else {
            self.lost.map(|(since, until)| (Known::Unknown { since }, until))
        };
        self.store.settle(self, known);
    }
}
