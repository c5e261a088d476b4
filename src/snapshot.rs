//! One validated configuration, compiled: listeners, routes, chains, upstreams. Swapped whole; an exchange keeps the one
//! it began with.

mod build;
mod routes;
mod upstreams;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use pillion_filters::{Chain, Direction, Route};
use pingora_http::RequestHeader;

pub(crate) use self::build::{Ground, build};
pub(crate) use self::routes::Held;
use self::routes::RouteTable;
pub(crate) use self::upstreams::{Destination, Destinations};
use crate::config::ConnectionLimits as ConfiguredLimits;
use crate::engine::{Forwarding, PoolLimits};
use crate::explain::Explain;
use crate::upstream::{Endpoint, Protocol, Wanted};

/// Everything an exchange needs to know.
pub(crate) struct Snapshot {
    inbound: Option<Side>,
    outbound: Option<Side>,
    /// What is remembered of exchanges.
    pub(crate) explain: Explain,
    /// The upstreams.
    pub(crate) destinations: Destinations,
}

impl Snapshot {
    /// What holds for one direction, if the sidecar serves it.
    pub(crate) fn side(&self, direction: Direction) -> Option<&Side> {
        match direction {
            Direction::Inbound => self.inbound.as_ref(),
            Direction::Outbound => self.outbound.as_ref(),
        }
    }
}

impl Snapshot {
    /// What the configuration says of its upstreams, to be told when it is taken up.
    pub(crate) fn wanted(&self) -> &[Wanted] {
        &self.destinations.wanted
    }
}

/// What decides where a request of a route goes.
#[derive(Clone, Debug)]
pub(crate) enum Upstream {
    /// An upstream of the configuration, the app among them.
    Named(Destination),
    /// The host the request names, spoken to in that protocol: the sidecar is the app's forward proxy.
    Authority(Protocol),
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(destination) => destination.fmt(f),
            Self::Authority(protocol) => write!(f, "the host the request names, {}", protocol.as_str()),
        }
    }
}

/// One direction.
pub(crate) struct Side {
    /// Limits of client connections.
    pub(crate) limits: ConnectionLimits,
    /// Bounds of the pools of upstream connections.
    pub(crate) pool: PoolLimits,
    /// How clients are named to the app.
    pub(crate) forwarding: Forwarding,
    /// The app, inbound.
    pub(crate) app: Option<Arc<Endpoint>>,
    routes: RouteTable,
}

impl Side {
    /// The first route that matches, or the one called `unmatched`.
    pub(crate) fn route(&self, head: &RequestHeader, authority: Option<&HeaderValue>) -> &CompiledRoute {
        self.routes.find(head, authority)
    }

    /// Every route up to the one that is taken, with its conditions and whether they hold.
    pub(crate) fn told(
        &self,
        head: &RequestHeader,
        authority: Option<&HeaderValue>,
    ) -> Vec<(&CompiledRoute, Vec<Held>)> {
        self.routes.told(head, authority)
    }

    /// The route of what no route matches, and of what is no request.
    pub(crate) fn unmatched(&self) -> &CompiledRoute {
        self.routes.unmatched()
    }
}

/// A route with its chain.
pub(crate) struct CompiledRoute {
    /// What filters and telemetry see of it.
    pub(crate) route: Arc<Route>,
    /// Its filters.
    pub(crate) chain: Chain,
    /// Where its requests go.
    pub(crate) upstream: Upstream,
}

/// Limits of client connections, as the listener uses them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Open at once; further ones are closed at once and counted.
    pub(crate) max_connections: usize,
    /// The same of one client address.
    pub(crate) max_connections_per_client: Option<usize>,
    /// For a whole request head.
    pub(crate) header_timeout: Duration,
    /// Without a request.
    pub(crate) idle_timeout: Duration,
    /// HTTP/2 streams open at once on a connection.
    pub(crate) max_streams: u32,
    /// HTTP/2 streams a client may reset on a connection, unless it lets as many end.
    pub(crate) max_resets: u32,
    /// Whether a client that closed its sending side still gets its answer.
    pub(crate) allow_half_close: bool,
}

impl From<&ConfiguredLimits> for ConnectionLimits {
    fn from(limits: &ConfiguredLimits) -> Self {
        Self {
            max_connections: limits.max_connections.get(),
            max_connections_per_client: limits.max_connections_per_client.0.map(NonZeroUsize::get),
            header_timeout: limits.header_timeout.0,
            idle_timeout: limits.idle_timeout.0,
            max_streams: limits.max_streams.get(),
            max_resets: limits.max_resets.get(),
            allow_half_close: limits.allow_half_close,
        }
    }
}
