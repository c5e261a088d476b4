//! Exchange and outcome to finished spans, by the stable HTTP semantic conventions of OpenTelemetry.
//!
//! The span of an inbound exchange is a *server* span, of an outbound one a *client* span. An exchange that took more
//! than one attempt has a client span for each below its own.
//!
//! Status: a failure of the sidecar or its upstream is an error; otherwise a server span is one from 500 on, a client
//! span from 400 on. A client that went away is no error of ours: `error.type` says `client_aborted`, the status is left
//! unset. gRPC answers with 200 and says the truth in `grpc-status`, so that is looked at as well.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use http::{HeaderValue, Version, header};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::url;
use crate::exchange::{Direction, Exchange, Route};
use crate::filter::AttemptResult;
use crate::metrics::methods;
use crate::outcome::{AttemptRecord, End, Outcome};
use crate::trace_context::{SpanId, TraceContext};

/// Values that a client chooses are cut at so many bytes: the queue of spans bounds their number, this their size.
const LONGEST: usize = 2048;
/// More than any span has, so that the attributes are allocated once.
const ATTRIBUTES: usize = 20;

/// What the spans of a route have in common.
pub(super) struct Template {
    kind: SpanKind,
    /// `http.route`, of a server span with a route.
    route: Option<KeyValue>,
    /// The configured ones.
    fixed: Vec<KeyValue>,
    /// By method.
    names: [Cow<'static, str>; methods::COUNT],
    query: bool,
    scope: InstrumentationScope,
}

impl Template {
    pub(super) fn new(route: &Route, attributes: impl IntoIterator<Item = KeyValue>, query: bool) -> Self {
        let matched = route.matched;
        let kind = match route.direction {
            Direction::Inbound => SpanKind::Server,
            Direction::Outbound => SpanKind::Client,
        };
        let server = kind == SpanKind::Server;
        let name = |method| match method {
            // OpenTelemetry: the name of a span has HTTP where the method is not known.
            methods::OTHER => "HTTP",
            method => method,
        };
        Self {
            kind,
            route: (matched && server).then(|| KeyValue::new("http.route", route.name.clone())),
            fixed: attributes.into_iter().collect(),
            names: methods::NAMES.map(name).map(|name| {
                if matched {
                    Cow::Owned(format!("{name} {}", route.name))
                } else {
                    Cow::Borrowed(name)
                }
            }),
            query,
            scope: InstrumentationScope::builder("pillion")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }

    /// The span of an exchange.
    pub(super) fn exchange(&self, exchange: &Exchange, outcome: &Outcome, trace: &TraceContext) -> Box<SpanData> {
        let (error, status) = self.verdict(outcome);
        let method = methods::index(&exchange.request.method);
        let mut attributes = self.attributes(exchange, method);
        if self.kind == SpanKind::Server {
            self.server(exchange, &mut attributes);
        } else {
            self.client(exchange, outcome.attempts.last(), &mut attributes);
        }
        attributes.push(KeyValue::new(
            "network.protocol.version",
            version(exchange.connection.version),
        ));
        if let Some(agent) = exchange.request.headers.get(header::USER_AGENT) {
            attributes.push(KeyValue::new("user_agent.original", text(agent)));
        }
        if let Some(status) = outcome.status {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        }
        if let Some(status) = outcome.grpc_status {
            attributes.push(KeyValue::new("rpc.grpc.status_code", i64::from(status)));
        }
        if let Some(error) = error {
            attributes.push(KeyValue::new("error.type", error));
        }
        if let Some(entries) = ledger(exchange) {
            attributes.push(KeyValue::new("pillion.ledger", entries));
        }
        let start = exchange.timing.started_at;
        let name = self.names.get(method).cloned().unwrap_or(Cow::Borrowed("HTTP"));
        let mut span = self.span(trace, self.kind.clone(), name, trace.span_id);
        span.parent_span_id = trace.parent.unwrap_or(SpanId::INVALID);
        span.parent_span_is_remote = trace.parent.is_some();
        span.start_time = start;
        span.end_time = start.checked_add(outcome.duration).unwrap_or(start);
        span.attributes = attributes;
        span.status = status;
        span
    }

    /// The spans of the attempts, where there was more than one.
    pub(super) fn attempts(
        &self,
        exchange: &Exchange,
        outcome: &Outcome,
        trace: &TraceContext,
        mut emit: impl FnMut(Box<SpanData>),
    ) {
        if outcome.attempts.len() < 2 {
            return;
        }
        for (resends, record) in (0_i64..).zip(&outcome.attempts) {
            emit(self.attempt(exchange, record, resends, trace));
        }
    }

    fn attempt(
        &self,
        exchange: &Exchange,
        record: &AttemptRecord,
        resends: i64,
        trace: &TraceContext,
    ) -> Box<SpanData> {
        let method = methods::index(&exchange.request.method);
        let mut attributes = self.attributes(exchange, method);
        self.client(exchange, Some(record), &mut attributes);
        if resends > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", resends));
        }
        let (error, status): (Option<Value>, _) = match record.result {
            AttemptResult::Answered(answer) => {
                attributes.push(KeyValue::new("http.response.status_code", i64::from(answer.as_u16())));
                match answer.as_u16() {
                    code @ 400.. => (Some(code.to_string().into()), Status::error("")),
                    _ => (None, Status::Unset),
                }
            }
            AttemptResult::Failed(failure) => (Some(failure.reason().into()), Status::error(failure.reason())),
            AttemptResult::Abandoned => (None, Status::Unset),
        };
        if let Some(error) = error {
            attributes.push(KeyValue::new("error.type", error));
        }
        let name = self.names.get(method).cloned().unwrap_or(Cow::Borrowed("HTTP"));
        let id = record.span_id.unwrap_or_else(super::new_span_id);
        let mut span = self.span(trace, SpanKind::Client, name, id);
        span.parent_span_id = trace.span_id;
        span.start_time = at(exchange, record.started);
        span.end_time = at(exchange, record.ended);
        span.attributes = attributes;
        span.status = status;
        span
    }

    fn span(&self, trace: &TraceContext, kind: SpanKind, name: Cow<'static, str>, id: SpanId) -> Box<SpanData> {
        let state = trace
            .tracestate
            .as_ref()
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Box::new(SpanData {
            span_context: SpanContext::new(
                trace.trace_id,
                id,
                TraceFlags::SAMPLED,
                false,
                state.unwrap_or(TraceState::NONE),
            ),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: kind,
            name,
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        })
    }

    /// The attributes every span begins with.
    fn attributes(&self, exchange: &Exchange, method: usize) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(self.fixed.len() + ATTRIBUTES);
        attributes.extend_from_slice(&self.fixed);
        let name = methods::NAMES.get(method).copied().unwrap_or(methods::OTHER);
        attributes.push(KeyValue::new("http.request.method", name));
        if name == methods::OTHER {
            let original = cut(exchange.request.method.as_str()).to_owned();
            attributes.push(KeyValue::new("http.request.method_original", original));
        }
        if let Some(authority) = exchange.authority.as_ref().and_then(|value| value.to_str().ok()) {
            let (host, port) = url::host_and_port(authority);
            let port = port.unwrap_or(if exchange.connection.scheme == "https" { 443 } else { 80 });
            attributes.push(KeyValue::new("server.address", cut(host).to_owned()));
            attributes.push(KeyValue::new("server.port", i64::from(port)));
        }
        attributes
    }

    fn server(&self, exchange: &Exchange, attributes: &mut Vec<KeyValue>) {
        let uri = &exchange.request.uri;
        attributes.extend(self.route.clone());
        attributes.push(KeyValue::new("url.scheme", exchange.connection.scheme));
        attributes.push(KeyValue::new("url.path", cut(uri.path()).to_owned()));
        if let Some(query) = uri.query().filter(|_| self.query) {
            attributes.push(KeyValue::new("url.query", cut(&url::redacted(query)).to_owned()));
        }
        if let Some(client) = exchange.connection.client {
            let address = url::address(client);
            // `network.peer.address` would say the same: the sidecar takes nobody's word for another client.
            attributes.push(KeyValue::new("client.address", address));
        }
    }

    fn client(&self, exchange: &Exchange, attempt: Option<&AttemptRecord>, attributes: &mut Vec<KeyValue>) {
        let uri = &exchange.request.uri;
        let authority = exchange.authority.as_ref().and_then(|value| value.to_str().ok());
        let authority = authority.map_or("", |text| text.rsplit_once('@').map_or(text, |(_, rest)| rest));
        let query = uri
            .query()
            .filter(|_| self.query)
            .map(url::redacted)
            .unwrap_or_default();
        let mark = if query.is_empty() { "" } else { "?" };
        let full = [exchange.connection.scheme, "://", authority, uri.path(), mark, &query].concat();
        attributes.push(KeyValue::new("url.full", cut(&full).to_owned()));
        if let Some(attempt) = attempt {
            let (address, port) = url::host_and_port(&attempt.endpoint);
            attributes.push(KeyValue::new("network.peer.address", address.to_owned()));
            if let Some(port) = port {
                attributes.push(KeyValue::new("network.peer.port", i64::from(port)));
            }
        }
    }

    /// The error's type, if it was one, and the span's status.
    fn verdict(&self, outcome: &Outcome) -> (Option<Value>, Status) {
        let server = self.kind == SpanKind::Server;
        let status = outcome.status.map_or(0, |status| status.as_u16());
        match outcome.end {
            End::Failed(failure) => (Some(failure.reason().into()), Status::error(failure.reason())),
            End::ClientAborted => (Some("client_aborted".into()), Status::Unset),
            // A client span is an error for what is the client's own fault as well.
            End::Complete if status >= if server { 500 } else { 400 } => {
                (Some(status.to_string().into()), Status::error(""))
            }
            End::Complete => match outcome.grpc_status {
                Some(code) if code != 0 && (!server || outcome.is_server_error()) => {
                    (Some(code.to_string().into()), Status::error(""))
                }
                _ => (None, Status::Unset),
            },
        }
    }
}

/// The wall clock at an instant of the exchange.
fn at(exchange: &Exchange, instant: Instant) -> SystemTime {
    let timing = &exchange.timing;
    let since = instant.saturating_duration_since(timing.started);
    timing.started_at.checked_add(since).unwrap_or(timing.started_at)
}

fn ledger(exchange: &Exchange) -> Option<Value> {
    let entries = exchange.ledger.entries();
    (!entries.is_empty()).then(|| {
        let text = |entry: &crate::ledger::Entry| StringValue::from([entry.filter, ":", entry.reason].concat());
        Value::Array(Array::String(entries.iter().map(text).collect()))
    })
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn text(value: &HeaderValue) -> String {
    cut(&String::from_utf8_lossy(value.as_bytes())).to_owned()
}

fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(LONGEST))
        .rev()
        .find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::failure::Failure;
    use crate::testing;
    use crate::trace_context::TraceId;

    fn trace() -> TraceContext {
        TraceContext {
            trace_id: TraceId::from(7),
            span_id: SpanId::from(8),
            parent: Some(SpanId::from(9)),
            sampled: true,
            tracestate: Some(HeaderValue::from_static("foo=1")),
            trace_id_hex: *b"00000000000000000000000000000007",
        }
    }

    fn template(direction: Direction, route: &str) -> Template {
        Template::new(&testing::route(direction, route), [KeyValue::new("zone", "a")], true)
    }

    fn texts(span: &SpanData) -> HashMap<&str, String> {
        let pairs = span.attributes.iter();
        pairs.map(|pair| (pair.key.as_str(), pair.value.to_string())).collect()
    }

    fn attempt(endpoint: &str, started: Instant, result: AttemptResult) -> AttemptRecord {
        AttemptRecord {
            endpoint: Arc::from(endpoint),
            started,
            ended: started + Duration::from_millis(2),
            connected: None,
            reused: false,
            result,
            span_id: None,
        }
    }

    #[test]
    fn a_server_span_says_what_the_conventions_ask_for() {
        let mut exchange = testing::exchange("POST", "/users/7?a=1&token=x");
        exchange.authority = Some(HeaderValue::from_static("shop.example:8443"));
        exchange.request.insert_header("user-agent", "test/1").unwrap();
        exchange.ledger.enter("limits", "body_too_large");
        let mut outcome = testing::outcome(200);
        outcome.request_bytes = 3;
        outcome.response_bytes = 5;
        let span = template(Direction::Inbound, "/users/{id}").exchange(&exchange, &outcome, &trace());
        assert_eq!(span.name, "POST /users/{id}");
        assert_eq!(span.span_kind, SpanKind::Server);
        assert_eq!(span.span_context.span_id(), SpanId::from(8));
        assert_eq!(span.span_context.trace_state().get("foo"), Some("1"));
        assert!(span.span_context.is_sampled());
        assert_eq!(span.parent_span_id, SpanId::from(9));
        assert!(span.parent_span_is_remote);
        assert_eq!(span.start_time, exchange.timing.started_at);
        assert_eq!(span.end_time, span.start_time + Duration::from_millis(5));
        assert_eq!(span.status, Status::Unset);
        let expected = [
            ("zone", "a"),
            ("http.route", "/users/{id}"),
            ("http.request.method", "POST"),
            ("url.scheme", "http"),
            ("url.path", "/users/7"),
            ("url.query", "a=1&token=REDACTED"),
            ("server.address", "shop.example"),
            ("server.port", "8443"),
            ("client.address", "192.0.2.7"),
            ("network.protocol.version", "1.1"),
            ("http.response.status_code", "200"),
            ("user_agent.original", "test/1"),
            ("pillion.ledger", "[\"limits:body_too_large\"]"),
        ];
        assert_eq!(
            texts(&span),
            expected.map(|(key, value)| (key, value.to_owned())).into()
        );
        assert!(span.attributes.capacity() <= 1 + ATTRIBUTES, "allocated once");
    }

    #[test]
    fn a_client_span_names_the_whole_url_and_the_endpoint() {
        let exchange = testing::exchange("GET", "/a?b=1");
        let mut outcome = testing::outcome(404);
        let answered = AttemptResult::Answered(StatusCode::NOT_FOUND);
        outcome.attempts = vec![attempt("10.0.0.1:8080", exchange.timing.started, answered)];
        let span = template(Direction::Outbound, "/a").exchange(&exchange, &outcome, &trace());
        assert_eq!((&*span.name, span.span_kind.clone()), ("GET /a", SpanKind::Client));
        assert_eq!(span.status, Status::error(""));
        let texts = texts(&span);
        for (key, value) in [
            ("url.full", "http://example.com/a?b=1"),
            ("server.port", "80"),
            ("network.peer.address", "10.0.0.1"),
            ("network.peer.port", "8080"),
            ("error.type", "404"),
        ] {
            assert_eq!(texts[key], value, "{key}");
        }
        assert!(!texts.contains_key("http.route") && !texts.contains_key("url.path"));
    }

    #[test]
    fn a_query_is_left_out_unless_asked_for() {
        for direction in [Direction::Inbound, Direction::Outbound] {
            let template = Template::new(&testing::route(direction, "/a"), [], false);
            let exchange = testing::exchange("GET", "/a?secret");
            let span = template.exchange(&exchange, &testing::outcome(200), &trace());
            assert!(!format!("{:?}", span.attributes).contains("secret"));
        }
    }

    #[test]
    fn names_stay_few() {
        for (method, route, name) in [
            ("GET", "unmatched", "GET"),
            ("PURGE", "unmatched", "HTTP"),
            ("PURGE", "/a", "HTTP /a"),
            ("QUERY", "/a", "QUERY /a"),
        ] {
            let template = template(Direction::Inbound, route);
            let span = template.exchange(&testing::exchange(method, "/x"), &testing::outcome(200), &trace());
            assert_eq!(span.name, name);
            let texts = texts(&span);
            assert_eq!(texts.contains_key("http.route"), route != "unmatched");
            if method == "PURGE" {
                assert_eq!(texts["http.request.method"], "_OTHER");
                assert_eq!(texts["http.request.method_original"], "PURGE");
            }
        }
    }

    #[test]
    fn what_is_an_error_depends_on_the_side() {
        let ended = |status, end, grpc_status| Outcome {
            end,
            grpc_status,
            ..testing::outcome(status)
        };
        let failed = End::Failed(Failure::FirstByteTimeout);
        for (outcome, inbound, outbound) in [
            (ended(200, End::Complete, None), None, None),
            (ended(302, End::Complete, None), None, None),
            (ended(404, End::Complete, None), None, Some("404")),
            (ended(500, End::Complete, None), Some("500"), Some("500")),
            (
                ended(504, failed, None),
                Some("first_byte_timeout"),
                Some("first_byte_timeout"),
            ),
            (
                ended(200, failed, None),
                Some("first_byte_timeout"),
                Some("first_byte_timeout"),
            ),
            (ended(200, End::Complete, Some(0)), None, None),
            (ended(200, End::Complete, Some(5)), None, Some("5")),
            (ended(200, End::Complete, Some(13)), Some("13"), Some("13")),
        ] {
            for (direction, error) in [(Direction::Inbound, inbound), (Direction::Outbound, outbound)] {
                let exchange = testing::exchange("GET", "/");
                let span = template(direction, "/").exchange(&exchange, &outcome, &trace());
                assert_eq!(texts(&span).get("error.type").map(String::as_str), error, "{outcome:?}");
                assert_eq!(
                    matches!(span.status, Status::Error { .. }),
                    error.is_some(),
                    "{outcome:?}"
                );
            }
        }
        let mut aborted = ended(200, End::ClientAborted, None);
        aborted.status = None;
        let span = template(Direction::Inbound, "/").exchange(&testing::exchange("GET", "/"), &aborted, &trace());
        assert_eq!(texts(&span)["error.type"], "client_aborted");
        assert!(!texts(&span).contains_key("http.response.status_code"));
        assert_eq!(span.status, Status::Unset);
    }

    #[test]
    fn each_of_several_attempts_has_a_span_below() {
        let exchange = testing::exchange("GET", "/a");
        let started = exchange.timing.started;
        let mut outcome = testing::outcome(200);
        let template = template(Direction::Inbound, "/a");
        let spans = |outcome: &Outcome| {
            let mut spans = Vec::new();
            template.attempts(&exchange, outcome, &trace(), |span| spans.push(span));
            spans
        };
        let failed = AttemptResult::Failed(Failure::ConnectFailed);
        outcome
            .attempts
            .push(attempt("10.0.0.1:80", started + Duration::from_millis(1), failed));
        assert!(spans(&outcome).is_empty(), "one attempt is told by the exchange's span");

        let answered = AttemptResult::Answered(StatusCode::OK);
        let mut second = attempt("[::1]:81", started + Duration::from_millis(3), answered);
        second.span_id = Some(SpanId::from(77));
        outcome.attempts.push(second);
        let spans = spans(&outcome);
        assert_eq!(spans.len(), 2);
        for span in &spans {
            assert_eq!(span.span_kind, SpanKind::Client);
            assert_eq!(span.parent_span_id, SpanId::from(8));
            assert!(!span.parent_span_is_remote);
            assert_eq!(span.end_time, span.start_time + Duration::from_millis(2));
            assert!(!texts(span).contains_key("http.route"));
        }
        assert_eq!(
            spans[0].start_time,
            exchange.timing.started_at + Duration::from_millis(1)
        );
        assert_ne!(spans[0].span_context.span_id(), SpanId::INVALID);
        assert_eq!(spans[0].status, Status::error("connect_failed"));
        assert_eq!(texts(&spans[0])["error.type"], "connect_failed");
        assert!(!texts(&spans[0]).contains_key("http.request.resend_count"));
        assert_eq!(spans[1].span_context.span_id(), SpanId::from(77));
        assert_eq!(spans[1].status, Status::Unset);
        assert_eq!(texts(&spans[1])["http.request.resend_count"], "1");
        assert_eq!(texts(&spans[1])["network.peer.address"], "::1");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = format!("{}\u{e4}", "a".repeat(LONGEST - 1));
        assert_eq!(cut(&long).len(), LONGEST - 1);
    }
}
