//! What operators configure.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::conditions::{Condition, Trouble};
use crate::units::{ByteSize, HumanDuration, OrNone};

/// Tries again what failed, where that is safe and does not make things worse.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often a request is tried at most, the first time included; from 1 to 10.
    pub attempts: NonZeroU32,
    /// What is tried again: `connect`, `refused`, `reset`, `malformed`, `timeout`, `5xx` (but not 501 and 505), `gateway_error` (502, 503,
    /// 504), a status from 400 on, or a gRPC status such as `grpc:UNAVAILABLE`. In place of the default ones.
    pub on: Vec<Condition>,
    /// Methods that are not idempotent and may reach the upstream twice all the same, such as `POST` for a route that only searches. Without it
    /// they are tried again only if nothing of them was sent, or the upstream says that it has not looked at them.
    #[schemars(with = "Vec<String>")]
    pub unsafe_methods: Vec<Method>,
    /// How long one try may take, connecting included, until there is a response head. Then it has failed with `timeout`.
    pub per_try_timeout: OrNone<HumanDuration>,
    /// How long to wait before another try.
    pub backoff: BackoffConfig,
    /// How many more requests the upstream may be burdened with.
    pub budget: BudgetConfig,
    /// How much of a request's body is kept to be sent again. A request with more of it is tried once.
    pub max_body: ByteSize,
    /// A second try beside the first, when that is slow.
    pub hedge: HedgeConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::MIN.saturating_add(1),
            on: vec![
                Condition::Trouble(Trouble::Connect),
                Condition::Trouble(Trouble::Refused),
            ],
            unsafe_methods: Vec::new(),
            per_try_timeout: OrNone(None),
            backoff: BackoffConfig::default(),
            budget: BudgetConfig::default(),
            max_body: ByteSize(64 * 1024),
            hedge: HedgeConfig::default(),
        }
    }
}

/// How long to wait before another try: somewhere between nothing and a time that doubles, so that those who failed together
/// do not come back together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffConfig {
    /// The longest wait before the second try; it doubles with each further one.
    pub base: HumanDuration,
    /// The longest wait at all. If the upstream asks for more (`Retry-After`, or `grpc-retry-pushback-ms` of gRPC), its answer goes to the
    /// client.
    pub max: HumanDuration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            base: HumanDuration(Duration::from_millis(25)),
            max: HumanDuration::from_secs(1),
        }
    }
}

/// How many more requests an upstream may be burdened with, by all its routes together, in any 10 seconds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// As a share of the requests, from 0 to 1.
    pub ratio: f64,
    /// And as many each second besides, for when there are few requests.
    pub min_per_second: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_second: 3,
        }
    }
}

/// A second try beside the first, when that is slow. Whichever answers first is taken, the other is given up. Only for
/// GET, HEAD and OPTIONS without a body, and out of the same budget.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HedgeConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// After how long without a response head: a time, or a percentile of the route's own, such as `p95`, once there are 100 answers to
    /// go by.
    pub after: After,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            after: After::Percentile(95),
        }
    }
}

/// After how long a second try is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// After that time.
    Time(Duration),
    /// When a request takes longer than so many of a hundred do.
    Percentile(u8),
}

impl std::str::FromStr for After {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let Some(percent) = text.strip_prefix('p') else {
            let time: HumanDuration = text.parse().map_err(drop)?;
            return Ok(Self::Time(time.0));
        };
        let percent = percent.parse().map_err(drop)?;
        let known = (50..=99).contains(&percent);
        known.then_some(Self::Percentile(percent)).ok_or(())
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| {
            let expected = "a percentile from `p50` to `p99`, or a duration such as 50ms";
            serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &expected)
        })
    }
}

impl JsonSchema for After {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "After".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A percentile from `p50` to `p99`, or a duration.",
            "type": "string",
            "examples": ["p95", "50ms"],
        })
    }
}

/// A method by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method(pub http::Method);

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_');
        let method = http::Method::from_bytes(text.as_bytes()).ok().filter(|_| known);
        method.map(Self).ok_or_else(|| {
            let expected = "a method in capitals, such as POST";
            serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), &expected)
        })
    }
}
