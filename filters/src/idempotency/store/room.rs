//! How much room there is, and who takes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Store, lock};

/// A route's say in how large the store is.
pub(in crate::idempotency) struct Share {
    pub(super) store: Arc<Store>,
    pub(super) size: u64,
}

impl Share {
    pub(in crate::idempotency) fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut sizes = lock(&self.store.sizes);
        if let Some(count) = sizes.get_mut(&self.size) {
            *count -= 1;
            if *count == 0 {
                sizes.remove(&self.size);
            }
        }
        drop(sizes);
        self.store.resize();
    }
}

/// Bytes of an answer that is being received, given back when dropped.
pub(in crate::idempotency) struct Reserved {
    pub(super) store: Arc<Store>,
    pub(super) bytes: u64,
}

impl Reserved {
    /// Takes room for more; false if there is none: answers on their way may take up a quarter of the store.
    pub(in crate::idempotency) fn grow(&mut self, bytes: u64) -> bool {
        let before = self.store.receiving.fetch_add(bytes, Ordering::Relaxed);
        self.store.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self.store.make_room(0);
        before + bytes <= self.store.capacity.load(Ordering::Relaxed) / 4
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.store.receiving.fetch_sub(self.bytes, Ordering::Relaxed);
        self.store.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
