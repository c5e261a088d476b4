//! How many client connections are open, in all and of each client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pillion_filters::Direction;

use crate::snapshot::ConnectionLimits;
use crate::telemetry::ProxyMetrics;

/// Open client connections of all workers.
#[derive(Default)]
pub(crate) struct OpenConnections {
    inbound: Side,
    outbound: Side,
}

#[derive(Default)]
struct Side {
    open: AtomicUsize,
    /// Only while the connections of each client are limited; as many entries as connections at most.
    clients: Mutex<HashMap<IpAddr, usize>>,
}

impl Side {
    /// Counts one more of the client, unless it has enough.
    fn enter(&self, client: IpAddr, most: usize) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(client).or_default();
        let enters = *open < most;
        *open += usize::from(enters);
        enters
    }

    fn leave(&self, client: IpAddr) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&client) {
            *open -= 1;
            if *open == 0 {
                clients.remove(&client);
            }
        }
    }
}

impl OpenConnections {
    fn of(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// Both directions together.
    pub(crate) fn total(&self) -> usize {
        self.inbound.open.load(Ordering::Relaxed) + self.outbound.open.load(Ordering::Relaxed)
    }

    /// Of one direction.
    pub(crate) fn count(&self, direction: Direction) -> usize {
        self.of(direction).open.load(Ordering::Relaxed)
    }

    /// How many each client has open, where that is counted.
    pub(crate) fn clients(&self, direction: Direction) -> Vec<(IpAddr, usize)> {
        let clients = self.of(direction).clients.lock();
        let clients = clients.unwrap_or_else(PoisonError::into_inner);
        clients.iter().map(|(client, open)| (*client, *open)).collect()
    }

    /// Counts a connection until the guard is dropped; none where it is one too many.
    pub(super) fn admit(
        self: &Arc<Self>,
        direction: Direction,
        client: IpAddr,
        limits: ConnectionLimits,
        metrics: &Arc<ProxyMetrics>,
    ) -> Option<OpenGuard> {
        let of_direction = metrics.connections(direction);
        let side = self.of(direction);
        if side.open.fetch_add(1, Ordering::Relaxed) >= limits.max_connections {
            side.open.fetch_sub(1, Ordering::Relaxed);
            of_direction.too_many.inc();
            return None;
        }
        let limited = limits.max_connections_per_client;
        if limited.is_some_and(|most| !side.enter(client, most)) {
            side.open.fetch_sub(1, Ordering::Relaxed);
            of_direction.too_many_of_client.inc();
            return None;
        }
        of_direction.accepted.inc();
        of_direction.open.inc();
        Some(OpenGuard {
            connections: self.clone(),
            metrics: metrics.clone(),
            direction,
            client: limited.map(|_| client),
        })
    }
}

/// Counts a connection down however its task ends.
pub(super) struct OpenGuard {
    connections: Arc<OpenConnections>,
    metrics: Arc<ProxyMetrics>,
    direction: Direction,
    /// Where connections of each client are counted.
    client: Option<IpAddr>,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        let side = self.connections.of(self.direction);
        if let Some(client) = self.client {
            side.leave(client);
        }
        side.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections(self.direction).open.dec();
    }
}
