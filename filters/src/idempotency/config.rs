//! What operators configure.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{ByteSize, HumanDuration};

/// Answers a repeated request from the answer that its first try got, by `Idempotency-Key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Methods whose requests are looked at.
    pub methods: Vec<Method>,
    /// The request header that holds the key.
    pub header: String,
    /// Whether a request by one of the methods must have a key.
    pub required: bool,
    /// Whether repeats are answered here. Where the upstream does it, the filter may still require keys, add them and vouch for
    /// them.
    pub replay: bool,
    /// How long a first answer, or that it was lost, is remembered.
    pub ttl: HumanDuration,
    /// Bytes of memory for first answers and bookkeeping. The routes of a direction share it; the largest size among them holds.
    pub max_size: ByteSize,
    /// The largest request body that is read to tell repeats from other requests. One with a larger body goes to the app
    /// as if it had no key.
    pub max_body: ByteSize,
    /// The largest answer that is kept, at most a quarter of `max_size`.
    pub max_response: ByteSize,
    /// How long a repeat waits for the answer to a first try that is still under way. Then it is refused.
    pub wait: HumanDuration,
    /// Statuses by which the app says that it has not acted on a request: such an answer is not kept, and a repeat is tried
    /// like a first.
    pub release: Vec<u16>,
    /// What becomes of a repeat whose first answer was lost on its way, so that nobody knows what the app did.
    /// `conflict` unless the upstream honours keys, then `retry`.
    pub unknown: Option<Unknown>,
    /// With `unknown: retry`: for how long after the loss the app may still be at work on the first try, so that repeats are
    /// refused. Does not count where the upstream honours keys.
    pub settle: HumanDuration,
    /// What says who the caller is. A key is its caller's own.
    pub identity: IdentityConfig,
    /// Whether requests without a key are given one.
    pub add: AddConfig,
    /// Whether the upstream itself does not act twice on a key, so that a request with one may be sent again. `true` where keys are
    /// added, otherwise `false`.
    pub upstream_honours: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            methods: vec![Method::Post, Method::Patch],
            header: "Idempotency-Key".to_owned(),
            required: false,
            replay: true,
            ttl: HumanDuration::from_secs(24 * 3600),
            max_size: ByteSize(16 * 1024 * 1024),
            max_body: ByteSize(256 * 1024),
            max_response: ByteSize(1024 * 1024),
            wait: HumanDuration::from_secs(10),
            release: vec![401, 407, 408, 421, 425, 429, 503],
            unknown: None,
            settle: HumanDuration::from_secs(30),
            identity: IdentityConfig::default(),
            add: AddConfig::default(),
            upstream_honours: None,
        }
    }
}

/// Methods that may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Not idempotent (RFC 9110, section 9.2.2).
    Post,
    /// Not idempotent (RFC 5789, section 2).
    Patch,
    /// Idempotent by itself, but the second answer may differ from the first.
    Put,
    /// Likewise.
    Delete,
}

/// What becomes of a repeat whose first answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// It is refused, for as long as `ttl`: the app never acts twice.
    Conflict,
    /// It is tried like a first, once `settle` has passed: the app may act twice.
    Retry,
}

/// What says who the caller is. Only hashes of it are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Request headers.
    pub headers: Vec<String>,
    /// Cookies, by name; for where `Cookie` as a whole changes from try to try.
    pub cookies: Vec<String>,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            headers: ["Authorization", "Cookie", "X-Api-Key"].map(str::to_owned).to_vec(),
            cookies: Vec::new(),
        }
    }
}

/// Whether requests without a key are given one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AddConfig {
    /// Where the key comes from.
    pub from: From,
    /// For `content`: request headers that tell one step from another, such as a saga's id. A request that lacks one of them
    /// is given no key.
    pub fields: Vec<String>,
    /// For `content`: whether the body is part of what the key is made of.
    pub body: bool,
    /// Whether an added key is written in quotes, as a structured field has it (RFC 9651).
    pub quoted: bool,
}

impl Default for AddConfig {
    fn default() -> Self {
        Self {
            from: From::None,
            fields: Vec::new(),
            body: true,
            quoted: true,
        }
    }
}

/// Where an added key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// None is added.
    None,
    /// It is random: one for all tries of an exchange.
    Random,
    /// It is a hash of method, authority, path, query, `fields` and `body`: a request that is repeated later carries it again.
    Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_are_refused() {
        for text in [
            r#"{"method": ["POST"]}"#,
            r#"{"identity": {"header": []}}"#,
            r#"{"add": {"form": "random"}}"#,
        ] {
            let error = serde_json::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }
}
