//! Named destinations, and how requests are balanced among their endpoints.

use std::fmt;
use std::num::NonZeroU32;

use pillion_filters::units::{HumanDuration, OrNone};
use schemars::JsonSchema;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

use super::address::{AppAddress, Authority, NameServer};

/// A named destination: one or more endpoints, and how requests are balanced among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Where it is: addresses such as `http://a:8080`, or `{ address: "http://a:8080", weight: 2 }`. Either this or `dns` is
    /// required; for `app` neither is allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<UpstreamEndpoint>,
    /// A name whose addresses are the endpoints, in place of `endpoints`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsDiscovery>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// How endpoints are asked whether they are well. Default: they are not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// When an endpoint is taken out for what it answers to ordinary requests.
    pub outliers: Outliers,
    /// Over how long an endpoint that is new or comes back grows into its share, from a tenth of it, or `none`: it has all of it at
    /// once. Not for `consistent_hash`. Default: `none`.
    pub slow_start: OrNone<HumanDuration>,
    /// If a smaller share of the endpoints than this is healthy and not ejected, all are used: the few that are left could not
    /// bear it, and the checks may be wrong. From 0 (never) to 1. Default: `0.5`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub panic_threshold: f64,
    /// Hosts that stand for this upstream in what the app sends, such as `orders:8080`; without a port it is 80. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Authority>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            dns: None,
            balance: Balance::default(),
            health: None,
            outliers: Outliers::default(),
            slow_start: OrNone(None),
            panic_threshold: 0.5,
            hosts: Vec::new(),
        }
    }
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamEndpoint {
    /// Where it listens: `http://host:port`, `h2c://host:port`, `auto://host:port` or `unix:/path`. Required.
    pub address: AppAddress,
    /// How much it gets, beside the others. From 1 to 1000. Default: `1`.
    pub weight: u32,
}

/// A name whose addresses are the endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsDiscovery {
    /// The name with scheme and port, such as `http://orders:8080`. Required. Each of its addresses is an endpoint.
    pub address: AppAddress,
    /// How often it is looked up where the answer has no time to live, and the longest that an answer is held for good. Default:
    /// `10s`.
    #[serde(default = "ten_seconds")]
    pub refresh: HumanDuration,
    /// The name server that is asked, such as `127.0.0.1:8600`. Default: those of the system, and its file of hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<NameServer>,
}

const fn ten_seconds() -> HumanDuration {
    HumanDuration::from_secs(10)
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Balance {
    /// `round_robin`, `least_requests` (of two at random, the one with less to do), `ewma` (of two at random, the one that
    /// is likely to answer sooner) or `consistent_hash` (the same key to the same endpoint). Default: `least_requests`.
    pub algorithm: BalanceAlgorithm,
    /// What `consistent_hash` goes by: `{ header: NAME }`, `{ cookie: NAME }` or `client`, the client's address. Required for that,
    /// and only for that. A request that lacks it goes by `least_requests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashKey>,
    /// With `consistent_hash`, how many times its fair share of the requests in flight an endpoint may have, such as `1.25`; what is
    /// more goes to the next. More than 1. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_load: Option<f64>,
    /// With `ewma`, how fast what was learnt is forgotten: a latency this old counts for 37 %. Default: `10s`.
    pub decay: HumanDuration,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            algorithm: BalanceAlgorithm::default(),
            hash: None,
            max_load: None,
            decay: ten_seconds(),
        }
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceAlgorithm {
    /// One after the other, by weight.
    RoundRobin,
    /// Of two at random, the one with fewer requests in flight for its weight.
    #[default]
    LeastRequests,
    /// The same key to the same endpoint.
    ConsistentHash,
    /// Of two at random, the one that is likely to answer sooner.
    Ewma,
}

/// What consistent hashing goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The value of that header.
    Header(String),
    /// The value of that cookie.
    Cookie(String),
    /// The client's address, without its port.
    Client,
}

/// How endpoints are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked: `{ http: { path: /healthz } }`, `{ grpc: { service: NAME } }` or `tcp`, whether it takes a connection. Required.
    pub check: HealthProbe,
    /// How long from one check of an endpoint to the next. Default: `10s`.
    #[serde(default = "ten_seconds")]
    pub interval: HumanDuration,
    /// How long a check may take; then it has failed. Default: `1s`.
    #[serde(default = "one_second")]
    pub timeout: HumanDuration,
    /// After how many good checks in a row an endpoint is healthy again. The first after the start counts for all. Default: `2`.
    #[serde(default = "two")]
    pub healthy: NonZeroU32,
    /// After how many failed checks in a row it is unhealthy. Default: `3`.
    #[serde(default = "three")]
    pub unhealthy: NonZeroU32,
    /// By which part of the interval each pause is longer or shorter at random, so that many sidecars do not ask at once. From 0 to
    /// 1. Default: `0.1`.
    #[serde(default = "a_tenth")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
}

const fn one_second() -> HumanDuration {
    HumanDuration::from_secs(1)
}

const fn two() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1)
}

const fn three() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(2)
}

const fn a_tenth() -> f64 {
    0.1
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthProbe {
    /// A GET.
    Http(HttpCheck),
    /// Whether it takes a connection.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc(GrpcCheck),
}

/// A health check by GET.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The path, with its query if there is one, such as `/healthz`. Required.
    pub path: String,
    /// The statuses of a good answer, such as `[200, 204]`. Default: any from 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// The `Host` that is asked for. Default: the endpoint's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A health check by the gRPC health checking protocol. An endpoint that answers `SERVING` is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcCheck {
    /// The service that is asked about. Default: none, which asks about the server as a whole.
    pub service: String,
}

/// When an endpoint is taken out for what it answers to ordinary requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outliers {
    /// Whether any is. Default: `true`.
    pub enabled: bool,
    /// After so many failures in a row: a status from 500 on, no whole answer, no connection, or one not in time; or `none`. Default:
    /// `5`.
    pub consecutive_failures: OrNone<NonZeroU32>,
    /// After so many in a row of those where no answer came, or a 502, 503 or 504; or `none`. Default: `none`.
    pub consecutive_gateway_failures: OrNone<NonZeroU32>,
    /// If it fails more than the others. Default: they are not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_share: Option<FailureShare>,
    /// If it is slower than the others. Default: they are not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<OutlierLatency>,
    /// How often endpoints are compared. Default: `10s`.
    pub interval: HumanDuration,
    /// How long the first ejection lasts; the second in short order lasts twice as long, the third three times. One is forgiven for
    /// each time of this length that the endpoint was in service since. Default: `30s`.
    pub ejection: HumanDuration,
    /// The longest that an ejection lasts. Default: `5m`.
    pub max_ejection: HumanDuration,
    /// The share of the endpoints that may be ejected at the same time, rounded down, but one in any case unless this is 0. The last
    /// one in service never is. From 0 to 1. Default: `0.5`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_ejected: f64,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_failures: OrNone(Some(NonZeroU32::MIN.saturating_add(4))),
            consecutive_gateway_failures: OrNone(None),
            failure_share: None,
            latency: None,
            interval: HumanDuration::from_secs(10),
            ejection: HumanDuration::from_secs(30),
            max_ejection: HumanDuration::from_secs(300),
            max_ejected: 0.5,
        }
    }
}

/// How many more requests than the others an endpoint may fail.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FailureShare {
    /// By how much its share of failures may be above that of the others taken together. From 0 to 1. Default: `0.2`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub above_others: f64,
    /// How many requests it, and the others together, must have had in the interval. Default: `50`.
    pub min_requests: NonZeroU32,
}

impl Default for FailureShare {
    fn default() -> Self {
        Self {
            above_others: 0.2,
            min_requests: NonZeroU32::MIN.saturating_add(49),
        }
    }
}

/// How much slower than the others an endpoint may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutlierLatency {
    /// How many times the mean latency of the others its own may be. More than 1. Default: `5`.
    pub times_others: f64,
    /// How many good answers it, and the others together, must have given in the interval. Default: `50`.
    pub min_requests: NonZeroU32,
}

impl Default for OutlierLatency {
    fn default() -> Self {
        Self {
            times_others: 5.0,
            min_requests: NonZeroU32::MIN.saturating_add(49),
        }
    }
}

/// An endpoint as a mapping; a text is its address alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "UpstreamEndpoint")]
struct Written {
    /// Where it listens: `http://host:port`, `h2c://host:port`, `auto://host:port` or `unix:/path`. Required.
    address: AppAddress,
    /// How much it gets, beside the others. From 1 to 1000. Default: `1`.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    weight: u32,
}

const fn one() -> u32 {
    1
}

impl<'de> Deserialize<'de> for UpstreamEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `untagged`: that would lose the place and kind of every mistake.
        struct TextOrMapping;
        impl<'de> Visitor<'de> for TextOrMapping {
            type Value = UpstreamEndpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as http://127.0.0.1:8080, or `{ address: …, weight: … }`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<UpstreamEndpoint, E> {
                let address = AppAddress::deserialize(serde::de::value::StrDeserializer::new(text))?;
                Ok(UpstreamEndpoint { address, weight: one() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UpstreamEndpoint, A::Error> {
                let Written { address, weight } = Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(UpstreamEndpoint { address, weight })
            }
        }
        deserializer.deserialize_any(TextOrMapping)
    }
}

impl JsonSchema for UpstreamEndpoint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AddressOrUpstreamEndpoint".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (text, mapping) = (AppAddress::json_schema(generator), generator.subschema_for::<Written>());
        schemars::json_schema!({ "anyOf": [text, mapping] })
    }
}
