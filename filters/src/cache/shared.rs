//! What outlives a snapshot: the stores of one filter, its purges, and what it counts.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::Uri;

use super::config::Config;
use super::counters::{Counters, Served, StoreMetrics};
use super::entry::Entry;
use super::key::{self, KeyRule};
use super::store::Store;
use super::tags::Tags;
use super::warm::{self, Fields, Job, Warmer};

/// The cache of one filter, over all its routes and snapshots.
pub struct Cache {
    pub(super) tags: Arc<Tags>,
    metrics: StoreMetrics,
    warmer: Warmer,
    /// Lists that were warmed already.
    warmed: Mutex<HashSet<Vec<String>>>,
    /// How many of what was purged to fetch again, and how many a second.
    refetch: Mutex<(usize, u32)>,
    /// By size; a store lives as long as a route that uses it.
    stores: Mutex<Vec<Weak<Store>>>,
    routes: Mutex<BTreeMap<String, Arc<Counters>>>,
    keys: Mutex<Vec<Weak<KeyRule>>>,
}

/// What to purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// All responses of a whole URL: `http://shop.example/products?page=2`.
    Url(String),
    /// All whose URL begins so, `http://shop.example/products`, or whose path does: `/products`.
    Prefix(String),
    /// All with a tag.
    Tag(String),
    /// All.
    Everything,
}

/// What one route has done.
#[derive(Clone, Debug)]
pub struct RouteReport {
    /// The route's name.
    pub route: String,
    /// Requests by what the cache did: `hit`, `stale`, `revalidated`, `collapsed`, `miss`, `bypass`.
    pub results: Vec<(&'static str, u64)>,
    /// The share of requests that were answered without a response of the app's, of those the cache did not leave alone.
    pub hit_ratio: Option<f64>,
    /// Seconds the app would have taken.
    pub saved: f64,
}

/// One stored response.
#[derive(Clone, Debug)]
pub struct EntryReport {
    /// Its URL.
    pub url: String,
    /// Its status.
    pub status: u16,
    /// The bytes it takes up.
    pub bytes: u64,
    /// How often it was used.
    pub hits: u32,
    /// Seconds it is fresh; negative when it is stale.
    pub ttl: i64,
}

/// What a cache holds and has done.
#[derive(Clone, Debug)]
pub struct Report {
    /// Entries, those that only keep books included.
    pub entries: u64,
    /// Bytes they take up.
    pub bytes: u64,
    /// Bytes they may take up.
    pub capacity: u64,
    /// By route.
    pub routes: Vec<RouteReport>,
    /// The most used responses.
    pub top: Vec<EntryReport>,
}

impl Cache {
    pub(super) fn new(metrics: StoreMetrics, warmer: Warmer) -> Self {
        Self {
            tags: Arc::default(),
            metrics,
            warmer,
            warmed: Mutex::default(),
            refetch: Mutex::default(),
            stores: Mutex::default(),
            routes: Mutex::default(),
            keys: Mutex::default(),
        }
    }

    /// The store of that size. One that is new takes over what the last one has: the size was changed.
    pub(super) fn store(&self, capacity: u64) -> Arc<Store> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|store| store.strong_count() > 0);
        let living: Vec<Arc<Store>> = stores.iter().filter_map(Weak::upgrade).collect();
        if let Some(store) = living.iter().find(|store| store.capacity() == capacity) {
            return store.clone();
        }
        let store = Store::new(capacity, self.metrics.clone());
        if let Some(last) = living.last() {
            store.take_over(last);
        }
        stores.push(Arc::downgrade(&store));
        store
    }

    /// Takes note of a route: what it counts, and how it writes keys.
    pub(super) fn knows(&self, route: &str, counters: Arc<Counters>, key: &Arc<KeyRule>) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(route.to_owned(), counters);
        drop(routes);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| key.strong_count() > 0);
        keys.push(Arc::downgrade(key));
    }

    /// A URL as keys have it: each route may leave other parameters out.
    fn written(&self, url: &Uri) -> Vec<Vec<u8>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let mut written: Vec<_> = keys.iter().filter_map(Weak::upgrade).map(|key| key.url(url)).collect();
        written.sort();
        written.dedup();
        written
    }

    /// Takes over what a snapshot says of warming and fetching again.
    pub(super) fn configure(&self, config: &Config) -> Result<(), String> {
        *self.refetch.lock().unwrap_or_else(PoisonError::into_inner) =
            (config.refetch.top as usize, config.refetch.rate);
        let urls = &config.warm.urls;
        // Every route inherits the list, and so does every snapshot; it is fetched once.
        let mut warmed = self.warmed.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.warmer.direction() == config.warm.direction.into();
        if own && self.warmer.is_active() && !urls.is_empty() && warmed.insert(urls.clone()) {
            self.warm(urls, config.warm.rate)?;
        }
        Ok(())
    }

    /// Fetches URLs that may not be stored yet, so many a second. How many were queued; or which one is no URL.
    pub fn warm(&self, urls: &[String], rate: u32) -> Result<usize, String> {
        let parsed: Result<Vec<_>, String> = urls
            .iter()
            .map(|url| warm::parse(url).ok_or_else(|| warm::not_whole(url)))
            .collect();
        let jobs = parsed?.into_iter().map(|url| Job {
            url,
            fields: Fields::default(),
            rate,
        });
        Ok(jobs.map(|job| self.warmer.push(job)).filter(|queued| *queued).count())
    }

    fn fetch_again(&self, mut best: Vec<(u32, Vec<u8>, Arc<Entry>)>) {
        let (top, rate) = *self.refetch.lock().unwrap_or_else(PoisonError::into_inner);
        keep_best(&mut best, top);
        for (_, key, entry) in best {
            let url = std::str::from_utf8(super::url_of(&key)).ok().and_then(warm::parse);
            if let (Some(url), Some(fields)) = (url, entry.chosen_by()) {
                self.warmer.push(Job {
                    url,
                    fields: fields.clone(),
                    rate,
                });
            }
        }
    }

    fn living(&self) -> Vec<Arc<Store>> {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.iter().filter_map(Weak::upgrade).collect()
    }

    /// Purges, visibly for every request that begins after this returns. How many stored responses it met; or what is wrong
    /// with the URL.
    pub fn purge(&self, purge: &Purge) -> Result<u64, String> {
        let before = self.tags.now();
        match purge {
            Purge::Url(url) => {
                let url = warm::parse(url).ok_or_else(|| warm::not_whole(url))?;
                for url in self.written(&url) {
                    self.tags.purge_known(&url);
                }
            }
            Purge::Prefix(path) if path.starts_with('/') => self.tags.purge_prefix(path.as_bytes()),
            Purge::Prefix(prefix) => {
                let url = warm::parse(prefix).ok_or_else(|| warm::not_whole(prefix))?;
                self.tags.purge_prefix(&key::plain_url(&url));
            }
            Purge::Tag(tag) => self.tags.purge_tag(tag.as_bytes()),
            Purge::Everything => self.tags.purge_everything(),
        }
        let mut met = 0;
        let mut best = Vec::new();
        for store in self.living() {
            // Nobody may join what was begun before.
            store.abandon_fills();
            let mut gone = Vec::new();
            store.each(|key, entry| {
                if entry.born() <= before && !entry.is_current(&self.tags, super::url_of(key)) {
                    gone.push(key.to_vec());
                    best.push((entry.hits(), key.to_vec(), entry.clone()));
                }
            });
            met += gone.len() as u64;
            for key in gone {
                store.remove(&key);
            }
            store.size();
        }
        self.fetch_again(best);
        Ok(met)
    }

    /// What it holds and has done, with so many of the most used responses.
    pub fn report(&self, top: usize) -> Report {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = routes.iter().map(|(route, counters)| report(route, counters)).collect();
        let now = std::time::Instant::now();
        let (mut entries, mut bytes, mut capacity) = (0, 0, 0);
        let mut best = Vec::new();
        for store in self.living() {
            let (count, size) = store.size();
            entries += count;
            bytes += size;
            capacity += store.capacity();
            store.each(|key, entry| {
                if entry.is_current(&self.tags, super::url_of(key)) {
                    best.push((entry.hits(), key.to_vec(), entry.clone()));
                }
                if best.len() > top.saturating_mul(8).max(1024) {
                    keep_best(&mut best, top);
                }
            });
        }
        keep_best(&mut best, top);
        let top = best
            .into_iter()
            .map(|(hits, key, entry)| EntryReport {
                url: String::from_utf8_lossy(super::url_of(&key)).into_owned(),
                status: entry.status.as_u16(),
                bytes: entry.weight(key.len()),
                hits,
                ttl: entry.reuse.lifetime.as_secs().cast_signed() - entry.age(now).as_secs().cast_signed(),
            })
            .collect();
        Report {
            entries,
            bytes,
            capacity,
            routes,
            top,
        }
    }
}

fn keep_best(best: &mut Vec<(u32, Vec<u8>, Arc<Entry>)>, top: usize) {
    best.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    best.truncate(top);
}

fn report(route: &str, counters: &Counters) -> RouteReport {
    let (counts, saved) = counters.read();
    let count = |served: Served| counts[served as usize];
    let asked: u64 = counts.iter().sum::<u64>() - count(Served::Bypass);
    let answered = asked - count(Served::Miss);
    RouteReport {
        route: route.to_owned(),
        results: Served::ALL
            .iter()
            .map(|&(served, name)| (name, count(served)))
            .collect(),
        hit_ratio: (asked > 0).then(|| answered as f64 / asked as f64),
        saved,
    }
}
