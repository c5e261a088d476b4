//! Idle HTTP/1 connections of one worker, newest first.
//!
//! Each worker has its own, so nothing is shared between cores. A connection is looked at when it is taken (open and
//! silent?) and by a sweep once a second, which closes what is old or was closed by the peer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::listener::wire::Wire;

/// Bounds of a worker's pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Idle connections kept per endpoint.
    pub(crate) max_idle: usize,
    /// How long one may be idle.
    pub(crate) idle_timeout: Duration,
}

/// Idle connections kept in all, whatever the number of endpoints: an outbound sidecar meets many hosts.
const MAX_IDLE_TOTAL: usize = 1024;

struct Idle {
    wire: Box<Wire>,
    since: Instant,
}

#[derive(Default)]
struct Inner {
    idle: HashMap<Arc<str>, Vec<Idle>>,
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

    /// The newest usable connection to the endpoint.
    pub(super) fn take(&self, endpoint: &str, limits: PoolLimits, now: Instant) -> Option<Box<Wire>> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let connections = inner.idle.get_mut(endpoint)?;
        while let Some(idle) = connections.pop() {
            inner.total -= 1;
            if now.saturating_duration_since(idle.since) < limits.idle_timeout && idle.wire.is_idle() {
                return Some(idle.wire);
            }
        }
        None
    }

    /// Keeps a connection for the next exchange, unless there are enough.
    pub(super) fn put(&self, endpoint: &Arc<str>, wire: Box<Wire>, limits: PoolLimits, now: Instant) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        if inner.total >= MAX_IDLE_TOTAL {
            return;
        }
        let idle = Idle { wire, since: now };
        if let Some(connections) = inner.idle.get_mut(&**endpoint) {
            if connections.len() < limits.max_idle {
                connections.push(idle);
                inner.total += 1;
            }
        } else if limits.max_idle > 0 {
            inner.idle.insert(endpoint.clone(), vec![idle]);
            inner.total += 1;
        }
    }

    /// Closes what is too old or was closed by the peer; returns how many are left.
    pub(super) fn sweep(&self, limits: PoolLimits) -> usize {
        let mut inner = self.inner();
        let inner = &mut *inner;
        inner.idle.retain(|_, connections| {
            connections.retain(|idle| idle.since.elapsed() < limits.idle_timeout && idle.wire.is_idle());
            !connections.is_empty()
        });
        inner.total = inner.idle.values().map(Vec::len).sum();
        inner.total
    }
}
