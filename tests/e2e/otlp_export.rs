//! Spans reach a real OTLP receiver, over HTTP and gRPC, and a collector that is dead or hangs costs requests nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_opentelemetry_collector::{ExportedSpan, FakeCollectorServer};
use http::StatusCode;
use pillion::telemetry::{self, ExportSettings, ExporterHandle, Protocol, SpanQueue, resource};
use pillion_filters::{
    AttemptRecord, AttemptResult, Failure, Filter, Metrics, Outcome, Registry, SpanSink, Telemetry, testing,
};
use tokio::net::TcpListener;

use crate::support::collector::{decoded, receiver, spans};
use crate::support::{PATIENCE, nobody};

const ENOUGH: Duration = PATIENCE;
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn settings(endpoint: &str, protocol: Protocol) -> ExportSettings {
    ExportSettings {
        endpoint: endpoint.to_owned(),
        protocol,
        headers: BTreeMap::from([("x-api-key".to_owned(), "k".to_owned())]),
        timeout: Duration::from_secs(5),
        queue_size: 1000,
        batch_size: 100,
        interval: Duration::from_millis(10),
        resource: resource("shop", &BTreeMap::from([("zone".to_owned(), "a".to_owned())])),
    }
}

struct Sidecar {
    queue: Arc<SpanQueue>,
    handle: ExporterHandle,
    metrics: Metrics,
}

impl Sidecar {
    fn start(settings: ExportSettings) -> Self {
        let metrics = Metrics::default();
        let (queue, handle) = telemetry::start(settings, &metrics).unwrap();
        Self { queue, handle, metrics }
    }

    fn tracing(&self) -> Arc<dyn Filter> {
        let telemetry = Telemetry {
            spans: self.queue.clone(),
            ..Telemetry::default()
        };
        let plugin = *Registry::builtin().get("tracing").unwrap();
        let mut config = serde_json::Deserializer::from_str("{}");
        let mut config = <dyn erased_serde::Deserializer<'_>>::erase(&mut config);
        testing::with_context("tracing", &telemetry, |context| plugin.build(&mut config, context)).unwrap()
    }

    /// One traced exchange, and what came of it.
    fn exchange(&self, outcome: &Outcome) {
        let filter = self.tracing();
        let mut exchange = testing::exchange("GET", "/users/7");
        exchange.request.insert_header("traceparent", PARENT).unwrap();
        filter.request(&mut exchange);
        filter.complete(&mut exchange, outcome);
    }

    fn count(&self, sample: &str) -> u64 {
        let text = telemetry::render(&self.metrics);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{sample} is not in\n{text}"))
            .parse()
            .unwrap()
    }

    fn exported(&self) -> u64 {
        self.count("pillion_spans_exported_total")
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.count(&format!("pillion_spans_dropped_total{{reason=\"{reason}\"}}"))
    }

    /// Off this thread, which the receiver needs.
    async fn stop(self, within: Duration) -> (Arc<SpanQueue>, Duration) {
        let began = Instant::now();
        tokio::task::spawn_blocking(move || self.handle.shutdown(within))
            .await
            .unwrap();
        (self.queue, began.elapsed())
    }
}

fn retried() -> Outcome {
    let started = Instant::now();
    let attempt = |result| AttemptRecord {
        endpoint: Arc::from("10.0.0.1:8080"),
        started,
        ended: started,
        connected: None,
        reused: false,
        result,
        span_id: None,
    };
    Outcome {
        attempts: vec![
            attempt(AttemptResult::Failed(Failure::ConnectFailed)),
            attempt(AttemptResult::Answered(StatusCode::OK)),
        ],
        ..testing::outcome(200)
    }
}

#[tokio::test]
async fn spans_travel_over_http() {
    let (endpoint, mut gets) = receiver(Vec::new()).await;
    let sidecar = Sidecar::start(settings(&endpoint, Protocol::Http));
    sidecar.exchange(&testing::outcome(200));
    let (headers, body) = tokio::time::timeout(ENOUGH, gets.recv()).await.unwrap().unwrap();
    assert_eq!(headers["x-api-key"], "k");
    assert_eq!(headers["content-type"], "application/x-protobuf");

    let request = decoded(&body);
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    let keys: Vec<_> = resource.attributes.iter().map(|pair| pair.key.as_str()).collect();
    for key in [
        "service.name",
        "service.instance.id",
        "process.pid",
        "telemetry.sdk.name",
        "zone",
    ] {
        assert!(keys.contains(&key), "{key} is not among {keys:?}");
    }
    let spans = spans(&request);
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].name, "GET /test");
    assert_eq!(spans[0].kind, 2, "SPAN_KIND_SERVER");
    assert_eq!(spans[0].parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(spans[0].end_time_unix_nano - spans[0].start_time_unix_nano, 5_000_000);
    let keys: Vec<_> = spans[0].attributes.iter().map(|pair| pair.key.as_str()).collect();
    for key in [
        "http.route",
        "http.request.method",
        "url.path",
        "http.response.status_code",
    ] {
        assert!(keys.contains(&key), "{key} is not among {keys:?}");
    }
    let metrics = sidecar.metrics.clone();
    sidecar.stop(ENOUGH).await;
    assert!(telemetry::render(&metrics).contains("pillion_spans_exported_total 1\n"));
}

#[tokio::test]
async fn spans_travel_over_grpc() {
    let mut collector = FakeCollectorServer::start().await.unwrap();
    let sidecar = Sidecar::start(settings(&collector.endpoint(), Protocol::Grpc));
    sidecar.exchange(&retried());
    let spans = collector.exported_spans(3, ENOUGH).await;
    assert_eq!(spans.len(), 3, "the exchange and both its attempts");
    let of_kind = |kind: &str| {
        spans
            .iter()
            .filter(|span| span.kind == kind)
            .collect::<Vec<&ExportedSpan>>()
    };
    let (servers, clients) = (of_kind("SPAN_KIND_SERVER"), of_kind("SPAN_KIND_CLIENT"));
    assert_eq!((servers.len(), clients.len()), (1, 2));
    assert_eq!(servers[0].trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(servers[0].parent_span_id, "00f067aa0ba902b7");
    assert!(servers[0].attributes.contains_key("http.route"));
    for client in &clients {
        assert_eq!(client.trace_id, servers[0].trace_id);
        assert_eq!(client.parent_span_id, servers[0].span_id);
    }
    let again = |span: &&&ExportedSpan| span.attributes.contains_key("http.request.resend_count");
    assert_eq!(clients.iter().filter(again).count(), 1);
    sidecar.stop(ENOUGH).await;
}

#[tokio::test]
async fn what_is_queued_is_sent_at_the_end() {
    let (endpoint, mut gets) = receiver(Vec::new()).await;
    let sidecar = Sidecar::start(ExportSettings {
        interval: ENOUGH * 100,
        ..settings(&endpoint, Protocol::Http)
    });
    for _ in 0..250 {
        sidecar.exchange(&testing::outcome(200));
    }
    sidecar.stop(ENOUGH).await;
    let mut count = 0;
    while let Ok((_, body)) = gets.try_recv() {
        let request = decoded(&body);
        assert!(spans(&request).len() <= 100, "a batch is bounded");
        count += spans(&request).len();
    }
    assert_eq!(count, 250);
}

#[tokio::test]
async fn a_batch_the_collector_had_no_time_for_is_tried_once_more() {
    let (endpoint, mut gets) = receiver(vec![StatusCode::SERVICE_UNAVAILABLE]).await;
    let sidecar = Sidecar::start(settings(&endpoint, Protocol::Http));
    sidecar.exchange(&testing::outcome(200));
    let metrics = sidecar.metrics.clone();
    sidecar.stop(ENOUGH).await;
    let (first, second) = (gets.recv().await.unwrap().1, gets.recv().await.unwrap().1);
    assert_eq!(first, second);
    assert!(telemetry::render(&metrics).contains("pillion_spans_exported_total 1\n"));
}

#[tokio::test]
async fn a_dead_collector_costs_spans_not_requests() {
    let endpoint = format!("http://{}", nobody());
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let sidecar = Sidecar::start(ExportSettings {
            queue_size: 50,
            batch_size: 10,
            ..settings(&endpoint, protocol)
        });
        let began = Instant::now();
        for _ in 0..500 {
            sidecar.exchange(&testing::outcome(200));
        }
        assert!(began.elapsed() < ENOUGH, "a span was waited for");
        assert!(sidecar.dropped("queue_full") > 0);
        assert_eq!(sidecar.exported(), 0);
        let metrics = sidecar.metrics.clone();
        let (queue, _) = sidecar.stop(ENOUGH).await;
        assert!(!queue.is_active(), "nobody builds spans for it any more");
        let text = telemetry::render(&metrics);
        let dropped: u64 = text
            .lines()
            .filter(|line| line.starts_with("pillion_spans_dropped_total{"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum();
        assert_eq!(dropped, 500, "{text}");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_does_not_hold_up_the_end() {
    // Connections are taken by the system's backlog; nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let sidecar = Sidecar::start(ExportSettings {
            timeout: ENOUGH * 10,
            ..settings(&endpoint, protocol)
        });
        sidecar.exchange(&testing::outcome(200));
        let metrics = sidecar.metrics.clone();
        let (_, took) = sidecar.stop(Duration::from_millis(300)).await;
        assert!(took < ENOUGH, "{took:?}");
        let lost = "pillion_spans_dropped_total{reason=\"export_failed\"} 1\n";
        // The exporter gave up; that it counts what was lost is its own thread's doing.
        let deadline = Instant::now() + ENOUGH;
        while !telemetry::render(&metrics).contains(lost) {
            assert!(Instant::now() < deadline, "the loss was not counted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_collector_that_refused_is_asked_again() {
    let (endpoint, _gets) = receiver(vec![StatusCode::BAD_REQUEST]).await;
    let sidecar = Sidecar::start(settings(&endpoint, Protocol::Http));
    let deadline = Instant::now() + ENOUGH;
    sidecar.exchange(&testing::outcome(200));
    while sidecar.dropped("export_failed") == 0 {
        assert!(Instant::now() < deadline, "the failure was never counted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sidecar.exchange(&testing::outcome(200));
    while sidecar.exported() == 0 {
        assert!(Instant::now() < deadline, "the exporter never came back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sidecar.dropped("export_failed"), 1);
    sidecar.stop(ENOUGH).await;
}
