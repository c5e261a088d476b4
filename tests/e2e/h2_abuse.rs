//! HTTP/2 that no library sends. What is malformed (RFC 9113, sections 8.2 and 8.3) must not become an HTTP/1 request or
//! response, where its bytes could mean something else.

use crate::support::frames::{Field, PROTOCOL_ERROR, RawH2, Verdict};
use crate::support::{App, H2Client, OK, Setup, Sidecar, collect, wait};

const METHOD: Field<'_> = (":method", "GET");
const SCHEME: Field<'_> = (":scheme", "http");
const PATH: Field<'_> = (":path", "/bad");
const AUTHORITY: Field<'_> = (":authority", "a");

/// A GET whose pseudo-header fields are all there, and what makes it bad.
fn get_with<'a>(fields: &[Field<'a>]) -> Vec<Field<'a>> {
    [&[METHOD, SCHEME, PATH, AUTHORITY], fields].concat()
}

fn get_of(path: &str) -> Vec<Field<'_>> {
    vec![METHOD, SCHEME, (":path", path), AUTHORITY]
}

fn get_from(authority: &str) -> Vec<Field<'_>> {
    vec![METHOD, SCHEME, PATH, (":authority", authority)]
}

/// What the client is told of a request; the app is not told anything.
fn refused(app: &App, sidecar: &Sidecar, head: &[Field<'_>]) -> Verdict {
    let mut client = RawH2::connect(sidecar.inbound());
    client.headers(head, true);
    let verdict = client.verdict();
    assert!(app.try_accept().is_none(), "{head:?}");
    // What the app hears first is of somebody else, on a connection that the sidecar does not keep.
    let mut innocent = H2Client::connect(sidecar.inbound());
    let response = innocent.get("/innocent");
    let mut origin = app.accept();
    let head = origin.read_head();
    assert!(head.starts_with("GET /innocent HTTP/1.1\r\n"), "{head}");
    origin.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
    verdict
}

/// Runs through requests that are all told the same.
fn all_are(verdict: Verdict, heads: &[Vec<Field<'_>>]) {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    for head in heads {
        println!("{head:?}");
        assert_eq!(refused(&app, &sidecar, head), verdict, "{head:?}");
    }
}

const MALFORMED: Verdict = Verdict::Reset(PROTOCOL_ERROR);
/// For what the field decoder does not take: its state is the connection's.
const LAST_WORD: Verdict = Verdict::GoAway(PROTOCOL_ERROR);
const BAD_REQUEST: Verdict = Verdict::Status(400);

#[test]
fn pseudo_header_fields_are_there_once_and_first() {
    all_are(
        MALFORMED,
        &[
            vec![],
            vec![SCHEME, PATH, AUTHORITY],
            vec![METHOD, SCHEME, AUTHORITY],
            vec![METHOD, PATH, AUTHORITY],
            get_with(&[METHOD]),
            get_with(&[SCHEME]),
            get_with(&[PATH]),
            get_with(&[(":path", "/other")]),
            get_with(&[AUTHORITY]),
            get_with(&[(":status", "200")]),
            get_with(&[(":protocol", "websocket")]),
            vec![METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH],
        ],
    );
    all_are(LAST_WORD, &[get_with(&[(":unknown", "x")]), get_with(&[(":", "x")])]);
}

#[test]
fn field_names_are_tokens_in_lower_case() {
    let names = [
        "X-Upper",
        "x-uppeR",
        "",
        "x:y",
        "x y",
        "x ",
        " x",
        "x\t",
        "x\0",
        "x\ny",
        "x\r\ny",
        "x: y\r\nz",
        "transfer-encoding:",
        "x\u{fc}",
    ];
    all_are(LAST_WORD, &names.map(|name| get_with(&[(name, "z")])));
}

#[test]
fn field_values_are_one_line() {
    let values = [
        "a\rb",
        "a\nb",
        "a\0b",
        "\r",
        "\n",
        "a\x7f",
        "a\x1b",
        "a\r\nTransfer-Encoding: chunked",
        "a\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    all_are(LAST_WORD, &values.map(|value| get_with(&[("x", value)])));
}

#[test]
fn fields_of_an_http_1_connection_are_refused() {
    all_are(
        MALFORMED,
        &[
            get_with(&[("connection", "close")]),
            get_with(&[("connection", "x-secret"), ("x-secret", "x")]),
            get_with(&[("keep-alive", "timeout=5")]),
            get_with(&[("proxy-connection", "close")]),
            get_with(&[("transfer-encoding", "chunked")]),
            get_with(&[("transfer-encoding", "identity")]),
            get_with(&[("upgrade", "websocket")]),
            get_with(&[("te", "gzip")]),
            get_with(&[("te", "trailers, gzip")]),
        ],
    );
}

#[test]
fn a_path_fits_a_request_line() {
    let paths = [
        "",
        "bad",
        "?a",
        "*",
        "http://b/",
        " /",
        "/a b",
        "/ HTTP/1.1",
        "/\r",
        "/\n",
        "/\0",
        "/\t",
        "/\x7f",
        "/?a b",
        "/?\r\n",
        "/?\0",
        "/ HTTP/1.1\r\nHost: a\r\n\r\nGET /hidden",
    ];
    all_are(MALFORMED, &paths.map(get_of));
}

#[test]
fn methods_and_schemes_are_tokens() {
    let methods = ["", "G T", "GET\r\n", "GET / HTTP/1.1\r\nX:"];
    all_are(
        LAST_WORD,
        &methods.map(|method| vec![(":method", method), SCHEME, PATH, AUTHORITY]),
    );
    let schemes = ["h ttp", "http\r\n", "http://b/?"];
    all_are(
        MALFORMED,
        &schemes.map(|scheme| vec![METHOD, (":scheme", scheme), PATH, AUTHORITY]),
    );
}

#[test]
fn a_request_is_for_one_authority() {
    all_are(
        BAD_REQUEST,
        &[
            get_with(&[("host", "b")]),
            get_with(&[("host", "a"), ("host", "a")]),
            get_with(&[("host", "a"), ("host", "b")]),
            get_with(&[("host", "b@a")]),
            vec![METHOD, SCHEME, PATH, ("host", "a"), ("host", "b")],
            vec![METHOD, SCHEME, PATH, ("host", "a,b")],
            vec![METHOD, SCHEME, PATH, ("host", "b@a")],
            get_from("b@a"),
            get_from("b:c@a"),
            get_from("a,b"),
            get_from("a:x"),
        ],
    );
    let authorities = ["", "a, b", "a b", "a/b", "a?b", "a\r\nx: y", "a\0"];
    all_are(MALFORMED, &authorities.map(get_from));
}

#[test]
fn a_length_is_one_number() {
    let lengths: &[&[&str]] = &[
        &["5"],
        &["0", "5"],
        &["5", "0"],
        &["x"],
        &["+0"],
        &["-0"],
        &[""],
        &["0", ""],
        &["", "0"],
        &["0, 5"],
        &["0, 0"],
        &["99999999999999999999"],
    ];
    let heads: Vec<_> = lengths
        .iter()
        .map(|lengths| {
            let fields: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
            get_with(&fields)
        })
        .collect();
    all_are(MALFORMED, &heads);
}

/// Towards an app that has no use for it; with a path it is malformed (RFC 9113, section 8.5).
#[test]
fn connect_is_refused() {
    const CONNECT: Field<'_> = (":method", "CONNECT");
    all_are(
        Verdict::Status(405),
        &[vec![CONNECT, AUTHORITY], vec![CONNECT, (":authority", "a:80")]],
    );
    all_are(BAD_REQUEST, &[vec![CONNECT]]);
    all_are(
        MALFORMED,
        &[
            vec![CONNECT, SCHEME, PATH, AUTHORITY],
            vec![CONNECT, SCHEME, PATH, AUTHORITY, (":protocol", "websocket")],
        ],
    );
}

/// Begins a POST with such a length, sends the pieces, and ends it; what came of it here and at the app.
fn post(length: &str, pieces: &[&str]) -> (Verdict, String) {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = RawH2::connect(sidecar.inbound());
    let head = [(":method", "POST"), SCHEME, PATH, AUTHORITY, ("content-length", length)];
    client.headers(&head, false);
    let mut origin = app.accept();
    origin.read_head();
    let (last, others) = pieces.split_last().unwrap();
    for piece in others {
        client.data(piece.as_bytes(), false);
    }
    client.data(last.as_bytes(), true);
    let verdict = client.verdict();
    (verdict, String::from_utf8(origin.read_to_end()).unwrap())
}

#[test]
fn a_body_shorter_than_its_length_never_ends() {
    for pieces in [&["hi"][..], &["h", "i"], &[""]] {
        let (verdict, arrived) = post("5", pieces);
        assert_eq!(verdict, MALFORMED, "{pieces:?}");
        assert!(arrived.len() < 5, "{arrived}");
    }
}

#[test]
fn what_is_beyond_a_body_s_length_does_not_arrive() {
    for pieces in [
        &["GET /hidden HTTP/1.1\r\n\r\n"][..],
        &["hel", "GET /hidden HTTP/1.1\r\n\r\n"],
    ] {
        let (verdict, arrived) = post("5", pieces);
        assert_eq!(verdict, MALFORMED, "{pieces:?}");
        assert!("hel".starts_with(&arrived), "{arrived}");
    }
}

/// What an HTTP/2 app answers, and how an HTTP/1 client sees it. The answer's status is 200, but for fields that say otherwise.
fn answered(fields: &[Field<'_>], trailers: Option<&[Field<'_>]>) -> (u16, String) {
    let app = App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address())).start();
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te, close\r\n\r\n");
    let mut origin = RawH2::accept(&app);
    origin.headers(fields, false);
    if let Some(trailers) = trailers {
        origin.headers(trailers, true);
    } else {
        origin.data(b"", true);
    }
    let answer = client.read_answer_to_head();
    let rest = String::from_utf8(client.read_to_end()).unwrap();
    (answer.status, answer.head + &rest)
}

#[test]
fn responses_that_are_malformed_are_not_passed_on() {
    let status = |status| vec![(":status", status)];
    let ok_with = |fields: &[Field<'static>]| [&[(":status", "200")], fields].concat();
    for head in [
        status(""),
        status("20"),
        status("2000"),
        status("099"),
        status("200 OK\r\nSet-Cookie: b=c"),
        // Its client would take what follows for another protocol (RFC 9113, section 8.6).
        status("101"),
        vec![("x", "y")],
        ok_with(&[(":status", "200")]),
        ok_with(&[("X-Upper", "y")]),
        ok_with(&[("x", "a\r\nSet-Cookie: b=c")]),
        ok_with(&[("x", "a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")]),
        ok_with(&[("x\r\nset-cookie", "b=c")]),
        ok_with(&[("transfer-encoding", "chunked")]),
        ok_with(&[("connection", "close")]),
        ok_with(&[("upgrade", "websocket")]),
        ok_with(&[("content-length", "")]),
        ok_with(&[("content-length", ""), ("content-length", "0")]),
        ok_with(&[("content-length", "0"), ("content-length", "2")]),
        ok_with(&[("content-length", "+0")]),
    ] {
        println!("{head:?}");
        let (status, answer) = answered(&head, None);
        assert_eq!(status, 502, "{head:?}");
        assert!(!answer.to_lowercase().contains("set-cookie"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

#[test]
fn malformed_trailers_end_no_response() {
    for trailer in [
        ("x", "y\r\nSet-Cookie: b=c"),
        ("x", "y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("x\r\nset-cookie", "b=c"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
    ] {
        let (status, answer) = answered(&[(":status", "200")], Some(&[trailer]));
        assert_eq!(status, 200, "{trailer:?}");
        assert!(
            answer.ends_with("\r\n\r\n") && !answer.ends_with("0\r\n\r\n"),
            "{answer}"
        );
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{answer}");
    }
}

/// A length promised in vain: the client can tell by the close.
#[test]
fn a_response_shorter_than_its_length_is_cut() {
    let (status, answer) = answered(&[(":status", "200"), ("content-length", "5")], None);
    assert_eq!(status, 200);
    assert!(
        answer.contains("Content-Length: 5\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}
