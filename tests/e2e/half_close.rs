//! A client that closes its sending side after the request.

use crate::support::{App, GET, OK, PATIENCE, Sidecar};

#[test]
fn it_counts_as_gone_by_default() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    client.close_sending();
    origin.expect_closed();
    client.expect_closed();
}

#[test]
fn it_gets_its_answer_where_that_is_allowed() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ allow_half_close: true }").start();
    let mut client = sidecar.connect();
    client.send(GET);
    client.close_sending();
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    assert_eq!(client.read_answer_to_head().status, 200);
    assert_eq!(client.read_until("ok\r\n"), "2\r\nok\r\n");
    origin.send("0\r\n\r\n");
    assert_eq!(client.read_chunked().0, b"");
    client.expect_closed();
}

#[test]
fn it_gets_the_answer_to_a_body_where_that_is_allowed() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ allow_half_close: true }").start();
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    client.close_sending();
    let mut origin = app.accept();
    origin.read_until("hello");
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    client.expect_closed();
}

#[test]
fn half_a_body_is_no_request_even_then() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ allow_half_close: true }").start();
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    client.close_sending();
    let mut origin = app.accept();
    origin.read_until("hel");
    origin.expect_closed();
}

#[test]
fn a_client_that_dies_is_noticed_even_then() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ allow_half_close: true }").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.read_answer_to_head();
    client.reset();
    let began = std::time::Instant::now();
    while origin.try_send("2\r\nab\r\n").is_ok() {
        assert!(began.elapsed() < PATIENCE, "it goes on for nobody");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
