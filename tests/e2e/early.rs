//! Answers that do not wait for the end of the request: early ones, interim ones, and both bodies at once.

use std::future::poll_fn;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::support::{App, GET, H2Client, OK, Sidecar, collect, fields, pattern, send_body, wait};

#[test]
fn an_app_that_refuses_a_body_and_closes_is_heard() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n");
    let answer = thread::scope(|scope| {
        let mut twin = client.twin();
        // A client that reads only once all is written, or cannot be.
        let writing = scope.spawn(move || twin.try_send(vec![b'x'; 50_000_000]));
        let mut origin = app.accept();
        origin.read_head();
        origin.read_exactly(1000);
        origin.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch");
        drop(origin);
        let _ = writing.join().unwrap();
        client.read_answer()
    });
    assert_eq!((answer.status, answer.text().as_str()), (413, "much"));
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ");
    let mut origin = app.accept();
    origin.read_head();
    assert_eq!(origin.read_exactly(5), b"half ");
    origin.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(client.read_answer().status, 413);
}

#[test]
fn the_connection_of_an_early_answer_serves_the_next_request_once_the_body_is_in() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ");
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
    let answer = client.read_answer();
    if answer.field("connection") == Some("close") {
        return;
    }
    client.send("whole");
    client.send(GET);
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("GET / "));
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn an_app_may_answer_and_go_on_reading() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\none ");
    let mut origin = app.accept();
    origin.read_head();
    origin.read_exactly(4);
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n");
    assert_eq!(client.read_answer_to_head().status, 200);
    assert_eq!(client.read_until("yes\r\n"), "3\r\nyes\r\n");
    client.send("two.");
    assert_eq!(origin.read_exactly(4), b"two.");
    origin.send("0\r\n\r\n");
    assert_eq!(client.read_chunked().0, b"");
    client.send(GET);
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn what_the_app_sends_back_at_once_is_read_at_once() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    let body = pattern(8 << 20);
    let echoed = thread::scope(|scope| {
        let mut twin = client.twin();
        let body = &body;
        scope.spawn(move || {
            twin.send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            twin.send(body);
        });
        scope.spawn(|| {
            let mut origin = app.accept();
            origin.read_head();
            origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            for _ in 0..body.len() / 65536 {
                let piece = origin.read_exactly(65536);
                origin.send(piece);
            }
        });
        client.read_answer().body
    });
    assert!(echoed == body);
}

/// Neither side may wait for the other here: the client reads nothing until all is written, and the app writes while it
/// reads. A sidecar that stops reading the upload because the download is stuck never ends.
#[test]
fn an_echo_to_a_client_that_writes_everything_first_does_not_lock_up() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    let body = pattern(8 << 20);
    let echoed = thread::scope(|scope| {
        scope.spawn(|| {
            let mut origin = app.accept();
            let mut reader = origin.twin();
            let (give, take) = std::sync::mpsc::channel();
            let reading = thread::spawn(move || {
                reader.read_head();
                give.send(Vec::new()).unwrap();
                for _ in 0..(8 << 20) / 65536 {
                    give.send(reader.read_exactly(65536)).unwrap();
                }
            });
            take.recv().unwrap();
            origin.send("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n");
            for piece in take {
                origin.send(piece);
            }
            reading.join().unwrap();
        });
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        client.read_answer().body
    });
    assert!(echoed == body);
}

#[test]
fn an_echo_over_http_2_does_not_lock_up() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let body = pattern(4 << 20);
    let echoed = thread::scope(|scope| {
        let (response, mut stream) = client.post("/");
        let bytes = Bytes::from(body.clone());
        scope.spawn(move || wait(send_body(&mut stream, bytes, true)).unwrap());
        scope.spawn(|| {
            let mut origin = app.accept();
            origin.read_head();
            origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let received = origin.read_chunked().0;
            origin.send(format!("{:x}\r\n", received.len()));
            origin.send(received);
            origin.send("\r\n0\r\n\r\n");
        });
        wait(collect(response)).unwrap().body
    });
    assert!(echoed == body);
}

#[test]
fn a_client_that_expects_to_be_asked_is_asked_by_the_app() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut origin = app.accept();
    assert_eq!(fields(&origin.read_head(), "expect"), ["100-continue"]);
    origin.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.read_answer().status, 100);
    client.send("hello");
    assert_eq!(origin.read_exactly(5), b"hello");
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

/// RFC 9110, section 10.1.1: the body the client kept back may or may not come now, so what follows cannot be told apart.
#[test]
fn a_refused_expectation_ends_the_connection() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!(answer.status, 417);
    assert_eq!(answer.field("connection"), Some("close"));
    client.expect_closed();
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";

#[test]
fn interim_answers_reach_an_http_1_client_in_order() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(HINTS);
    let hints = client.read_answer();
    assert_eq!(hints.status, 103);
    assert_eq!(hints.field("link"), Some("</a.css>; rel=preload"));
    origin.send(format!("HTTP/1.1 102 Processing\r\n\r\n{HINTS}{OK}"));
    assert_eq!(client.read_answer().status, 102);
    assert_eq!(client.read_answer().status, 103);
    assert_eq!(client.read_answer().text(), "ok");
    client.send(GET);
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn interim_answers_reach_an_http_2_client() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let mut response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    // A field that HTTP/2 does not have must not cost the rest.
    origin.send(HINTS.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n"));
    let hints = wait(poll_fn(|cx| response.poll_informational(cx))).unwrap().unwrap();
    assert_eq!(hints.status(), 103);
    assert_eq!(hints.headers()["link"], "</a.css>; rel=preload");
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
}

#[test]
fn interim_answers_do_not_reach_an_http_1_0_client() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(format!("{HINTS}{OK}"));
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[test]
fn an_app_that_sends_interim_answers_without_end_is_cut_off() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    let mut storm = origin.twin();
    let storming = thread::spawn(move || while storm.try_send(HINTS).is_ok() {});
    let mut interim = 0;
    let last = loop {
        let answer = client.read_answer();
        match answer.status {
            103 => interim += 1,
            _ => break answer,
        }
    };
    assert_eq!(last.status, 502);
    assert!(interim < 1000, "{interim} got through");
    storming.join().unwrap();
}

#[test]
fn an_http_2_client_that_stops_after_the_answer_is_not_an_error() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::post("http://a/").body(()).unwrap();
    let (response, mut stream) = client.send(request, false);
    stream.send_data(Bytes::from_static(b"some"), false).unwrap();
    let mut origin = app.accept();
    origin.read_head();
    origin.read_until("some\r\n");
    origin.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch");
    let answer = wait(collect(response)).unwrap();
    assert_eq!((answer.status, answer.body), (413, b"much".to_vec()));
    // RFC 9113, section 8.1: the rest is not wanted, and that is no error.
    assert_eq!(wait(poll_fn(|cx| stream.poll_reset(cx))).unwrap(), h2::Reason::NO_ERROR);
}

#[test]
fn an_upload_that_takes_long_after_its_answer_is_read_to_its_end() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    let answer = client.read_answer();
    assert_eq!(answer.field("connection"), None);
    // More slowly than a client that stopped would be waited for.
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(900));
        client.send("ab");
    }
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}
