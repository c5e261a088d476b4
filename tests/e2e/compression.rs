//! Bodies compressed for clients that accept that: a set of pages as services have them, and what becomes of each.

use std::io::Read;
use std::time::{Duration, Instant};

use pillion_filters::compression::decode;

use crate::support::{Answer, App, H2Client, Peer, Setup, Sidecar, collect, wait};

/// A page of a service: its header fields, and its body.
struct Page {
    status: &'static str,
    fields: &'static str,
    body: Vec<u8>,
}

fn page(status: &'static str, fields: &'static str, body: impl Into<Vec<u8>>) -> Page {
    Page {
        status,
        fields,
        body: body.into(),
    }
}

fn html() -> Vec<u8> {
    let items = (0..200).map(|number| format!("<li><a href=\"/items/{number}\">Item {number}</a></li>\n"));
    format!("<!doctype html><ul>{}</ul>", items.collect::<Vec<_>>().concat()).into_bytes()
}

fn json() -> Vec<u8> {
    let items: Vec<_> = (0..200)
        .map(|id| serde_json::json!({ "id": id, "name": format!("item {id}") }))
        .collect();
    serde_json::to_vec(&items).unwrap()
}

/// An app with one page, behind a sidecar.
struct Scene {
    app: App,
    sidecar: Sidecar,
}

impl Scene {
    fn with(settings: &str) -> Self {
        let app = App::listen();
        let setup =
            Setup::before(format!("http://{}", app.address())).filters(&format!("compression: {{ {settings} }}"));
        Self {
            sidecar: setup.start(),
            app,
        }
    }

    /// What a client gets of a page; and what the app got.
    fn get(&self, request: &str, lines: &str, page: &Page) -> (Answer, String) {
        let mut client = self.sidecar.connect();
        client.send(format!("{request} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"));
        let mut app = self.app.accept();
        let asked = app.read_head();
        let Page { status, fields, body } = page;
        let length = body.len();
        app.send(format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n"
        ));
        if request.starts_with("HEAD") {
            return (client.read_answer_to_head(), asked);
        }
        app.send(body);
        (client.read_answer(), asked)
    }
}

fn accept(codings: &str) -> String {
    format!("Accept-Encoding: {codings}\r\n")
}

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.field(name).unwrap_or("none")
}

#[test]
fn pages_that_gain_are_compressed_in_the_coding_the_client_wants() {
    let scene = Scene::with("");
    for (fields, body) in [
        ("Content-Type: text/html; charset=utf-8\r\nETag: \"a\"\r\n", html()),
        (
            "Content-Type: application/json\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n",
            json(),
        ),
        (
            "Content-Type: image/svg+xml\r\nETag: \"a\"\r\nContent-MD5: eA==\r\n",
            html(),
        ),
    ] {
        let page = page("200 OK", fields, body);
        for (accepted, coding) in [
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, br", "br"),
            ("gzip;q=0.5", "gzip"),
        ] {
            let (answer, _) = scene.get("GET /", &accept(accepted), &page);
            assert_eq!(field(&answer, "content-encoding"), coding);
            assert_eq!(decode(coding, &answer.body).unwrap(), page.body);
            assert!(answer.body.len() * 3 < page.body.len());
            assert_eq!(field(&answer, "etag"), "W/\"a\"");
            assert_eq!(field(&answer, "vary"), "Accept-Encoding");
            for gone in ["content-length", "accept-ranges", "content-md5"] {
                assert_eq!(answer.field(gone), None, "{gone}");
            }
        }
        for accepted in ["", "Accept-Encoding: identity\r\n", "Accept-Encoding: gzip;q=0\r\n"] {
            let (answer, _) = scene.get("GET /", accepted, &page);
            assert_eq!(answer.body, page.body);
            assert_eq!(field(&answer, "etag"), "\"a\"");
            assert_eq!(
                field(&answer, "vary"),
                "Accept-Encoding",
                "another client gets it otherwise"
            );
            assert_eq!(answer.field("content-encoding"), None);
        }
    }
}

#[test]
fn what_must_not_be_touched_is_not() {
    let scene = Scene::with("");
    for (status, fields) in [
        ("200 OK", "Content-Type: text/html\r\nCache-Control: no-transform\r\n"),
        ("200 OK", "Content-Type: image/png\r\n"),
        ("200 OK", "Content-Type: application/zip\r\n"),
        ("200 OK", ""),
        (
            "206 Partial Content",
            "Content-Type: text/html\r\nContent-Range: bytes 0-9/20\r\n",
        ),
    ] {
        let page = page(status, fields, html());
        let (answer, _) = scene.get("GET /", &accept("gzip, br, zstd"), &page);
        assert_eq!(answer.body, page.body, "{fields}");
        assert_eq!(answer.field("content-encoding"), None, "{fields}");
        assert_eq!(answer.field("vary"), None, "{fields}");
    }
    // Small ones, and those the client reads already, could be otherwise for others.
    for (fields, body) in [
        ("Content-Type: text/html\r\n", b"small".to_vec()),
        ("Content-Type: text/html\r\nContent-Encoding: gzip\r\n", vec![0; 5000]),
    ] {
        let page = page("200 OK", fields, body);
        let (answer, _) = scene.get("GET /", &accept("gzip"), &page);
        assert_eq!(answer.body, page.body);
        assert_eq!(field(&answer, "vary"), "Accept-Encoding");
    }
}

#[test]
fn the_head_is_that_of_a_get() {
    let scene = Scene::with("");
    let page = page("200 OK", "Content-Type: text/html\r\nETag: \"a\"\r\n", html());
    let (answer, _) = scene.get("HEAD /", &accept("br"), &page);
    assert_eq!(field(&answer, "content-encoding"), "br");
    assert_eq!(field(&answer, "etag"), "W/\"a\"");
    assert_eq!(answer.field("content-length"), None);
    // The connection lives on, with nothing of a body on it.
    let mut client = H2Client::connect(scene.sidecar.inbound());
    let request = http::Request::head("http://a/")
        .header("accept-encoding", "br")
        .body(())
        .unwrap();
    let (response, _) = client.send(request, true);
    let mut app = scene.app.accept();
    app.read_head();
    app.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n");
    let whole = wait(collect(response)).unwrap();
    assert_eq!(whole.headers["content-encoding"], "br");
    assert!(whole.body.is_empty());
}

#[test]
fn what_a_client_cannot_read_is_decompressed() {
    let scene = Scene::with("");
    let gzip = {
        let mut coded = Vec::new();
        flate2::read::GzEncoder::new(&html()[..], flate2::Compression::new(6))
            .read_to_end(&mut coded)
            .unwrap();
        coded
    };
    let page = page(
        "200 OK",
        "Content-Type: text/html\r\nContent-Encoding: gzip\r\nETag: \"a\"\r\n",
        gzip,
    );
    let (answer, _) = scene.get("GET /", &accept("br"), &page);
    assert_eq!(answer.body, html());
    assert_eq!(answer.field("content-encoding"), None);
    assert_eq!(field(&answer, "etag"), "W/\"a\"");
    assert_eq!(field(&answer, "vary"), "Accept-Encoding");
    let cut = Page {
        body: page.body[..page.body.len() / 2].to_vec(),
        ..page
    };
    let mut client = scene.sidecar.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", accept("br")));
    let mut app = scene.app.accept();
    app.read_head();
    app.send(format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n",
        cut.body.len(),
        cut.fields
    ));
    app.send(&cut.body);
    client.read_head();
    let rest = client.read_to_end();
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "half a body does not look like a whole one"
    );
}

#[test]
fn an_event_is_at_the_client_at_once() {
    let scene = Scene::with("");
    for coding in ["gzip", "br", "zstd"] {
        let mut client = scene.sidecar.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", accept(coding)));
        let mut app = scene.app.accept();
        app.read_head();
        app.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(client.read_head().contains(coding));
        let mut received = Vec::new();
        for number in 0..5 {
            let event = format!("data: {number}\n\n");
            app.send(format!("{:x}\r\n{event}\r\n", event.len()));
            received.extend(read_chunk(&mut client));
            let text = decode_beginning(coding, &received);
            assert!(
                text.ends_with(event.as_bytes()),
                "{coding}: {:?}",
                String::from_utf8_lossy(&text)
            );
        }
        app.send("0\r\n\r\n");
        let (rest, _) = client.read_chunked();
        received.extend(rest);
        assert_eq!(
            decode(coding, &received).unwrap(),
            b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n"
        );
    }
}

fn read_chunk(client: &mut Peer) -> Vec<u8> {
    let size = client.read_until("\r\n");
    let size = usize::from_str_radix(size.trim(), 16).unwrap();
    let chunk = client.read_exactly(size);
    client.read_exactly(2);
    chunk
}

/// What the beginning of a coded body comes to.
fn decode_beginning(coding: &str, body: &[u8]) -> Vec<u8> {
    pillion_filters::compression::decode_beginning(coding, body).unwrap()
}

#[test]
fn conditions_work_with_both_kinds_of_tags() {
    for (settings, tag) in [("", "W/\"a\""), ("etag: suffix, cpu_limit: 1", "\"a-br\"")] {
        let scene = Scene::with(settings);
        let html = page("200 OK", "Content-Type: text/html\r\nETag: \"a\"\r\n", html());
        let (answer, _) = scene.get("GET /", &accept("br"), &html);
        assert_eq!(field(&answer, "etag"), tag);
        // The app recognises its tag, and the client its own.
        let unchanged = page("304 Not Modified", "ETag: \"a\"\r\n", "");
        let mut client = scene.sidecar.connect();
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n{}\r\n",
            accept("br")
        ));
        let mut app = scene.app.accept();
        let asked = app.read_head();
        app.send(format!(
            "HTTP/1.1 {}\r\nConnection: close\r\n{}\r\n",
            unchanged.status, unchanged.fields
        ));
        let answer = client.read_answer();
        assert_eq!((answer.status, field(&answer, "etag")), (304, tag));
        assert_eq!(field(&answer, "vary"), "Accept-Encoding");
        assert!(asked.contains("\"a\""), "{asked}");
        // And so does a change under a condition.
        let (_, asked) = scene.get(
            "DELETE /",
            &format!("If-Match: {tag}\r\n"),
            &page("204 No Content", "", ""),
        );
        assert!(asked.to_lowercase().contains("if-match: \"a\""), "{asked}");
    }
}

#[test]
fn a_304_varies_as_its_200_would() {
    for (fields, varies) in [
        ("ETag: W/\"a\"\r\n", true),
        ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", true),
        ("ETag: \"a\"\r\nContent-Type: text/html\r\n", true),
        ("ETag: \"a\"\r\nContent-Type: image/png\r\n", false),
        ("ETag: \"a\"\r\nCache-Control: no-transform\r\n", false),
    ] {
        let scene = Scene::with("");
        let conditions = format!("If-None-Match: W/\"a\"\r\n{}", accept("br"));
        let (answer, _) = scene.get("GET /", &conditions, &page("304 Not Modified", fields, ""));
        assert_eq!(answer.status, 304);
        assert_eq!(answer.field("vary").is_some(), varies, "{fields}");
    }
}

#[test]
fn who_accepts_nothing_is_refused_only_if_that_is_said() {
    let html = page("200 OK", "Content-Type: text/html\r\n", html());
    let (answer, _) = Scene::with("").get("GET /", &accept("identity;q=0"), &html);
    assert_eq!(answer.status, 200);
    let (answer, _) = Scene::with("strict: true").get("GET /", &accept("identity;q=0"), &html);
    assert_eq!(answer.status, 406);
    assert_eq!(field(&answer, "vary"), "Accept-Encoding");
}

#[test]
fn a_compressed_request_is_made_readable_within_bounds() {
    let scene = Scene::with("requests: { decode: true, max_decoded: 100KB }");
    let send = |body: &[u8]| {
        let mut client = scene.sidecar.connect();
        let length = body.len();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.send(body);
        client
    };
    let gzip = |body: &[u8]| {
        let mut coded = Vec::new();
        flate2::read::GzEncoder::new(body, flate2::Compression::new(9))
            .read_to_end(&mut coded)
            .unwrap();
        coded
    };
    let mut client = send(&gzip(&json()));
    let mut app = scene.app.accept();
    let head = app.read_head();
    assert!(!head.to_lowercase().contains("content-encoding"), "{head}");
    assert_eq!(app.read_chunked().0, json());
    app.send(crate::support::OK);
    let answer = client.read_answer();
    assert_eq!(field(&answer, "accept-encoding"), "zstd, br, gzip");
    // A bomb: ten megabytes in ten kilobytes.
    assert_eq!(send(&gzip(&vec![0; 10_000_000])).read_answer().status, 413);
    assert_eq!(send(b"no gzip at all").read_answer().status, 400);
}

#[test]
fn hosts_that_take_it_get_compressed_requests() {
    let app = App::listen();
    let setup = Setup::before("http://127.0.0.1:1").filters("compression: { requests: { encode: true } }");
    let sidecar = setup.start();
    let host = app.address();
    let mut client = sidecar.connect_out();
    let body = json();
    let mut send = |answer: &str| {
        let length = body.len();
        client.send(format!(
            "POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.send(&body);
        let mut peer = app.accept();
        let head = peer.read_head().to_lowercase();
        let got = if head.contains("chunked") {
            peer.read_chunked().0
        } else {
            peer.read_exactly(length)
        };
        peer.send(answer);
        client.read_answer();
        (head, got)
    };
    let says = "HTTP/1.1 200 OK\r\nConnection: close\r\nAccept-Encoding: gzip, br\r\nContent-Length: 0\r\n\r\n";
    let (head, got) = send(says);
    assert!(!head.contains("content-encoding") && got == body);
    let (head, got) =
        send("HTTP/1.1 415 No\r\nConnection: close\r\nAccept-Encoding: identity\r\nContent-Length: 0\r\n\r\n");
    assert!(head.contains("content-encoding: br"), "{head}");
    assert_eq!(decode("br", &got).unwrap(), body);
    let (head, _) = send(says);
    assert!(!head.contains("content-encoding"), "it has said that it does not");
}

#[test]
fn small_requests_go_on_while_large_bodies_are_compressed() {
    let scene = Scene::with("levels: { br: 7 }, cpu_limit: 1");
    let body: Vec<u8> = json().repeat(2000);
    let address = scene.sidecar.inbound();
    let mut large = scene.sidecar.connect();
    large.send(format!("GET /large HTTP/1.1\r\nHost: a\r\n{}\r\n", accept("br")));
    let mut app = scene.app.accept();
    app.read_head();
    let reader = std::thread::spawn(move || large.read_answer().body);
    let length = body.len();
    let sender = std::thread::spawn(move || {
        app.send(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ));
        app.send(&body);
    });
    let began = Instant::now();
    let mut served = 0;
    while !sender.is_finished() {
        let mut small = Peer::connect(address);
        small.send("GET /small HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut app = scene.app.accept();
        app.read_head();
        app.send(crate::support::OK);
        small.read_answer();
        served += 1;
    }
    assert!(served > 1, "only {served} in {:?}", began.elapsed());
    sender.join().unwrap();
    assert_eq!(decode("br", &reader.join().unwrap()).unwrap().len(), length);
    assert!(began.elapsed() < Duration::from_secs(60));
}
