//! Both listeners, and how many connections there may be on either side.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use pillion_filters::units::{HumanDuration, OrNone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::{AppAddress, ListenAddress};
use super::filters::FilterSettings;

/// Traffic to the app.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    /// Where clients connect, such as `0.0.0.0:8000`. Required. HTTP/1.1 and HTTP/2 without TLS are told apart by their
    /// first bytes.
    pub listen: ListenAddress,
    /// Where the app listens: `http://host:port`, `h2c://host:port` (HTTP/2), `auto://host:port` (HTTP/2 if the app takes it, which
    /// is tried once) or `unix:/path`. Required.
    pub app: AppAddress,
    /// Limits for clients' connections.
    #[serde(default)]
    pub connections: ConnectionLimits,
    /// Filter settings that hold for inbound traffic only, over those at the top level. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, FilterSettings>,
}

/// Traffic the app sends.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// Where the app connects to send its requests, such as `127.0.0.1:15001`. Required. Anything but loopback needs
    /// `allow_remote`.
    pub listen: ListenAddress,
    /// Whether other machines may connect. Whoever does can reach all that this machine reaches, for the sidecar asks
    /// nobody who they are: so only where a firewall or a network of its own keeps strangers out. Default: `false`.
    #[serde(default)]
    pub allow_remote: bool,
    /// What the hosts that the app's requests name are spoken to in: `http1`, `h2c` (HTTP/2 without TLS) or `auto`, which tries
    /// HTTP/2 once with each host: other sidecars take it. Default: `http1`.
    #[serde(default)]
    pub protocol: OutboundProtocol,
    /// Limits for the app's connections.
    #[serde(default)]
    pub connections: ConnectionLimits,
    /// Filter settings that hold for outbound traffic only, over those at the top level. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, FilterSettings>,
}

/// What other hosts are spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutboundProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, from the first byte.
    H2c,
    /// HTTP/2 if the host takes it, otherwise HTTP/1.1.
    Auto,
}

/// Limits for the connections a listener accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionLimits {
    /// How many connections may be open at once; further ones are closed at once and counted in
    /// `pillion_connections_refused_total`. Default: `10000`.
    pub max_connections: NonZeroUsize,
    /// How many of them may be of one client address; further ones are treated the same. Not for where a proxy or load balancer
    /// stands in front, which is one address. Default: `none`.
    pub max_connections_per_client: OrNone<NonZeroUsize>,
    /// How long a client may take to send a request's head; then it gets a 408. Default: `10s`.
    pub header_timeout: HumanDuration,
    /// How long a connection is kept open without a request; then it is closed. Default: `75s`.
    pub idle_timeout: HumanDuration,
    /// How many HTTP/2 streams one connection may have open. Default: `128`.
    pub max_streams: NonZeroU32,
    /// How many HTTP/2 streams a client may reset on one connection. One that resets more, and most of what it opens, gets GOAWAY
    /// with `ENHANCE_YOUR_CALM`, and its connection is closed. Default: `200`.
    pub max_resets: NonZeroU32,
    /// Whether a client that closed its sending side still gets its answer. Default: `false`: it counts as gone, and its
    /// exchange is ended.
    pub allow_half_close: bool,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: NonZeroUsize::MIN.saturating_add(9_999),
            max_connections_per_client: OrNone(None),
            header_timeout: HumanDuration::from_secs(10),
            idle_timeout: HumanDuration::from_secs(75),
            max_streams: NonZeroU32::MIN.saturating_add(127),
            max_resets: NonZeroU32::MIN.saturating_add(199),
            allow_half_close: false,
        }
    }
}

/// Connections to upstreams that are kept for the next request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// How many idle connections each worker keeps to one endpoint; `0` keeps none. Default: `128`.
    pub max_idle: usize,
    /// How long an idle connection is kept at most. One to an app that closes earlier, and says so by `Keep-Alive: timeout=` or is
    /// seen to, is used only for as long as it is safe. Default: `4s`: Node.js and uvicorn close after 5 seconds.
    pub idle_timeout: HumanDuration,
    /// How long a connection lives at most; it is closed after the exchange that takes it beyond. Default: `none`.
    pub max_lifetime: OrNone<HumanDuration>,
    /// How many requests a connection serves at most. Default: `none`.
    pub max_requests: OrNone<NonZeroU32>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_idle: 128,
            idle_timeout: HumanDuration::from_secs(4),
            max_lifetime: OrNone(None),
            max_requests: OrNone(None),
        }
    }
}
