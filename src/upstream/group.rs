//! An upstream with its members: whom to send a request to, and what is known of each.
//!
//! All workers share it. A choice reads a table that never changes, and takes no lock. What changes the table is rare: members
//! come and go, a check finds one unhealthy, one is ejected or comes back. That takes a lock and puts a new table in its place.
//! Nothing here has a timer: what is due by time is done by the next choice, or by [`Group::tick`].

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use super::Endpoint;
use super::member::Member;
use super::settings::Settings;
use super::state::{Ejected, State};
use super::status::GroupStatus;
use super::table::{Draw, Table};

/// An upstream with its members.
#[derive(Debug)]
pub(crate) struct Group {
    name: Arc<str>,
    epoch: Instant,
    this: Weak<Self>,
    rules: Arc<ArcSwap<Settings>>,
    table: ArcSwap<Table>,
    /// Where round robin goes on.
    cursor: AtomicUsize,
    all_active: Arc<AtomicUsize>,
    state: Mutex<State>,
    is_panicking: AtomicBool,
    panics: AtomicU64,
    ejections: AtomicU64,
    spared: AtomicU64,
}

/// What has happened to a group so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupTotals {
    /// How often too few members were in service, so that all were used.
    pub(crate) panics: u64,
    /// How often a member was ejected.
    pub(crate) ejections: u64,
    /// How often one would have been, but too many were out.
    pub(crate) spared: u64,
}

impl Group {
    /// A group without members.
    pub(crate) fn new(name: &str, settings: Settings, now: Instant) -> Arc<Self> {
        let mut state = State::new(now);
        let table = state.table(&settings);
        Arc::new_cyclic(|this| Self {
            name: Arc::from(name),
            epoch: now,
            this: Weak::clone(this),
            rules: Arc::new(ArcSwap::from_pointee(settings)),
            table: ArcSwap::from_pointee(table),
            // Sidecars that start together shall not all begin with the same member.
            cursor: AtomicUsize::new(fastrand::usize(..1 << 16)),
            all_active: Arc::default(),
            state: Mutex::new(state),
            is_panicking: AtomicBool::new(false),
            panics: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            spared: AtomicU64::new(0),
        })
    }

    /// What it is called in the configuration.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.rules.load_full()
    }

    /// Takes up other settings. Members keep what is known of them.
    pub(crate) fn configure(&self, settings: Settings, now: Instant) {
        let mut state = self.state();
        self.rules.store(Arc::new(settings));
        self.advance(&mut state, now);
    }

    /// Makes these the members, each with its weight. Members that stay keep their state; those that go finish their calls. An
    /// endpoint that is named twice counts once.
    pub(crate) fn set_endpoints(&self, endpoints: Vec<(Arc<Endpoint>, u32)>, now: Instant) {
        let settings = self.rules.load_full();
        let new_member = |endpoint| {
            Member::new(
                endpoint,
                Weak::clone(&self.this),
                self.epoch,
                Arc::clone(&self.rules),
                Arc::clone(&self.all_active),
            )
        };
        let mut state = self.state();
        state.set_endpoints(endpoints, &settings, now, new_member);
        self.advance(&mut state, now);
    }

    /// Says what an active check found of a member. One that was unhealthy comes back with a slow start.
    pub(crate) fn set_healthy(&self, member: &Member, is_healthy: bool, now: Instant) {
        let mut state = self.state();
        // The last word of a check that was under way when checks were turned off would hold for ever.
        if !self.rules.load().checked {
            return;
        }
        if state.set_healthy(member, is_healthy, now) {
            let endpoint = &member.endpoint().name;
            if is_healthy {
                tracing::info!(upstream = %self.name, %endpoint, "healthy again");
            } else {
                tracing::warn!(upstream = %self.name, %endpoint, "unhealthy");
            }
            self.advance(&mut state, now);
        }
    }

    /// A member for a request. `hash` is what consistent hashing goes by, see [`hash`](super::hash); those in `avoid`, which were tried
    /// already, are taken only if there is nobody else. `None` if there are no members, or none is in service and the panic
    /// threshold is 0.
    pub(crate) fn pick(&self, hash: Option<u64>, avoid: &[Arc<Member>], now: Instant) -> Option<Arc<Member>> {
        let table = self.current(now);
        let draw = Draw {
            cursor: &self.cursor,
            all_active: &self.all_active,
            epoch: self.epoch,
            hash,
            avoid,
            now,
        };
        table.pick(&draw).cloned()
    }

    /// Does what is due: lets ejected members back, compares members. Choices do this too; it is for groups that have none.
    pub(crate) fn tick(&self, now: Instant) {
        drop(self.current(now));
    }

    /// All members, whether in service or not.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.table.load().members.to_vec()
    }

    /// Whether too few members are in service, so that all are used.
    pub(crate) fn is_panicking(&self) -> bool {
        self.is_panicking.load(Ordering::Relaxed)
    }

    /// What has happened so far.
    pub(crate) fn totals(&self) -> GroupTotals {
        GroupTotals {
            panics: self.panics.load(Ordering::Relaxed),
            ejections: self.ejections.load(Ordering::Relaxed),
            spared: self.spared.load(Ordering::Relaxed),
        }
    }

    /// How the group and its members stand.
    pub(crate) fn status(&self, now: Instant) -> GroupStatus {
        self.tick(now);
        let settings = self.settings();
        let state = self.state();
        GroupStatus::of(self, &settings, &state.entries, now)
    }

    /// Takes a member out of service that failed too often in a row.
    pub(super) fn eject(&self, member: &Arc<Member>, why: &'static str, now: Instant) {
        let mut state = self.state();
        if self.try_eject(&mut state, member, why, now) {
            self.advance(&mut state, now);
        }
    }

    fn try_eject(&self, state: &mut State, member: &Arc<Member>, why: &'static str, now: Instant) -> bool {
        let endpoint = &member.endpoint().name;
        match state.eject(member, &self.rules.load(), now) {
            Ejected::Until(until) => {
                self.ejections.fetch_add(1, Ordering::Relaxed);
                let seconds = until.saturating_duration_since(now).as_secs_f64();
                tracing::warn!(upstream = %self.name, %endpoint, why, seconds, "ejected");
                true
            }
            Ejected::Spared => {
                self.spared.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(upstream = %self.name, %endpoint, why, "not ejected: too many are out, or it is the last");
                false
            }
            Ejected::Already => false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, made anew if that is due. One thread does that; the others choose by the old one meanwhile.
    fn current(&self, now: Instant) -> Guard<Arc<Table>> {
        let table = self.table.load();
        if table.due.is_none_or(|due| now < due) {
            return table;
        }
        let Ok(mut state) = self.state.try_lock() else {
            return table;
        };
        drop(table);
        // Another thread may have done it since.
        if self.table.load().due.is_some_and(|due| due <= now) {
            self.advance(&mut state, now);
        }
        self.table.load()
    }

    /// Brings the state up to that time and publishes it.
    fn advance(&self, state: &mut State, now: Instant) {
        let rules = self.rules.load_full();
        for (member, why) in state.advance(&rules, now) {
            self.try_eject(state, &member, why, now);
        }
        let table = state.table(&rules);
        let (in_service, members) = (
            state.entries.iter().filter(|entry| entry.in_service()).count(),
            state.entries.len(),
        );
        let is_panicking = table.is_panicking;
        self.table.store(Arc::new(table));
        let was_panicking = self.is_panicking.swap(is_panicking, Ordering::Relaxed);
        if is_panicking && !was_panicking {
            self.panics.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(upstream = %self.name, in_service, members, "panic: too few are in service, so all are used");
        } else if was_panicking && !is_panicking {
            tracing::info!(upstream = %self.name, in_service, members, "panic is over");
        }
    }
}

#[cfg(test)]
mod tests;
