//! Sets, adds and removes headers of requests on their way to the app and of responses on their way to the client.
//!
//! - Per direction: `remove` first, then `set` (replaces all of that name), then `add` (one more beside what is there).
//! - Values may hold variables such as `${client_ip}`. One without a value in this exchange leaves its header out, so
//!   that no half-written value is sent. One whose value is no valid header text, e.g. a line break, does the same and is
//!   in the ledger as `invalid_value`: nobody can inject a header. A `set` then still removes the old header, so what a
//!   client sent never passes for what the sidecar meant to say.
//! - Headers that frame a message or belong to one connection cannot be touched, and `host` can only be set, on
//!   requests: the sidecar would contradict the bytes it sends (RFC 9110, section 7.6.1; RFC 9112, section 6).
//!
//! Request headers change before the request goes out and stay changed for every attempt; filters after this one see
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildError, Context, Exchange, Filter, Phases, Plugin, Step, Turn};

mod edits;
mod template;
pub(crate) use edits::is_reserved;
use edits::{Compiled, Head, Way, compile};

/// Sets, adds and removes headers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Requests on their way to the upstream.
    pub request: Edits,
    /// Responses on their way to the client, those of the sidecar's own included.
    pub response: Edits,
}

/// What changes on one of the two ways: first `remove`, then `set`, then `add`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Edits {
    /// Names of headers to drop.
    pub remove: Vec<String>,
    /// Headers to send with this value and no other. Variables: `${client_ip}`, `${host}`, `${method}`, `${path}`,
    /// `${request_id}`, `${route}`, `${service}`, `${trace_id}`; `$${` is a literal `${`.
    pub set: BTreeMap<String, String>,
    /// Headers to send beside those of the same name. One value or a list; variables as in `set`.
    pub add: BTreeMap<String, OneOrMore>,
}

/// One value or a list of values.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a value or a list of values, as text")]
pub enum OneOrMore {
    /// One value.
    One(String),
    /// A header for each value, in this order.
    More(Vec<String>),
}

/// The `headers` plugin.
pub struct Headers;

impl Plugin for Headers {
    const NAME: &'static str = "headers";
    const WORDS: crate::Words = &[(
        "invalid_value",
        &["a header was left out: its value, filled in, is no header value"],
    )];
    type Config = Config;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let mut problems = Vec::new();
        let edit = Edit {
            request: compile(config.request, Way::Request, context.route, &mut problems),
            response: compile(config.response, Way::Response, context.route, &mut problems),
        };
        if problems.is_empty() {
            Ok(Arc::new(edit))
        } else {
            Err(BuildError::Meaning(problems.join("; ")))
        }
    }
}

struct Edit {
    request: Compiled,
    response: Compiled,
}

impl Filter for Edit {
    fn phases(&self) -> Phases {
        let mut phases = Phases::NONE;
        if !self.request.is_empty() {
            phases = phases | Phases::REQUEST;
        }
        if !self.response.is_empty() {
            phases = phases | Phases::RESPONSE;
        }
        phases
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        self.request.apply(exchange, &mut Head::Request);
        Step::Continue
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHeader) -> Turn {
        self.response.apply(exchange, &mut Head::Response(head));
        Turn::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Telemetry, testing};

    fn filter(config: &str) -> Result<Arc<dyn Filter>, BuildError> {
        let config = serde_json::from_str(config).unwrap();
        testing::with_context("headers", &Telemetry::default(), |context| {
            Headers::build(config, context)
        })
    }

    fn problem(config: &str) -> String {
        filter(config).err().unwrap().to_string()
    }

    fn sent(exchange: &Exchange, name: &str) -> Vec<String> {
        let values = exchange.request.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn removes_then_sets_then_adds() {
        let mut exchange = testing::exchange("GET", "/");
        for name in ["x-gone", "x-set", "x-both", "x-added"] {
            exchange.request.insert_header(name, "old").unwrap();
        }
        let filter = filter(
            r#"{"request": {
                "add": {"x-added": ["a", "b"], "x-both": "added"},
                "set": {"x-set": "new", "x-both": "set"},
                "remove": ["X-Gone", "x-both"]
            }}"#,
        )
        .unwrap();
        assert_eq!(filter.phases(), Phases::REQUEST);
        filter.request(&mut exchange);
        assert!(sent(&exchange, "x-gone").is_empty());
        assert_eq!(sent(&exchange, "x-set"), ["new"]);
        assert_eq!(sent(&exchange, "x-both"), ["set", "added"]);
        assert_eq!(sent(&exchange, "x-added"), ["old", "a", "b"]);
    }

    #[test]
    fn responses_are_edited_on_their_own() {
        let filter = filter(r#"{"response": {"set": {"X-Served-By": "${service}"}, "remove": ["server"]}}"#).unwrap();
        assert_eq!(filter.phases(), Phases::RESPONSE);
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("Server", "app").unwrap();
        filter.response(&mut testing::exchange("GET", "/"), &mut head);
        assert_eq!(head.headers["x-served-by"], "test");
        assert!(!head.headers.contains_key("server"));
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        assert_eq!(wire, b"X-Served-By: test\r\n");
    }

    #[test]
    fn without_a_value_nothing_the_client_sent_passes_for_it() {
        let filter = filter(r#"{"request": {"set": {"x-id": "${request_id}"}, "add": {"x-list": "${request_id}"}}}"#);
        let mut exchange = testing::exchange("GET", "/");
        for name in ["x-id", "x-list"] {
            exchange.request.insert_header(name, "from the client").unwrap();
        }
        filter.unwrap().request(&mut exchange);
        assert!(sent(&exchange, "x-id").is_empty());
        assert_eq!(sent(&exchange, "x-list"), ["from the client"]);
        assert!(exchange.ledger.entries().is_empty());
    }

    #[test]
    fn nothing_configured_takes_no_part() {
        assert_eq!(filter("{}").unwrap().phases(), Phases::NONE);
        assert_eq!(filter(r#"{"request": {"set": {}}}"#).unwrap().phases(), Phases::NONE);
    }

    #[test]
    fn what_belongs_to_the_connection_is_refused() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "te",
            "trailer",
            "keep-alive",
            "proxy-connection",
        ] {
            for way in ["request", "response"] {
                for edit in [
                    format!(r#""set": {{"{name}": "1"}}"#),
                    format!(r#""add": {{"{name}": "1"}}"#),
                    format!(r#""remove": ["{name}"]"#),
                ] {
                    let problem = problem(&format!(r#"{{"{way}": {{{edit}}}}}"#));
                    assert!(problem.contains(&name.to_lowercase()), "{problem}");
                }
            }
        }
    }

    #[test]
    fn host_can_be_set_on_requests_and_nothing_else() {
        let mut exchange = testing::exchange("GET", "/");
        filter(r#"{"request": {"set": {"Host": "internal"}}}"#)
            .unwrap()
            .request(&mut exchange);
        assert_eq!(sent(&exchange, "host"), ["internal"]);
        for config in [
            r#"{"request": {"add": {"host": "a"}}}"#,
            r#"{"request": {"remove": ["host"]}}"#,
            r#"{"response": {"set": {"host": "a"}}}"#,
        ] {
            assert_eq!(problem(config), "`host` can only be set, and only on requests");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let problem = problem(r#"{"request": {"remove": ["a b"], "set": {"x": "${nope}", "Y": "1", "y": "2"}}}"#);
        assert!(problem.contains("`a b` is not a header name; "), "{problem}");
        assert!(problem.contains("`${nope}`"), "{problem}");
        assert!(problem.contains("`y` is set twice"), "{problem}");
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        for config in [r#"{"requests": {}}"#, r#"{"request": {"delete": []}}"#] {
            let error = serde_json::from_str::<Config>(config).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
        let error = serde_json::from_str::<Config>(r#"{"request": {"add": {"x": 1}}}"#).unwrap_err();
        assert!(error.to_string().contains("a value or a list of values"), "{error}");
    }
}
