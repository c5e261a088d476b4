//! The `tracing` plugin: takes part in distributed traces, without a changed line in the app.
//!
//! **Request.** The caller's trace context is read from the configured headers. A valid one is continued, an absent or
//! malformed one starts a new trace (W3C Trace Context, section 4.3); `tracestate` goes on with a valid `traceparent`
//! only, `baggage` where it is valid. The context is then written to the request with this exchange's span as the parent,
//! so what the app does hangs below it.
//!
//! **Sampling** follows the parent: a caller's decision is kept, so that a trace is recorded whole or not at all. Where
//! there is none, the trace id decides, and so every sidecar with the same ratio decides alike.
//!
//! **Response.** With `response_header` the client is told the trace's id, in refusals and errors too. Without, the
//! filter takes no part in responses.
//!
//! **Complete.** A sampled exchange becomes a span, and so does each of its attempts when there was more than one. An
//! unsampled one costs no more than its headers.
//!
//! ```yaml
//! filters:
//!   tracing: { propagation: [w3c, b3], sample: 0.1 }
//! ```

mod b3;
mod hex;
mod jaeger;
mod propagation;
mod span;
mod url;
mod w3c;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use opentelemetry::{KeyValue, Value};
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::propagation::Format;
use self::propagation::{Found, Incoming};
use crate::context::SpanSink;
use crate::own_header::OwnHeader;
use crate::trace_context::{SpanId, TraceContext, TraceId};
use crate::{BuildError, Context, Exchange, Filter, Outcome, Phases, Plugin, Step, Turn};

/// Configuration of `tracing`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The headers a trace context is read from, the first valid one winning, and all of which it is written to.
    pub propagation: Vec<Format>,
    /// The share of traces that are recorded, from 0 to 1, where no caller has decided already.
    pub sample: f64,
    /// Whether an incoming context is used at all. Without, every trace begins here and the caller's context and baggage
    /// are taken out: for the edge, where anybody could ask to be sampled.
    pub trust: bool,
    /// Whether spans have the query of the request. Queries carry personal data; of known credentials the values are
    /// redacted.
    pub query: bool,
    /// A header that tells the client the trace's id, in lower-case hexadecimal, such as `x-trace-id`; one that the app
    /// set is replaced.
    pub response_header: Option<String>,
    /// Attributes of every span, by name.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            propagation: vec![Format::W3c],
            sample: 1.0,
            trust: true,
            query: false,
            response_header: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Attribute {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl From<Attribute> for Value {
    fn from(attribute: Attribute) -> Self {
        match attribute {
            Attribute::Bool(value) => value.into(),
            Attribute::Integer(value) => value.into(),
            Attribute::Number(value) => value.into(),
            // Shared by all spans instead of copied into each.
            Attribute::Text(value) => Arc::<str>::from(value).into(),
        }
    }
}

/// The `tracing` plugin.
pub struct Tracing {
    formats: Box<[Format]>,
    sample: f64,
    trust: bool,
    response_header: Option<OwnHeader>,
    template: span::Template,
    spans: Arc<dyn SpanSink>,
}

impl Plugin for Tracing {
    const NAME: &'static str = "tracing";
    type Config = Config;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        if !(0.0..=1.0).contains(&config.sample) {
            let message = format!("`sample` is {}, but a share of traces is from 0 to 1", config.sample);
            return Err(BuildError::Meaning(message));
        }
        let response_header = config.response_header;
        let attributes = config.attributes.into_iter();
        let attributes = attributes.map(|(key, value)| KeyValue::new(Arc::<str>::from(key), value));
        Ok(Arc::new(Self {
            formats: config.propagation.into(),
            sample: config.sample,
            trust: config.trust,
            response_header: response_header
                .map(|name| OwnHeader::new(name, "the trace id"))
                .transpose()?,
            template: span::Template::new(context.route, attributes, config.query),
            spans: context.telemetry.spans.clone(),
        }))
    }
}

impl Filter for Tracing {
    fn phases(&self) -> Phases {
        let response = if self.response_header.is_some() {
            Phases::RESPONSE
        } else {
            Phases::NONE
        };
        Phases::REQUEST | response | Phases::COMPLETE
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        let request = &mut *exchange.request;
        let incoming = if self.trust {
            propagation::receive(request, &self.formats)
        } else {
            propagation::forget(request);
            Incoming::default()
        };
        let trace = begin(incoming, self.sample);
        propagation::send(request, &self.formats, &trace);
        exchange.trace = Some(trace);
        Step::Continue
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHeader) -> Turn {
        if let (Some(header), Some(trace)) = (&self.response_header, &exchange.trace) {
            // Hexadecimal digits always make a header value.
            if let Ok(id) = HeaderValue::from_bytes(&trace.trace_id_hex) {
                header.write_response(head, id);
            }
        }
        Turn::Keep
    }

    fn complete(&self, exchange: &mut Exchange, outcome: &Outcome) {
        let Some(trace) = exchange.trace.as_ref().filter(|trace| trace.sampled) else {
            return;
        };
        if self.spans.is_active() {
            let emit = |span| self.spans.emit(span);
            self.template.attempts(exchange, outcome, trace, emit);
            emit(self.template.exchange(exchange, outcome, trace));
        }
    }
}

/// This exchange's place in the caller's trace, or in a new one.
fn begin(incoming: Incoming, ratio: f64) -> TraceContext {
    let (trace_id, parent, decision) = match incoming.found {
        Some(Found::Context(remote)) => (remote.trace_id, Some(remote.parent), remote.sampled),
        Some(Found::Decision(sampled)) => (new_trace_id(), None, Some(sampled)),
        None => (new_trace_id(), None, None),
    };
    let mut trace_id_hex = [0; 32];
    hex::write(&trace_id.to_bytes(), &mut trace_id_hex);
    TraceContext {
        trace_id,
        span_id: new_span_id(),
        parent,
        sampled: decision.unwrap_or_else(|| sampled_by_id(trace_id, ratio)),
        tracestate: incoming.tracestate,
        trace_id_hex,
    }
}

/// Whether a trace is among the share that is recorded: the low 63 bits of the id's last 8 bytes against the ratio, as
/// OpenTelemetry's `TraceIdRatioBased` sampler has it.
fn sampled_by_id(trace_id: TraceId, ratio: f64) -> bool {
    let [_, _, _, _, _, _, _, _, low @ ..] = trace_id.to_bytes();
    ratio >= 1.0 || u64::from_be_bytes(low) >> 1 < (ratio * (1_u64 << 63) as f64) as u64
}

/// Random, and never zero, which every format forbids.
fn new_trace_id() -> TraceId {
    loop {
        let id = fastrand::u128(..);
        if id != 0 {
            return TraceId::from(id);
        }
    }
}

fn new_span_id() -> SpanId {
    loop {
        let id = fastrand::u64(..);
        if id != 0 {
            return SpanId::from(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use opentelemetry_sdk::trace::SpanData;

    use super::*;
    use crate::context::Telemetry;
    use crate::testing;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    #[derive(Default)]
    struct Kept {
        spans: Mutex<Vec<SpanData>>,
        inactive: bool,
    }

    impl SpanSink for Kept {
        fn emit(&self, span: Box<SpanData>) {
            self.spans.lock().unwrap().push(*span);
        }
        fn is_active(&self) -> bool {
            !self.inactive
        }
    }

    fn filter(config: &str, sink: &Arc<Kept>) -> Arc<dyn Filter> {
        let telemetry = Telemetry {
            spans: sink.clone(),
            ..Telemetry::default()
        };
        let config = serde_json::from_str(config).unwrap();
        testing::with_context("tracing", &telemetry, |context| Tracing::build(config, context)).unwrap()
    }

    fn passed(config: &str, headers: &[(&'static str, &str)]) -> Exchange {
        let mut exchange = testing::exchange("GET", "/");
        for (name, value) in headers {
            exchange.request.append_header(*name, *value).unwrap();
        }
        let step = filter(config, &Arc::default()).request(&mut exchange);
        assert!(matches!(step, Step::Continue));
        exchange
    }

    #[test]
    fn a_callers_trace_is_continued_with_our_span_as_parent() {
        let exchange = passed(
            "{}",
            &[("traceparent", PARENT), ("tracestate", "foo=1"), ("baggage", "a=1")],
        );
        let trace = exchange.trace.unwrap();
        assert_eq!(trace.trace_id_hex(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.parent.unwrap().to_string(), "00f067aa0ba902b7");
        assert!(trace.sampled);
        let headers = &exchange.request.headers;
        assert_eq!(
            headers["traceparent"],
            format!("00-{}-{}-01", trace.trace_id_hex(), trace.span_id)
        );
        assert_eq!(headers["tracestate"], "foo=1");
        assert_eq!(headers["baggage"], "a=1");
    }

    #[test]
    fn a_malformed_context_starts_a_new_trace() {
        let exchange = passed("{}", &[("traceparent", "00-nonsense"), ("tracestate", "foo=1")]);
        let trace = exchange.trace.unwrap();
        assert_eq!(trace.parent, None);
        assert_ne!(trace.trace_id, TraceId::INVALID);
        assert_ne!(trace.span_id, SpanId::INVALID);
        assert!(exchange.request.headers.get("tracestate").is_none());
        assert!(
            exchange.request.headers["traceparent"]
                .to_str()
                .unwrap()
                .contains(trace.trace_id_hex())
        );
    }

    #[test]
    fn sampling_follows_the_parent_then_the_ratio() {
        fn sampled(config: &str, headers: &[(&'static str, &str)]) -> bool {
            passed(config, headers).trace.unwrap().sampled
        }
        let (all, none) = (r#"{"sample": 1}"#, r#"{"sample": 0}"#);
        assert!(sampled(none, &[("traceparent", PARENT)]));
        assert!(!sampled(all, &[("traceparent", UNSAMPLED)]));
        assert!(sampled(all, &[]));
        assert!(!sampled(none, &[]));
        // Ids without a decision leave it to the ratio; a decision without ids is one.
        let b3 = |sample| format!(r#"{{"propagation": ["b3"], "sample": {sample}}}"#);
        assert!(!sampled(&b3(0), &[("b3", "1-1")]));
        let ids = ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1");
        assert!(!sampled(&b3(0), &[ids]));
        assert!(sampled(&b3(1), &[ids]));
        assert!(!sampled(&b3(1), &[("b3", "0")]));
    }

    #[test]
    fn the_ratio_is_of_the_low_bytes_of_the_id() {
        let half = |low: u64| sampled_by_id(TraceId::from(u128::from(u64::MAX) << 64 | u128::from(low)), 0.5);
        assert!(half(0) && half((1 << 63) - 1));
        assert!(!half(1 << 63) && !half(u64::MAX));
        assert!(!sampled_by_id(TraceId::from(1), 0.0));
        assert!(sampled_by_id(TraceId::from(u128::MAX), 1.0));
    }

    #[test]
    fn without_trust_every_trace_begins_here() {
        let config = r#"{"trust": false, "sample": 0}"#;
        let exchange = passed(config, &[("traceparent", PARENT), ("b3", "1"), ("baggage", "a=1")]);
        let trace = exchange.trace.unwrap();
        assert_eq!((trace.parent, trace.sampled), (None, false));
        assert!(exchange.request.headers.get("baggage").is_none());
        assert!(exchange.request.headers.get("b3").is_none());
    }

    #[test]
    fn every_configured_format_is_written() {
        let config = r#"{"propagation": ["w3c", "b3", "b3multi", "jaeger"]}"#;
        let exchange = passed(config, &[("traceparent", PARENT)]);
        for name in [
            "traceparent",
            "b3",
            "x-b3-traceid",
            "x-b3-spanid",
            "x-b3-parentspanid",
            "uber-trace-id",
        ] {
            assert!(exchange.request.headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_sampled_exchange_becomes_a_span() {
        let config = r#"{"attributes": {"team": "web", "shard": 3, "share": 0.5, "canary": true}}"#;
        let sink = Arc::new(Kept::default());
        let filter = filter(config, &sink);
        let mut exchange = testing::exchange("GET", "/");
        filter.request(&mut exchange);
        filter.complete(&mut exchange, &testing::outcome(200));
        let spans = sink.spans.lock().unwrap();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].span_context.trace_id(), exchange.trace.unwrap().trace_id);
        for (key, value) in [
            ("team", Value::from("web")),
            ("shard", 3_i64.into()),
            ("share", 0.5.into()),
            ("canary", true.into()),
        ] {
            assert!(spans[0].attributes.contains(&KeyValue::new(key, value)), "{key}");
        }
    }

    #[test]
    fn the_client_is_told_the_trace_if_configured() {
        let told = filter(r#"{"response_header": "X-Trace-ID", "sample": 0}"#, &Arc::default());
        assert!(told.phases().contains(Phases::RESPONSE));
        let mut exchange = passed("{}", &[("traceparent", PARENT)]);
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("x-trace-id", "the app's own").unwrap();
        told.response(&mut exchange, &mut head);
        let ids: Vec<_> = head.headers.get_all("x-trace-id").iter().collect();
        assert_eq!(ids, ["4bf92f3577b34da6a3ce929d0e0e4736"]);

        assert!(!filter("{}", &Arc::default()).phases().contains(Phases::RESPONSE));
    }

    #[test]
    fn no_span_is_built_that_goes_nowhere() {
        for (config, inactive) in [(r#"{"sample": 0}"#, false), ("{}", true)] {
            let sink = Arc::new(Kept {
                inactive,
                ..Kept::default()
            });
            let filter = filter(config, &sink);
            let mut exchange = testing::exchange("GET", "/");
            filter.request(&mut exchange);
            filter.complete(&mut exchange, &testing::outcome(200));
            assert!(sink.spans.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        for config in [
            r#"{"samples": 1}"#,
            r#"{"propagation": ["w3"]}"#,
            r#"{"propagation": "w3c"}"#,
            r#"{"attributes": {"a": [1]}}"#,
        ] {
            assert!(serde_json::from_str::<Config>(config).is_err(), "{config}");
        }
        let sampling = |sample| Config {
            sample,
            ..Config::default()
        };
        let telling = |name: &str| Config {
            response_header: Some(name.to_owned()),
            ..Config::default()
        };
        for config in [
            sampling(-0.1),
            sampling(1.1),
            sampling(f64::NAN),
            telling("trace id"),
            telling("content-length"),
        ] {
            let told = format!("{config:?}");
            let built = testing::with_context("tracing", &Telemetry::default(), |context| {
                Tracing::build(config, context)
            });
            assert!(built.is_err(), "{told}");
        }
    }
}
