//! What a real sidecar tells of its exchanges: spans to a collector, metrics to whoever scrapes, lines to standard output.
//!
//! A sidecar that stops sends the spans it still has, so a test that counts them stops it first.

use std::collections::BTreeMap;

use fake_opentelemetry_collector::FakeCollectorServer;

use crate::support::collector::{Collector, Span};
use crate::support::{App, GET, H2Client, OK, PATIENCE, Peer, Process, Setup, Sidecar, collect, fields, nobody, wait};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const ROUTES: &str = "routes: [{ match: { path: '/users/{id}' } }]";

/// A sidecar that exports to the collector, with its route.
fn exporting(collector: &Collector, app: &App) -> Setup {
    Sidecar::setup(app).with(&collector.telemetry()).with(ROUTES)
}

/// A `traceparent` of the test's trace.
fn traceparent(sampled: bool) -> String {
    format!("00-{TRACE}-{PARENT}-0{}", u8::from(sampled))
}

/// A GET with these header lines, each ended by CRLF.
fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

/// One exchange on connections of its own: what the app received, and what the client.
fn exchange(sidecar: &Sidecar, app: &App, request: &str, response: &str) -> (String, String) {
    let mut client = sidecar.connect();
    client.send(request);
    let mut origin = app.accept();
    let received = origin.read_head();
    origin.send(response);
    drop(origin);
    (received, client.read_answer().head)
}

/// An answer after which the app closes the connection.
fn answer(status: u16) -> String {
    format!("HTTP/1.1 {status} Of The App\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// The only value of a header.
fn field<'h>(head: &'h str, name: &str) -> &'h str {
    match fields(head, name)[..] {
        [value] => value,
        _ => panic!("not one {name} in {head}"),
    }
}

/// Trace id, span id and flags of a `traceparent`.
fn told(head: &str) -> (String, String, String) {
    let parts: Vec<&str> = field(head, "traceparent").split('-').collect();
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{head}");
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

/// The only span.
fn only(spans: Vec<Span>) -> Span {
    assert_eq!(spans.len(), 1, "{spans:#?}");
    spans.into_iter().next().unwrap()
}

fn attributes<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into_iter()
        .collect()
}

/// The whole story of one request, told by a process of its own.
#[test]
fn span_headers_log_line_and_metric_tell_of_the_same_exchange() {
    let app = App::listen();
    let collector = Collector::start();
    let setup = exporting(&collector, &app).filters("access_log: {}, tracing: { response_header: x-trace-id }");
    let mut sidecar = Process::run(&setup.yaml());
    let mut client = Peer::connect(sidecar.inbound());
    let client_address = client.address();
    client.send(format!(
        "GET /users/7?card=4111 HTTP/1.1\r\nHost: shop.example:8443\r\nUser-Agent: test/1\r\ntraceparent: {}\r\n\
         tracestate: vendor=1\r\nbaggage: tenant=3\r\n\r\n",
        traceparent(true)
    ));
    let mut origin = app.accept();
    let received = origin.read_head();
    origin.send(OK);
    let answer = client.read_answer();
    drop(client);
    sidecar.await_metric(
        "http_server_request_duration_seconds_count{\
         method=\"GET\",route=\"/users/{id}\",service=\"e2e\",status_code=\"200\"}",
        1.0,
    );
    sidecar.await_metric("http_server_request_duration_seconds_count", 1.0);
    let written = sidecar.stop();

    let span = only(collector.received());
    assert_eq!(
        (span.kind, &*span.name, span.status),
        ("SERVER", "GET /users/{id}", "UNSET")
    );
    assert_eq!((&*span.trace, &*span.parent, &*span.state), (TRACE, PARENT, "vendor=1"));
    let expected = attributes([
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "/users/{id}"),
        ("url.scheme", "http"),
        ("url.path", "/users/7"),
        ("server.address", "shop.example"),
        ("server.port", "8443"),
        ("client.address", &client_address.ip().to_string()),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "test/1"),
    ]);
    assert_eq!(span.attributes, expected);

    assert_eq!(told(&received), (TRACE.to_owned(), span.id.clone(), "01".to_owned()));
    assert_eq!(field(&received, "tracestate"), "vendor=1");
    assert_eq!(field(&received, "baggage"), "tenant=3");
    let id = answer.field("x-request-id").unwrap();
    assert_eq!(field(&received, "x-request-id"), id);
    assert_eq!(answer.field("x-trace-id"), Some(TRACE));

    let mut lines = written.lines();
    let line: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(lines.next(), None);
    for (key, value) in [
        ("trace_id", TRACE),
        ("request_id", id),
        ("route", "/users/{id}"),
        ("path", "/users/7"),
        ("service", "e2e"),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert_eq!(line["status"], 200);
}

#[test]
fn spans_leave_while_the_sidecar_runs() {
    let app = App::listen();
    let mut collector = Collector::start();
    let sidecar = exporting(&collector, &app).start();
    for _ in 0..2 {
        exchange(&sidecar, &app, &get("/users/7", ""), &answer(200));
        assert_eq!(only(collector.next()).name, "GET /users/{id}");
    }
    sidecar.await_metric("pillion_spans_exported_total", 2.0);
}

#[test]
fn spans_travel_by_grpc_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut collector = runtime.block_on(FakeCollectorServer::start()).unwrap();
    let app = App::listen();
    let otlp = format!(
        "telemetry: {{ otlp: {{ endpoint: '{}', protocol: grpc }} }}",
        collector.endpoint()
    );
    let sidecar = Sidecar::setup(&app).with(ROUTES).with(&otlp).start();
    let request = get("/users/7", &format!("traceparent: {}\r\n", traceparent(true)));
    let (received, _) = exchange(&sidecar, &app, &request, &answer(200));
    sidecar.stop();
    let spans = runtime.block_on(collector.exported_spans(1, PATIENCE));
    assert_eq!(spans.len(), 1);
    assert_eq!(
        (&*spans[0].kind, &*spans[0].name),
        ("SPAN_KIND_SERVER", "GET /users/{id}")
    );
    assert_eq!(
        (&*spans[0].trace_id, &*spans[0].parent_span_id, &*spans[0].span_id),
        (TRACE, PARENT, &*told(&received).1)
    );
    assert!(spans[0].attributes["http.route"].contains("\"/users/{id}\""));
}

#[test]
fn an_http_2_exchange_is_told_likewise() {
    let app = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &app).start();
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/users/7");
    let mut origin = app.accept();
    let received = origin.read_head();
    origin.send(OK);
    wait(collect(response)).unwrap();
    drop(client);
    let span = only(collector.spans_of(sidecar));
    assert_eq!((span.kind, &*span.name), ("SERVER", "GET /users/{id}"));
    assert_eq!(span.attribute("network.protocol.version"), Some("2"));
    assert_eq!(span.attribute("server.address"), Some("a"));
    assert_eq!(span.attribute("server.port"), Some("80"));
    assert_eq!((span.trace, span.id), (told(&received).0, told(&received).1));
}

#[test]
fn what_the_app_sends_is_a_client_span_below_its_own() {
    let remote = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &App::listen()).start();
    let mut app = sidecar.connect_out();
    let address = remote.address();
    app.send(format!(
        "GET http://{address}/orders?token=secret HTTP/1.1\r\nHost: {address}\r\ntraceparent: {}\r\n\r\n",
        traceparent(true)
    ));
    let mut origin = remote.accept();
    let received = origin.read_head();
    origin.send(OK);
    app.read_answer();
    drop(app);
    let span = only(collector.spans_of(sidecar));
    assert_eq!((span.kind, &*span.name, span.status), ("CLIENT", "GET", "UNSET"));
    assert_eq!((&*span.trace, &*span.parent), (TRACE, PARENT));
    assert_eq!(told(&received), (TRACE.to_owned(), span.id.clone(), "01".to_owned()));
    let port = address.port().to_string();
    let expected = attributes([
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.full", &format!("http://{address}/orders")),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("network.peer.address", "127.0.0.1"),
        ("network.peer.port", &port),
        ("network.protocol.version", "1.1"),
    ]);
    assert_eq!(span.attributes, expected);
}

#[test]
fn both_sides_of_one_app_are_in_one_trace() {
    let (app, remote) = (App::listen(), App::listen());
    let collector = Collector::start();
    let sidecar = exporting(&collector, &app).start();
    let mut client = sidecar.connect();
    client.send(get("/users/7", ""));
    let mut inside = app.accept();
    let context = field(&inside.read_head(), "traceparent").to_owned();
    // All an app has to do: hand on the header it got.
    let mut outside = sidecar.connect_out();
    outside.send(format!(
        "GET / HTTP/1.1\r\nHost: {}\r\ntraceparent: {context}\r\n\r\n",
        remote.address()
    ));
    let mut origin = remote.accept();
    origin.read_head();
    origin.send(OK);
    outside.read_answer();
    inside.send(OK);
    client.read_answer();
    drop((client, outside));
    let spans = collector.spans_of(sidecar);
    let of_kind = |kind: &str| only(spans.iter().filter(|span| span.kind == kind).cloned().collect());
    let (server, client) = (of_kind("SERVER"), of_kind("CLIENT"));
    assert_eq!(spans.len(), 2);
    assert_eq!(server.parent, "", "it began the trace");
    assert_eq!((client.trace, client.parent), (server.trace, server.id));
}

#[test]
fn each_of_two_attempts_has_a_span() {
    let app = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &app).start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    client.read_answer();
    // The pooled connection closes under the second request, which is sent once more.
    client.send(get("/users/7", ""));
    let first = origin.read_head();
    drop(origin);
    let mut origin = app.accept();
    let second = origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().status, 200);
    drop(client);

    let mut spans = collector.spans_of(sidecar);
    spans.retain(|span| span.name == "GET /users/{id}");
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let server = only(spans.iter().filter(|span| span.kind == "SERVER").cloned().collect());
    assert_eq!(server.status, "UNSET");
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.kind == "CLIENT").collect();
    assert_eq!(attempts.len(), 2);
    for attempt in &attempts {
        assert_eq!((&attempt.trace, &attempt.parent), (&server.trace, &server.id));
        assert_eq!(
            attempt.attribute("network.peer.port"),
            Some(&*app.address().port().to_string())
        );
    }
    let resent = |span: &Span| span.attribute("http.request.resend_count").map(str::to_owned);
    let (failed, answered) = match resent(attempts[0]) {
        None => (attempts[0], attempts[1]),
        Some(_) => (attempts[1], attempts[0]),
    };
    assert_eq!((resent(failed), failed.status), (None, "ERROR"));
    assert!(failed.attribute("error.type").is_some() && failed.attribute("http.response.status_code").is_none());
    assert_eq!((resent(answered).as_deref(), answered.status), (Some("1"), "UNSET"));
    assert_eq!(answered.attribute("http.response.status_code"), Some("200"));
    // What the app does hangs below the exchange, whichever attempt reached it.
    for head in [first, second] {
        assert_eq!(
            (told(&head).0, told(&head).1),
            (server.trace.clone(), server.id.clone())
        );
    }
}

#[test]
fn an_app_that_is_not_there_is_an_error_the_client_can_name() {
    let collector = Collector::start();
    let sidecar = Setup::before(format!("http://{}", nobody()))
        .filters("tracing: { response_header: x-trace-id }")
        .with(&collector.telemetry())
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    let answer = client.read_answer();
    drop(client);
    assert_eq!(answer.status, 502);
    let span = only(collector.spans_of(sidecar));
    assert_eq!((span.kind, span.status), ("SERVER", "ERROR"));
    assert_eq!(span.attribute("error.type"), Some("connect_failed"));
    assert_eq!(span.attribute("http.response.status_code"), Some("502"));
    assert_eq!(fields(&answer.head, "x-trace-id"), [&*span.trace]);
}

#[test]
fn what_the_app_answers_is_an_error_from_500_on() {
    for (status, said, error) in [(500, "ERROR", Some("500")), (404, "UNSET", None), (302, "UNSET", None)] {
        let app = App::listen();
        let collector = Collector::start();
        let sidecar = exporting(&collector, &app).start();
        exchange(&sidecar, &app, GET, &answer(status));
        let span = only(collector.spans_of(sidecar));
        assert_eq!((span.status, span.attribute("error.type")), (said, error), "{status}");
        assert_eq!(span.attribute("http.response.status_code"), Some(&*status.to_string()));
    }
}

#[test]
fn a_404_is_an_error_of_the_client_that_asked() {
    let remote = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &App::listen()).start();
    let mut app = sidecar.connect_out();
    app.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", remote.address()));
    let mut origin = remote.accept();
    origin.read_head();
    origin.send(answer(404));
    app.read_answer();
    drop(app);
    let span = only(collector.spans_of(sidecar));
    assert_eq!((span.kind, span.status), ("CLIENT", "ERROR"));
    assert_eq!(span.attribute("error.type"), Some("404"));
}

#[test]
fn a_refusal_has_its_span_and_reason() {
    let app = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &app).filters("limits: { body: 3 }").start();
    let mut client = sidecar.connect();
    client.send("POST /users/7 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour");
    assert_eq!(client.read_answer().status, 413);
    drop(client);
    let span = only(collector.spans_of(sidecar));
    assert_eq!((&*span.name, span.status), ("POST /users/{id}", "UNSET"));
    assert_eq!(span.attribute("pillion.ledger"), Some("limits:body_too_large"));
}

#[test]
fn a_client_that_goes_away_is_no_error_of_ours() {
    for begun in [false, true] {
        let app = App::listen();
        let collector = Collector::start();
        let sidecar = exporting(&collector, &app).start();
        let mut client = sidecar.connect();
        client.send(GET);
        let mut origin = app.accept();
        origin.read_head();
        if begun {
            origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
            client.read_until("hello");
        }
        client.reset();
        sidecar.await_metric(
            "pillion_failures_total{\
             direction=\"inbound\",reason=\"client_aborted\",route=\"unmatched\",service=\"e2e\"}",
            1.0,
        );
        let status = if begun { "200" } else { "" };
        let count = format!(
            "http_server_request_duration_seconds_count{{\
             method=\"GET\",route=\"unmatched\",service=\"e2e\",status_code=\"{status}\"}}"
        );
        sidecar.await_metric(&count, 1.0);
        let span = only(collector.spans_of(sidecar));
        assert_eq!(span.status, "UNSET");
        assert_eq!(span.attribute("error.type"), Some("client_aborted"));
        assert_eq!(span.attribute("http.response.status_code"), begun.then_some("200"));
    }
}

#[test]
fn what_is_not_sampled_is_handed_on_and_not_exported() {
    let app = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &app).filters("tracing: { sample: 0 }").start();
    let (received, _) = exchange(&sidecar, &app, GET, &answer(200));
    assert_eq!(told(&received).2, "00");
    // A caller's decision counts for more than the share.
    let request = get("/users/7", &format!("traceparent: {}\r\n", traceparent(true)));
    let (received, _) = exchange(&sidecar, &app, &request, &answer(200));
    assert_eq!((&*told(&received).0, &*told(&received).2), (TRACE, "01"));
    let span = only(collector.spans_of(sidecar));
    assert_eq!(span.trace, TRACE);
}

#[test]
fn a_caller_that_does_not_sample_is_followed() {
    let app = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &app).start();
    let request = get("/users/7", &format!("traceparent: {}\r\n", traceparent(false)));
    let (received, _) = exchange(&sidecar, &app, &request, &answer(200));
    let (trace, span, flags) = told(&received);
    assert_eq!((&*trace, &*flags), (TRACE, "00"));
    assert_ne!(span, PARENT, "the trace goes on by the sidecar's own id");
    assert!(collector.spans_of(sidecar).is_empty());
}

#[test]
fn a_malformed_context_starts_a_new_trace() {
    for context in [
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("{0}\r\ntraceparent: {0}", traceparent(true)),
    ] {
        let app = App::listen();
        let collector = Collector::start();
        let sidecar = exporting(&collector, &app).start();
        let request = get(
            "/users/7",
            &format!("traceparent: {context}\r\ntracestate: vendor=1\r\n"),
        );
        let (received, _) = exchange(&sidecar, &app, &request, &answer(200));
        assert!(fields(&received, "tracestate").is_empty(), "{received}");
        let span = only(collector.spans_of(sidecar));
        assert_eq!((&*span.parent, &*span.state), ("", ""), "{context}");
        assert_ne!(span.trace, TRACE, "{context}");
        assert_eq!(told(&received), (span.trace, span.id, "01".to_owned()));
    }
}

#[test]
fn a_collector_that_is_down_costs_spans_and_no_requests() {
    let app = App::listen();
    let otlp = format!(
        "telemetry: {{ otlp: {{ endpoint: 'http://{}', interval: 10ms }} }}",
        nobody()
    );
    let sidecar = Sidecar::setup(&app).with(&otlp).start();
    for _ in 0..3 {
        let (_, head) = exchange(&sidecar, &app, GET, &answer(200));
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    sidecar.await_metric("pillion_spans_dropped_total", 3.0);
    assert!(sidecar.metric("pillion_spans_exported_total").abs() < f64::EPSILON);
}

#[test]
fn b3_and_jaeger_are_read_and_written_where_configured() {
    for (format, sent, name) in [
        ("b3", format!("b3: {TRACE}-{PARENT}-1\r\n"), "b3"),
        (
            "b3multi",
            format!("X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {PARENT}\r\nX-B3-Sampled: 1\r\n"),
            "x-b3-spanid",
        ),
        (
            "jaeger",
            format!("uber-trace-id: {TRACE}:{PARENT}:0:1\r\n"),
            "uber-trace-id",
        ),
    ] {
        let app = App::listen();
        let collector = Collector::start();
        let filters = format!("tracing: {{ propagation: [{format}] }}");
        let sidecar = exporting(&collector, &app).filters(&filters).start();
        let (received, _) = exchange(&sidecar, &app, &get("/users/7", &sent), &answer(200));
        let span = only(collector.spans_of(sidecar));
        assert_eq!((&*span.trace, &*span.parent), (TRACE, PARENT), "{format}");
        let written = match format {
            "b3" => format!("{TRACE}-{}-1-{PARENT}", span.id),
            "b3multi" => span.id.clone(),
            // Jaeger's parent is deprecated and written as 0.
            _ => format!("{TRACE}:{}:0:1", span.id),
        };
        assert_eq!(field(&received, name), written, "{format}");
        if format == "b3multi" {
            assert_eq!(field(&received, "x-b3-traceid"), TRACE);
            assert_eq!(field(&received, "x-b3-parentspanid"), PARENT);
            assert_eq!(field(&received, "x-b3-sampled"), "1");
        }
        assert!(fields(&received, "traceparent").is_empty(), "{received}");
    }
}

#[test]
fn labels_and_names_stay_few_whatever_is_asked_for() {
    let app = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &app).start();
    for path in ["/no/such/7", "/no/such/8"] {
        exchange(
            &sidecar,
            &app,
            &format!("BREW {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
            &answer(418),
        );
    }
    sidecar.await_metric(
        "http_server_request_duration_seconds_count{\
         method=\"_OTHER\",route=\"unmatched\",service=\"e2e\",status_code=\"418\"}",
        2.0,
    );
    let spans = collector.spans_of(sidecar);
    assert_eq!(spans.len(), 2);
    for span in spans {
        assert_eq!(span.name, "HTTP");
        assert_eq!(span.attribute("http.request.method"), Some("_OTHER"));
        assert_eq!(span.attribute("http.request.method_original"), Some("BREW"));
        assert_eq!(span.attribute("http.route"), None);
    }
}

#[test]
fn what_is_under_way_is_gauged_and_bytes_are_counted() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with(ROUTES).start();
    let active = "http_server_active_requests{route=\"/users/{id}\",service=\"e2e\"}";
    sidecar.await_metric(active, 0.0);
    let mut client = sidecar.connect();
    client.send("POST /users/7 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let mut origin = app.accept();
    origin.read_until("hello");
    sidecar.await_metric(active, 1.0);
    sidecar.await_metric("http_server_active_requests", 1.0);
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ngoodbye\r\n0\r\n\r\n");
    assert_eq!(client.read_answer().text(), "goodbye");
    sidecar.await_metric(active, 0.0);
    for (name, bytes) in [("request", 5.0), ("response", 7.0)] {
        let counted = format!("http_server_{name}_body_bytes_total{{route=\"/users/{{id}}\",service=\"e2e\"}}");
        sidecar.await_metric(&counted, bytes);
        sidecar.await_metric(&format!("http_server_{name}_body_bytes_total"), bytes);
    }
}

#[test]
fn connections_are_gauged_and_counted() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let open = "pillion_connections_open{direction=\"inbound\"}";
    let clients = [sidecar.connect(), sidecar.connect()];
    sidecar.await_metric(open, 2.0);
    drop(clients);
    sidecar.await_metric(open, 0.0);
    let _app = sidecar.connect_out();
    sidecar.await_metric("pillion_connections_open{direction=\"outbound\"}", 1.0);
    sidecar.await_metric("pillion_connections_accepted_total{direction=\"inbound\"}", 2.0);
    sidecar.await_metric("pillion_connections_accepted_total{direction=\"outbound\"}", 1.0);
}

/// `docs/metrics.md` and the filters' pages name every family there is, and no other.
#[test]
fn every_metric_has_its_line_in_the_manual() {
    let app = App::listen();
    let collector = Collector::start();
    let sidecar = exporting(&collector, &app)
        .filters("limits: { body: 3 }, cache: { enabled: true }, circuit_breaker: { enabled: true }")
        .start();
    exchange(&sidecar, &app, GET, &answer(200));
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour");
    assert_eq!(client.read_answer().status, 413);
    let mut admin = Peer::connect(sidecar.admin());
    let force = r#"{"direction":"inbound","upstream":"app","force":"open"}"#;
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}", force.len());
    admin.send(format!(
        "POST /upstreams/breakers HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{force}"
    ));
    assert_eq!(admin.read_answer().status, 200);
    let exposition = sidecar.exposition();
    let families: Vec<&str> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let page = |name: &str| std::fs::read_to_string(format!("docs/{name}.md")).unwrap();
    let own = page("metrics");
    let pages =
        ["metrics", "limits", "cache", "compression", "circuit_breaker"].map(|name| page(&format!("filters/{name}")));
    let pages = own.clone() + &pages.concat();
    for family in &families {
        // The page shows those of the other direction by one of them.
        let family = family.replace("http_client_", "http_server_");
        assert!(pages.contains(&format!("`{family}")), "{family} is in no page");
    }
    for line in own.lines().filter(|line| line.starts_with("| `")) {
        let name = line.split('`').nth(1).unwrap();
        assert!(families.contains(&name), "there is no {name} in\n{exposition}");
    }
}
