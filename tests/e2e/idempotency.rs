//! Requests repeated with an `Idempotency-Key`: what the app sees of them, and what clients get.

mod http2;
mod store;
mod upstream;

use crate::support::{Answer, App, Peer, Process, Setup, Sidecar};

/// An app's answer that shows that it was the first.
const PAID: &str = "HTTP/1.1 201 Created\r\nLocation: /payments/1\r\nSet-Cookie: a=1\r\nContent-Length: 4\r\n\r\npaid";

/// A request to pay, with that key and body.
fn pay(key: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /pay HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn setup(app: &App, settings: &str) -> Setup {
    Setup::before(format!("http://{}", app.address())).filters(&format!("idempotency: {{ enabled: true, {settings} }}"))
}

fn sidecar(app: &App, settings: &str) -> Sidecar {
    setup(app, settings).start()
}

/// The app reads a request with that body, whole.
fn read(app: &App, body: &str) -> (Peer, String) {
    let mut origin = app.accept();
    let head = origin.read_head();
    assert_eq!(origin.read_exactly(body.len()), body.as_bytes());
    (origin, head)
}

fn ask(sidecar: &Sidecar, request: &str) -> Answer {
    let mut client = sidecar.connect();
    client.send(request);
    client.read_answer()
}

/// The same answer, after which the app closes.
fn closing(answer: &str) -> String {
    answer.replace("Content-Length", "Connection: close\r\nContent-Length")
}

fn error(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap().to_owned())
}

#[test]
fn a_repeat_gets_the_first_answer_and_the_app_nothing() {
    let app = App::listen();
    let sidecar = sidecar(&app, "");
    let mut client = sidecar.connect();
    client.send(pay("\"k\"", "7 euro"));
    let (mut origin, head) = read(&app, "7 euro");
    assert!(head.contains("Idempotency-Key: \"k\""), "{head}");
    origin.send(PAID);
    let first = client.read_answer();
    assert_eq!(first.field("idempotent-replayed"), None);
    // On the same connection, and on another; quoted and bare.
    client.send(pay("k", "7 euro"));
    for again in [client.read_answer(), ask(&sidecar, &pay("\"k\"", "7 euro"))] {
        assert_eq!((again.status, again.text()), (201, "paid".to_owned()));
        assert_eq!(again.field("idempotent-replayed"), Some("true"));
        for name in ["location", "set-cookie", "via", "content-length"] {
            assert_eq!(again.field(name), first.field(name), "{name}");
        }
        assert!(again.field("date").is_some());
        assert_ne!(again.field("x-request-id"), first.field("x-request-id"));
    }
    assert!(app.try_accept().is_none());
}

#[test]
fn another_payload_another_caller_and_another_operation() {
    let app = App::listen();
    let sidecar = sidecar(&app, "");
    let answer = |request: &str, body: &str, said: &str| {
        let mut client = sidecar.connect();
        client.send(request);
        let (mut origin, _) = read(&app, body);
        origin.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
            said.len()
        ));
        assert_eq!(client.read_answer().text(), said);
    };
    let of = |caller: &str, path: &str| {
        pay("k", "7 euro")
            .replace("/pay", path)
            .replace("Host: a", &format!("Host: a\r\nAuthorization: Bearer {caller}"))
    };
    for (caller, path) in [("one", "/pay"), ("other", "/pay"), ("one", "/refund")] {
        answer(&of(caller, path), "7 euro", &format!("{caller}{path}"));
    }
    for (caller, path) in [("one", "/pay"), ("other", "/pay"), ("one", "/refund")] {
        assert_eq!(ask(&sidecar, &of(caller, path)).text(), format!("{caller}{path}"));
    }
    let changed = of("one", "/pay").replace("7 euro", "8 euro");
    assert_eq!(
        error(&ask(&sidecar, &changed)),
        (422, "idempotency_key_reused".to_owned())
    );
    assert!(app.try_accept().is_none());
}

#[test]
fn of_ten_at_once_the_app_sees_one() {
    let app = App::listen();
    // Those that wait are not all on the worker that asks the app.
    let yaml = setup(&app, "wait: 1m").yaml().replace("workers: 1", "workers: 2");
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let mut clients: Vec<Peer> = (0..10).map(|_| Peer::connect(inbound)).collect();
    for client in &mut clients {
        client.send(pay("k", "7 euro"));
    }
    let (mut origin, _) = read(&app, "7 euro");
    sidecar.await_metric("pillion_idempotency_waits_total", 9.0);
    origin.send(PAID);
    let answers: Vec<Answer> = clients.iter_mut().map(Peer::read_answer).collect();
    let replayed = answers
        .iter()
        .filter(|answer| answer.field("idempotent-replayed").is_some());
    assert_eq!(replayed.count(), 9);
    assert!(answers.iter().all(|answer| answer.text() == "paid"));
    assert!(app.try_accept().is_none());
    sidecar.stop();
}

#[test]
fn a_repeat_that_has_waited_long_enough_is_refused() {
    let app = App::listen();
    let sidecar = sidecar(&app, "wait: 50ms");
    let mut first = sidecar.connect();
    first.send(pay("k", "7 euro"));
    let (mut origin, _) = read(&app, "7 euro");
    let repeat = ask(&sidecar, &pay("k", "7 euro"));
    assert_eq!(error(&repeat), (409, "idempotency_in_progress".to_owned()));
    assert_eq!(repeat.field("retry-after"), Some("1"));
    origin.send(PAID);
    assert_eq!(first.read_answer().text(), "paid");
    assert_eq!(ask(&sidecar, &pay("k", "7 euro")).text(), "paid");
}

#[test]
fn who_left_before_the_answer_finds_it_later() {
    let app = App::listen();
    let sidecar = sidecar(&app, "");
    let mut client = sidecar.connect();
    client.send(pay("k", "7 euro"));
    let (mut origin, _) = read(&app, "7 euro");
    client.reset();
    // The sidecar has heard of it, and the app has not.
    let mut repeat = sidecar.connect();
    repeat.send(pay("k", "7 euro"));
    sidecar.await_metric("pillion_idempotency_waits_total", 1.0);
    origin.send(PAID);
    let answer = repeat.read_answer();
    assert_eq!(answer.text(), "paid");
    assert_eq!(answer.field("idempotent-replayed"), Some("true"));
    assert!(app.try_accept().is_none());
}

#[test]
fn who_left_in_the_middle_of_the_answer_finds_it_later() {
    let app = App::listen();
    let sidecar = sidecar(&app, "");
    let mut client = sidecar.connect();
    client.send(pay("k", "7 euro"));
    let (mut origin, _) = read(&app, "7 euro");
    origin.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    client.read_until("half\r\n");
    client.reset();
    let mut repeat = sidecar.connect();
    repeat.send(pay("k", "7 euro"));
    sidecar.await_metric("pillion_idempotency_waits_total", 1.0);
    origin.send("5\r\n more\r\n0\r\n\r\n");
    assert_eq!(repeat.read_answer().text(), "half more");
}

#[test]
fn after_an_app_that_died_a_repeat_is_not_tried() {
    let app = App::listen();
    let sidecar = sidecar(&app, "");
    for (key, beginning) in [
        ("before", ""),
        ("within", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
    ] {
        let mut client = sidecar.connect();
        client.send(pay(key, "7 euro"));
        let (mut origin, _) = read(&app, "7 euro");
        origin.send(beginning);
        if beginning.is_empty() {
            origin.reset();
            assert_eq!(error(&client.read_answer()), (502, "upstream_closed".to_owned()));
        } else {
            client.read_until("half");
            origin.reset();
            client.expect_closed();
        }
        let repeat = ask(&sidecar, &pay(key, "7 euro"));
        assert_eq!(error(&repeat), (409, "idempotency_outcome_unknown".to_owned()));
    }
    assert!(app.try_accept().is_none());
    let lost = r#"{direction="inbound",outcome="lost",route="unmatched",service="e2e"}"#;
    sidecar.await_metric(&format!("pillion_idempotency_outcomes_total{lost}"), 2.0);
}

#[test]
fn after_an_app_that_died_a_repeat_is_tried_where_that_is_allowed() {
    let app = App::listen();
    let sidecar = sidecar(&app, "unknown: retry, settle: 50ms");
    let mut client = sidecar.connect();
    client.send(pay("k", "7 euro"));
    read(&app, "7 euro").0.reset();
    assert_eq!(client.read_answer().status, 502);
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    let mut client = sidecar.connect();
    let (mut origin, _) = loop {
        client.send(pay("k", "7 euro"));
        if client.is_silent_for(std::time::Duration::from_millis(20)) {
            break read(&app, "7 euro");
        }
        let refused = client.read_answer();
        assert_eq!(error(&refused), (409, "idempotency_outcome_unknown".to_owned()));
        assert_eq!(refused.field("retry-after"), Some("1"));
        assert!(std::time::Instant::now() < deadline, "it is never tried");
    };
    origin.send(PAID);
    assert_eq!(client.read_answer().text(), "paid");
}

#[test]
fn an_app_that_was_not_there_is_asked_by_the_repeat() {
    let app = App::listen();
    let nobody = crate::support::nobody();
    let setup = |address| Setup::before(format!("http://{address}")).filters("idempotency: { enabled: true }");
    let sidecar = setup(nobody).start();
    for _ in 0..2 {
        let answer = ask(&sidecar, &pay("k", "7 euro"));
        assert_eq!(error(&answer), (502, "connect_failed".to_owned()));
    }
    // One that says itself that it has not acted.
    let sidecar = setup(app.address()).start();
    for answer in ["HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", PAID] {
        let mut client = sidecar.connect();
        client.send(pay("k", "7 euro"));
        let mut origin = app.accept();
        origin.read_until("7 euro");
        origin.send(closing(answer));
        client.read_answer();
    }
    assert_eq!(ask(&sidecar, &pay("k", "7 euro")).text(), "paid");
}

#[test]
fn keys_are_wanted_and_read() {
    let app = App::listen();
    let sidecar = sidecar(&app, "required: true");
    let without = "POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        error(&ask(&sidecar, without)),
        (400, "idempotency_key_missing".to_owned())
    );
    for key in ["a b", "\"a", &"x".repeat(257), "a\r\nIdempotency-Key: b"] {
        let answer = ask(&sidecar, &pay(key, ""));
        assert_eq!(error(&answer), (400, "idempotency_key_malformed".to_owned()), "{key}");
    }
    assert!(app.try_accept().is_none());
}

#[test]
fn bodies_too_large_to_compare_pass_and_answers_too_large_to_keep_do_too() {
    let app = App::listen();
    let sidecar = sidecar(&app, "max_body: 10, max_response: 10");
    let large = "x".repeat(100_000);
    for _ in 0..2 {
        let mut client = sidecar.connect();
        client.send(pay("large", &large));
        let (mut origin, _) = read(&app, &large);
        origin.send(closing(PAID));
        assert_eq!(client.read_answer().text(), "paid");
    }
    let mut client = sidecar.connect();
    client.send(pay("k", "7 euro"));
    let (mut origin, _) = read(&app, "7 euro");
    let length = large.len();
    origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{large}"));
    assert_eq!(client.read_answer().body.len(), length);
    let repeat = ask(&sidecar, &pay("k", "7 euro"));
    assert_eq!(error(&repeat), (409, "idempotency_outcome_unknown".to_owned()));
    // What is known was asked with less.
    let other = ask(&sidecar, &pay("k", &large));
    assert_eq!(error(&other), (422, "idempotency_key_reused".to_owned()));
}

#[test]
fn a_client_that_waits_for_a_word_is_told_to_go_on() {
    let app = App::listen();
    let sidecar = sidecar(&app, "");
    let mut client = sidecar.connect();
    let request = pay("k", "").replace("Content-Length: 0", "Content-Length: 6\r\nExpect: 100-continue");
    client.send(&request);
    assert!(client.read_head().contains(" 100 "));
    client.send("7 euro");
    let (mut origin, _) = read(&app, "7 euro");
    origin.send(PAID);
    assert_eq!(client.read_answer().text(), "paid");
}
