//! What a route does: its configuration, compiled.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::config::{Config, From, Method, Unknown};
use super::scope::Identity;
use crate::cache::names;
use crate::own_header::OwnHeader;
use crate::{BuildError, Direction, Remark};

/// Less than this holds next to nothing.
const LEAST_SIZE: u64 = 64 * 1024;

/// A route's configuration, compiled.
pub(super) struct Rules {
    methods: Vec<http::Method>,
    pub(super) header: OwnHeader,
    pub(super) replay: bool,
    pub(super) ttl: Duration,
    pub(super) max_body: usize,
    pub(super) max_response: u64,
    pub(super) wait: Duration,
    release: Vec<StatusCode>,
    /// How long after a loss a repeat may be tried; `None` for never.
    retries_after: Option<Duration>,
    pub(super) identity: Identity,
    pub(super) without: Without,
    pub(super) quoted: bool,
    /// The upstream does not act twice on a key.
    pub(super) vouches: bool,
}

/// What becomes of requests without a key.
pub(super) enum Without {
    /// They pass untouched.
    Pass,
    /// They are refused.
    Refuse,
    /// They are given one that is random.
    Random,
    /// They are given one of what is in them.
    Content { fields: Vec<HeaderName>, body: bool },
}

impl Rules {
    pub(super) fn new(config: Config) -> Result<Self, BuildError> {
        let mut wrong = mistakes(&config);
        let identity = Identity {
            headers: names(&config.identity.headers, "identity.headers", &mut wrong),
            cookies: config.identity.cookies,
        };
        let fields = names(&config.add.fields, "add.fields", &mut wrong);
        let vouches = config.upstream_honours.unwrap_or(config.add.from != From::None);
        let header = OwnHeader::new(config.header, "the key").map_err(|error| {
            wrong.push(Remark::new("header", error.to_string()));
        });
        let (Ok(header), []) = (header, &*wrong) else {
            return Err(BuildError::Mistakes(wrong));
        };
        let unknown = config
            .unknown
            .unwrap_or(if vouches { Unknown::Retry } else { Unknown::Conflict });
        Ok(Self {
            methods: config.methods.into_iter().map(http::Method::from).collect(),
            header,
            replay: config.replay,
            ttl: config.ttl.0,
            max_body: usize::try_from(config.max_body.0).unwrap_or(usize::MAX),
            max_response: config.max_response.0,
            wait: config.wait.0,
            release: config
                .release
                .iter()
                .filter_map(|status| StatusCode::from_u16(*status).ok())
                .collect(),
            retries_after: match unknown {
                Unknown::Conflict => None,
                Unknown::Retry if vouches => Some(Duration::ZERO),
                Unknown::Retry => Some(config.settle.0),
            },
            identity,
            without: match config.add.from {
                From::None if config.required => Without::Refuse,
                From::None => Without::Pass,
                From::Random => Without::Random,
                From::Content => Without::Content {
                    fields,
                    body: config.add.body,
                },
            },
            quoted: config.add.quoted,
            vouches,
        })
    }

    /// Whether requests by that method are looked at.
    pub(super) fn takes(&self, method: &http::Method) -> bool {
        self.methods.contains(method)
    }

    /// Whether an app that answers with that status says that it has not acted.
    pub(super) fn is_released_by(&self, status: StatusCode) -> bool {
        self.release.contains(&status)
    }

    /// Whether a request may be tried whose first answer was lost so long ago.
    pub(super) fn retries(&self, ago: Duration) -> bool {
        self.retries_after.is_some_and(|after| ago >= after)
    }

    /// How long it takes until it may be tried; `None` for longer than it is remembered.
    pub(super) fn retries_in(&self, ago: Duration) -> Option<Duration> {
        self.retries_after.map(|after| after.saturating_sub(ago))
    }
}

impl std::convert::From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Post => Self::POST,
            Method::Patch => Self::PATCH,
            Method::Put => Self::PUT,
            Method::Delete => Self::DELETE,
        }
    }
}

/// What does not go together.
fn mistakes(config: &Config) -> Vec<Remark> {
    let mut wrong = Vec::new();
    let mut is_wrong = |key, message: &str, help: &str| wrong.push(Remark::new(key, message).with_help(help));
    if config.methods.is_empty() {
        is_wrong("methods", "is empty", "`enabled: false` turns the filter off");
    }
    if config.max_size.0 < LEAST_SIZE {
        is_wrong(
            "max_size",
            "is less than 64KiB, which holds next to nothing",
            "16MiB is the default",
        );
    }
    if config.max_response.0 > config.max_size.0 / 4 {
        is_wrong(
            "max_response",
            "is more than a quarter of `max_size`: one answer must not push out the others",
            "raise `max_size`, or lower `max_response`, which is 1MiB unless it is set",
        );
    }
    if config.ttl.0.is_zero() {
        is_wrong("ttl", "0 forgets every answer at once", "`replay: false` keeps none");
    }
    if config.required && config.add.from != From::None {
        is_wrong(
            "required",
            "no request is without a key where `add` gives it one",
            "choose one of the two",
        );
    }
    if config.add.from == From::Content && config.add.fields.is_empty() && !config.add.body {
        is_wrong(
            "add.from",
            "`content` has nothing to make a key of",
            "name request headers in `add.fields`, or leave `add.body` on",
        );
    }
    if config.add.from != From::Content && !config.add.fields.is_empty() {
        is_wrong(
            "add.fields",
            "counts only with `from: content`",
            "set `add.from`, or leave the fields out",
        );
    }
    for (index, status) in config.release.iter().enumerate() {
        if !(400..600).contains(status) {
            let message = format!("`{status}` is no status from 400 to 599");
            wrong.push(Remark::new("release", message).of_element(index));
        }
    }
    wrong
}

/// What may be a mistake.
pub(super) fn warning(config: &Config, direction: Direction) -> Option<Remark> {
    let identity = &config.identity;
    let honours = config.upstream_honours.unwrap_or(true);
    match config.add.from {
        _ if config.replay
            && direction == Direction::Inbound
            && identity.headers.is_empty()
            && identity.cookies.is_empty() =>
        {
            Some(
                Remark::new(
                    "identity",
                    "all callers share their keys: who guesses one gets another's answer",
                )
                .with_help("name the request headers that tell one caller from another, such as `[Authorization]`"),
            )
        }
        From::Content if config.add.fields.is_empty() => Some(
            Remark::new(
                "add.from",
                "requests that are alike are taken for repeats of one another",
            )
            .with_help("name the request headers that tell steps apart in `add.fields`"),
        ),
        From::Random if !honours => Some(
            Remark::new(
                "add.from",
                "a random key is of no use to an upstream that does not honour keys",
            )
            .with_help("leave `upstream_honours` out, or take `content`"),
        ),
        _ if !config.replay
            && !config.required
            && config.add.from == From::None
            && !config.upstream_honours.unwrap_or(false) =>
        {
            Some(
                Remark::new("replay", "without it, the filter has nothing to do")
                    .with_help("set `required`, `add` or `upstream_honours`, or `enabled: false`"),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(config: &str) -> Rules {
        Rules::new(serde_json::from_str(config).unwrap()).unwrap()
    }

    #[test]
    fn what_a_lost_answer_comes_to() {
        let second = Duration::from_secs(1);
        for (config, after) in [
            ("{}", None),
            (r#"{"unknown": "retry", "settle": "1s"}"#, Some(second)),
            (
                r#"{"unknown": "retry", "upstream_honours": true}"#,
                Some(Duration::ZERO),
            ),
            (r#"{"upstream_honours": true}"#, Some(Duration::ZERO)),
            (r#"{"upstream_honours": true, "unknown": "conflict"}"#, None),
            (r#"{"add": {"from": "random"}}"#, Some(Duration::ZERO)),
            (r#"{"add": {"from": "random"}, "upstream_honours": false}"#, None),
        ] {
            let rules = rules(config);
            assert_eq!(rules.retries_after, after, "{config}");
            assert_eq!(rules.retries(second), after.is_some(), "{config}");
        }
        let waits = rules(r#"{"unknown": "retry", "settle": "3s"}"#);
        assert!(!waits.retries(2 * second));
        assert_eq!(waits.retries_in(2 * second), Some(second));
    }

    #[test]
    fn what_may_be_a_mistake_is_told() {
        for (config, key) in [
            ("{}", None),
            (r#"{"add": {"from": "content"}}"#, Some("add.from")),
            (r#"{"add": {"from": "content", "fields": ["X-Saga"]}}"#, None),
            (r#"{"add": {"from": "random"}}"#, None),
            (
                r#"{"add": {"from": "random"}, "upstream_honours": false}"#,
                Some("add.from"),
            ),
            (r#"{"replay": false}"#, Some("replay")),
            (r#"{"replay": false, "required": true}"#, None),
            (r#"{"replay": false, "upstream_honours": true}"#, None),
            (r#"{"identity": {"headers": []}}"#, Some("identity")),
            (r#"{"identity": {"headers": [], "cookies": ["session"]}}"#, None),
        ] {
            let told = warning(&serde_json::from_str(config).unwrap(), Direction::Inbound);
            assert_eq!(told.map(|remark| remark.key), key, "{config}");
        }
    }
}
