//! The typed configuration: every key, its unit, its default and what it does.
//!
//! The field docs are the manual: `docs/configuration.md` and the JSON Schema say the same. Every mapping refuses keys
//! it does not know. Filters' own settings are not here: each plugin reads its own (see [`Loaded::chain`]).
//!
//! [`Loaded::chain`]: super::Loaded::chain

mod address;
mod admin;
mod explain;
mod filters;
mod forwarded;
mod listeners;
mod reload;
mod routes;
mod secret;
mod telemetry;
mod template;
mod text;
mod timeouts;
mod upstreams;

use std::collections::BTreeMap;

use pillion_filters::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::address::{AppAddress, Authority, ListenAddress, NameServer};
pub use self::admin::{Admin, AdminPeer, AdminUrl};
pub use self::explain::{Explain, ExplainHeader, TraceUrl};
pub(super) use self::filters::COMMON_KEYS;
pub use self::filters::FilterSettings;
pub use self::forwarded::{Cidr, Forwarded, ForwardedStyle};
pub use self::listeners::{ConnectionLimits, Inbound, Outbound, OutboundProtocol, Pool};
pub use self::reload::Reload;
pub use self::routes::{HeaderMatch, HostPattern, Match, Method, Route, RouteDirection};
pub(super) use self::secret::REDACTED;
pub use self::secret::Secret;
pub use self::telemetry::{Otlp, OtlpEndpoint, OtlpProtocol, Telemetry};
pub use self::template::{PathTemplate, Segment};
use self::text::{Text, text_serde};
pub use self::timeouts::{Timeouts, TimeoutsOverlay};
pub use self::upstreams::{
    Balance, BalanceAlgorithm, DnsDiscovery, FailureShare, GrpcCheck, HashKey, HealthCheck, HealthProbe, HttpCheck,
    OutlierLatency, Outliers, Upstream, UpstreamEndpoint,
};

/// The configuration of a sidecar.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service's name in traces, metrics and logs. Required. Letters, digits, `.`, `_` and `-`, at most 63, beginning
    /// with a letter or digit.
    pub service: ServiceName,
    /// How many worker threads serve traffic, 1 to 256. Default: one for each core the process may use.
    #[serde(default)]
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<usize>,
    /// Traffic to the app. At least one of `inbound` and `outbound` is required.
    #[serde(default)]
    pub inbound: Option<Inbound>,
    /// Traffic the app sends.
    #[serde(default)]
    pub outbound: Option<Outbound>,
    /// How long the sidecar waits for the upstream. A route may set its own.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Connections to upstreams that are kept for the next request.
    #[serde(default)]
    pub pool: Pool,
    /// Named destinations, each one or more endpoints among which requests are balanced. `app` is what `inbound.app` is. Default:
    /// none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, Upstream>,
    /// The filters in order: requests run down the list, responses back up. Default: the built-in chain.
    #[serde(default)]
    pub chain: Vec<String>,
    /// Settings of the filters, by name. Each also takes `enabled` and `plugin`.
    #[serde(default)]
    pub filters: BTreeMap<String, FilterSettings>,
    /// What is different for some requests. The first route that matches is taken. Default: none.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// How the sidecar writes its own error answers.
    #[serde(default)]
    pub errors: Errors,
    /// What the app is told of the client, and whom it is believed from.
    #[serde(default)]
    pub forwarded: Forwarded,
    /// The admin API.
    #[serde(default)]
    pub admin: Admin,
    /// Traces and metrics.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// When the configuration is read again.
    #[serde(default)]
    pub reload: Reload,
    /// What is remembered of exchanges, so that the admin API can explain them.
    #[serde(default)]
    pub explain: Explain,
    /// How the sidecar stops.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// The sidecar's own log. Access logs are the `access_log` filter's.
    #[serde(default)]
    pub log: Log,
}

/// The name of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

impl ServiceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if begins && text.len() <= 63 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "is no service name: letters, digits, `.`, `_` and `-`, at most 63, beginning with a letter or digit"
                    .into(),
            )
        }
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for ServiceName {
    const EXPECTED: &'static str = "text";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
    const EXAMPLES: &'static [&'static str] = &["api-gateway"];
}
text_serde!(ServiceName);

/// How the sidecar writes its own error answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Errors {
    /// `json` (`application/json`) or `problem` (`application/problem+json`, RFC 9457). Default: `json`. gRPC clients get a
    /// gRPC status whatever is chosen.
    pub format: ErrorFormat,
}

/// The form of an error's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorFormat {
    /// `application/json` with `error`, `status`, `message` and `request_id`.
    #[default]
    Json,
    /// `application/problem+json`, RFC 9457.
    Problem,
}

impl From<ErrorFormat> for pillion_filters::ErrorFormat {
    fn from(format: ErrorFormat) -> Self {
        match format {
            ErrorFormat::Json => Self::Json,
            ErrorFormat::Problem => Self::Problem,
        }
    }
}

/// How the sidecar stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long to go on accepting after the signal, already not ready, so that load balancers notice. Default: `0s`.
    pub drain_delay: HumanDuration,
    /// How long exchanges in flight may take after that; what is left is then cut off. Default: `30s`.
    pub grace_period: HumanDuration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            drain_delay: HumanDuration::from_secs(0),
            grace_period: HumanDuration::from_secs(30),
        }
    }
}

/// The sidecar's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is written: `error`, `warn`, `info`, `debug` or `trace`. Default: `info`.
    pub level: LogLevel,
    /// `text` for people, `json` for collectors, one object a line. Default: `text`.
    pub format: LogFormat,
}

/// How severe a log line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What may become a failure.
    Warn,
    /// What happens at start, reload and stop.
    #[default]
    Info,
    /// What happens to connections and exchanges.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word used in configuration and in log filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
