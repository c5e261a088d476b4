//! What operators configure.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{ByteSize, HumanDuration};

/// Keeps responses and answers with them, as RFC 9111 has it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Bytes of memory for stored responses: bodies, headers, keys and bookkeeping. Routes that set the same size share it.
    pub max_size: ByteSize,
    /// The largest response body that is stored.
    pub max_body: ByteSize,
    /// A kind of data with its usual `ttl`: `api` 5m, `query` 10m, `session` 1h, `user_profile` 30m, `workspace` 15m. The last
    /// three are taken to belong to one caller: unless `key.identity` says otherwise, they are stored by `Authorization` and
    /// `Cookie`.
    pub class: Option<Class>,
    /// How long a response is fresh that says nothing of it itself.
    pub ttl: Option<HumanDuration>,
    /// Whether `ttl` counts even for responses that say how long they are fresh. Never for those that must not be stored.
    #[serde(rename = "override")]
    pub overrides: bool,
    /// Methods whose responses are stored: `GET` (which serves `HEAD` too), and `POST` for searches and the like, where the
    /// body is part of the key.
    pub methods: Vec<Method>,
    /// The largest request body of a `POST` whose response is stored.
    pub max_request_body: ByteSize,
    /// What tells requests apart beside the URL.
    pub key: KeyConfig,
    /// Requests that the cache leaves alone.
    pub bypass: BypassConfig,
    /// How long responses that are no success are fresh if they say nothing of it themselves, by status: `{ 404: 10s }`.
    pub negative: BTreeMap<String, HumanDuration>,
    /// The guess for responses that say nothing but when they were last modified.
    pub heuristic: HeuristicConfig,
    /// `false` for data bound to one caller: responses to different callers are never mixed, `private` ones and those with
    /// `Set-Cookie` or to `Authorization` may be stored. Needs `key.identity`.
    pub shared: Option<bool>,
    /// How long a stale response is served while a new one is fetched, for responses that do not say.
    pub stale_while_revalidate: Option<HumanDuration>,
    /// How long a stale response stands in for an error, for responses that do not say.
    pub stale_if_error: Option<HumanDuration>,
    /// How long a stale response with a validator is kept, so that the app need only say that it is still good.
    pub keep: HumanDuration,
    /// One fetch for all who ask at once.
    pub collapse: CollapseConfig,
    /// Fetches what is much asked for anew before it is stale.
    pub refresh: RefreshConfig,
    /// Whether `Cache-Control` and `Pragma` of requests count.
    pub client_directives: bool,
    /// Response fields that stand in for `Cache-Control` here (RFC 9213), the first one that is there.
    pub targeted: Vec<String>,
    /// Response fields that list a response's tags, by commas or spaces.
    pub tags: Vec<String>,
    /// What a request of this route purges that may have changed something: one by another method than GET, HEAD, OPTIONS and
    /// TRACE that did not fail.
    pub invalidate: InvalidateConfig,
    /// What is fetched when the sidecar starts.
    pub warm: WarmConfig,
    /// What is fetched again after a purge: so many of the most used of what was purged.
    pub refetch: RefetchConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_size: ByteSize(64 * 1024 * 1024),
            max_body: ByteSize(1024 * 1024),
            class: None,
            ttl: None,
            overrides: false,
            methods: vec![Method::Get],
            max_request_body: ByteSize(64 * 1024),
            key: KeyConfig::default(),
            bypass: BypassConfig::default(),
            negative: BTreeMap::new(),
            heuristic: HeuristicConfig::default(),
            shared: None,
            stale_while_revalidate: None,
            stale_if_error: Some(HumanDuration::from_secs(300)),
            keep: HumanDuration::from_secs(3600),
            collapse: CollapseConfig::default(),
            refresh: RefreshConfig::default(),
            client_directives: true,
            targeted: vec!["CDN-Cache-Control".to_owned()],
            tags: vec!["Cache-Tag".to_owned(), "Surrogate-Key".to_owned()],
            invalidate: InvalidateConfig::default(),
            warm: WarmConfig::default(),
            refetch: RefetchConfig::default(),
        }
    }
}

/// Kinds of data with their usual time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Answers of an API: 5m.
    Api,
    /// Results of queries: 10m.
    Query,
    /// What belongs to a session: 1h, by caller.
    Session,
    /// A user's profile: 30m, by caller.
    UserProfile,
    /// A workspace: 15m, by caller.
    Workspace,
}

impl Class {
    /// How long its data are fresh.
    pub(super) fn ttl(self) -> HumanDuration {
        HumanDuration::from_secs(
            60 * match self {
                Self::Api => 5,
                Self::Query => 10,
                Self::Session => 60,
                Self::UserProfile => 30,
                Self::Workspace => 15,
            },
        )
    }

    /// Whether its data belong to one caller.
    pub(super) fn is_personal(self) -> bool {
        matches!(self, Self::Session | Self::UserProfile | Self::Workspace)
    }
}

/// Methods whose responses can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// And with it `HEAD`.
    Get,
    /// With its body as part of the key: for searches and model calls, never for what changes something.
    Post,
}

/// What tells requests apart beside scheme, host, port and path.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// Which query parameters count, and whether their order does.
    pub query: QueryConfig,
    /// Request headers that count.
    pub headers: Vec<String>,
    /// Cookies that count.
    pub cookies: Vec<String>,
    /// Request headers that say who the caller is, such as `Authorization`. Only a hash of them is kept, and the entry is that
    /// caller's alone.
    pub identity: Vec<String>,
}

/// Which query parameters count. A `*` at the end of a name stands for any ending.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// Only these.
    pub include: Option<Vec<String>>,
    /// All but these.
    pub exclude: Vec<String>,
    /// Whether `?a=1&b=2` and `?b=2&a=1` are the same.
    pub sort: bool,
}

/// Requests that the cache leaves alone: those that have one of these.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BypassConfig {
    /// Headers.
    pub headers: Vec<String>,
    /// Cookies.
    pub cookies: Vec<String>,
    /// Query parameters.
    pub query: Vec<String>,
}

/// The guess of RFC 9111, section 4.2.2.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeuristicConfig {
    /// Whether to guess.
    pub enabled: bool,
    /// The share of the time since it was last modified, from 0 to 1.
    pub fraction: f64,
    /// The longest guess.
    pub max: HumanDuration,
}

impl Default for HeuristicConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            fraction: 0.1,
            max: HumanDuration::from_secs(24 * 3600),
        }
    }
}

/// One fetch for all who ask at once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CollapseConfig {
    /// Whether to.
    pub enabled: bool,
    /// How long a request waits for another's fetch before it makes its own.
    pub wait: HumanDuration,
}

impl Default for CollapseConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            wait: HumanDuration::from_secs(5),
        }
    }
}

/// Fetches what is much asked for anew before it is stale.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshConfig {
    /// In which last part of its life, from 0 (never) to 1.
    pub ahead: f64,
    /// After how many hits.
    pub min_hits: u32,
}

impl Default for RefreshConfig {
    fn default() -> Self {
        Self {
            ahead: 0.1,
            min_hits: 10,
        }
    }
}

/// What is purged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InvalidateConfig {
    /// Responses with these tags.
    pub tags: Vec<String>,
    /// Responses of the same origin whose path begins so.
    pub prefixes: Vec<String>,
}

/// Which way requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// To the app.
    Inbound,
    /// From the app.
    Outbound,
}

impl From<Side> for crate::Direction {
    fn from(side: Side) -> Self {
        match side {
            Side::Inbound => Self::Inbound,
            Side::Outbound => Self::Outbound,
        }
    }
}

/// What is fetched when the sidecar starts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmConfig {
    /// URLs as clients ask for them: `http://shop.example/products`.
    pub urls: Vec<String>,
    /// Whether they are the app's own, `inbound`, or what it asks others for, `outbound`.
    pub direction: Side,
    /// The most fetches a second.
    pub rate: u32,
}

impl Default for WarmConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            direction: Side::Inbound,
            rate: 10,
        }
    }
}

/// What is fetched again after a purge.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RefetchConfig {
    /// How many of the most used.
    pub top: u32,
    /// The most fetches a second.
    pub rate: u32,
}

impl Default for RefetchConfig {
    fn default() -> Self {
        Self { top: 0, rate: 10 }
    }
}
