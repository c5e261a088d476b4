//! The rings of records: bounded, and never in the way of the workers.
//!
//! A worker leaves a record in a small lock-free queue, and whoever has the ring's lock next takes it from there. It asks for the
//! lock but never waits: if another has it, that one or the next to come does the work. So a reader holds up nobody, and the bounds
//! hold when nobody reads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crossbeam_queue::ArrayQueue;
use pillion_filters::{Dictionary, Registry};

use super::record::Record;
use super::{Explain, Why};
use crate::engine;

/// Records that may wait for the lock. More than can come while somebody has it.
pub(super) const WAITING: usize = 64;

/// What is remembered of exchanges.
#[derive(Debug)]
pub struct Recorder {
    /// What they say.
    pub(crate) words: Dictionary,
    recorded: AtomicU64,
    memory: AtomicUsize,
    errors: Ring,
    slow: Ring,
    sample: Ring,
}

#[derive(Debug)]
struct Ring {
    incoming: ArrayQueue<Arc<Record>>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Ever.
    pub(crate) recorded: u64,
    /// Now.
    pub(crate) kept: usize,
    /// By what is kept.
    pub(crate) bytes: usize,
    /// At most.
    pub(crate) capacity: usize,
}

impl Recorder {
    /// Remembers nothing until it is told how much it may.
    pub fn new(registry: &Registry) -> Self {
        Self {
            words: Dictionary::of(registry).with("engine", engine::WORDS),
            recorded: AtomicU64::new(0),
            memory: AtomicUsize::new(0),
            errors: Ring::new(),
            slow: Ring::new(),
            sample: Ring::new(),
        }
    }

    /// Takes up how much a configuration lets it remember. What is too much is forgotten at once.
    pub(crate) fn settle(&self, explain: &Explain) {
        self.memory.store(explain.memory, Ordering::Relaxed);
        for (ring, most) in self.rings() {
            drop(ring.lock(most));
        }
    }

    /// The rings, with how many bytes each may take.
    fn rings(&self) -> [(&Ring, usize); 3] {
        let memory = self.memory.load(Ordering::Relaxed);
        [
            (&self.errors, memory / 2),
            (&self.slow, memory / 4),
            (&self.sample, memory / 4),
        ]
    }

    /// Remembers an exchange. Never waits.
    pub(crate) fn keep(&self, mut record: Record) {
        record.id = self.recorded.fetch_add(1, Ordering::Relaxed) + 1;
        let [errors, slow, sample] = self.rings();
        let (ring, most) = match record.why {
            Why::Error => errors,
            Why::Slow => slow,
            Why::Sample => sample,
        };
        ring.push(Arc::new(record), most);
    }

    /// All that is remembered, the newest first.
    pub(crate) fn all(&self) -> (Vec<Arc<Record>>, Load) {
        let mut records = Vec::new();
        let mut bytes = 0;
        for (ring, most) in self.rings() {
            let kept = ring.lock(most);
            bytes += kept.bytes;
            records.extend(kept.records.iter().cloned());
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.id));
        let load = Load {
            recorded: self.recorded.load(Ordering::Relaxed),
            kept: records.len(),
            bytes,
            capacity: self.memory.load(Ordering::Relaxed),
        };
        (records, load)
    }

    /// One of them.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Record>> {
        self.rings().into_iter().find_map(|(ring, most)| {
            let kept = ring.lock(most);
            kept.records.iter().find(|record| record.id == id).cloned()
        })
    }
}

#[cfg(test)]
impl Recorder {
    /// Does something while a reader has all rings.
    pub(super) fn while_locked(&self, something: impl FnOnce()) {
        let held = self.rings().map(|(ring, most)| ring.lock(most));
        something();
        drop(held);
    }
}

impl Ring {
    fn new() -> Self {
        Self {
            incoming: ArrayQueue::new(WAITING),
            kept: Mutex::default(),
        }
    }

    fn push(&self, record: Arc<Record>, most: usize) {
        // Of what waits for longer than anybody has the lock, the newest stay.
        drop(self.incoming.force_push(record));
        let kept = match self.kept.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(kept)) => kept.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        drop(self.take_in(kept, most));
    }

    /// The ring as it is now, with all that waits taken in. For who may wait.
    fn lock(&self, most: usize) -> MutexGuard<'_, Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_in(kept, most)
    }

    fn take_in<'r>(&self, mut kept: MutexGuard<'r, Kept>, most: usize) -> MutexGuard<'r, Kept> {
        while let Some(record) = self.incoming.pop() {
            kept.bytes += record.size();
            kept.records.push_back(record);
        }
        while kept.bytes > most
            && let Some(oldest) = kept.records.pop_front()
        {
            kept.bytes -= oldest.size();
        }
        kept
    }
}
