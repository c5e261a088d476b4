//! What an operator may have configured: as the plugin reads it, and as the oracle understands it.

use std::time::Duration;

use fastrand::Rng;
use http::HeaderName;
use serde_json::json;

/// The choices that matter to what may be served.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(super) struct Policy {
    pub(super) shared: bool,
    /// The request fields that say who the caller is.
    pub(super) identity: Vec<HeaderName>,
    pub(super) ttl: Option<Duration>,
    pub(super) overrides: bool,
    pub(super) negative: Vec<(u16, Duration)>,
    /// The longest guess, a tenth of the time since `Last-Modified`.
    pub(super) heuristic: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
    pub(super) stale_if_error: Duration,
    pub(super) client_directives: bool,
    pub(super) targeted: bool,
    pub(super) collapse: Option<Duration>,
    pub(super) refresh_ahead: bool,
    pub(super) max_size: u64,
    pub(super) max_body: u64,
    pub(super) invalidate_tag: Option<&'static str>,
    pub(super) invalidate_prefix: Option<&'static str>,
}

impl Policy {
    pub(super) fn any(rng: &mut Rng) -> Self {
        let seconds = Duration::from_secs;
        let identity = match rng.u8(..8) {
            0 => vec![http::header::AUTHORIZATION, http::header::COOKIE],
            1 => vec![http::header::COOKIE],
            _ => Vec::new(),
        };
        let ttl = rare(rng, 4).then(|| seconds(rng.u64(1..8)));
        Self {
            shared: identity.is_empty() || rng.bool(),
            identity,
            overrides: ttl.is_some() && rng.bool(),
            ttl,
            negative: if rare(rng, 4) {
                vec![(404, seconds(3)), (503, seconds(2))]
            } else {
                Vec::new()
            },
            heuristic: (!rare(rng, 4)).then(|| seconds(if rng.bool() { 86_400 } else { 5 })),
            stale_while_revalidate: rare(rng, 4).then(|| seconds(rng.u64(1..6))),
            stale_if_error: seconds([300, 10, 3][rng.usize(..3)]),
            client_directives: !rare(rng, 5),
            targeted: !rare(rng, 4),
            collapse: (!rare(rng, 8)).then(|| seconds([5, 1][rng.usize(..2)])),
            refresh_ahead: rare(rng, 3),
            max_size: if rare(rng, 8) { 4 << 10 } else { 1 << 20 },
            max_body: if rare(rng, 8) { 15 } else { 1 << 10 },
            invalidate_tag: rare(rng, 6).then_some("t1"),
            invalidate_prefix: rare(rng, 6).then_some("/x"),
        }
    }

    /// The configuration of the plugin.
    pub(super) fn config(&self) -> serde_json::Value {
        let seconds = |time: Duration| json!(format!("{}s", time.as_secs()));
        let mut config = json!({
            "shared": self.shared,
            "key": {"identity": self.identity.iter().map(HeaderName::as_str).collect::<Vec<_>>()},
            "override": self.overrides,
            "negative": self.negative.iter()
                .map(|(status, time)| (status.to_string(), seconds(*time)))
                .collect::<serde_json::Map<_, _>>(),
            "heuristic": {"enabled": self.heuristic.is_some()},
            "stale_if_error": seconds(self.stale_if_error),
            "client_directives": self.client_directives,
            "targeted": if self.targeted { vec!["CDN-Cache-Control"] } else { Vec::new() },
            "collapse": {"enabled": self.collapse.is_some()},
            "refresh": {"ahead": if self.refresh_ahead { 0.6 } else { 0.0 }, "min_hits": 0},
            "max_size": self.max_size,
            "max_body": self.max_body,
            "invalidate": {
                "tags": self.invalidate_tag.as_slice(),
                "prefixes": self.invalidate_prefix.as_slice(),
            },
        });
        if let Some(time) = self.heuristic {
            config["heuristic"]["max"] = seconds(time);
        }
        if let Some(time) = self.collapse {
            config["collapse"]["wait"] = seconds(time);
        }
        if let Some(time) = self.ttl {
            config["ttl"] = seconds(time);
        }
        if let Some(time) = self.stale_while_revalidate {
            config["stale_while_revalidate"] = seconds(time);
        }
        config
    }
}

/// True once in so many times.
pub(super) fn rare(rng: &mut Rng, times: u32) -> bool {
    rng.u32(..times) == 0
}
