//! Switching protocols: after 101, bytes pass both ways as they are.

use crate::support::{App, GET, OK, Peer, Sidecar, fields, pattern};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Both ends of a connection that has switched.
fn switched(sidecar: &Sidecar, app: &App) -> (Peer, Peer) {
    let mut client = sidecar.connect();
    client.send(ASK);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(SWITCH);
    assert_eq!(client.read_answer().status, 101);
    (client, origin)
}

#[test]
fn the_app_hears_the_wish_and_the_client_the_answer() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(ASK);
    let mut origin = app.accept();
    let head = origin.read_head();
    assert!(fields(&head, "connection")[0].eq_ignore_ascii_case("upgrade"), "{head}");
    assert_eq!(fields(&head, "upgrade"), ["websocket"]);
    assert_eq!(fields(&head, "sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    assert_eq!(fields(&head, "content-length"), [""; 0]);
    assert_eq!(fields(&head, "transfer-encoding"), [""; 0]);
    origin.send(SWITCH);
    let answer = client.read_answer();
    assert_eq!(answer.status, 101);
    assert!(answer.field("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(
        answer.field("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(answer.field("content-length"), None);
    assert_eq!(answer.field("transfer-encoding"), None);
}

#[test]
fn bytes_pass_both_ways_as_they_are() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = switched(&sidecar, &app);
    client.send("0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!(origin.read_exactly(23), b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    origin.send("5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(client.read_exactly(15), b"5\r\nhello\r\n0\r\n\r\n");
    let long = pattern(4 << 20);
    std::thread::scope(|scope| {
        let (mut from_client, mut from_origin) = (client.twin(), origin.twin());
        let long = &long;
        scope.spawn(move || from_client.send(long));
        scope.spawn(move || from_origin.send(long));
        let received = scope.spawn(|| origin.read_exactly(long.len()));
        assert!(client.read_exactly(long.len()) == *long);
        assert!(received.join().unwrap() == *long);
    });
}

#[test]
fn what_the_app_sends_along_with_the_101_arrives() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(ASK);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(format!("{SWITCH}hello"));
    assert_eq!(client.read_answer().status, 101);
    assert_eq!(client.read_exactly(5), b"hello");
}

#[test]
fn what_the_client_sends_ahead_of_the_101_arrives_after_it() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(format!("{ASK}first"));
    let mut origin = app.accept();
    origin.read_head();
    client.send("second");
    origin.send(SWITCH);
    assert_eq!(client.read_answer().status, 101);
    client.send("third");
    assert_eq!(origin.read_exactly(16), b"firstsecondthird");
}

#[test]
fn interim_answers_may_come_before_the_switch() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(ASK);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(format!("HTTP/1.1 103 Early Hints\r\n\r\n{SWITCH}hello"));
    assert_eq!(client.read_answer().status, 103);
    assert_eq!(client.read_answer().status, 101);
    assert_eq!(client.read_exactly(5), b"hello");
}

#[test]
fn a_refused_upgrade_is_an_answer_like_any_other() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(ASK);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    client.send(GET);
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_client_that_closes_its_half_still_hears_the_app() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = switched(&sidecar, &app);
    client.send("bye");
    client.close_sending();
    assert_eq!(origin.read_to_end(), b"bye");
    origin.send("good bye");
    drop(origin);
    assert_eq!(client.read_to_end(), b"good bye");
}

#[test]
fn a_client_that_is_gone_closes_the_apps_side() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (client, mut origin) = switched(&sidecar, &app);
    drop(client);
    origin.expect_closed();
    drop(origin);
    let (client, mut origin) = switched(&sidecar, &app);
    client.reset();
    origin.expect_closed();
}

#[test]
fn an_app_that_is_gone_closes_the_clients_side() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = switched(&sidecar, &app);
    origin.send("last words");
    drop(origin);
    assert_eq!(client.read_to_end(), b"last words");
}

#[test]
fn a_switched_connection_has_no_timeouts_of_exchanges() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .with("timeouts: { first_byte: 1s, idle: 1s, exchange: 1s }")
        .start();
    let (mut client, mut origin) = switched(&sidecar, &app);
    assert!(client.is_silent_for(std::time::Duration::from_millis(1200)));
    client.send("still there");
    assert_eq!(origin.read_exactly(11), b"still there");
}

/// RFC 9113 dropped it, and a client that asks is served in the version it has.
#[test]
fn the_wish_for_http_2_is_ignored() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    let mut origin = app.accept();
    let head = origin.read_head();
    for gone in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(fields(&head, gone), [""; 0], "{gone}");
    }
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn upgrade_without_connection_is_no_wish() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
    let mut origin = app.accept();
    assert_eq!(fields(&origin.read_head(), "upgrade"), [""; 0]);
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn an_app_that_closes_its_half_still_hears_the_client() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = switched(&sidecar, &app);
    origin.send("that is all");
    origin.close_sending();
    assert_eq!(client.read_to_end(), b"that is all");
    client.send("I am not done");
    assert_eq!(origin.read_exactly(13), b"I am not done");
    drop(client);
    origin.expect_closed();
}

#[test]
fn a_half_that_is_closed_while_much_waits_for_the_app_does_not_silence_it() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = switched(&sidecar, &app);
    let sent = client.send_until_stuck(64 << 20, std::time::Duration::from_millis(200));
    client.close_sending();
    origin.send("hello");
    assert_eq!(client.read_exactly(5), b"hello");
    origin.skip(sent);
    origin.expect_closed();
}

#[test]
fn a_switched_connection_is_counted_among_the_tunnels() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = switched(&sidecar, &app);
    assert!((sidecar.metric("pillion_tunnels_open") - 1.0).abs() < 0.1);
    client.send("12345");
    assert_eq!(origin.read_exactly(5), b"12345");
    origin.send("123");
    assert_eq!(client.read_exactly(3), b"123");
    drop((client, origin));
    sidecar.await_metric("pillion_tunnels_open", 0.0);
    sidecar.await_metric(r#"pillion_tunnel_bytes_total{direction="sent"}"#, 5.0);
    sidecar.await_metric(r#"pillion_tunnel_bytes_total{direction="received"}"#, 3.0);
}
