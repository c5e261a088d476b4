//! A side that does not read stops the other: memory does not grow, and nothing is lost when reading goes on.

use std::thread;
use std::time::Duration;

use crate::support::{App, GET, H2Client, OK, Peer, Sidecar, wait};

/// Far more than all buffers, the kernel's included.
const LONG: usize = 200 << 20;
/// More than the kernel's four socket buffers may hold, far less than all.
const BOUNDED: usize = 16 << 20;
/// As much over HTTP/2, which is slow without optimization.
const LONG_ENOUGH: usize = 32 << 20;
/// How long a writer is not let on before it counts as stopped.
const STUCK: Duration = Duration::from_millis(300);

#[test]
fn a_client_that_does_not_read_stops_the_app() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = Peer::connect_narrow(sidecar.inbound());
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
    let taken = origin.send_until_stuck(LONG, STUCK);
    assert!(taken < BOUNDED, "{taken} bytes went nowhere");
    thread::scope(|scope| {
        scope.spawn(|| origin.send_zeros(LONG - taken));
        assert_eq!(client.read_answer_to_head().status, 200);
        client.skip(LONG);
    });
    client.send(GET);
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn an_app_that_does_not_read_stops_the_client() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG}\r\n\r\n"));
    let mut origin = app.accept();
    let taken = client.send_until_stuck(LONG, STUCK);
    assert!(taken < BOUNDED, "{taken} bytes went nowhere");
    thread::scope(|scope| {
        scope.spawn(|| client.send_zeros(LONG - taken));
        origin.read_head();
        origin.skip(LONG);
        origin.send(OK);
    });
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn an_http_2_client_that_does_not_read_stops_the_app() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG_ENOUGH}\r\n\r\n"));
    let taken = origin.send_until_stuck(LONG_ENOUGH, STUCK);
    assert!(taken < BOUNDED, "{taken} bytes went nowhere");
    thread::scope(|scope| {
        scope.spawn(|| origin.send_zeros(LONG_ENOUGH - taken));
        let mut body = wait(response).unwrap().into_body();
        let mut received = 0;
        while let Some(piece) = wait(body.data()) {
            let piece = piece.unwrap();
            received += piece.len();
            body.flow_control().release_capacity(piece.len()).unwrap();
        }
        assert_eq!(received, LONG_ENOUGH);
    });
}

#[test]
fn a_slow_client_holds_no_other_up() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut slow = Peer::connect_narrow(sidecar.inbound());
    slow.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
    origin.send_until_stuck(LONG, STUCK);
    let mut quick = sidecar.connect();
    quick.send(GET);
    let mut other = app.accept();
    other.read_head();
    other.send(OK);
    assert_eq!(quick.read_answer().text(), "ok");
}
