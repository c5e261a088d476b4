//! What operators configure.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::conditions::{Condition, Trouble};
use crate::units::{HumanDuration, OrNone, Share};

/// Sends nothing more to an upstream that fails, until it has shown that it answers again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many failed calls are too many.
    pub failures: FailuresConfig,
    /// How many slow calls are too many.
    pub slow: SlowConfig,
    /// Which calls have failed: `5xx` (all statuses from 500 on but 501 and 505, which are about the request), `4xx`, single
    /// statuses from 400 on, `gateway_error` (502, 503, 504), `timeout`, `connect`, `reset`, `incomplete`, `malformed`, `refused`, and
    /// gRPC statuses such as `grpc:UNAVAILABLE`.
    pub counts: Vec<Condition>,
    /// How long nothing is sent.
    pub open: OpenConfig,
    /// How it is found out whether the upstream answers again.
    pub half_open: HalfOpenConfig,
    /// Whether all routes share the breaker of an `upstream`, or each `route` has its own.
    pub per: Scope,
    /// What a client gets that is not sent on: `stale` for what the cache holds, however old, `response` for a fixed answer,
    /// `upstream` for that of another upstream. 503 with `Retry-After` where there is none.
    pub fallback: Option<Fallback>,
}

/// What counts unless something is said: server errors, whatever goes wrong on the way, and the gRPC statuses that
/// OpenTelemetry's conventions call errors of a server, without `UNIMPLEMENTED`, which is of the request. An endpoint that refuses unread is
/// on its way out in good order.
fn defaults() -> Vec<Condition> {
    let troubles = [
        Trouble::Timeout,
        Trouble::Connect,
        Trouble::Reset,
        Trouble::Incomplete,
        Trouble::Malformed,
    ];
    let grpc = [2, 4, 13, 14, 15].map(Condition::Grpc);
    [&[Condition::ServerErrors][..], &troubles.map(Condition::Trouble), &grpc].concat()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            failures: FailuresConfig::default(),
            slow: SlowConfig::default(),
            counts: defaults(),
            open: OpenConfig::default(),
            half_open: HalfOpenConfig::default(),
            per: Scope::default(),
            fallback: None,
        }
    }
}

/// How many failed calls are too many. `none` lifts a limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailuresConfig {
    /// So many, one after another.
    pub consecutive: OrNone<u32>,
    /// This share of the calls within `window`, from 0 to 1; `none` for whatever share.
    pub ratio: OrNone<Share>,
    /// The fewest calls within `window` of which a share is taken, of failed and of slow ones.
    pub min_calls: u32,
    /// How far back calls are counted.
    pub window: HumanDuration,
}

impl Default for FailuresConfig {
    fn default() -> Self {
        Self {
            consecutive: 5.into(),
            ratio: Share(0.5).into(),
            min_calls: 20,
            window: HumanDuration::from_secs(10),
        }
    }
}

/// How many slow calls are too many.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlowConfig {
    /// A call is slow whose response head takes longer than this; `none` for never.
    pub after: OrNone<HumanDuration>,
    /// Too many: this share of the calls within `failures.window`, from 0 to 1.
    pub ratio: Share,
}

impl Default for SlowConfig {
    fn default() -> Self {
        Self {
            after: OrNone(None),
            ratio: Share(0.8),
        }
    }
}

/// How long nothing is sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpenConfig {
    /// The first time.
    #[serde(rename = "for")]
    pub lasts: HumanDuration,
    /// By how much longer each further time, as a factor, when a probe fails.
    pub growth: f64,
    /// At most, before `jitter`.
    pub max: HumanDuration,
    /// The share, from 0 to 1, by which it may last longer, at random: so that sidecars do not all probe at once.
    pub jitter: Share,
}

impl Default for OpenConfig {
    fn default() -> Self {
        Self {
            lasts: HumanDuration::from_secs(5),
            growth: 2.0,
            max: HumanDuration::from_secs(60),
            jitter: Share(0.2),
        }
    }
}

/// How it is found out whether the upstream answers again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HalfOpenConfig {
    /// How many calls are let through at once.
    pub probes: u32,
    /// How many of them must go well, one after another, for all to be let through again.
    pub successes: u32,
}

impl Default for HalfOpenConfig {
    fn default() -> Self {
        Self {
            probes: 3,
            successes: 3,
        }
    }
}

/// Who shares a breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All routes to an upstream.
    #[default]
    Upstream,
    /// Each route has its own for each upstream.
    Route,
}

/// What a client gets that is not sent on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// What the cache holds, however old, unless the response forbids that.
    Stale,
    /// A fixed answer.
    Response(StaticResponse),
    /// The answer of the upstream of this name.
    Upstream(String),
}

/// A fixed answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StaticResponse {
    /// Its status, from 200 to 599.
    pub status: u16,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

impl Default for StaticResponse {
    fn default() -> Self {
        Self {
            status: 503,
            headers: BTreeMap::new(),
            body: String::new(),
        }
    }
}
