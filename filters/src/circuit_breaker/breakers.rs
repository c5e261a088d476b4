//! All breakers of one filter, over its routes and snapshots.
//!
//! A breaker lives as long as a snapshot that needs it. Those of upstreams that the configuration names are there from the
//! start; those of hosts that requests name are made as they come, and are bounded: beyond that those go that nobody has asked for twice lately.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::breaker::Breaker;
use super::machine::{Force, State};
use super::meters::{Families, Labels, Meters};
use crate::Direction;

/// Breakers of hosts, for each route that has its own.
pub(super) const MOST_HOSTS: usize = 1024;

/// Which breaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    upstream: Arc<str>,
    /// Whether that is a host that requests name, rather than an upstream that the configuration does.
    is_host: bool,
    route: Option<Arc<str>>,
}

/// All breakers of one filter. Shared by its routes and snapshots.
pub struct Breakers {
    service: Arc<str>,
    direction: Direction,
    families: Families,
    /// Whether any call has ever failed after its head.
    pub(super) ends_badly: Arc<AtomicBool>,
    known: Mutex<HashMap<Key, Weak<Breaker>>>,
    asked: Mutex<HashMap<Option<Arc<str>>, Weak<Asked>>>,
}

/// A breaker, as the admin API shows it.
#[derive(Clone, Debug)]
pub struct BreakerReport {
    /// The upstream's name, or the host.
    pub upstream: String,
    /// Whether it is a host that requests name.
    pub is_host: bool,
    /// The route, if each has its own breaker.
    pub route: Option<String>,
    /// What it is in.
    pub state: State,
    /// Whether an operator wants it so.
    pub forced: bool,
    /// For how long it has been so.
    pub age: Duration,
    /// When it is going to be half-open, if it is open.
    pub left: Option<Duration>,
    /// What led to it, in numbers; `None` if it was never otherwise.
    pub reason: Option<String>,
    /// Calls within the window.
    pub calls: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that were slow.
    pub slow: u32,
    /// How many failed one after another, the last ones.
    pub consecutive: u32,
}

impl Breakers {
    pub(super) fn new(service: Arc<str>, direction: Direction, families: Families) -> Self {
        Self {
            service,
            direction,
            families,
            ends_badly: Arc::default(),
            known: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// The breaker of an upstream that the configuration names.
    pub(super) fn of(&self, upstream: &Arc<str>, route: Option<&Arc<str>>) -> Arc<Breaker> {
        self.find_or_make(upstream, route, false)
    }

    fn find_or_make(&self, upstream: &Arc<str>, route: Option<&Arc<str>>, is_host: bool) -> Arc<Breaker> {
        let key = Key {
            upstream: upstream.clone(),
            is_host,
            route: route.cloned(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = known.get(&key).and_then(Weak::upgrade) {
            return breaker;
        }
        known.retain(|_, breaker| breaker.strong_count() > 0);
        let labels = Labels {
            service: self.service.clone(),
            direction: self.direction,
            upstream: key.upstream.clone(),
            route: key.route.clone(),
        };
        let meters = Meters::new(self.families.clone(), labels.clone(), !is_host);
        let breaker = Arc::new(Breaker::new(labels, meters, now()));
        known.insert(key, Arc::downgrade(&breaker));
        breaker
    }

    /// The breakers of what requests name, for a route that has its own or for all others.
    pub(super) fn asked(&self, route: Option<&Arc<str>>) -> Arc<Asked> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = asked.get(&route.cloned()).and_then(Weak::upgrade) {
            return known;
        }
        asked.retain(|_, known| known.strong_count() > 0);
        let new = Arc::<Asked>::default();
        asked.insert(route.cloned(), Arc::downgrade(&new));
        new
    }

    /// All there are, by upstream and route.
    pub fn report(&self) -> Vec<BreakerReport> {
        let now = now();
        let mut reports: Vec<_> = self
            .living()
            .into_iter()
            .map(|(key, breaker)| report(&key, &breaker, now))
            .collect();
        reports.sort_by(|a, b| (&a.upstream, a.is_host, &a.route).cmp(&(&b.upstream, b.is_host, &b.route)));
        reports
    }

    /// Opens or closes the breakers of an upstream, all of them or that of one route, until something else is said, or leaves
    /// them to themselves. How many there are.
    pub fn force(&self, upstream: &str, route: Option<&str>, force: Force) -> usize {
        let now = now();
        let wanted =
            |key: &Key| *key.upstream == *upstream && route.is_none_or(|route| key.route.as_deref() == Some(route));
        let living = self.living();
        let chosen = living.iter().filter(|(key, _)| wanted(key));
        chosen.map(|(_, breaker)| breaker.force(force, now)).count()
    }

    fn living(&self) -> Vec<(Key, Arc<Breaker>)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let living = known
            .iter()
            .filter_map(|(key, breaker)| Some((key.clone(), breaker.upgrade()?)));
        living.collect()
    }
}

fn report(key: &Key, breaker: &Breaker, now: Instant) -> BreakerReport {
    breaker.look(now, |machine, sum, consecutive| BreakerReport {
        upstream: key.upstream.to_string(),
        is_host: key.is_host,
        route: key.route.as_deref().map(str::to_owned),
        state: machine.state(),
        forced: machine.is_forced(),
        age: now.saturating_duration_since(machine.since()),
        left: machine.until().map(|until| until.saturating_duration_since(now)),
        reason: machine.reason().map(|reason| reason.to_string()),
        calls: sum.calls,
        failed: sum.failed,
        slow: sum.slow,
        consecutive,
    })
}

type Map = HashMap<Arc<str>, Arc<Breaker>>;

/// Breakers of what requests or other filters name, found without a lock.
#[derive(Default)]
pub(super) struct Asked {
    hosts: ArcSwap<Map>,
    named: ArcSwap<Map>,
    /// Held by who adds one.
    adding: Mutex<()>,
}

impl Asked {
    /// The breaker of a host.
    pub(super) fn host(&self, breakers: &Breakers, host: &str, route: Option<&Arc<str>>) -> Arc<Breaker> {
        if let Some(breaker) = self.hosts.load().get(host) {
            breaker.touch();
            return breaker.clone();
        }
        self.add(&self.hosts, breakers, host, route, true)
    }

    /// The breaker of an upstream that the route of the filter does not name.
    pub(super) fn named(&self, breakers: &Breakers, upstream: &str, route: Option<&Arc<str>>) -> Arc<Breaker> {
        let found = self.named.load().get(upstream).cloned();
        found.unwrap_or_else(|| self.add(&self.named, breakers, upstream, route, false))
    }

    fn add(
        &self,
        map: &ArcSwap<Map>,
        breakers: &Breakers,
        name: &str,
        route: Option<&Arc<str>>,
        is_host: bool,
    ) -> Arc<Breaker> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let before = map.load();
        if let Some(breaker) = before.get(name) {
            return breaker.clone();
        }
        let name: Arc<str> = Arc::from(name);
        let breaker = breakers.find_or_make(&name, route, is_host);
        let mut after = Map::clone(&before);
        if after.len() >= MOST_HOSTS {
            make_room(&mut after);
        }
        after.insert(name, breaker.clone());
        map.store(Arc::new(after));
        breaker
    }
}

/// Drops a quarter, so that the next ones find room: first those that nobody has asked for again since the last time, and
/// none that is not closed as long as there are others.
fn make_room(map: &mut Map) {
    let mut by_use: Vec<_> = map
        .iter()
        .map(|(name, breaker)| (!breaker.is_closed(), breaker.take_touched(), name.clone()))
        .collect();
    by_use.sort();
    for (.., name) in by_use.into_iter().take(MOST_HOSTS / 4) {
        map.remove(&name);
    }
}

/// By tokio's clock, which tests advance.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Telemetry, testing};

    fn breakers(telemetry: &Telemetry) -> Breakers {
        testing::with_context("circuit_breaker", telemetry, |context| {
            let families = Families::of(context).unwrap();
            Breakers::new(Arc::from("test"), Direction::Outbound, families)
        })
    }

    fn series(telemetry: &Telemetry) -> usize {
        let families = telemetry.metrics.registry().gather();
        families.iter().map(|family| family.get_metric().len()).sum()
    }

    #[test]
    fn an_upstream_has_one_breaker_for_as_long_as_somebody_needs_it() {
        let telemetry = Telemetry::default();
        let breakers = breakers(&telemetry);
        let (app, route) = (Arc::from("app"), Arc::from("/a"));
        let one = breakers.of(&app, None);
        assert!(Arc::ptr_eq(&one, &breakers.of(&app, None)));
        let own = breakers.of(&app, Some(&route));
        assert!(!Arc::ptr_eq(&one, &own));
        let host = breakers.asked(None).host(&breakers, "app", None);
        assert!(!Arc::ptr_eq(&one, &host), "a host is no upstream of the same name");
        assert_eq!(breakers.report().len(), 3);
        assert_eq!(breakers.force("app", Some("/a"), Force::Open), 1);
        assert!(one.is_closed() && !own.is_closed());
        drop((one, own));
        assert_eq!(breakers.report().len(), 1);
        assert_eq!(
            series(&telemetry),
            0,
            "what is gone is not scraped, and a host that never failed never was"
        );
    }

    #[test]
    fn hosts_are_bounded_and_those_in_use_stay() {
        let telemetry = Telemetry::default();
        let breakers = breakers(&telemetry);
        let asked = breakers.asked(None);
        let open = asked.host(&breakers, "open.example", None);
        assert_eq!(breakers.force("open.example", None, Force::Open), 1);
        let before = series(&telemetry);
        let used = asked.host(&breakers, "used.example", None);
        for number in 0..MOST_HOSTS * 3 {
            asked.host(&breakers, &format!("{number}.example"), None);
            asked.host(&breakers, "used.example", None);
            assert!(asked.hosts.load().len() <= MOST_HOSTS);
        }
        assert!(Arc::ptr_eq(&used, &asked.host(&breakers, "used.example", None)));
        assert!(Arc::ptr_eq(&open, &asked.host(&breakers, "open.example", None)));
        assert!(breakers.report().len() <= MOST_HOSTS);
        assert_eq!(series(&telemetry), before, "hosts that never failed have no series");
    }
}
