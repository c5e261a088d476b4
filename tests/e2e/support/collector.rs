//! A collector of spans: an OTLP receiver over HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use super::http2::drive;
use super::{PATIENCE, Sidecar, wait};

/// What came with one export.
pub(crate) type Export = (HeaderMap, Bytes);

/// A receiver that hands on what it gets and answers with the statuses it is given, then 200. Runs as long as the runtime.
pub(crate) async fn receiver(mut statuses: Vec<StatusCode>) -> (String, UnboundedReceiver<Export>) {
    let (got, gets) = unbounded_channel();
    statuses.reverse();
    let statuses = Arc::new(Mutex::new(statuses));
    let receive = async move |headers: HeaderMap, body: Bytes| {
        // A test that has seen enough no longer listens.
        let _ = got.send((headers, body));
        statuses.lock().unwrap().pop().unwrap_or(StatusCode::OK)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/v1/traces", post(receive));
    tokio::spawn(async { axum::serve(listener, app).await });
    (endpoint, gets)
}

/// The body of an export.
pub(crate) fn decoded(body: &Bytes) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(body.as_ref()).unwrap()
}

/// All spans of an export.
pub(crate) fn spans(request: &ExportTraceServiceRequest) -> Vec<&otlp::Span> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| &scope.spans).collect()
}

/// A span in words: ids in hexadecimal, `parent` empty where there is none.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl From<&otlp::Span> for Span {
    fn from(span: &otlp::Span) -> Self {
        let hex = |id: &[u8]| {
            let digits = id.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            digits
                .map(|digit| char::from_digit(digit.into(), 16).unwrap())
                .collect()
        };
        let pairs = span.attributes.iter();
        Self {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            state: span.trace_state.clone(),
            name: span.name.clone(),
            kind: span.kind().as_str_name().trim_start_matches("SPAN_KIND_"),
            status: span.status.as_ref().map_or("UNSET", |status| {
                status.code().as_str_name().trim_start_matches("STATUS_CODE_")
            }),
            attributes: pairs
                .map(|pair| {
                    let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
                    (pair.key.clone(), value.map(words).unwrap_or_default())
                })
                .collect(),
        }
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::ArrayValue(array) => {
            let values = array.values.iter().filter_map(|value| value.value.as_ref());
            values.map(words).collect::<Vec<_>>().join(",")
        }
        other => format!("{other:?}"),
    }
}

impl Span {
    /// An attribute, or nothing.
    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }
}

/// A collector on a thread of its own. Stops when it is dropped.
pub(crate) struct Collector {
    endpoint: String,
    exports: UnboundedReceiver<Export>,
    _open: watch::Sender<()>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let (open, mut closed) = watch::channel(());
        let (give, take) = mpsc::channel();
        drive(move || async move {
            give.send(receiver(Vec::new()).await).unwrap();
            let _ = closed.changed().await;
        });
        let (endpoint, exports) = take.recv_timeout(PATIENCE).unwrap();
        Self {
            endpoint,
            exports,
            _open: open,
        }
    }

    /// The line of a sidecar's configuration that sends its spans here.
    pub(crate) fn telemetry(&self) -> String {
        format!(
            "telemetry: {{ otlp: {{ endpoint: '{}', interval: 10ms }} }}",
            self.endpoint
        )
    }

    /// The spans of the next export.
    pub(crate) fn next(&mut self) -> Vec<Span> {
        let (_, body) = wait(self.exports.recv()).unwrap();
        spans(&decoded(&body)).into_iter().map(Span::from).collect()
    }

    /// Stops a sidecar, which sends what it still has; all that came here, exactly.
    pub(crate) fn spans_of(self, sidecar: Sidecar) -> Vec<Span> {
        sidecar.stop();
        self.received()
    }

    /// All that has come by now.
    pub(crate) fn received(mut self) -> Vec<Span> {
        let mut received = Vec::new();
        while let Ok((_, body)) = self.exports.try_recv() {
            received.extend(spans(&decoded(&body)).into_iter().map(Span::from));
        }
        received
    }
}
