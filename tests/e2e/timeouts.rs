//! Nobody waits for ever, and nobody is cut off who is still at it.

use std::time::{Duration, Instant};

use crate::support::{App, GET, H2Client, OK, PATIENCE, Setup, Sidecar, collect, nobody, wait};

// Where a peer must do something in time, it has a second or so: the machine may be busy.

#[test]
fn an_app_that_does_not_answer_is_a_504() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { first_byte: 1s }").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    let answer = client.read_answer();
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json()["error"], "first_byte_timeout");
    origin.expect_closed();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn the_wait_for_an_answer_begins_when_the_request_is_sent() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { first_byte: 1s }").start();
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        assert!(client.is_silent_for(Duration::from_millis(50)));
    }
    client.send("0123456789");
    origin.read_exactly(10);
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn an_http_2_client_gets_its_504_too() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { first_byte: 100ms }").start();
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    assert_eq!(wait(collect(response)).unwrap().status, 504);
    origin.expect_closed();
}

#[test]
fn an_app_that_is_not_there_is_a_502_at_once() {
    let sidecar = Setup::before(format!("http://{}", nobody()))
        .with("timeouts: { connect: 1m }")
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    let answer = client.read_answer();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"], "connect_failed");
}

#[test]
fn a_unix_socket_that_is_not_there_is_a_502() {
    let sidecar = Setup::before("unix:/nonexistent/app.sock").start();
    let mut client = sidecar.connect();
    client.send(GET);
    assert_eq!(client.read_answer().json()["error"], "connect_failed");
}

/// An app whose listen queue is full answers no SYN.
#[test]
fn an_app_that_takes_no_connection_is_a_504() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50)) {
        filling.push(stream);
    }
    let sidecar = Setup::before(format!("http://{address}"))
        .with("timeouts: { connect: 100ms }")
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    let answer = client.read_answer();
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json()["error"], "connect_timeout");
}

#[test]
fn an_exchange_over_its_limit_is_a_504_before_the_answer_and_cut_after() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { exchange: 1s }").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    assert_eq!(client.read_answer().json()["error"], "exchange_timeout");
    origin.expect_closed();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.read_answer_to_head().status, 200);
    let began = Instant::now();
    // It is at it all the time, but over its time.
    while origin.try_send("2\r\nab\r\n").is_ok() {
        assert!(began.elapsed() < PATIENCE, "it was not cut");
        std::thread::sleep(Duration::from_millis(10));
    }
    let rest = client.read_to_end();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_response_that_stands_still_is_cut() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { idle: 100ms }").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.read_answer_to_head().status, 200);
    assert_eq!(client.read_to_end(), b"hello");
    origin.expect_closed();
}

#[test]
fn a_response_that_trickles_is_not_cut() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .with("timeouts: { idle: 1s, first_byte: 1s }")
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
    assert_eq!(client.read_answer_to_head().status, 200);
    for _ in 0..8 {
        assert!(client.is_silent_for(Duration::from_millis(200)));
        origin.send("x");
        assert_eq!(client.read_exactly(1), b"x");
    }
    client.send(GET);
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_request_body_that_stands_still_is_a_408() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { idle: 100ms }").start();
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let mut origin = app.accept();
    origin.read_head();
    let answer = client.read_answer();
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["error"], "request_timeout");
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(origin.read_to_end(), b"hello");
    client.expect_closed();
}

#[test]
fn an_app_that_stops_reading_a_body_is_not_the_clients_fault() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { idle: 1s }").start();
    let mut client = sidecar.connect();
    let mut request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n".to_vec();
    request.resize(request.len() + 100_000_000, b'x');
    let mut twin = client.twin();
    let writing = std::thread::spawn(move || twin.try_send(request));
    let origin = app.accept();
    let answer = client.read_answer();
    assert_eq!(answer.status, 504);
    let _ = writing.join().unwrap();
    drop(origin);
}

#[test]
fn a_head_that_does_not_end_is_a_408() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ header_timeout: 100ms }").start();
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Ne");
    let answer = client.read_answer();
    assert_eq!(answer.status, 408);
    assert_eq!(answer.field("connection"), Some("close"));
    client.expect_closed();
}

#[test]
fn a_head_that_trickles_gets_no_more_time() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ header_timeout: 200ms }").start();
    let mut client = sidecar.connect();
    let began = Instant::now();
    client.send("GET / HTTP/1.1\r\n");
    while client.is_silent_for(Duration::from_millis(20)) {
        assert!(began.elapsed() < PATIENCE, "a byte at a time, it lives for ever");
        let _ = client.try_send("X");
    }
    assert_eq!(client.read_answer_to_head().status, 408);
}

#[test]
fn a_client_that_sends_one_byte_is_closed() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ header_timeout: 100ms }").start();
    // The second could still become HTTP/2.
    for byte in ["G", "P"] {
        let mut client = sidecar.connect();
        client.send(byte);
        let said = client.read_to_end();
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408 "), "{said:?}");
    }
}

#[test]
fn a_client_that_sends_nothing_is_closed_without_a_word() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ header_timeout: 100ms }").start();
    sidecar.connect().expect_closed();
}

#[test]
fn a_client_that_begins_http_2_and_stops_is_closed() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .connections("{ header_timeout: 100ms, idle_timeout: 100ms }")
        .start();
    let mut client = sidecar.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.read_to_end();
}

/// Shorter than the preface of HTTP/2, for which nothing may wait.
#[test]
fn the_shortest_request_is_served_at_once() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_connection_without_a_request_is_closed() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ idle_timeout: 1s }").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    client.expect_closed();
}

#[test]
fn an_http_2_connection_without_a_stream_is_closed() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ idle_timeout: 1s }").start();
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    // The wait for an answer is no idleness.
    assert!(origin.is_silent_for(Duration::from_millis(1200)));
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
    sidecar.await_metric("pillion_connections_open", 0.0);
}

#[test]
fn a_route_has_timeouts_of_its_own() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .with("timeouts: { first_byte: 10s }")
        .with("routes: [{ match: { path: /quick }, timeouts: { first_byte: 100ms } }]")
        .start();
    let mut client = sidecar.connect();
    client.send("GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    assert_eq!(client.read_answer().status, 504);
}

#[test]
fn a_client_that_is_quiet_after_its_answer_is_closed_without_a_word() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .connections("{ idle_timeout: 300ms, header_timeout: 50ms }")
        .start();
    let mut client = sidecar.connect();
    for _ in 0..3 {
        client.send(GET);
        let mut origin = app.accept();
        origin.read_head();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        assert_eq!(client.read_answer().text(), "ok");
        // Longer than a head may take; an empty line is no head.
        assert!(client.is_silent_for(Duration::from_millis(100)));
        client.send("\r\n");
        assert!(client.is_silent_for(Duration::from_millis(100)));
    }
    client.expect_closed();
}

#[test]
fn a_client_that_stops_reading_is_the_one_that_went_away() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { idle: 200ms }").start();
    let mut client = crate::support::Peer::connect_narrow(sidecar.inbound());
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    while origin.try_send(&chunk).is_ok() {}
    sidecar.await_metric("pillion_failures_total", 1.0);
    assert!(
        (sidecar.metric(
            r#"pillion_failures_total{direction="inbound",reason="client_aborted",route="unmatched",service="e2e"}"#
        ) - 1.0)
            .abs()
            < 0.1
    );
}
