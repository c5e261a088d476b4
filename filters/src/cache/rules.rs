//! What a route's cache does: its configuration, compiled.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode, header};

use super::config::{Class, Config, Method};
use super::freshness::{Heuristic, Policy, Source};
use super::key::{self, BypassRule, KeyRule};
use super::warm;
use crate::{BuildError, Exchange, Remark};

/// How long it is remembered that a URL's responses cannot be stored.
pub(super) const PASS_FOR: Duration = Duration::from_secs(10);

/// A route's configuration, compiled.
pub(super) struct Rules {
    pub(super) key: Arc<KeyRule>,
    pub(super) bypass: BypassRule,
    policy: Policy,
    /// The configuration says that responses are for all, rather than that being the default.
    for_all: bool,
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
        let mut wrong = mistakes(config);
        let personal = config.class.is_some_and(Class::is_personal);
        let shared = config.shared.unwrap_or(!personal);
        let key = KeyRule::new(&config.key, personal && !shared, &mut wrong);
        if !shared && !personal && config.key.identity.is_empty() {
            let help = "name the request headers that tell one caller from another, such as `[Authorization]`";
            wrong.push(
                Remark::new("shared", "`false` needs `key.identity`")
                    .with_help(help)
                    .of_missing(),
            );
        }
        let mut negative = Vec::new();
        for (status, lifetime) in &config.negative {
            match StatusCode::from_bytes(status.as_bytes()) {
                Ok(status) if (300..600).contains(&status.as_u16()) => negative.push((status, lifetime.0)),
                _ => {
                    let message = format!("`{status}` is no status from 300 to 599");
                    wrong.push(Remark::new("negative", message));
                }
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
        let rules = Self {
            bypass: BypassRule::new(&config.bypass, &mut wrong),
            anonymous: Policy {
                shared: true,
                identity: false,
                ..policy.clone()
            },
            policy,
            for_all: config.shared == Some(true),
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
            targeted: key::names(&config.targeted, "targeted", &mut wrong),
            tags: key::names(&config.tags, "tags", &mut wrong),
            invalidate_tags: config.invalidate.tags.clone(),
            invalidate_prefixes: config.invalidate.prefixes.clone(),
            key: Arc::new(key),
        };
        if wrong.is_empty() {
            Ok(rules)
        } else {
            Err(BuildError::Mistakes(wrong))
        }
    }

    /// What counts for an exchange. Callers that do not say who they are share a key, whoever they are.
    pub(super) fn policy_of(&self, exchange: &Exchange) -> &Policy {
        let headers = &exchange.request.headers;
        // A key by tenant, say, does not tell the credentials within it apart, unless that is what `shared: false` says.
        let other_credentials =
            self.policy.shared && headers.contains_key(header::AUTHORIZATION) && !self.key.covers_authorization();
        if self.key.identifies(headers) && !other_credentials {
            &self.policy
        } else {
            &self.anonymous
        }
    }

    /// Whether a response whose lifetime is of that source may be one caller's alone although nothing says so: a cookie may
    /// say who asks. An app that says how long its response is fresh, or an operator that it is for all, knows better.
    pub(super) fn may_be_personal(&self, exchange: &Exchange, source: Source) -> bool {
        let policy = self.policy_of(exchange);
        matches!(source, Source::Heuristic | Source::Configured | Source::Negative)
            && exchange.request.headers.contains_key(header::COOKIE)
            && policy.mixes_callers()
            && !policy.override_response
            && !self.for_all
    }
}

/// What is wrong with single settings, as far as their types do not tell.
fn mistakes(config: &Config) -> Vec<Remark> {
    let mut wrong = Vec::new();
    if config.overrides && config.ttl.is_none() && config.class.is_none() {
        wrong.push(Remark::new("override", "`true` needs a `ttl` or a `class`").of_missing());
    }
    for (key, share) in [
        ("heuristic.fraction", config.heuristic.fraction),
        ("refresh.ahead", config.refresh.ahead),
    ] {
        if !(0.0..=1.0).contains(&share) {
            wrong.push(Remark::new(key, "expected a share, from 0 to 1"));
        }
    }
    if config.max_body.0 > config.max_size.0 / 4 {
        let message = "is more than a quarter of `max_size`: one response must not empty the store";
        let help = "raise `max_size`, or lower `max_body`, which is 1MiB unless it is set";
        wrong.push(Remark::new("max_body", message).with_help(help));
    }
    for (key, rate) in [("warm.rate", config.warm.rate), ("refetch.rate", config.refetch.rate)] {
        if rate == 0 {
            wrong.push(Remark::new(key, "0 a second fetches nothing, ever"));
        }
    }
    for prefix in &config.invalidate.prefixes {
        if !prefix.starts_with('/') {
            let message = format!("`{prefix}` does not begin with `/`");
            wrong.push(Remark::new("invalidate.prefixes", message));
        }
    }
    for url in &config.warm.urls {
        if warm::parse(url).is_none() {
            wrong.push(Remark::new("warm.urls", warm::not_whole(url)));
        }
    }
    wrong
}
