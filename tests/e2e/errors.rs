//! What the sidecar says when it answers by itself.

use http::Request;

use crate::support::{App, GET, H2Client, OK, Setup, Sidecar, collect, nobody, wait};

/// A sidecar whose app is not there.
fn before_nobody() -> Setup {
    Setup::before(format!("http://{}", nobody()))
}

#[test]
fn an_error_says_what_and_who() {
    let sidecar = before_nobody().start();
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.field("content-type"), Some("application/json"));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("x-request-id"), Some("r-1"));
    assert_eq!(
        answer.field("proxy-status"),
        Some("pillion; error=connection_refused; details=\"connect_failed\"")
    );
    let body = answer.json();
    assert_eq!(body["error"], "connect_failed");
    assert_eq!(body["status"], 502);
    assert_eq!(body["request_id"], "r-1");
    assert!(body["message"].as_str().unwrap().contains("could not be reached"));
}

#[test]
fn an_error_has_an_id_even_if_the_request_had_none() {
    let sidecar = before_nobody().start();
    let mut client = sidecar.connect();
    client.send(GET);
    let answer = client.read_answer();
    let id = answer.field("x-request-id").unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(answer.json()["request_id"], id);
}

#[test]
fn errors_are_problem_details_where_that_is_chosen() {
    let sidecar = before_nobody().with("errors: { format: problem }").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let answer = client.read_answer();
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["title"], "Bad Gateway");
    assert_eq!(body["status"], 502);
    assert_eq!(body["error"], "connect_failed");
    assert!(body["detail"].is_string());
}

#[test]
fn an_error_leaves_the_clients_connection_open() {
    let sidecar = before_nobody().start();
    let mut client = sidecar.connect();
    for _ in 0..3 {
        client.send(GET);
        assert_eq!(client.read_answer().status, 502);
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.read_answer().status, 502);
    client.send(GET);
    assert_eq!(client.read_answer().status, 502);
}

#[test]
fn an_error_to_head_has_no_body() {
    let sidecar = before_nobody().start();
    let mut client = sidecar.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_answer_to_head().status, 502);
    client.send(GET);
    assert_eq!(client.read_answer().status, 502);
}

#[test]
fn a_grpc_client_gets_a_grpc_status() {
    let sidecar = before_nobody().start();
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::post("http://a/pkg.Service/Method").header("content-type", "application/grpc+proto");
    let (response, mut stream) = client.send(request.body(()).unwrap(), false);
    stream
        .send_data(bytes::Bytes::from_static(b"\0\0\0\0\0"), true)
        .unwrap();
    let answer = wait(collect(response)).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.headers["grpc-status"], "14");
    assert_eq!(answer.headers["grpc-message"], "the upstream could not be reached");
    assert!(answer.headers.contains_key("x-request-id"));
    assert!(answer.body.is_empty());
}

#[test]
fn an_http_2_client_gets_the_same_error() {
    let sidecar = before_nobody().start();
    let mut client = H2Client::connect(sidecar.inbound());
    let answer = wait(collect(client.get("/"))).unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.headers["proxy-status"],
        "pillion; error=connection_refused; details=\"connect_failed\""
    );
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"], "connect_failed");
}

#[test]
fn a_request_that_names_no_host_is_refused() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nX-Request-Id: r-1\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"], "missing_host");
    assert_eq!(answer.field("x-request-id"), Some("r-1"));
    client.expect_closed();
    assert!(app.try_accept().is_none());
}

#[test]
fn requests_whose_head_leaves_a_doubt_are_refused_and_the_connection_closed() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n",
        "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Folded: 1\r\n 2\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Null: \0\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n",
        "GET / HTTP/3.0\r\nHost: a\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n",
        "G@T / HTTP/1.1\r\nHost: a\r\n",
        "GET /\r\nHost: a\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
        "\x16\x03\x01\x02\0\x01\0",
    ] {
        let mut client = sidecar.connect();
        client.send(format!("{head}\r\n"));
        assert_eq!(client.read_answer().status, 400, "{head:?}");
        // Whatever follows may be anything.
        let _ = client.try_send(GET);
        client.expect_closed();
    }
    assert!(app.try_accept().is_none());
}

/// pingora-core writes the target anew where it has a space, so that what was checked is not what is sent.
#[test]
fn a_target_with_a_space_is_refused_or_sent_as_it_was_checked() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n");
    while client.is_silent_for(std::time::Duration::from_millis(10)) {
        if let Some(mut origin) = app.try_accept() {
            assert!(origin.read_head().starts_with("GET /a%20b HTTP/1.1\r\n"));
            origin.send(OK);
        }
    }
    assert!(matches!(client.read_answer().status, 200 | 400));
}

#[test]
fn a_refusal_by_a_filter_is_an_error_like_any_other() {
    let app = App::listen();
    let sidecar = Setup::before(format!("http://{}", app.address()))
        .with("routes: [{ match: { path: /small }, filters: { limits: { body: 3 } } }]")
        .start();
    let mut client = sidecar.connect();
    client.send("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let answer = client.read_answer();
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"], "body_too_large");
    assert!(answer.field("x-request-id").is_some());
    client.send(GET);
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("GET / "));
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_body_found_too_large_on_the_way_is_refused_and_never_looks_complete() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .with("routes: [{ match: { path: /small }, filters: { limits: { body: 3 } } }]")
        .start();
    let mut client = sidecar.connect();
    client.send("POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.read_until("ab\r\n");
    client.send("2\r\ncd\r\n0\r\n\r\n");
    assert_eq!(client.read_answer().status, 413);
    origin.expect_closed();
}

#[test]
fn a_head_with_too_many_fields_is_refused() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(200)));
    assert_eq!(client.read_answer().status, 431);
}

#[test]
fn a_connection_too_many_is_closed() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ max_connections: 1 }").start();
    let mut first = sidecar.connect();
    first.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    sidecar.connect().expect_closed();
    origin.send(OK);
    assert_eq!(first.read_answer().text(), "ok");
}

#[test]
fn a_head_too_large_is_refused() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    ));
    assert_eq!(client.read_answer().status, 431);
    client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(10_000)));
    assert_eq!(client.read_answer().status, 414);
    assert!(app.try_accept().is_none());
}

#[test]
fn what_is_no_request_head_has_an_id_and_telemetry_like_any_error() {
    let app = App::listen();
    let sidecar = Setup::before(format!("http://{}", app.address()))
        .with("errors: { format: problem }")
        .connections("{ header_timeout: 100ms }")
        .start();
    for (head, status, reason) in [
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400, "malformed_request"),
        ("GET / HTTP/1.1\r\nHost".to_owned(), 408, "header_timeout"),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(300)),
            431,
            "too_many_headers",
        ),
        (
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000)),
            431,
            "headers_too_large",
        ),
    ] {
        let mut client = sidecar.connect();
        client.send(head);
        let answer = client.read_answer();
        assert_eq!(answer.status, status, "{reason}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(answer.json()["error"], reason);
        assert_eq!(answer.json()["request_id"], answer.field("x-request-id").unwrap());
        client.expect_closed();
    }
    sidecar.await_metric(
        r#"pillion_connections_refused_total{direction="inbound",reason="malformed"}"#,
        3.0,
    );
    sidecar.await_metric(
        r#"pillion_connections_refused_total{direction="inbound",reason="header_timeout"}"#,
        1.0,
    );
    sidecar.await_metric("http_server_request_duration_seconds_count", 4.0);
    assert!(app.try_accept().is_none());
}
