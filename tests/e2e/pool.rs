//! Connections to the app are used again, but only in a state that is known.

use crate::support::{App, GET, OK, Peer, Sidecar};

/// One exchange from request to answer, over the connection the test holds.
fn serve(client: &mut Peer, origin: &mut Peer, response: &str) {
    client.send(GET);
    origin.read_head();
    origin.send(response);
    assert_eq!(client.read_answer().status, 200);
}

/// One exchange over the sidecar's first connection to the app.
fn first(sidecar: &Sidecar, app: &App, response: &str) -> (Peer, Peer) {
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(response);
    assert_eq!(client.read_answer().status, 200);
    (client, origin)
}

#[test]
fn requests_of_many_clients_share_a_connection() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (_client, mut origin) = first(&sidecar, &app, OK);
    for _ in 0..3 {
        serve(&mut sidecar.connect(), &mut origin, OK);
    }
    assert!(app.try_accept().is_none());
}

#[test]
fn chunked_and_empty_responses_leave_a_connection_usable() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = first(
        &sidecar,
        &app,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n",
    );
    serve(&mut client, &mut origin, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    serve(&mut client, &mut origin, OK);
    assert!(app.try_accept().is_none());
}

#[test]
fn a_connection_the_app_wants_closed_is_closed() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let closing = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let (mut client, mut origin) = first(&sidecar, &app, closing);
    origin.expect_closed();
    client.send(GET);
    app.accept().read_head();
}

#[test]
fn an_http_1_0_app_that_does_not_say_keep_alive_is_not_kept() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (_client, mut origin) = first(&sidecar, &app, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    origin.expect_closed();
}

#[test]
fn a_connection_with_something_left_to_read_is_not_used_again() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = first(&sidecar, &app, OK);
    // Unasked, and possibly meant for whoever comes next.
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    origin.expect_closed();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_connection_whose_response_was_not_read_to_its_end_is_not_used_again() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.read_answer_to_head().status, 200);
    drop(client);
    origin.expect_closed();
}

#[test]
fn a_connection_whose_request_was_not_sent_to_its_end_is_not_used_again() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let mut origin = app.accept();
    origin.read_until("hello");
    origin.send(OK);
    assert_eq!(client.read_answer().status, 200);
    origin.expect_closed();
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("pool: { idle_timeout: 100ms }").start();
    let (mut client, mut origin) = first(&sidecar, &app, OK);
    origin.expect_closed();
    client.send(GET);
    app.accept().read_head();
}

#[test]
fn no_connection_is_kept_where_none_may_be() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("pool: { max_idle: 0 }").start();
    let (_client, mut origin) = first(&sidecar, &app, OK);
    origin.expect_closed();
}

#[test]
fn a_connection_the_app_closed_while_idle_is_not_used() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, origin) = first(&sidecar, &app, OK);
    drop(origin);
    for request in [GET, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"] {
        client.send(request);
        let mut origin = app.accept();
        origin.read_head();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_answer().status, 200);
    }
}

#[test]
fn a_get_that_meets_a_closing_connection_is_sent_once_more() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = first(&sidecar, &app, OK);
    client.send(GET);
    origin.read_head();
    drop(origin);
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("GET / "));
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_put_that_meets_a_closing_connection_is_sent_once_more_with_its_body() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = first(&sidecar, &app, OK);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    origin.read_until("hello");
    drop(origin);
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("PUT / "));
    assert_eq!(origin.read_exactly(5), b"hello");
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_get_is_not_sent_a_third_time() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = first(&sidecar, &app, OK);
    client.send(GET);
    origin.read_head();
    drop(origin);
    let mut origin = app.accept();
    origin.read_head();
    drop(origin);
    assert_eq!(client.read_answer().status, 502);
    assert!(app.try_accept().is_none());
}

#[test]
fn a_post_that_meets_a_closing_connection_is_not_sent_again() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ] {
        let app = App::listen();
        let sidecar = Sidecar::before(&app);
        let (mut client, mut origin) = first(&sidecar, &app, OK);
        client.send(request);
        origin.read_head();
        drop(origin);
        assert_eq!(client.read_answer().status, 502);
        assert!(app.try_accept().is_none(), "{request:?} was sent twice");
    }
}

#[test]
fn a_get_whose_answer_had_begun_is_not_sent_again() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = first(&sidecar, &app, OK);
    client.send(GET);
    origin.read_head();
    origin.send("HTTP/1.1 2");
    drop(origin);
    assert_eq!(client.read_answer().status, 502);
    assert!(app.try_accept().is_none());
}
