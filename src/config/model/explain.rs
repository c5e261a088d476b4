//! What is remembered of exchanges, to be explained.

use std::fmt;
use std::str::FromStr;

use pillion_filters::units::{ByteSize, HumanDuration, Share};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forwarded::Cidr;
use super::text::{Text, text_serde};

/// What is remembered of exchanges, so that the admin API can explain them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Explain {
    /// Whether exchanges are remembered. Default: `true`.
    pub enabled: bool,
    /// An exchange that took this long is remembered. A tunnel or a stream of events is not slow for being long. Default: `1s`.
    pub slow: HumanDuration,
    /// The share of all other exchanges that is remembered, from 0 to 1. Default: `0.01`.
    pub sample: Share,
    /// How much memory all that is remembered may take, at least `64KiB`: half of it for failed exchanges, a quarter each for slow ones
    /// and for the sample. The newest stay. Default: `4MiB`.
    pub memory: ByteSize,
    /// Explanations in a response header.
    pub header: ExplainHeader,
    /// Names of query parameters whose values are shown. All others are redacted. Default: none.
    pub show_query: Vec<String>,
    /// Names of request headers that are shown although their name tells of a secret, such as `idempotency-key`. Default: none.
    pub show_headers: Vec<String>,
    /// Where a trace can be looked at, such as `http://jaeger:16686/trace/{trace_id}`. Default: none.
    pub trace_url: Option<TraceUrl>,
}

impl Default for Explain {
    fn default() -> Self {
        Self {
            enabled: true,
            slow: HumanDuration::from_secs(1),
            sample: Share(0.01),
            memory: ByteSize(4 * 1024 * 1024),
            header: ExplainHeader::default(),
            show_query: Vec::new(),
            show_headers: Vec::new(),
            trace_url: None,
        }
    }
}

/// Explanations in a response header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainHeader {
    /// Networks such as `10.0.0.0/8` whose requests with `X-Pillion-Explain: 1` get the explanation in a header of that name. Default:
    /// none.
    pub allow: Vec<Cidr>,
}

/// Where a trace can be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceUrl(String);

/// Stands for the trace's id.
const TRACE_ID: &str = "{trace_id}";

impl TraceUrl {
    /// The address of that trace.
    pub fn of(&self, trace_id: &str) -> String {
        self.0.replace(TRACE_ID, trace_id)
    }
}

impl FromStr for TraceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write one such as `http://jaeger:16686/trace/{trace_id}`";
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let rest = rest.ok_or_else(|| format!("is no address of a page: {example}"))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, place) = rest.split_at(end);
        if authority.contains('@') {
            return Err("holds a user name or password, which whoever sees the page would see".to_owned());
        }
        let is_plain = |c: char| c.is_ascii_graphic() && !"\"'<>\\`".contains(c);
        if authority.is_empty() || !text.chars().all(is_plain) || text.replace(TRACE_ID, "").contains(['{', '}']) {
            return Err(format!("is no address of a page: {example}"));
        }
        if !place.contains(TRACE_ID) {
            return Err(format!("does not say where the trace's id goes: {example}"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TraceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Text for TraceUrl {
    const EXPECTED: &'static str = "an address such as http://jaeger:16686/trace/{trace_id}";
    const PATTERN: &'static str = "^https?://[^/?#@]+.*\\{trace_id\\}.*$";
    const EXAMPLES: &'static [&'static str] = &["http://jaeger:16686/trace/{trace_id}"];
}
text_serde!(TraceUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_its_address() {
        let url: TraceUrl = "https://jaeger.example/trace/{trace_id}?uiEmbed=v0".parse().unwrap();
        assert_eq!(url.of("ab12"), "https://jaeger.example/trace/ab12?uiEmbed=v0");
        for text in [
            "jaeger:16686/trace/{trace_id}",
            "javascript:alert('{trace_id}')",
            "http:///trace/{trace_id}",
            "http://jaeger:16686/trace",
            "http://{trace_id}/",
            "http://me:secret@jaeger/trace/{trace_id}",
            "http://jaeger/{id}/{trace_id}",
            "http://jaeger/ {trace_id}",
        ] {
            assert!(text.parse::<TraceUrl>().is_err(), "{text}");
        }
    }
}
