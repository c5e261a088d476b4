//! Trailers pass, as trailers or not at all (RFC 9110, section 6.5.1).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};

use crate::support::{App, GET, H2App, H2Client, OK, Setup, Sidecar, collect, fields, wait};

const CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";

/// One field that passes, and one that would mean something else before a message.
fn sum() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    trailers.insert("content-length", HeaderValue::from_static("9"));
    trailers
}

#[test]
fn from_an_http_1_client_to_an_http_1_app() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    for pieces in [
        vec!["3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n"],
        vec!["3\r\nabc\r\n", "0\r\nX-S", "um: 1\r\nAuthorization: b\r\n\r", "\n"],
    ] {
        client.send(CHUNKED);
        let mut origin = app.accept();
        let head = origin.read_head();
        assert_eq!(fields(&head, "x-sum"), [""; 0]);
        for piece in pieces {
            client.send(piece);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(origin.read_chunked(), (b"abc".to_vec(), "x-sum: 1\r\n".to_owned()));
        origin.send(OK);
        assert_eq!(client.read_answer().text(), "ok");
    }
}

#[test]
fn from_an_http_1_client_to_an_http_2_app() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address)).start();
    let mut client = sidecar.connect();
    client.send(format!(
        "{CHUNKED}3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n"
    ));
    let mut call = app.next();
    let body = call.request.body_mut();
    assert_eq!(wait(body.data()).unwrap().unwrap(), "abc");
    let trailers = wait(body.trailers()).unwrap().unwrap();
    assert_eq!(trailers["x-sum"], "1");
    assert_eq!(trailers.len(), 1);
    call.ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn from_an_http_2_client_to_an_http_1_app() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let (response, mut body) = client.post("/");
    let mut origin = app.accept();
    origin.read_head();
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    body.send_trailers(sum()).unwrap();
    assert_eq!(origin.read_chunked(), (b"abc".to_vec(), "x-sum: 1\r\n".to_owned()));
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
}

#[test]
fn from_an_http_1_app_to_both_kinds_of_client() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n";
    let mut old = sidecar.connect();
    old.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(answer);
    assert_eq!(old.read_answer_to_head().field("x-sum"), None);
    assert_eq!(old.read_chunked(), (b"ok".to_vec(), "x-sum: 1\r\n".to_owned()));
    let mut new = H2Client::connect(sidecar.inbound());
    let response = new.get("/");
    origin.read_head();
    origin.send(answer);
    let answer = wait(collect(response)).unwrap();
    assert_eq!(answer.body, b"ok");
    let trailers = answer.trailers.unwrap();
    assert_eq!(trailers["x-sum"], "1");
    assert_eq!(trailers.len(), 1);
}

#[test]
fn from_an_http_2_app_to_a_client_of_it() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address)).start();
    let mut client = H2Client::connect(sidecar.inbound());
    let (response, mut body) = client.post("/");
    body.send_trailers(sum()).unwrap();
    let mut call = app.next();
    let received = call.request.body_mut();
    assert!(wait(received.data()).is_none());
    assert_eq!(wait(received.trailers()).unwrap().unwrap()["x-sum"], "1");
    let mut stream = call.answer(Response::new(()), false);
    stream.send_trailers(sum()).unwrap();
    assert_eq!(wait(collect(response)).unwrap().trailers.unwrap()["x-sum"], "1");
}

/// A body that is dropped takes its trailers along.
#[test]
fn of_one_request_never_with_the_next() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .with("routes: [{ match: { path: /small }, filters: { limits: { body: 3 } } }]")
        .start();
    let mut client = sidecar.connect();
    client.send(
        "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    assert_eq!(client.read_answer().status, 413);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let mut origin = app.accept();
    while !origin.read_head().starts_with("POST / ") {
        origin = app.accept();
    }
    assert_eq!(origin.read_chunked(), (b"abc".to_vec(), String::new()));
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

/// Bytes of a body that look like the end of a chunked one are none.
#[test]
fn a_body_of_known_length_has_no_place_for_them() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = http::Request::post("http://a/")
        .header("content-length", "5")
        .body(())
        .unwrap();
    let (response, mut body) = client.send(request, false);
    body.send_data(Bytes::from_static(b"0\r\n\r\n"), false).unwrap();
    body.send_trailers(sum()).unwrap();
    let mut origin = app.accept();
    assert_eq!(fields(&origin.read_head(), "content-length"), ["5"]);
    assert_eq!(origin.read_exactly(5), b"0\r\n\r\n");
    assert!(origin.is_silent_for(std::time::Duration::from_millis(50)));
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
}
