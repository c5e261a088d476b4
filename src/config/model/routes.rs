//! What is different for some requests.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

use super::filters::FilterSettings;
use super::template::PathTemplate;
use super::text::{Text, text_serde};
use super::timeouts::TimeoutsOverlay;

/// What is different for requests that match.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The route's name in metrics, spans and logs. Default: its path template, or else `route-` and its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is for `inbound` or `outbound` traffic. Default: `inbound`.
    #[serde(default)]
    pub direction: RouteDirection,
    /// Which requests it is for. Required; all conditions must hold.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Filter settings for these requests, over those of the service: only the named keys differ. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, FilterSettings>,
    /// The upstream these requests go to: a name of `upstreams`, or `app`. Default: the app for inbound requests, the host that
    /// the request names for outbound ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Timeouts for these requests: only the named ones differ. Default: those of the service.
    #[serde(default, skip_serializing_if = "TimeoutsOverlay::is_empty")]
    pub timeouts: TimeoutsOverlay,
}

/// Which way the requests of a route go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteDirection {
    /// To the app.
    #[default]
    Inbound,
    /// From the app.
    Outbound,
}

impl From<RouteDirection> for pillion_filters::Direction {
    fn from(direction: RouteDirection) -> Self {
        match direction {
            RouteDirection::Inbound => Self::Inbound,
            RouteDirection::Outbound => Self::Outbound,
        }
    }
}

/// The conditions of a route. At least one is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The path: `{name}` stands for one segment, a `*` at the end for all that follows. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathTemplate>,
    /// The method. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// One of several methods, in place of `method`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// The host the client asked for, without its port: `api.example.com`, or `*.example.com` for any name below it.
    /// Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
    /// Headers, by name: a text for the exact value, `{ prefix: … }` for its beginning, `{ present: true }` or
    /// `{ present: false }`. Default: any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderMatch>,
}

impl Match {
    /// The methods it is for; empty for any.
    pub fn allowed_methods(&self) -> Vec<http::Method> {
        self.method
            .iter()
            .chain(&self.methods)
            .map(|method| method.0.clone())
            .collect()
    }

    /// Whether it has no condition at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderMatch {
    /// Exactly this value.
    Exact(String),
    /// A value that begins so.
    Prefix {
        /// The beginning.
        prefix: String,
    },
    /// There at all, or not.
    Present {
        /// Whether it must be there.
        present: bool,
    },
}

impl<'de> Deserialize<'de> for HeaderMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `untagged`: that would lose the place and kind of every mistake.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Condition {
            prefix: Option<String>,
            present: Option<bool>,
        }

        struct TextOrCondition;
        impl<'de> Visitor<'de> for TextOrCondition {
            type Value = HeaderMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, `{ prefix: … }` or `{ present: true }`")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<HeaderMatch, E> {
                Ok(HeaderMatch::Exact(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeaderMatch, A::Error> {
                match Condition::deserialize(MapAccessDeserializer::new(map))? {
                    Condition {
                        prefix: Some(prefix),
                        present: None,
                    } => Ok(HeaderMatch::Prefix { prefix }),
                    Condition {
                        prefix: None,
                        present: Some(present),
                    } => Ok(HeaderMatch::Present { present }),
                    _ => Err(A::Error::custom("write either `prefix` or `present`")),
                }
            }
        }
        deserializer.deserialize_any(TextOrCondition)
    }
}

/// A request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method(
    /// The method itself.
    pub http::Method,
);

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_ascii_lowercase()) {
            return Err(format!(
                "is not in capitals, as methods are: write `{}`",
                text.to_ascii_uppercase()
            ));
        }
        http::Method::from_bytes(text.as_bytes())
            .map(Self)
            .map_err(|_| "is no method".to_owned())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Text for Method {
    const EXPECTED: &'static str = "a method such as GET";
    const PATTERN: &'static str = "^[A-Z][A-Z0-9_-]*$";
    const EXAMPLES: &'static [&'static str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
}
text_serde!(Method);

/// A host name, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This name, in small letters.
    Exact(String),
    /// Any name that ends so; the dot is part of it.
    Below(String),
}

impl HostPattern {
    /// Whether a host without its port fits. Host names have no capitals (RFC 9110, section 4.2.3).
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Below(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .filter(|begin| *begin > 0)
                .and_then(|begin| host.get(begin..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix)),
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.contains('*') {
            return Err("has a `*` elsewhere than as its whole first label, as in `*.example.com`".to_owned());
        }
        if name.contains(':') {
            return Err("has a port or scheme: a host stands alone here".to_owned());
        }
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_host) {
            return Err("is no host name".to_owned());
        }
        let name = name.to_ascii_lowercase();
        Ok(if text.starts_with('*') {
            Self::Below(format!(".{name}"))
        } else {
            Self::Exact(name)
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl Text for HostPattern {
    const EXPECTED: &'static str = "a host such as api.example.com";
    const PATTERN: &'static str = r"^(\*\.)?[A-Za-z0-9_][A-Za-z0-9._-]*$";
    const EXAMPLES: &'static [&'static str] = &["api.example.com", "*.example.com"];
}
text_serde!(HostPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_for_names_below_it() {
        for (pattern, host, fits) in [
            ("api.example.com", "API.example.com", true),
            ("api.example.com", "example.com", false),
            ("*.example.com", "api.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "badexample.com", false),
        ] {
            let parsed: HostPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(host), fits, "{pattern} {host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "*", "*.", "a.*.b", "http://a", "a:80", "a b", "**.a"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
        }
    }
}
