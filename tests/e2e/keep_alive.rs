//! Connections to the app are used only while the app is sure to have them open.

use std::thread::sleep;
use std::time::Duration;

use crate::support::{App, GET, OK, Peer, Sidecar};

/// Answers what comes next on a connection.
fn answer(client: &mut Peer, origin: &mut Peer, response: &str) {
    origin.read_head();
    origin.send(response);
    assert_eq!(client.read_answer().status, 200);
}

/// One exchange over a new connection to the app.
fn on_new(client: &mut Peer, app: &App, request: &str, response: &str) -> Peer {
    client.send(request);
    let mut origin = app.accept();
    answer(client, &mut origin, response);
    origin
}

/// One exchange over the connection the app has.
fn on_same(client: &mut Peer, app: &App, origin: &mut Peer, request: &str, response: &str) {
    client.send(request);
    answer(client, origin, response);
    assert!(app.try_accept().is_none());
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

#[test]
fn what_an_app_says_of_its_idle_timeout_is_kept_to() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=2, max=9\r\n\r\nok";
    let mut origin = on_new(&mut client, &app, GET, ok);
    on_same(&mut client, &app, &mut origin, GET, ok);
    sleep(Duration::from_millis(1700));
    let _other = on_new(&mut client, &app, GET, OK);
    sidecar.await_metric(r#"pillion_upstream_connections_closed_total{reason="peer"}"#, 0.0);
}

#[test]
fn when_an_app_closes_is_learned() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    let closed = r#"pillion_upstream_connections_closed_total{reason="peer"}"#;
    let first = on_new(&mut client, &app, GET, OK);
    sleep(Duration::from_secs(1));
    drop(first);
    sidecar.await_metric(closed, 1.0);
    // So another of that age is not used, but watched to see whether that is still so.
    let mut watched = on_new(&mut client, &app, GET, OK);
    sleep(Duration::from_secs(1));
    on_new(&mut client, &app, GET, OK);
    sleep(Duration::from_millis(2500));
    assert!(watched.is_silent_for(Duration::from_millis(10)));
    // It is not: a connection may be older than was thought.
    let mut last = on_new(&mut client, &app, GET, OK);
    sleep(Duration::from_secs(1));
    on_same(&mut client, &app, &mut last, GET, OK);
}

#[test]
fn what_cannot_be_repeated_keeps_away_from_the_limit() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("pool: { idle_timeout: 3s }").start();
    let mut client = sidecar.connect();
    let mut origin = on_new(&mut client, &app, GET, OK);
    on_same(&mut client, &app, &mut origin, POST, OK);
    sleep(Duration::from_millis(1600));
    on_new(&mut client, &app, POST, OK);
}

#[test]
fn a_connection_serves_so_many_requests() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("pool: { max_requests: 2 }").start();
    let mut client = sidecar.connect();
    let mut origin = on_new(&mut client, &app, GET, OK);
    on_same(&mut client, &app, &mut origin, GET, OK);
    origin.expect_closed();
    on_new(&mut client, &app, GET, OK);
    sidecar.await_metric(r#"pillion_upstream_connections_closed_total{reason="requests"}"#, 1.0);
}

#[test]
fn a_connection_lives_so_long() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("pool: { max_lifetime: 300ms }").start();
    let mut client = sidecar.connect();
    let mut origin = on_new(&mut client, &app, GET, OK);
    sidecar.await_metric("pillion_upstream_connections_idle", 1.0);
    sleep(Duration::from_millis(300));
    client.send(GET);
    answer(&mut client, &mut origin, OK);
    origin.expect_closed();
    sidecar.await_metric(r#"pillion_upstream_connections_closed_total{reason="lifetime"}"#, 1.0);
    sidecar.await_metric("pillion_upstream_connections_idle", 0.0);
}
