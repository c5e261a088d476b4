//! Messages that two parsers might read in two ways: what of them reaches the other side, byte for byte.

use crate::support::{App, GET, OK, Sidecar};

/// What this hop adds to each request.
const HOP: &str =
    "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nVia: 1.1 pillion\r\n";

/// A sidecar whose chain adds nothing.
fn bare(app: &App) -> Sidecar {
    Sidecar::setup(app).without_filters().start()
}

#[test]
fn requests_in_doubt_are_refused_and_nothing_of_them_arrives() {
    let app = App::listen();
    let sidecar = bare(&app);
    for head in [
        // Framed twice, or in a way that not everybody knows.
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 \x0b\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        // Lines that end in other ways.
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\rHost: a\r\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        // Request lines.
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        // Hosts.
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: b@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a?\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        // Fields.
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x1b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n",
    ] {
        println!("{head:?}");
        let mut client = sidecar.connect();
        client.send(head);
        let answer = client.read_answer();
        assert_eq!(answer.status, 400, "{head:?}");
        assert_eq!(answer.field("connection"), Some("close"), "{head:?}");
        let _ = client.try_send(GET);
        client.expect_closed();
        assert!(app.try_accept().is_none(), "{head:?}");
    }
}

/// What is odd but can be read in one way only is forwarded in the plainest way to write it.
#[test]
fn requests_that_are_clear_arrive_in_one_form() {
    let app = App::listen();
    let sidecar = bare(&app);
    for (sent, arrives) in [
        (
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{HOP}\r\n"),
        ),
        (
            "GET /%7Ba%2f../b?c=d%20e HTTP/1.1\r\nhOST:a\r\nX:\t b \t\r\n\r\n",
            format!("GET /%7Ba%2f../b?c=d%20e HTTP/1.1\r\nhOST: a\r\nX: b\r\n{HOP}\r\n"),
        ),
        (
            "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
            format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{HOP}\r\n"),
        ),
        (
            "OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            format!("OPTIONS / HTTP/1.1\r\nHost: a\r\n{HOP}\r\n"),
        ),
        (
            "GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n",
            format!("GET /b?c HTTP/1.1\r\nHost: a\r\n{HOP}\r\n"),
        ),
        (
            "GET http://a?c HTTP/1.1\r\nHost: a\r\n\r\n",
            format!("GET /?c HTTP/1.1\r\nHost: a\r\n{HOP}\r\n"),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{HOP}\r\nhello"),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{HOP}\r\nhello"),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n005;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{HOP}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n"
            ),
        ),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", HOP.replace("1.1", "1.0")),
        ),
    ] {
        let mut client = sidecar.connect();
        client.send(sent);
        let mut origin = app.accept();
        assert_eq!(
            String::from_utf8(origin.read_exactly(arrives.len())).unwrap(),
            arrives,
            "of {sent:?}"
        );
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        assert_eq!(client.read_answer().text(), "ok");
        origin.expect_closed();
    }
}

#[test]
fn chunks_in_doubt_are_refused_and_the_body_never_ends() {
    let app = App::listen();
    let sidecar = bare(&app);
    for body in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    ] {
        println!("{body:?}");
        let mut client = sidecar.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        let answer = client.read_answer();
        assert_eq!(answer.status, 400, "{body:?}");
        client.expect_closed();
        if let Some(mut origin) = app.try_accept() {
            let arrived = String::from_utf8(origin.read_to_end()).unwrap();
            assert!(
                !arrived.ends_with("0\r\n\r\n") && !arrived.contains("hidden"),
                "{body:?} made {arrived:?}"
            );
        }
    }
}

/// What follows an `Upgrade` the app does not take is a request like any other, and no bytes of a tunnel.
#[test]
fn a_request_behind_an_upgrade_is_a_request() {
    let app = App::listen();
    let sidecar = bare(&app);
    let mut client = sidecar.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\
         GET /hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let mut origin = app.accept();
    let head = origin.read_head();
    assert!(head.starts_with("GET / "), "{head}");
    assert!(origin.is_silent_for(std::time::Duration::from_millis(50)));
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    assert_eq!(client.read_answer().status, 400);
    client.expect_closed();
    assert!(app.try_accept().is_none());
}

#[test]
fn responses_in_doubt_are_not_passed_on() {
    let app = App::listen();
    let sidecar = bare(&app);
    let mut client = sidecar.connect();
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nX: y\rSet-Cookie: z\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2 200\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\nX : y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        for cut in [response.len(), 1, 20] {
            client.send(GET);
            let mut origin = app.accept();
            origin.read_head();
            let (first, second) = response.split_at(cut);
            origin.send(first);
            if !second.is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(5));
                // It may have seen enough already.
                let _ = origin.try_send(second);
            }
            let answer = client.read_answer();
            assert_eq!(answer.status, 502, "{response:?}");
            origin.expect_closed();
        }
    }
}

/// A response that was not asked for must not become the answer to the next request.
#[test]
fn bytes_behind_a_response_go_to_nobody() {
    let app = App::listen();
    let sidecar = bare(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden"));
    assert_eq!(client.read_answer().text(), "ok");
    client.send(GET);
    let mut next = app.accept();
    next.read_head();
    next.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}
