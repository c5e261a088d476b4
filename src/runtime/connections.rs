//! Who is connected, as the admin API shows it.

use std::cmp::Reverse;
use std::time::Duration;

use pillion_filters::Direction;
use serde_json::{Value, json};

use super::Shared;

/// How long the workers are waited for: each looks a few times a second whether it is asked.
const WAIT: Duration = Duration::from_millis(500);
/// More clients or endpoints are counted, not shown.
const MOST: usize = 500;

impl Shared {
    /// Listeners, clients and pools.
    pub(super) async fn connections(&self) -> Value {
        let (pooled, complete) = self.pools.ask(WAIT).await;
        let mut pooled: Vec<_> = pooled.into_iter().collect();
        pooled.sort_by(|(a, of_a), (b, of_b)| {
            let most = |one: &crate::engine::Pooled| Reverse(one.http1_idle + one.http2_connections);
            (most(of_a), a).cmp(&(most(of_b), b))
        });
        let more = pooled.len().saturating_sub(MOST);
        let pools = pooled.iter().take(MOST).map(|(endpoint, pooled)| {
            json!({
                "endpoint": &**endpoint, "http1_idle": pooled.http1_idle,
                "http2_connections": pooled.http2_connections, "http2_streams": pooled.http2_streams,
            })
        });
        json!({
            "listeners": self.listeners.report(),
            "inbound": self.clients(Direction::Inbound), "outbound": self.clients(Direction::Outbound),
            "pools": pools.collect::<Vec<_>>(), "more_pools": more, "pools_complete": complete,
        })
    }

    /// Open connections of one side; nothing if there is no such side, and nobody left of one there was.
    fn clients(&self, direction: Direction) -> Value {
        let limits = self.snapshot.load().side(direction).map(|side| side.limits);
        let open = self.open.count(direction);
        if limits.is_none() && open == 0 {
            return Value::Null;
        }
        let by_client = limits.is_some_and(|limits| limits.max_connections_per_client.is_some());
        let mut clients = self.open.clients(direction);
        clients.sort_by_key(|(address, open)| (Reverse(*open), *address));
        let more = clients.len().saturating_sub(MOST);
        let clients = clients.iter().take(MOST);
        let clients: Vec<Value> = clients
            .map(|(address, open)| json!({ "address": address, "open": open }))
            .collect();
        json!({
            "open": open, "max": limits.map(|limits| limits.max_connections),
            "clients": by_client.then_some(clients), "more_clients": more,
        })
    }
}
