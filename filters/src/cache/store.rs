//! Where responses are kept: bounded by bytes, by use.
//!
//! The map is moka's: lock-free reads, `TinyLFU` admission, so that a crawl through many pages does not wash out what is
//! asked for all the time. Beside responses it keeps, under the key of a URL, which request fields its responses vary by,
//! and for a while that a response cannot be stored, so that nobody waits for the next one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderName;
use moka::Expiry;
use moka::sync::Cache as Map;

use super::counters::StoreMetrics;
use super::entry::{self, Entry};
use super::fill::Fill;

/// Locks of the fetches under way.
const SHARDS: usize = 16;
/// How long the fields a URL varies by are known after the last response that said so.
const VARIES_FOR: Duration = Duration::from_secs(24 * 3600);

/// What is kept under a key.
#[derive(Clone)]
pub(super) enum Slot {
    /// A response.
    Entry(Arc<Entry>),
    /// The request fields its responses vary by: they are under keys with those.
    Varies(Arc<[HeaderName]>),
    /// The last response could not be stored: nobody waits for the next.
    Pass,
}

/// A slot, and how long it is kept.
#[derive(Clone)]
struct Kept {
    slot: Slot,
    lasts: Duration,
}

struct Lasts;
impl Expiry<Key, Kept> for Lasts {
    fn expire_after_create(&self, _: &Key, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.lasts)
    }
    fn expire_after_update(&self, _: &Key, kept: &Kept, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.lasts)
    }
}

/// Bytes that the names of fields take up; those of well-known ones are not in them.
fn weight_of_names(names: &[HeaderName]) -> u64 {
    let texts = names.iter().map(|name| entry::allocated(name.as_str().len()));
    (entry::allocated(16 + size_of_val(names)) + texts.sum::<usize>()) as u64
}

pub(super) type Key = Box<[u8]>;
type Fills = HashMap<Key, Arc<Fill>>;

/// The responses of one filter, or of those of its routes that give it the same size.
pub(super) struct Store {
    map: Map<Key, Kept>,
    capacity: u64,
    metrics: StoreMetrics,
    hasher: RandomState,
    fills: [Mutex<Fills>; SHARDS],
    /// Bytes of bodies that are being received.
    filling: AtomicU64,
}

impl Store {
    /// Keeps up to so many bytes.
    pub(super) fn new(capacity: u64, metrics: StoreMetrics) -> Arc<Self> {
        let evictions = metrics.evictions.clone();
        let map = Map::builder()
            .max_capacity(capacity)
            .weigher(|key: &Key, kept: &Kept| {
                let weight = match &kept.slot {
                    Slot::Entry(entry) => entry.weight(key.len()),
                    Slot::Varies(names) => entry::weight_of_slot(key.len()) + weight_of_names(names),
                    Slot::Pass => entry::weight_of_slot(key.len()),
                };
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .expire_after(Lasts)
            .eviction_listener(move |_, _, cause| {
                if cause == moka::notification::RemovalCause::Size {
                    evictions.inc();
                }
            })
            .build();
        Arc::new(Self {
            map,
            capacity,
            metrics,
            hasher: RandomState::new(),
            fills: Default::default(),
            filling: AtomicU64::new(0),
        })
    }

    /// What it keeps at most, in bytes.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What is kept under a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Slot> {
        self.map.get(key).map(|kept| kept.slot)
    }

    /// What is kept under a key, for who does not ask on behalf of a client: where there is nothing, [`get`](Self::get) counts
    /// that it was wanted, and a response that is counted twice while it is fetched once is let in before better ones.
    pub(super) fn peek(&self, key: &[u8]) -> Option<Slot> {
        self.map.contains_key(key).then(|| self.get(key)).flatten()
    }

    /// Keeps something for so long.
    pub(super) fn put(&self, key: Key, slot: Slot, lasts: Duration) {
        self.map.insert(key, Kept { slot, lasts });
        // The bound is to hold now, not at moka's leisure.
        self.size();
    }

    /// Notes that the responses under a key vary by these fields, too.
    pub(super) fn put_varies(&self, key: Key, names: Arc<[HeaderName]>) {
        self.put(key, Slot::Varies(names), VARIES_FOR);
    }

    /// Forgets what is kept under a key.
    pub(super) fn remove(&self, key: &[u8]) {
        self.map.invalidate(key);
    }

    /// All keys with their responses.
    pub(super) fn each(&self, mut with: impl FnMut(&[u8], &Arc<Entry>)) {
        for (key, kept) in &self.map {
            if let Slot::Entry(entry) = &kept.slot {
                with(&key, entry);
            }
        }
    }

    /// Takes over what another store has, as far as it fits.
    pub(super) fn take_over(&self, other: &Self) {
        for (key, kept) in &other.map {
            self.map.insert((*key).clone(), kept);
        }
        self.map.run_pending_tasks();
    }

    /// Responses and bookkeeping entries, and the bytes they take up.
    pub(super) fn size(&self) -> (u64, u64) {
        self.map.run_pending_tasks();
        let (count, bytes) = (self.map.entry_count(), self.map.weighted_size());
        self.metrics.entries.set(count.cast_signed());
        self.metrics.bytes.set(bytes.cast_signed());
        (count, bytes)
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Fills> {
        let index = (self.hasher.hash_one(key) as usize) % SHARDS;
        self.fills[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fetch under way for a key.
    pub(super) fn filling(&self, key: &[u8]) -> Option<Arc<Fill>> {
        let shard = self.shard(key);
        shard.get(key).filter(|fill| !fill.is_outdated()).cloned()
    }

    /// Begins a fetch that others may follow, unless there is one.
    pub(super) fn lead(self: &Arc<Self>, key: &[u8], begin: impl FnOnce() -> Arc<Fill>) -> Option<Lead> {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|fill| !fill.is_outdated()) {
            return None;
        }
        let fill = begin();
        shard.insert(key.into(), fill.clone());
        drop(shard);
        Some(Lead {
            store: self.clone(),
            key: key.into(),
            fill,
        })
    }

    /// Lets nobody join the fetches under way any more: what they fetch was purged.
    pub(super) fn abandon_fills(&self) {
        for shard in &self.fills {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.clear();
        }
    }

    /// Whether no fetch is under way.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let fills = self.fills.iter();
        fills.fold(self.filling.load(Ordering::Relaxed) == 0, |idle, shard| {
            idle && shard.lock().is_ok_and(|shard| shard.is_empty())
        })
    }

    /// Room for bytes that are being received; `None` when too many are.
    pub(super) fn reserve(self: &Arc<Self>) -> Reserved {
        Reserved {
            store: self.clone(),
            bytes: 0,
        }
    }
}

/// Bytes of a body that is being received, given back when dropped.
pub(super) struct Reserved {
    store: Arc<Store>,
    bytes: u64,
}

impl Reserved {
    /// Takes room for more; false if there is none: bodies on their way may take up a quarter of the store.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let before = self.store.filling.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before + bytes <= (self.store.capacity / 4).max(1024 * 1024)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.store.filling.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The lead of a fetch. Dropped before it is [done](Fill::done), the fetch has failed.
pub(super) struct Lead {
    store: Arc<Store>,
    key: Key,
    fill: Arc<Fill>,
}

impl Lead {
    pub(super) fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// Continues under a key that tells more: the response varies.
    pub(super) fn move_to(&mut self, key: &[u8]) {
        self.leave();
        let mut shard = self.store.shard(key);
        shard.entry(key.into()).or_insert_with(|| self.fill.clone());
        drop(shard);
        self.key = key.into();
    }

    fn leave(&self) {
        let mut shard = self.store.shard(&self.key);
        if shard.get(&self.key).is_some_and(|fill| Arc::ptr_eq(fill, &self.fill)) {
            shard.remove(&self.key);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.leave();
        self.fill.give_up();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cache::tags::Tags;

    fn store(capacity: u64) -> Arc<Store> {
        Store::new(capacity, StoreMetrics::for_tests())
    }

    fn begin() -> Arc<Fill> {
        Fill::new(0, Arc::<Tags>::default().get(b"url"))
    }

    const LONG: Duration = Duration::from_secs(1000);

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let store = store(100_000);
        for number in 0..1000 {
            let entry = Entry::for_tests("").with_body(Bytes::from(vec![0; 1000]));
            store.put(
                format!("{number}").into_bytes().into(),
                Slot::Entry(Arc::new(entry)),
                LONG,
            );
            assert!(store.map.weighted_size() <= 100_000);
        }
        let (count, bytes) = store.size();
        assert!(count > 50 && bytes > 80_000, "{count} {bytes}");
    }

    #[test]
    fn one_leads_and_the_others_follow() {
        let store = store(100_000);
        let lead = store.lead(b"k", begin).unwrap();
        assert!(store.lead(b"k", begin).is_none());
        assert!(store.filling(b"k").is_some());
        drop(lead);
        assert!(store.filling(b"k").is_none());
        let mut lead = store.lead(b"k", begin).unwrap();
        lead.move_to(b"k2");
        assert!(store.filling(b"k").is_none());
        assert!(store.filling(b"k2").is_some());
        store.abandon_fills();
        let second = store.lead(b"k2", begin).unwrap();
        drop(lead);
        assert!(store.filling(b"k2").is_some(), "the second is not the first's to end");
        drop(second);
    }

    #[test]
    fn bodies_on_their_way_are_bounded() {
        let store = store(8 * 1024 * 1024);
        let mut reserved = store.reserve();
        assert!(reserved.grow(2 * 1024 * 1024));
        let mut more = store.reserve();
        assert!(!more.grow(1));
        drop(reserved);
        assert!(more.grow(1));
    }

    #[test]
    fn a_new_store_takes_over() {
        let old = store(100_000);
        old.put(
            b"a".as_slice().into(),
            Slot::Entry(Arc::new(Entry::for_tests("x"))),
            LONG,
        );
        let new = store(200_000);
        new.take_over(&old);
        assert!(matches!(new.get(b"a"), Some(Slot::Entry(_))));
    }

    #[test]
    fn what_has_had_its_time_is_gone() {
        let store = store(100_000);
        store.put(b"a".as_slice().into(), Slot::Pass, Duration::ZERO);
        assert!(store.get(b"a").is_none());
    }
}
