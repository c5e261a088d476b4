//! Traces and metrics: where they go and how they are cut.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use pillion_filters::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::host_and_port;
use super::secret::Secret;
use super::text::{Text, text_serde};

/// Traces and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where spans are sent.
    pub otlp: Otlp,
    /// Attributes of the resource that spans and metrics come from, besides `service.name`. Default: none.
    pub resource: BTreeMap<String, String>,
    /// Upper bounds of the duration histograms' buckets, in seconds, ascending. Default: those of OpenTelemetry's HTTP
    /// conventions, 5 ms to 10 s.
    pub histogram_buckets: Vec<f64>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp: Otlp::default(),
            resource: BTreeMap::new(),
            histogram_buckets: vec![
                0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
            ],
        }
    }
}

/// Where spans are sent, by OpenTelemetry's protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// The collector, such as `http://jaeger:4318`; for `http` it gets `/v1/traces` appended. Default: none, and no span
    /// is exported.
    pub endpoint: Option<OtlpEndpoint>,
    /// `http` (protobuf over HTTP, usually port 4318) or `grpc` (usually port 4317). Default: `http`.
    pub protocol: OtlpProtocol,
    /// Headers sent with every export, such as an API key. The values are secrets and shown nowhere. Default: none.
    pub headers: BTreeMap<String, Secret>,
    /// How long one export may take; then its spans are dropped and counted. Default: `5s`.
    pub timeout: HumanDuration,
    /// How many spans may wait for export; further ones are dropped and counted. Default: `16384`.
    pub queue_size: NonZeroUsize,
    /// How many spans one export carries at most. Default: `512`.
    pub batch_size: NonZeroUsize,
    /// How long a span waits at most before it is exported. Default: `1s`.
    pub interval: HumanDuration,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: OtlpProtocol::Http,
            headers: BTreeMap::new(),
            timeout: HumanDuration::from_secs(5),
            queue_size: NonZeroUsize::MIN.saturating_add(16_383),
            batch_size: NonZeroUsize::MIN.saturating_add(511),
            interval: HumanDuration::from_secs(1),
        }
    }
}

/// How spans travel to the collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtlpProtocol {
    /// Protobuf over HTTP/1.1.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// The address of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

impl OtlpEndpoint {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OtlpEndpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err(
                "asks for TLS, which is not supported yet: send to a collector on this host over `http://`".into(),
            );
        }
        let rest = text
            .strip_prefix("http://")
            .ok_or("is no collector's address: write one such as `http://jaeger:4318`")?;
        let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
        if rest.contains('@') {
            return Err("holds a user name or password: use `telemetry.otlp.headers`".to_owned());
        }
        if rest.contains(['?', '#']) {
            return Err("has a query: a collector's address has none".to_owned());
        }
        host_and_port(authority)?;
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for OtlpEndpoint {
    const EXPECTED: &'static str = "an address such as http://jaeger:4318";
    const PATTERN: &'static str = r"^http://[^\s@?#]+$";
    const EXAMPLES: &'static [&'static str] = &["http://jaeger:4318", "http://otel-collector:4317"];
}
text_serde!(OtlpEndpoint);
