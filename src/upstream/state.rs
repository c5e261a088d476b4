//! What has become of the members of a group: who is in service, who is out and until when. Pure: it is told the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Endpoint;
use super::ejection::{Ejection, cap};
use super::maglev::Maglev;
use super::member::{Member, Totals};
use super::recent::Tick;
use super::review;
use super::schedule::Schedule;
use super::settings::{Algorithm, Settings};
use super::slow_start;
use super::table::{Hashed, Slot, Table};

/// A member, and how it stands.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) member: Arc<Member>,
    pub(super) weight: u32,
    pub(super) is_healthy: bool,
    pub(super) ejection: Ejection,
    /// When its slow start began.
    warm_since: Option<Instant>,
    /// What it had done when members were last compared.
    seen: Totals,
}

impl Entry {
    pub(super) fn in_service(&self) -> bool {
        self.is_healthy && self.ejection.until().is_none()
    }

    /// Its share of what its weight gives it.
    pub(super) fn share(&self, settings: &Settings, now: Instant) -> f32 {
        match (settings.slow_start, self.warm_since) {
            (Some(window), Some(since)) => slow_start::share(window, now.saturating_duration_since(since)),
            _ => 1.0,
        }
    }

    fn enter(&mut self, now: Instant) {
        self.warm_since = Some(now);
        self.member.begin_anew();
    }
}

/// What became of the wish to eject a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ejected {
    /// It is out until then.
    Until(Instant),
    /// It stays: too many are out, or it is the last.
    Spared,
    /// It was not in service, or is no member any more.
    Already,
}

/// All members.
#[derive(Debug)]
pub(super) struct State {
    pub(super) entries: Vec<Entry>,
    /// When members are compared next.
    review: Instant,
    /// The table of hashes, until members or weights change.
    maglev: Option<Arc<Maglev>>,
}

impl State {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            review: now,
            maglev: None,
        }
    }

    /// Makes these the members. Those that stay keep what is known of them.
    pub(super) fn set_endpoints(
        &mut self,
        endpoints: Vec<(Arc<Endpoint>, u32)>,
        settings: &Settings,
        now: Instant,
        new_member: impl Fn(Arc<Endpoint>) -> Member,
    ) {
        // In a group that begins, or had lost all its members, nobody is there to spare a newcomer.
        let is_running = !self.entries.is_empty();
        let mut before: std::collections::HashMap<Arc<str>, Vec<Entry>> = std::collections::HashMap::new();
        for entry in self.entries.drain(..) {
            let name = Arc::clone(&entry.member.endpoint().name);
            before.entry(name).or_default().push(entry);
        }
        let mut seen = std::collections::HashSet::new();
        for (endpoint, weight) in endpoints {
            let weight = weight.max(1);
            if !seen.insert((Arc::clone(&endpoint.name), endpoint.protocol)) {
                continue;
            }
            let known = before.get_mut(&endpoint.name).and_then(|same| {
                let index = same.iter().position(|entry| **entry.member.endpoint() == *endpoint)?;
                Some(same.swap_remove(index))
            });
            self.entries.push(match known {
                Some(entry) => Entry { weight, ..entry },
                None => Entry {
                    member: Arc::new(new_member(endpoint)),
                    weight,
                    is_healthy: !(settings.checked && is_running),
                    ejection: Ejection::new(now),
                    warm_since: is_running.then_some(now),
                    seen: Totals::default(),
                },
            });
        }
        self.maglev = None;
    }

    /// Takes note of what a check found. Tells whether that is news.
    pub(super) fn set_healthy(&mut self, member: &Member, is_healthy: bool, now: Instant) -> bool {
        let mut entries = self.entries.iter_mut();
        let Some(entry) = entries.find(|entry| std::ptr::eq(&raw const *entry.member, member)) else {
            return false;
        };
        let was = std::mem::replace(&mut entry.is_healthy, is_healthy);
        if !was && entry.in_service() {
            entry.enter(now);
        }
        was != is_healthy
    }

    /// Takes a member out of service, if enough others stay.
    pub(super) fn eject(&mut self, member: &Member, settings: &Settings, now: Instant) -> Ejected {
        let Some(rules) = &settings.outliers else {
            return Ejected::Already;
        };
        let out = self
            .entries
            .iter()
            .filter(|entry| entry.ejection.until().is_some())
            .count();
        let in_service = self.entries.iter().filter(|entry| entry.in_service()).count();
        let has_room = out < cap(self.entries.len(), rules.max_ejected) && in_service > 1;
        let mut entries = self.entries.iter_mut();
        match entries.find(|entry| std::ptr::eq(&raw const *entry.member, member)) {
            Some(entry) if entry.in_service() && has_room => Ejected::Until(entry.ejection.eject(rules, now)),
            Some(entry) if entry.in_service() => Ejected::Spared,
            _ => Ejected::Already,
        }
    }

    /// Lets back whose time is over, and compares members when that is due. Gives those that are to be ejected, the worst first.
    pub(super) fn advance(&mut self, settings: &Settings, now: Instant) -> Vec<(Arc<Member>, &'static str)> {
        for entry in &mut self.entries {
            let is_back = if settings.outliers.is_some() {
                entry.ejection.release(now)
            } else {
                entry.ejection.pardon(now)
            };
            // Checks were turned off: nobody would ever say of it that it is well again.
            let is_pardoned = !settings.checked && !entry.is_healthy;
            entry.is_healthy |= is_pardoned;
            if (is_back || is_pardoned) && entry.in_service() {
                entry.enter(now);
            }
            let warm = settings.slow_start.unwrap_or_default();
            if entry
                .warm_since
                .is_some_and(|since| now.saturating_duration_since(since) >= warm)
            {
                entry.warm_since = None;
            }
        }
        let Some(rules) = settings.outliers.as_ref().filter(|rules| rules.compares()) else {
            return Vec::new();
        };
        if now < self.review {
            return Vec::new();
        }
        self.review = now + rules.interval.max(Duration::from_millis(1));
        let heard: Vec<Totals> = self.entries.iter_mut().map(Entry::heard).collect();
        let compared = self.entries.iter().zip(heard).filter(|(entry, _)| entry.in_service());
        let (members, heard): (Vec<&Entry>, Vec<Totals>) = compared.unzip();
        let outliers = review::outliers(&heard, rules);
        outliers
            .into_iter()
            .map(|(index, why)| (Arc::clone(&members[index].member), why))
            .collect()
    }

    /// Whether fewer are in service than the threshold says.
    fn is_panicking(&self, settings: &Settings) -> bool {
        let in_service = self.entries.iter().filter(|entry| entry.in_service()).count();
        !self.entries.is_empty() && (in_service as f64) < settings.panic_threshold * self.entries.len() as f64
    }

    /// The table to choose by.
    pub(super) fn table(&mut self, settings: &Settings) -> Table {
        let is_panicking = self.is_panicking(settings);
        let usable: Vec<usize> = (0..self.entries.len())
            .filter(|index| is_panicking || self.entries[*index].in_service())
            .collect();
        let weights: Vec<u32> = usable.iter().map(|index| self.entries[*index].weight).collect();
        let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mean = all / weights.len().max(1) as f64;
        let slots: Box<[Slot]> = usable
            .iter()
            .map(|index| {
                let entry = &self.entries[*index];
                Slot {
                    member: Arc::clone(&entry.member),
                    weight: (f64::from(entry.weight) / mean) as f32,
                    warm_since: entry.warm_since,
                }
            })
            .collect();
        Table {
            members: self.entries.iter().map(|entry| Arc::clone(&entry.member)).collect(),
            is_warming: settings.slow_start.is_some() && slots.iter().any(|slot| slot.warm_since.is_some()),
            slots,
            schedule: Schedule::new(&weights),
            hashed: self.hashed(settings, &usable),
            algorithm: settings.algorithm,
            decay: Tick::steps(settings.decay),
            slow_start: settings.slow_start.unwrap_or_default(),
            is_panicking,
            due: self.due(settings),
        }
    }

    fn hashed(&mut self, settings: &Settings, usable: &[usize]) -> Option<Hashed> {
        let Algorithm::ConsistentHash { .. } = settings.algorithm else {
            self.maglev = None;
            return None;
        };
        let maglev = self.maglev.take().unwrap_or_else(|| {
            let members: Vec<(&str, u32)> = self
                .entries
                .iter()
                .map(|entry| (&*entry.member.endpoint().name, entry.weight))
                .collect();
            Arc::new(Maglev::new(&members))
        });
        self.maglev = Some(Arc::clone(&maglev));
        let mut slots = vec![None; self.entries.len()];
        for (slot, index) in (0..).zip(usable) {
            slots[*index] = Some(slot);
        }
        Some(Hashed {
            maglev,
            slots: slots.into_boxed_slice(),
        })
    }

    /// When something changes by time alone.
    fn due(&self, settings: &Settings) -> Option<Instant> {
        let back = self.entries.iter().filter_map(|entry| entry.ejection.until());
        let warm = settings.slow_start.into_iter().flat_map(|window| {
            let since = self.entries.iter().filter_map(|entry| entry.warm_since);
            since.map(move |since| since + window)
        });
        let compares = settings
            .outliers
            .as_ref()
            .is_some_and(super::settings::Outliers::compares);
        back.chain(warm).chain(compares.then_some(self.review)).min()
    }
}

impl Entry {
    /// What it did since this was last asked.
    fn heard(&mut self) -> Totals {
        let totals = self.member.totals();
        let before = std::mem::replace(&mut self.seen, totals);
        Totals {
            successes: totals.successes - before.successes,
            failures: totals.failures - before.failures,
            busy: totals.busy.saturating_sub(before.busy),
        }
    }
}
