//! What a route's cache does: its configuration, compiled.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode, header};

use super::config::{Class, Config, Method};
use super::freshness::{Heuristic, Policy};
use super::key::{self, BypassRule, KeyRule};
use crate::{BuildError, Exchange};

/// How long it is remembered that a URL's responses cannot be stored.
pub(super) const PASS_FOR: Duration = Duration::from_secs(10);

/// A route's configuration, compiled.
pub(super) struct Rules {
    pub(super) key: Arc<KeyRule>,
    pub(super) bypass: BypassRule,
    policy: Policy,
    /// For requests that do not say who the caller is.
    anonymous: Policy,
    pub(super) post: Option<usize>,
    pub(super) get: bool,
    pub(super) max_body: u64,
    pub(super) keep: Duration,
    /// How long to wait for another's fetch; `None` to make one's own at once.
    pub(super) collapse: Option<Duration>,
    pub(super) refresh_ahead: f64,
    pub(super) refresh_min_hits: u32,
    pub(super) client_directives: bool,
    pub(super) targeted: Vec<HeaderName>,
    pub(super) tags: Vec<HeaderName>,
    pub(super) invalidate_tags: Vec<String>,
    pub(super) invalidate_prefixes: Vec<String>,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Result<Self, BuildError> {
        let mut wrong = Vec::new();
        let personal = config.class.is_some_and(Class::is_personal);
        let shared = config.shared.unwrap_or(!personal);
        let key = KeyRule::new(&config.key, personal && !shared)?;
        if !shared && !key.has_identity() {
            wrong.push("`shared: false` needs `key.identity`: the request headers that tell one caller from another, such as `[Authorization]`".to_owned());
        }
        if config.overrides && config.ttl.is_none() && config.class.is_none() {
            wrong.push("`override: true` needs a `ttl` or a `class`".to_owned());
        }
        for (name, share) in [
            ("heuristic.fraction", config.heuristic.fraction),
            ("refresh.ahead", config.refresh.ahead),
        ] {
            if !(0.0..=1.0).contains(&share) {
                wrong.push(format!("`{name}` is a share: from 0 to 1"));
            }
        }
        if config.max_body.0 > config.max_size.0 / 4 {
            wrong.push(
                "`max_body` is at most a quarter of `max_size`: one response must not empty the store".to_owned(),
            );
        }
        if config.warm.rate == 0 || config.refetch.rate == 0 {
            wrong.push("a `rate` of 0 fetches nothing: leave the list empty instead".to_owned());
        }
        for prefix in &config.invalidate.prefixes {
            if !prefix.starts_with('/') {
                wrong.push(format!("`invalidate.prefixes`: `{prefix}` does not begin with `/`"));
            }
        }
        let mut negative = Vec::new();
        for (status, lifetime) in &config.negative {
            match StatusCode::from_bytes(status.as_bytes()) {
                Ok(status) if (300..600).contains(&status.as_u16()) => negative.push((status, lifetime.0)),
                _ => wrong.push(format!("`negative`: `{status}` is no status from 300 to 599")),
            }
        }
        let policy = Policy {
            shared,
            ttl: config.ttl.or_else(|| config.class.map(Class::ttl)).map(|ttl| ttl.0),
            override_response: config.overrides,
            negative,
            heuristic: config.heuristic.enabled.then_some(Heuristic {
                fraction: config.heuristic.fraction,
                max: config.heuristic.max.0,
            }),
            stale_while_revalidate: config.stale_while_revalidate.map(|limit| limit.0),
            stale_if_error: config.stale_if_error.map(|limit| limit.0),
            identity: key.has_identity(),
        };
        if !wrong.is_empty() {
            return Err(BuildError::Meaning(wrong.join("; ")));
        }
        Ok(Self {
            bypass: BypassRule::new(&config.bypass)?,
            anonymous: Policy {
                shared: true,
                identity: false,
                ..policy.clone()
            },
            policy,
            post: config
                .methods
                .contains(&Method::Post)
                .then(|| usize::try_from(config.max_request_body.0).unwrap_or(usize::MAX)),
            get: config.methods.contains(&Method::Get),
            max_body: config.max_body.0,
            keep: config.keep.0,
            collapse: config.collapse.enabled.then_some(config.collapse.wait.0),
            refresh_ahead: config.refresh.ahead,
            refresh_min_hits: config.refresh.min_hits,
            client_directives: config.client_directives,
            targeted: key::names(&config.targeted, "targeted")?,
            tags: key::names(&config.tags, "tags")?,
            invalidate_tags: config.invalidate.tags.clone(),
            invalidate_prefixes: config.invalidate.prefixes.clone(),
            key: Arc::new(key),
        })
    }

    /// What counts for an exchange. Callers that do not say who they are share a key, whoever they are.
    pub(super) fn policy_of(&self, exchange: &Exchange) -> &Policy {
        if self.key.identifies(&exchange.request.headers) {
            &self.policy
        } else {
            &self.anonymous
        }
    }

    /// Whether the response may be one caller's alone although nothing says so: a cookie may say who asks.
    pub(super) fn may_be_personal(&self, exchange: &Exchange) -> bool {
        self.policy_of(exchange).mixes_callers() && exchange.request.headers.contains_key(header::COOKIE)
    }
}
