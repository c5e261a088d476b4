//! Idle HTTP/1 connections of one worker, newest first.
//!
//! Each worker has its own, so nothing is shared between cores. A connection is looked at when it is taken (open and
//! silent?) and by a sweep a few times a second, which closes what is old or was closed by the peer, and [learns](learned).

mod learned;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::learned::{Learned, less_margin};
use crate::listener::wire::Wire;
use crate::telemetry::{Closed, ProxyMetrics};

/// Bounds of a worker's pool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolLimits {
    /// Idle connections kept per endpoint.
    pub(crate) max_idle: usize,
    /// How long one may be idle.
    pub(crate) idle_timeout: Duration,
    /// How long one may live.
    pub(crate) max_lifetime: Option<Duration>,
    /// How many exchanges one may serve.
    pub(crate) max_requests: Option<u32>,
}

/// Idle connections kept in all, whatever the number of endpoints: an outbound sidecar meets many hosts.
const MAX_IDLE_TOTAL: usize = 1024;
/// Endpoints of which something is remembered although no connection to them is kept.
const MAX_REMEMBERED: usize = 1024;

struct Idle {
    wire: Box<Wire>,
    since: Instant,
    /// When it was last seen open.
    open_at: Instant,
    /// The age up to which it is used, by what the endpoint said.
    usable: Duration,
}

impl Idle {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// What is kept of one endpoint.
#[derive(Default)]
struct Shelf {
    idle: Vec<Idle>,
    learned: Learned,
}

impl Shelf {
    /// The newest connection that can be used. What turns out closed teaches when.
    fn take(&mut self, limits: PoolLimits, careful: bool, now: Instant, metrics: &ProxyMetrics) -> Option<Box<Wire>> {
        while let Some(newest) = self.idle.last() {
            let known = self.learned.usable().unwrap_or(limits.idle_timeout);
            let usable = limits.idle_timeout.min(newest.usable).min(known);
            // What cannot be repeated keeps well away from the endpoint's own limit.
            let usable = if careful { usable / 2 } else { usable };
            if newest.age(now) >= usable {
                // The others are older still.
                return None;
            }
            let newest = self.idle.pop()?;
            if newest.wire.is_idle() {
                return Some(newest.wire);
            }
            self.lost(&newest, metrics);
        }
        None
    }

    fn lost(&mut self, idle: &Idle, metrics: &ProxyMetrics) {
        metrics.upstream_closed(Closed::ByPeer);
        self.learned
            .closed_after(idle.open_at.saturating_duration_since(idle.since));
    }

    /// Closes what is too old or was closed by the peer.
    fn sweep(&mut self, limits: PoolLimits, now: Instant, metrics: &ProxyMetrics) {
        let idle = std::mem::take(&mut self.idle);
        for mut connection in idle {
            if !connection.wire.is_idle() {
                self.lost(&connection, metrics);
                continue;
            }
            connection.open_at = now;
            let age = connection.age(now);
            self.learned.open_at(age);
            let known = self.learned.usable().unwrap_or(limits.idle_timeout);
            // The oldest is watched for longer than it is used.
            let stays = age < limits.idle_timeout && (self.idle.is_empty() || age < connection.usable.min(known));
            if stays {
                self.idle.push(connection);
            } else {
                metrics.upstream_closed(Closed::Idle);
            }
        }
    }
}

#[derive(Default)]
struct Inner {
    shelves: HashMap<Arc<str>, Shelf>,
    total: usize,
}

/// The idle connections of one worker.
#[derive(Default)]
pub(super) struct Pool(Mutex<Inner>);

impl Pool {
    /// Never held across an await, and only ever taken by the worker's own thread.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest usable connection to the endpoint; `careful` for a request that cannot be repeated.
    pub(super) fn take(
        &self,
        endpoint: &str,
        limits: PoolLimits,
        careful: bool,
        now: Instant,
        metrics: &ProxyMetrics,
    ) -> Option<Box<Wire>> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let shelf = inner.shelves.get_mut(endpoint)?;
        let before = shelf.idle.len();
        let taken = shelf.take(limits, careful, now, metrics);
        inner.total -= before - shelf.idle.len();
        taken
    }

    /// Keeps a connection for the next exchange, unless there are enough or it has served its time. `keep_alive` is how long
    /// the endpoint said it would.
    pub(super) fn put(
        &self,
        endpoint: &Arc<str>,
        mut wire: Box<Wire>,
        limits: PoolLimits,
        keep_alive: Option<Duration>,
        now: Instant,
        metrics: &ProxyMetrics,
    ) {
        let served = wire.served();
        if limits.max_requests.is_some_and(|most| served >= most) {
            return metrics.upstream_closed(Closed::Requests);
        }
        let lived = now.saturating_duration_since(wire.opened());
        if limits.max_lifetime.is_some_and(|most| lived >= most) {
            return metrics.upstream_closed(Closed::Lifetime);
        }
        let mut inner = self.inner();
        let inner = &mut *inner;
        let idle = Idle {
            wire,
            since: now,
            open_at: now,
            usable: keep_alive.map_or(Duration::MAX, less_margin),
        };
        if inner.total >= MAX_IDLE_TOTAL || limits.max_idle == 0 {
            return metrics.upstream_closed(Closed::Full);
        }
        if let Some(shelf) = inner.shelves.get_mut(&**endpoint) {
            if shelf.idle.len() >= limits.max_idle {
                return metrics.upstream_closed(Closed::Full);
            }
            shelf.idle.push(idle);
        } else {
            let shelf = Shelf {
                idle: vec![idle],
                learned: Learned::default(),
            };
            inner.shelves.insert(endpoint.clone(), shelf);
        }
        inner.total += 1;
    }

    /// Closes what is too old or was closed by the peer; returns how many are left.
    pub(super) fn sweep(&self, limits: PoolLimits, now: Instant, metrics: &ProxyMetrics) -> usize {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let mut remembered = 0;
        inner.shelves.retain(|_, shelf| {
            shelf.sweep(limits, now, metrics);
            let known = shelf.learned.usable().is_some() && remembered < MAX_REMEMBERED;
            remembered += usize::from(known);
            known || !shelf.idle.is_empty()
        });
        inner.total = inner.shelves.values().map(|shelf| shelf.idle.len()).sum();
        inner.total
    }

    /// Tells of each endpoint how many connections to it are idle.
    pub(super) fn each(&self, mut tell: impl FnMut(&Arc<str>, usize)) {
        let inner = self.inner();
        let kept = inner.shelves.iter().filter(|(_, shelf)| !shelf.idle.is_empty());
        kept.for_each(|(endpoint, shelf)| tell(endpoint, shelf.idle.len()));
    }
}
