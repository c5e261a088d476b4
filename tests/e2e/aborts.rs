//! When one side goes away in the middle, the other hears of it and takes no part for the whole.

use bytes::Bytes;
use http::Response;

use crate::support::{App, GET, H2App, H2Client, OK, Peer, Setup, Sidecar, collect, wait};

/// A request under way: the client has asked, the app has read the head.
fn under_way(sidecar: &Sidecar, app: &App) -> (Peer, Peer) {
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    (client, origin)
}

#[test]
fn a_client_that_leaves_while_waiting_takes_the_apps_connection_with_it() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (client, mut origin) = under_way(&sidecar, &app);
    drop(client);
    origin.expect_closed();
}

#[test]
fn a_client_that_dies_while_waiting_takes_the_apps_connection_with_it() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (client, mut origin) = under_way(&sidecar, &app);
    client.reset();
    origin.expect_closed();
}

#[test]
fn a_client_that_leaves_during_the_response_stops_the_app() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = under_way(&sidecar, &app);
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    client.read_until("ab\r\n");
    drop(client);
    origin.expect_closed();
}

#[test]
fn an_http_2_client_that_resets_takes_the_apps_connection_with_it() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    // Dropping the response of a request that was sent whole resets its stream.
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    drop(response);
    origin.expect_closed();
}

#[test]
fn an_http_2_client_that_goes_takes_all_its_requests_with_it() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let responses = [client.get("/"), client.get("/")];
    let mut origins = [app.accept(), app.accept()];
    for origin in &mut origins {
        origin.read_head();
    }
    drop(client);
    for origin in &mut origins {
        origin.expect_closed();
    }
    drop(responses);
}

#[test]
fn a_client_that_leaves_resets_its_stream_to_an_http_2_app() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address)).start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut call = app.next();
    drop(client);
    let reason = wait(std::future::poll_fn(|cx| call.respond.poll_reset(cx))).unwrap();
    assert_eq!(reason, h2::Reason::CANCEL);
}

#[test]
fn a_request_body_cut_short_never_looks_complete() {
    for head in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let app = App::listen();
        let sidecar = Sidecar::before(&app);
        let mut client = sidecar.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"));
        let mut origin = app.accept();
        origin.read_head();
        origin.read_until("abc");
        drop(client);
        let rest = origin.read_to_end();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    }
}

#[test]
fn an_http_2_request_body_cut_short_never_looks_complete() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let (_response, mut stream) = client.post("/");
    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut origin = app.accept();
    origin.read_head();
    origin.read_until("abc\r\n");
    stream.send_reset(h2::Reason::CANCEL);
    origin.expect_closed();
}

#[test]
fn a_malformed_chunk_is_refused_and_never_looks_complete() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.read_until("abc\r\n");
    client.send("zz\r\n");
    origin.expect_closed();
    assert_eq!(client.read_answer().status, 400);
    client.expect_closed();
}

#[test]
fn what_came_of_a_response_that_ends_early_is_passed_on_and_the_connection_cut() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = under_way(&sidecar, &app);
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    drop(origin);
    assert_eq!(client.read_answer_to_head().field("content-length"), Some("10"));
    assert_eq!(client.read_to_end(), b"hello");
}

#[test]
fn a_chunked_response_that_ends_early_has_no_last_chunk() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = under_way(&sidecar, &app);
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    assert_eq!(client.read_answer_to_head().status, 200);
    assert_eq!(client.read_until("hello\r\n"), "5\r\nhello\r\n");
    drop(origin);
    client.expect_closed();
}

#[test]
fn an_app_that_dies_while_its_body_ends_with_the_connection_leaves_no_last_chunk() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = under_way(&sidecar, &app);
    origin.send("HTTP/1.1 200 OK\r\n\r\nhello");
    assert_eq!(client.read_answer_to_head().status, 200);
    assert_eq!(client.read_until("hello\r\n"), "5\r\nhello\r\n");
    origin.reset();
    client.expect_closed();
}

#[test]
fn a_response_that_ends_early_is_a_reset_stream_to_an_http_2_client() {
    for framing in [
        "Content-Length: 10\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let app = App::listen();
        let sidecar = Sidecar::before(&app);
        let mut client = H2Client::connect(sidecar.inbound());
        let response = client.get("/");
        let mut origin = app.accept();
        origin.read_head();
        origin.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
        drop(origin);
        let error = wait(collect(response)).unwrap_err();
        assert!(error.is_reset(), "{error}");
        let next = client.get("/");
        let mut origin = app.accept();
        origin.read_head();
        origin.send(OK);
        assert_eq!(wait(collect(next)).unwrap().body, b"ok");
    }
}

#[test]
fn an_http_2_app_that_resets_its_answer_cuts_the_clients() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address)).start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut call = app.next();
    let mut stream = call.answer(Response::new(()), false);
    stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
    assert_eq!(client.read_answer_to_head().status, 200);
    assert_eq!(client.read_until("hello\r\n"), "5\r\nhello\r\n");
    stream.send_reset(h2::Reason::INTERNAL_ERROR);
    client.expect_closed();
}

#[test]
fn an_app_that_closes_without_an_answer_is_a_502() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, origin) = under_way(&sidecar, &app);
    drop(origin);
    let answer = client.read_answer();
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"], "upstream_closed");
    assert!(
        app.try_accept().is_none(),
        "a fresh connection that fails is not tried again"
    );
}

#[test]
fn an_app_that_speaks_something_else_is_a_502() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 xyz\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let app = App::listen();
        let sidecar = Sidecar::before(&app);
        let (mut client, mut origin) = under_way(&sidecar, &app);
        origin.send(garbage);
        let answer = client.read_answer();
        assert_eq!(answer.status, 502, "{garbage:?}");
        assert_eq!(answer.json()["error"], "malformed_response", "{garbage:?}");
        origin.expect_closed();
    }
}

#[test]
fn half_a_response_head_is_a_502() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = under_way(&sidecar, &app);
    origin.send("HTTP/1.1 200 OK\r\nContent-Le");
    drop(origin);
    assert_eq!(client.read_answer().status, 502);
}

#[test]
fn a_response_longer_than_it_said_is_cut_to_its_length() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let (mut client, mut origin) = under_way(&sidecar, &app);
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    assert_eq!(client.read_answer().text(), "ok");
    origin.expect_closed();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_body_after_an_answer_without_one_is_nobodys_response() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    assert_eq!(client.read_answer_to_head().status, 200);
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn an_http_2_app_that_is_none_is_a_502() {
    let app = App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address())).start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.read_answer().status, 502);
}

#[test]
fn an_http_2_app_that_dies_without_an_answer_is_a_502() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address)).start();
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
    let call = app.next();
    app.cut();
    let answer = client.read_answer();
    assert_eq!(answer.status, 502);
    drop(call);
}

#[test]
fn a_malformed_length_of_a_body_over_http_2_never_looks_complete() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = http::Request::post("http://a/")
        .header("content-length", "10")
        .body(())
        .unwrap();
    let (response, mut stream) = client.send(request, false);
    let mut origin = app.accept();
    assert!(origin.read_head().contains("10\r\n"));
    stream.send_data(Bytes::from_static(b"short"), true).unwrap();
    assert_eq!(origin.read_to_end(), b"");
    assert!(wait(collect(response)).unwrap_err().is_reset());
}

/// Nothing but the close tells an HTTP/1.0 client where a body ends, so one that was cut must not end in a plain close.
#[test]
fn a_response_that_ends_early_is_a_reset_to_an_http_1_0_client() {
    use std::io::{Read, Write};

    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = std::net::TcpStream::connect(sidecar.inbound()).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let mut seen = Vec::new();
    while !seen.ends_with(b"hello") {
        let mut piece = [0; 1024];
        let n = client.read(&mut piece).unwrap();
        seen.extend_from_slice(&piece[..n]);
    }
    drop(origin);
    let error = client.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
