//! What passes through: the app gets what the client sent and the client what the app sent, but for what a proxy must change.

use std::os::unix::net::UnixListener;

use crate::support::{App, GET, OK, PATIENCE, Peer, Setup, Sidecar, fields, pattern};

/// One exchange through a sidecar without filters: what the app received and what the client did.
fn exchange(request: &str, response: &str) -> (String, crate::support::Answer) {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).without_filters().start();
    let mut client = sidecar.connect();
    client.send(request);
    let mut origin = app.accept();
    let received = origin.read_head();
    origin.send(response);
    (received, client.read_answer())
}

#[test]
fn the_app_gets_the_request_as_it_was_sent() {
    let request = "GET /a/b?q=1&r=%20 HTTP/1.1\r\nHost: Example.com:81\r\nX-CaSe: Kept as is\r\nx-case: again\r\n\r\n";
    let (received, _) = exchange(request, OK);
    assert_eq!(
        received,
        "GET /a/b?q=1&r=%20 HTTP/1.1\r\nHost: Example.com:81\r\nX-CaSe: Kept as is\r\nx-case: again\r\n\
         X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Example.com:81\r\n\
         Via: 1.1 pillion\r\n\r\n"
    );
}

#[test]
fn the_client_gets_the_response_as_it_was_sent() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).without_filters().start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(
        "HTTP/1.1 200 Quite Fine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-CaSe: Kept\r\nSet-Cookie: a=1\r\n\
         Set-Cookie: b=2\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(
        client.read_until("hello"),
        "HTTP/1.1 200 Quite Fine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-CaSe: Kept\r\nSet-Cookie: a=1\r\n\
         Set-Cookie: b=2\r\nContent-Length: 5\r\nVia: 1.1 pillion\r\n\r\nhello"
    );
}

#[test]
fn a_response_without_a_date_gets_one() {
    let (_, answer) = exchange(GET, OK);
    assert!(answer.field("date").unwrap().ends_with(" GMT"));
}

#[test]
fn hop_by_hop_fields_of_requests_end_here() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\n\
                   X-Hop: 1\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-Stays: 1\r\n\r\n";
    let (received, _) = exchange(request, OK);
    for gone in ["connection", "keep-alive", "x-hop", "proxy-connection", "te"] {
        assert_eq!(fields(&received, gone), [""; 0], "{gone} in {received}");
    }
    assert_eq!(fields(&received, "x-stays"), ["1"]);
}

#[test]
fn hop_by_hop_fields_of_responses_end_here() {
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                    Upgrade: h2c\r\nX-Stays: 1\r\n\r\n";
    let (_, answer) = exchange(GET, response);
    for gone in ["connection", "x-hop", "keep-alive", "upgrade"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    assert_eq!(answer.field("x-stays"), Some("1"));
}

#[test]
fn connection_cannot_take_host_and_length_away() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Host, Content-Length, X-Forwarded-For\r\n\
                   Content-Length: 0\r\n\r\n";
    let (received, _) = exchange(request, OK);
    assert_eq!(fields(&received, "host"), ["a"]);
    assert_eq!(fields(&received, "content-length"), ["0"]);
    assert_eq!(fields(&received, "x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn a_stranger_does_not_say_who_the_client_is() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
                   X-Forwarded-Host: b\r\nForwarded: for=203.0.113.9\r\n\r\n";
    let (received, _) = exchange(request, OK);
    assert_eq!(fields(&received, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(fields(&received, "x-forwarded-proto"), ["http"]);
    assert_eq!(fields(&received, "x-forwarded-host"), ["a"]);
    assert_eq!(fields(&received, "forwarded"), [""; 0]);
}

#[test]
fn targets_pass_byte_by_byte() {
    for target in [
        "/?",
        "/a//b/../c",
        "/%2F%00?x={y}|z",
        "/a?b=c?d/e",
        "/;p=1,2",
        "//double",
    ] {
        let (received, _) = exchange(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), OK);
        assert_eq!(received.lines().next().unwrap(), format!("GET {target} HTTP/1.1"));
    }
}

#[test]
fn options_of_the_server_as_a_whole_pass() {
    let (received, _) = exchange("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    assert!(received.starts_with("OPTIONS * HTTP/1.1\r\n"), "{received}");
}

#[test]
fn a_target_in_absolute_form_reaches_the_app_in_origin_form() {
    let (received, _) = exchange("GET http://a:1/x?y HTTP/1.1\r\nHost: a:1\r\n\r\n", OK);
    assert!(received.starts_with("GET /x?y HTTP/1.1\r\nHost: a:1\r\n"), "{received}");
}

#[test]
fn the_answer_to_head_has_a_length_and_no_body() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("HEAD / "));
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(client.read_answer_to_head().field("content-length"), Some("1000"));
    client.send(GET);
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn head_of_a_chunked_resource_says_nothing_of_a_length() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.read_answer_to_head().field("content-length"), None);
}

#[test]
fn no_content_and_not_modified_end_with_their_head() {
    for status in ["204 No Content", "304 Not Modified"] {
        let app = App::listen();
        let sidecar = Sidecar::before(&app);
        let mut client = sidecar.connect();
        client.send(GET);
        let mut origin = app.accept();
        origin.read_head();
        origin.send(format!("HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n"));
        let answer = client.read_answer_to_head();
        assert_eq!(answer.field("etag"), Some("\"x\""));
        assert_eq!(answer.field("transfer-encoding"), None);
        client.send(GET);
        origin.read_head();
        origin.send(OK);
        assert_eq!(client.read_answer().text(), "ok", "after {status}");
    }
}

/// RFC 9110, section 8.6: a length in a 304 is that of the 200 it stands for, which nobody but the app knows.
#[test]
fn a_304_without_a_length_stays_without() {
    let (_, answer) = exchange(GET, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    assert_eq!(answer.field("content-length"), None);
    let (_, answer) = exchange(GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
    assert_eq!(answer.field("content-length"), Some("7"));
}

#[test]
fn an_http_1_0_client_gets_a_body_of_unknown_length_until_the_end() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("GET / HTTP/1.1\r\n"));
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    let head = client.read_answer_to_head();
    assert_eq!(head.field("transfer-encoding"), None);
    assert_eq!(head.field("connection"), Some("close"));
    assert_eq!(client.read_to_end(), b"abcde");
}

#[test]
fn an_http_1_0_client_keeps_its_connection_if_it_asks() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().field("connection"), Some("keep-alive"));
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().field("connection"), Some("close"));
    client.expect_closed();
}

/// RFC 9112, section 3.2: every HTTP/1.1 request has a Host, and apps refuse one without.
#[test]
fn the_app_gets_a_host_even_if_an_http_1_0_client_names_none() {
    let (received, _) = exchange("GET / HTTP/1.0\r\n\r\n", OK);
    assert!(received.starts_with("GET / HTTP/1.1\r\n"), "{received}");
    assert_eq!(fields(&received, "host").len(), 1, "{received}");
}

#[test]
fn a_post_without_a_body_says_so() {
    let (received, _) = exchange("POST / HTTP/1.1\r\nHost: a\r\n\r\n", OK);
    assert_eq!(fields(&received, "content-length"), ["0"]);
    assert_eq!(fields(&received, "transfer-encoding"), [""; 0]);
}

#[test]
fn a_get_without_a_body_says_nothing_of_one() {
    let (received, _) = exchange(GET, OK);
    assert_eq!(fields(&received, "content-length"), [""; 0]);
    assert_eq!(fields(&received, "transfer-encoding"), [""; 0]);
}

#[test]
fn a_body_with_a_length_arrives_with_it() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    let body = pattern(300_000);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    client.send(&body);
    let mut origin = app.accept();
    let head = origin.read_head();
    assert_eq!(fields(&head, "content-length"), ["300000"]);
    assert_eq!(fields(&head, "transfer-encoding"), [""; 0]);
    assert!(origin.read_exactly(300_000) == body);
    origin.send(OK);
    assert_eq!(client.read_answer().status, 200);
}

#[test]
fn chunked_bodies_pass_both_ways() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n");
    let mut origin = app.accept();
    let head = origin.read_head();
    assert_eq!(fields(&head, "transfer-encoding"), ["chunked"]);
    assert_eq!(fields(&head, "content-length"), [""; 0]);
    client.send("A\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n");
    assert_eq!(origin.read_chunked().0, b"abc0123456789");
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    let answer = client.read_answer_to_head();
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    assert_eq!(answer.field("content-length"), None);
    assert_eq!(client.read_until("first\r\n"), "5\r\nfirst\r\n");
    origin.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(client.read_chunked().0, b"second");
}

#[test]
fn a_body_that_ends_with_the_apps_connection_is_chunked_for_the_client() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.0 200 OK\r\n\r\nall there is");
    drop(origin);
    let answer = client.read_answer();
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    assert_eq!(answer.text(), "all there is");
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let mut origin = app.accept();
    for number in ["1", "2", "3"] {
        let head = origin.read_head();
        assert!(head.contains(&format!(" /{number} ")), "{head}");
        if number == "2" {
            assert_eq!(origin.read_exactly(3), b"abc");
        }
        origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"));
    }
    for number in ["1", "2", "3"] {
        assert_eq!(client.read_answer().text(), number);
    }
}

#[test]
fn a_request_sent_while_the_first_is_under_way_is_served_next() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    client.send("POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    assert!(origin.read_head().starts_with("POST /next "));
    assert_eq!(origin.read_exactly(5), b"hello");
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_client_that_wants_to_close_is_told_so_and_closed() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut origin = app.accept();
    assert_eq!(fields(&origin.read_head(), "connection"), [""; 0]);
    origin.send(OK);
    let answer = client.read_answer();
    assert_eq!(
        (answer.text().as_str(), answer.field("connection")),
        ("ok", Some("close"))
    );
    client.expect_closed();
}

#[test]
fn an_app_that_closes_does_not_close_the_client() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    for _ in 0..2 {
        client.send(GET);
        let mut origin = app.accept();
        origin.read_head();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        assert_eq!(client.read_answer().field("connection"), None);
        origin.expect_closed();
    }
}

#[test]
fn an_app_on_a_unix_socket_is_served_like_any_other() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("app-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let sidecar = Setup::before(format!("unix:{}", path.display())).start();
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut origin = Peer::over(stream);
    for _ in 0..2 {
        let head = origin.read_head();
        assert_eq!(fields(&head, "host"), ["a"]);
        assert_eq!(origin.read_exactly(3), b"abc");
        origin.send(OK);
        assert_eq!(client.read_answer().text(), "ok");
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_request_with_the_same_length_twice_has_it_once_or_is_refused() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    for lengths in ["Content-Length: 3\r\nContent-Length: 3\r\n", "Content-Length: 3, 3\r\n"] {
        let mut client = sidecar.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{lengths}\r\nabc"));
        while client.is_silent_for(std::time::Duration::from_millis(10)) {
            if let Some(mut origin) = app.try_accept() {
                assert_eq!(fields(&origin.read_head(), "content-length"), ["3"], "of {lengths:?}");
                origin.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        }
        let status = client.read_answer().status;
        assert!(matches!(status, 200 | 400), "{status}");
    }
}

#[test]
fn requests_with_lengths_that_differ_or_are_none_are_refused() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    for lengths in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 4\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 3x\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let mut client = sidecar.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{lengths}\r\nabc"));
        assert_eq!(client.read_answer().status, 400, "{lengths:?}");
        client.expect_closed();
    }
    assert!(app.try_accept().is_none());
}

/// RFC 9112, section 6.3: one length, however often it was said.
#[test]
fn a_response_with_the_same_length_twice_has_it_once_or_is_refused() {
    for lengths in ["Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2, 2\r\n"] {
        let (_, answer) = exchange(GET, &format!("HTTP/1.1 200 OK\r\n{lengths}\r\nok"));
        assert_eq!(answer.field("transfer-encoding"), None, "{}", answer.head);
        if answer.status == 200 {
            assert_eq!(answer.field("content-length"), Some("2"), "{}", answer.head);
            assert_eq!(answer.text(), "ok");
        } else {
            assert_eq!(answer.status, 502);
        }
    }
}

#[test]
fn a_response_with_lengths_that_differ_is_refused() {
    let (_, answer) = exchange(
        GET,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    );
    assert_eq!(answer.status, 502);
}

#[test]
fn bytes_above_ascii_in_fields_pass() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Name: caf\xe9\r\n\r\n");
    let mut origin = app.accept();
    assert_eq!(fields(&origin.read_head(), "x-name"), ["caf\u{fffd}"]);
    origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Name: caf\xe9\r\n\r\n");
    assert_eq!(client.read_answer().field("x-name"), Some("caf\u{fffd}"));
}

#[test]
fn a_chunked_body_ends_where_the_next_request_begins() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n{GET}"
    ));
    let mut origin = app.accept();
    origin.read_head();
    assert_eq!(origin.read_chunked().0, b"abc");
    origin.send(OK);
    let head = origin.read_head();
    assert!(head.starts_with("GET / "), "{head}");
    origin.send(OK);
    for _ in 0..2 {
        assert_eq!(client.read_answer().text(), "ok");
    }
}

#[test]
fn many_requests_sent_ahead_are_served_one_by_one() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    let request = |number| {
        format!(
            "GET /{number} HTTP/1.1\r\nHost: a\r\nX-Filling: {}\r\n\r\n",
            "x".repeat(500)
        )
    };
    client.send((0..100).map(request).collect::<String>());
    let mut origin = app.accept();
    for number in 0..100 {
        assert!(origin.read_head().starts_with(&format!("GET /{number} ")));
        origin.send(OK);
    }
    for _ in 0..100 {
        assert_eq!(client.read_answer().text(), "ok");
    }
    assert!(app.try_accept().is_none());
}
