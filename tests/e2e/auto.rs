//! Endpoints that are asked whether they take HTTP/2.

use std::net::SocketAddr;

use crate::support::{App, GET, OK, Peer, Setup, Sidecar, fields};

/// Ten clients of a sidecar before another one: what they ask the first in HTTP/1.1 reaches the second on one connection.
fn meet_in_http_2(near: SocketAddr, far: &Sidecar, app: &App) {
    let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", far.inbound());
    let mut clients: Vec<_> = (0..10).map(|_| Peer::connect(near)).collect();
    for client in &mut clients {
        client.send(&request);
    }
    for _ in &clients {
        let mut origin = app.accept();
        let head = origin.read_head();
        assert_eq!(fields(&head, "via"), ["1.1 pillion", "2 pillion"]);
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    }
    for client in &mut clients {
        assert_eq!(client.read_answer().text(), "ok");
    }
    assert!((far.metric("pillion_connections_accepted_total") - 1.0).abs() < 0.1);
}

#[test]
fn a_sidecar_finds_out_that_its_app_takes_http_2() {
    let app = App::listen();
    let far = Sidecar::before(&app);
    let near = Setup::before(format!("auto://{}", far.inbound())).start();
    meet_in_http_2(near.inbound(), &far, &app);
}

#[test]
fn a_sidecar_finds_out_that_a_host_takes_http_2() {
    let app = App::listen();
    let far = Sidecar::before(&app);
    let near = Sidecar::setup(&app).outbound_protocol("auto").start();
    meet_in_http_2(near.outbound(), &far, &app);
}

#[test]
fn an_app_that_does_not_take_http_2_is_asked_once() {
    let app = App::listen();
    let sidecar = Setup::before(format!("auto://{}", app.address())).start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut asked = app.accept();
    assert!(asked.read_until("SM\r\n\r\n").starts_with("PRI * HTTP/2.0\r\n"));
    asked.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    drop(asked);
    let mut origin = app.accept();
    for _ in 0..3 {
        assert!(origin.read_head().starts_with("GET / HTTP/1.1\r\n"));
        origin.send(OK);
        assert_eq!(client.read_answer().text(), "ok");
        client.send(GET);
    }
    assert!(app.try_accept().is_none());
}

#[test]
fn an_app_that_does_not_answer_the_question_speaks_http_1() {
    let app = App::listen();
    let sidecar = Setup::before(format!("auto://{}", app.address())).start();
    let mut client = sidecar.connect();
    client.send(GET);
    let _silent = app.accept();
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("GET / HTTP/1.1\r\n"));
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}
