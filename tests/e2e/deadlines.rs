//! The time that callers have: kept to, and passed on.

use std::time::{Duration, Instant};

use crate::support::{App, OK, Sidecar, fields};

fn left(head: &str) -> u64 {
    fields(head, "x-request-timeout-ms")[0].parse().unwrap()
}

#[test]
fn a_caller_that_waits_less_gets_its_504_in_time() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { exchange: 1m }").start();
    let mut client = sidecar.connect();
    let asked = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 300\r\n\r\n");
    let mut upstream = app.accept();
    let said = left(&upstream.read_head());
    assert!((1..=300).contains(&said), "{said}");
    let answer = client.read_answer();
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("exchange_timeout"), "{}", answer.text());
    assert!(asked.elapsed() >= Duration::from_millis(300));
    // Nobody waits for it any more, and the app is told so.
    upstream.expect_closed();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 0\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("deadline_exceeded"), "{}", answer.text());
    assert!(app.try_accept().is_none());
}

#[test]
fn without_a_limit_nothing_is_said() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { exchange: none }").start();
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = app.accept();
    let head = upstream.read_head();
    assert!(fields(&head, "x-request-timeout-ms").is_empty(), "{head}");
    upstream.send(OK);
    assert_eq!(client.read_answer().status, 200);
}

#[test]
fn what_the_app_asks_for_has_no_more_time_than_what_it_works_on() {
    let (app, other) = (App::listen(), App::listen());
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout-Ms: 2000\r\n\r\n");
    let mut upstream = app.accept();
    let head = upstream.read_head();
    // The app carries the trace on, and knows nothing of time.
    let trace = fields(&head, "traceparent")[0];
    let host = other.address();
    let mut calling = sidecar.connect_out();
    calling.send(format!(
        "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\ntraceparent: {trace}\r\n\r\n"
    ));
    let mut called = other.accept();
    let said = left(&called.read_head());
    assert!((1..=2000).contains(&said), "{said}");
    called.send(OK);
    assert_eq!(calling.read_answer().status, 200);
    // Another trace is another matter.
    let elsewhere =
        trace
            .replacen(&trace[3..19], "0123456789abcdef", 1)
            .replacen(&trace[19..35], "0123456789abcdef", 1);
    calling.send(format!(
        "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\ntraceparent: {elsewhere}\r\n\r\n"
    ));
    let head = called.read_head();
    assert!(fields(&head, "x-request-timeout-ms").is_empty(), "{head}");
    called.send(OK);
    assert_eq!(calling.read_answer().status, 200);
    upstream.send(OK);
    assert_eq!(client.read_answer().status, 200);
}

#[test]
fn a_client_that_leaves_ends_the_work_two_sidecars_on() {
    let app = App::listen();
    let inner = Sidecar::before(&app);
    let outer = crate::support::Setup::before(format!("h2c://{}", inner.inbound())).start();
    let mut client = outer.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut upstream = app.accept();
    upstream.read_head();
    drop(client);
    upstream.expect_closed();
}
