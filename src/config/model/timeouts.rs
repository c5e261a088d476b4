//! How long the sidecar waits for an upstream.

use pillion_filters::units::{HumanDuration, OrNone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long the sidecar waits for the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Until a connection is open; then the client gets a 504. Default: `1s`.
    pub connect: HumanDuration,
    /// From the end of the request to the response head; then the client gets a 504. Default: `60s`.
    pub first_byte: HumanDuration,
    /// Between two bytes of a body, either way; then the exchange is cut off. Default: `60s`.
    pub idle: HumanDuration,
    /// Without a byte in either direction on a connection that was switched to another protocol (WebSocket) or tunnelled
    /// (CONNECT); then it is closed. Default: `1h`.
    pub tunnel: HumanDuration,
    /// For the whole exchange, retries included, or `none`. Default: `none`, so that streams may last.
    pub exchange: OrNone<HumanDuration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: HumanDuration::from_secs(1),
            first_byte: HumanDuration::from_secs(60),
            idle: HumanDuration::from_secs(60),
            tunnel: HumanDuration::from_secs(3600),
            exchange: OrNone(None),
        }
    }
}

/// A route's own timeouts: only those that are named differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsOverlay {
    /// Until a connection is open. Default: `timeouts.connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<HumanDuration>,
    /// From the end of the request to the response head. Default: `timeouts.first_byte`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<HumanDuration>,
    /// Between two bytes of a body. Default: `timeouts.idle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<HumanDuration>,
    /// Without a byte on a switched or tunnelled connection. Default: `timeouts.tunnel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<HumanDuration>,
    /// For the whole exchange, or `none`. Default: `timeouts.exchange`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<OrNone<HumanDuration>>,
}

impl TimeoutsOverlay {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Timeouts {
    /// These, with a route's own over them.
    pub fn overlaid(&self, route: &TimeoutsOverlay) -> Self {
        Self {
            connect: route.connect.unwrap_or(self.connect),
            first_byte: route.first_byte.unwrap_or(self.first_byte),
            idle: route.idle.unwrap_or(self.idle),
            tunnel: route.tunnel.unwrap_or(self.tunnel),
            exchange: route.exchange.unwrap_or(self.exchange),
        }
    }
}
