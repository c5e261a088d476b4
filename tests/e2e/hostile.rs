//! Clients that take more than their part.

use std::time::Duration;

use crate::support::{App, GET, H2App, H2Client, OK, Peer, Setup, Sidecar, collect, wait};

#[test]
fn a_client_has_so_many_connections_and_others_theirs() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .connections("{ max_connections_per_client: 2 }")
        .start();
    let mut one = sidecar.connect();
    let mut two = sidecar.connect();
    for client in [&mut one, &mut two] {
        client.send(GET);
        let mut origin = app.accept();
        origin.read_head();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        assert_eq!(client.read_answer().text(), "ok");
    }
    sidecar.connect().expect_closed();
    sidecar.await_metric(
        r#"pillion_connections_refused_total{direction="inbound",reason="too_many_of_client"}"#,
        1.0,
    );
    let mut other = Peer::connect_from([127, 0, 0, 2], sidecar.inbound());
    other.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(other.read_answer().text(), "ok");
    drop(one);
    sidecar.await_metric("pillion_connections_open", 2.0);
    let mut three = sidecar.connect();
    three.send(GET);
    origin.read_head();
    origin.send(OK);
    assert_eq!(three.read_answer().text(), "ok");
}

#[test]
fn a_client_that_resets_what_it_asks_for_is_sent_away() {
    let app = H2App::allowing(1000);
    let sidecar = Setup::before(format!("h2c://{}", app.address))
        .connections("{ max_resets: 20 }")
        .start();
    let mut client = H2Client::connect(sidecar.inbound());
    let mut asked = 0;
    let error = loop {
        let response = match client.try_get("/") {
            Ok(response) => response,
            Err(error) => break error,
        };
        asked += 1;
        assert!(asked < 1000, "nobody minds");
        // It is at the app before it is reset.
        if let Some(call) = app.next_within(Duration::from_millis(500)) {
            drop(response);
            drop(call);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}");
    assert!(asked > 20);
    sidecar.await_metric(
        r#"pillion_connections_refused_total{direction="inbound",reason="too_many_resets"}"#,
        1.0,
    );
    // Another is none the worse for it.
    let mut innocent = H2Client::connect(sidecar.inbound());
    let response = innocent.get("/innocent");
    // What was reset may have reached the app as well.
    let mut call = app.next();
    while call.request.uri().path() != "/innocent" {
        call = app.next();
    }
    call.ok("ok");
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
}

#[test]
fn a_client_that_takes_a_byte_now_and_then_has_stalled() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("timeouts: { idle: 500ms }").start();
    let mut client = Peer::connect_narrow(sidecar.inbound());
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    let body = vec![b'x'; 64 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = origin.try_send([head.as_bytes(), &body].concat());
        });
        // Its window never opens by enough for the sidecar to send more.
        for _ in 0..30 {
            client.skip(1);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    sidecar.await_metric("pillion_failures_total", 1.0);
}

#[test]
fn a_client_that_sends_pings_without_end_is_cut_off() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    let ping = b"\0\0\x08\x06\0\0\0\0\x0012345678";
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut flood = client.twin();
    std::thread::scope(|scope| {
        scope.spawn(move || while flood.try_send(ping.repeat(500)).is_ok() {});
        client.read_to_end();
    });
    sidecar.await_metric(
        r#"pillion_connections_refused_total{direction="inbound",reason="too_many_frames"}"#,
        1.0,
    );
}
