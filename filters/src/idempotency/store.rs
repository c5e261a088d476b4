//! What is known of keys: which are under way, which are answered, of which the answer was lost.
//!
//! ```text
//!                 claim                    whole answer of the app
//!     (nothing) ---------> running ------------------------------------> answered
//!         ^                 | ^ |
//!         |  nothing sent,  | | |  something may have been sent, and there is no whole answer to keep
//!         +--or not acted---+ | +------------------------------------> unknown
//!                             +---- claim, where that is configured -----+
//! ```
//!
//! A try of an *unknown* key that was not acted on leaves it unknown: the first may have been. Whoever has claimed a key holds a
//! [`Lead`]; dropped, it settles what became of the try, so that no key stays under way for ever. *Answered* and *unknown* are
//! forgotten after their time, and before it, the oldest first, to make room; what is under way never is.
//!
//! All steps of one key are taken under one lock, so that there is no moment in which a second try could slip in between.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::counters::StoreMetrics;
use super::scope::Hash;

mod lead;
mod room;
#[cfg(test)]
mod tests;

pub(super) use lead::{Lead, Running};
pub(super) use room::{Reserved, Share};

/// Locks, so that workers seldom meet.
const SHARDS: usize = 16;
/// Bytes a key takes up without its answer: its place in the map (121 bytes, in a table that is at least 7/16 full), and in the order
/// of time (40 bytes, in nodes that are at least half full) or, while it is under way, what others wait for.
const NODE: u64 = 384;

/// What is known of a key.
enum Known {
    Running(Arc<Running>),
    Answered(Arc<Answer>),
    Unknown { since: Instant },
}

struct Slot {
    fingerprint: Hash,
    known: Known,
    /// Its place in the order of time, where it may be forgotten.
    serial: Option<u64>,
    /// When it is to be forgotten.
    until: Instant,
}

#[derive(Default)]
struct Shard {
    slots: HashMap<Hash, Slot>,
    /// What may be forgotten, the oldest first.
    order: BTreeMap<u64, Hash>,
    next: u64,
}

/// The keys of a filter, for all its routes and across reloads.
pub(super) struct Store {
    shards: [Mutex<Shard>; SHARDS],
    /// Bytes that are taken up, those being received included.
    bytes: AtomicU64,
    /// Those being received.
    receiving: AtomicU64,
    running: AtomicU64,
    /// Keys that are answered or unknown.
    kept: AtomicU64,
    capacity: AtomicU64,
    /// The sizes its routes have set, and how many set each.
    sizes: Mutex<BTreeMap<u64, usize>>,
    metrics: StoreMetrics,
}

/// What there is to do with a request.
pub(super) enum Claim {
    /// Let it go to the app: it is the first, or like one.
    Lead(Lead),
    /// Wait for another that is under way.
    Running(Arc<Running>),
    /// Answer it with this.
    Answered(Arc<Answer>),
    /// The first answer was lost, so long ago.
    Unknown(Duration),
    /// Its key was used with another payload.
    Reused,
    /// There is no room for one more.
    Full,
}

fn now() -> Instant {
    // tokio's clock, which tests advance.
    tokio::time::Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    pub(super) fn new(metrics: StoreMetrics) -> Self {
        Self {
            shards: Default::default(),
            bytes: AtomicU64::new(0),
            receiving: AtomicU64::new(0),
            running: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            capacity: AtomicU64::new(0),
            sizes: Mutex::default(),
            metrics,
        }
    }

    /// Lets it be as large as one of its routes says, for as long as that route holds what it is given.
    pub(super) fn share(self: &Arc<Self>, size: u64) -> Share {
        *lock(&self.sizes).entry(size).or_default() += 1;
        self.resize();
        Share {
            store: self.clone(),
            size,
        }
    }

    fn resize(&self) {
        let largest = lock(&self.sizes).last_key_value().map(|(size, _)| *size);
        if let Some(largest) = largest {
            self.capacity.store(largest, Ordering::Relaxed);
            self.make_room(0);
        }
    }

    fn place(scope: &Hash) -> usize {
        // Any byte of the hash is as good as another.
        usize::from(scope[0]) % SHARDS
    }

    fn shard(&self, place: usize) -> MutexGuard<'_, Shard> {
        lock(&self.shards[place % SHARDS])
    }

    /// Claims a key for a request, unless it is taken. `retries` says whether one whose answer was lost so long ago may be tried
    /// again; what becomes of it is remembered for `ttl`.
    pub(super) fn claim(
        self: &Arc<Self>,
        scope: &Hash,
        fingerprint: &Hash,
        ttl: Duration,
        retries: impl FnOnce(Duration) -> bool,
    ) -> Claim {
        let now = now();
        let mut shard = self.shard(Self::place(scope));
        self.expire(&mut shard, scope, now);
        let mut lost = None;
        if let Some(slot) = shard.slots.get(scope) {
            if slot.fingerprint != *fingerprint {
                return Claim::Reused;
            }
            match &slot.known {
                Known::Running(running) => return Claim::Running(running.clone()),
                Known::Answered(answer) => return Claim::Answered(answer.clone()),
                Known::Unknown { since } => {
                    let ago = now.saturating_duration_since(*since);
                    if !retries(ago) {
                        return Claim::Unknown(ago);
                    }
                    lost = Some((*since, slot.until));
                }
            }
        }
        let most = self.capacity.load(Ordering::Relaxed) / (2 * NODE);
        if self.running.fetch_add(1, Ordering::Relaxed) >= most {
            self.running.fetch_sub(1, Ordering::Relaxed);
            return Claim::Full;
        }
        self.remove(&mut shard, scope);
        let running = Arc::new(Running::default());
        let slot = Slot {
            fingerprint: *fingerprint,
            known: Known::Running(running.clone()),
            serial: None,
            until: now,
        };
        shard.slots.insert(*scope, slot);
        drop(shard);
        self.bytes.fetch_add(NODE, Ordering::Relaxed);
        self.make_room(Self::place(scope));
        Claim::Lead(Lead {
            store: self.clone(),
            scope: *scope,
            running,
            ttl,
            acted: false,
            lost,
        })
    }

    /// Whether anything is known of a key.
    pub(super) fn knows(&self, scope: &Hash) -> bool {
        let mut shard = self.shard(Self::place(scope));
        self.expire(&mut shard, scope, now());
        shard.slots.contains_key(scope)
    }

    /// Forgets what has had its time: that key, and the oldest.
    fn expire(&self, shard: &mut Shard, scope: &Hash, now: Instant) {
        let is_over = |slot: &Slot| slot.serial.is_some() && slot.until <= now;
        if shard.slots.get(scope).is_some_and(is_over) {
            self.remove(shard, scope);
        }
        while let Some(oldest) = shard.order.first_key_value().map(|(_, scope)| *scope) {
            if !shard.slots.get(&oldest).is_some_and(is_over) {
                break;
            }
            self.remove(shard, &oldest);
        }
    }

    fn remove(&self, shard: &mut Shard, scope: &Hash) {
        let Some(slot) = shard.slots.remove(scope) else {
            return;
        };
        let mut weight = NODE;
        if let Some(serial) = slot.serial {
            shard.order.remove(&serial);
            self.kept.fetch_sub(1, Ordering::Relaxed);
        }
        match slot.known {
            Known::Answered(answer) => weight += answer.weight(),
            Known::Running(_) => {
                self.running.fetch_sub(1, Ordering::Relaxed);
            }
            Known::Unknown { .. } => {}
        }
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
    }

    /// Settles what became of a try, and wakes who waits for it.
    fn settle(&self, lead: &Lead, known: Option<(Known, Instant)>) {
        let mut shard = self.shard(Self::place(&lead.scope));
        let fingerprint = shard.slots.get(&lead.scope).map(|slot| slot.fingerprint);
        self.remove(&mut shard, &lead.scope);
        if let (Some((known, until)), Some(fingerprint)) = (known, fingerprint) {
            let weight = match &known {
                Known::Answered(answer) => answer.weight(),
                Known::Running(_) | Known::Unknown { .. } => 0,
            };
            let serial = shard.next;
            shard.next += 1;
            shard.order.insert(serial, lead.scope);
            self.kept.fetch_add(1, Ordering::Relaxed);
            let slot = Slot {
                fingerprint,
                known,
                serial: Some(serial),
                until,
            };
            shard.slots.insert(lead.scope, slot);
            self.bytes.fetch_add(NODE + weight, Ordering::Relaxed);
        }
        drop(shard);
        lead.running.end();
        self.make_room(Self::place(&lead.scope));
    }

    /// Forgets the oldest until all has room, from that shard on. Keys are spread evenly, so the oldest of a shard is about as old
    /// as the oldest of all.
    fn make_room(&self, from: usize) {
        let is_over = || self.bytes.load(Ordering::Relaxed) > self.capacity.load(Ordering::Relaxed);
        for place in from..from + SHARDS {
            if !is_over() {
                break;
            }
            let mut shard = self.shard(place);
            while is_over() {
                let Some(oldest) = shard.order.first_key_value().map(|(_, scope)| *scope) else {
                    break;
                };
                self.remove(&mut shard, &oldest);
                self.metrics.evictions.inc();
            }
        }
        self.publish();
    }

    fn publish(&self) {
        self.metrics.bytes.set(self.bytes.load(Ordering::Relaxed).cast_signed());
        self.metrics
            .entries
            .set(self.kept.load(Ordering::Relaxed).cast_signed());
        self.metrics
            .running
            .set(self.running.load(Ordering::Relaxed).cast_signed());
    }

    /// Room for an answer that is being received.
    pub(super) fn reserve(self: &Arc<Self>) -> Reserved {
        Reserved {
            store: self.clone(),
            bytes: 0,
        }
    }

    /// How many keys are under way, how many are known of besides, and the bytes all take up.
    #[cfg(test)]
    pub(super) fn size(&self) -> (u64, u64, u64) {
        let counted = [&self.running, &self.kept, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        let orders = self.shards.iter().map(|shard| lock(shard).order.len() as u64);
        assert_eq!(orders.sum::<u64>(), counted[1]);
        counted.into()
    }
}
