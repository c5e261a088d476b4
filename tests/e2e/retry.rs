//! Requests that are tried again, and those that must not be; second tries beside slow ones.

mod once;

use std::time::{Duration, Instant};

use crate::support::{Answer, App, GET, Peer, Sidecar};

// Each try on a connection of its own, so that tries are counted by connections.
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour";

/// An app, and a sidecar with these settings of `retry` before it.
struct Scene {
    app: App,
    sidecar: Sidecar,
}

impl Scene {
    fn with(settings: &str) -> Self {
        let app = App::listen();
        let sidecar = Sidecar::setup(&app)
            .filters(&format!("retry: {{ {settings} }}"))
            .start();
        Self { app, sidecar }
    }

    /// A client that sent this, and the app's side of its first try, read whole.
    fn ask(&self, request: &str) -> (Peer, Peer) {
        let mut client = self.sidecar.connect();
        client.send(request);
        (client, self.next_try(request))
    }

    /// The app's side of the next try.
    fn next_try(&self, request: &str) -> Peer {
        let mut app = self.app.accept();
        app.read_head();
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(app.read_exactly(body.len()), body.as_bytes());
        app
    }

    fn metric(&self, name: &str) -> f64 {
        self.sidecar.metric(&format!("pillion_retry_{name}"))
    }
}

/// Whether the app is asked no more.
fn is_over(scene: &Scene, answer: &Answer) -> bool {
    assert!(scene.app.try_accept().is_none());
    answer.status >= 500
}

#[test]
fn a_status_that_is_named_is_tried_again() {
    let scene = Scene::with("on: [503], backoff: { base: 1ms }");
    let (mut client, mut app) = scene.ask(GET);
    app.send(UNAVAILABLE);
    scene.next_try(GET).send(OK);
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!((scene.metric("attempts_total") - 1.0).abs() < 0.1);
    assert!((scene.metric("succeeded_total") - 1.0).abs() < 0.1);
    // One that is not named goes to the client.
    let (mut client, mut app) = scene.ask(GET);
    app.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    assert!(is_over(&scene, &client.read_answer()));
}

#[test]
fn an_answer_that_nobody_gets_costs_no_connection() {
    let scene = Scene::with("on: [503], backoff: { base: 1ms }");
    let (mut client, mut app) = scene.ask(GET);
    for _ in 0..3 {
        app.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
        app.read_head();
        app.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.read_answer().text(), "ok");
        client.send(GET);
        app.read_head();
    }
    assert!(scene.app.try_accept().is_none());
}

#[test]
fn the_last_answer_is_the_clients() {
    let scene = Scene::with("on: [503], attempts: 3, backoff: { base: 1ms }");
    let (mut client, mut app) = scene.ask(GET);
    for _ in 0..2 {
        app.send(UNAVAILABLE);
        app = scene.next_try(GET);
    }
    app.send(UNAVAILABLE);
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    assert!(is_over(&scene, &answer));
    assert!((scene.metric("denied_total") - 1.0).abs() < 0.1);
}

#[test]
fn a_post_is_tried_again_only_where_its_route_says_so() {
    let scene = Scene::with("on: [503, reset], backoff: { base: 1ms }");
    let (mut client, mut app) = scene.ask(POST);
    app.send(UNAVAILABLE);
    assert!(is_over(&scene, &client.read_answer()));
    let (mut client, app) = scene.ask(POST);
    app.reset();
    assert!(is_over(&scene, &client.read_answer()));
    let scene = Scene::with("on: [503, reset], unsafe_methods: [POST], attempts: 3, backoff: { base: 1ms }");
    let (mut client, mut app) = scene.ask(POST);
    app.send(UNAVAILABLE);
    scene.next_try(POST).reset();
    scene.next_try(POST).send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_body_is_sent_again_whole_or_not_at_all() {
    let scene = Scene::with("on: [reset], max_body: 100KB, backoff: { base: 1ms }");
    let put = |length: usize| {
        format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}",
            "x".repeat(length)
        )
    };
    let (mut client, app) = scene.ask(&put(100_000));
    app.reset();
    scene.next_try(&put(100_000)).send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    let (mut client, app) = scene.ask(&put(100_001));
    app.reset();
    assert!(is_over(&scene, &client.read_answer()));
}

#[test]
fn a_try_has_its_own_time() {
    let scene = Scene::with("on: [timeout], per_try_timeout: 200ms, attempts: 3, backoff: { base: 1ms }");
    let (mut client, mut slow) = scene.ask(GET);
    scene.next_try(GET).send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    // The one that was too slow was told so.
    slow.expect_closed();
    let (mut client, _one) = scene.ask(GET);
    let (_two, _three) = (scene.next_try(GET), scene.next_try(GET));
    let answer = client.read_answer();
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("attempt_timeout"), "{}", answer.text());
}

#[test]
fn an_app_says_when_it_wants_to_be_asked_again() {
    let said = |seconds: u32| {
        format!("HTTP/1.1 503 No\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    let scene = Scene::with("on: [503], backoff: { base: 1ms, max: 2s }");
    let (mut client, mut app) = scene.ask(GET);
    let asked = Instant::now();
    app.send(said(1));
    let mut app = scene.next_try(GET);
    assert!(asked.elapsed() >= Duration::from_secs(1));
    app.send(OK);
    assert_eq!(client.read_answer().status, 200);
    // For longer than that a client is not kept waiting.
    let (mut client, mut app) = scene.ask(GET);
    app.send(said(3));
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("3")));
    assert!(is_over(&scene, &answer));
}

#[test]
fn there_is_no_other_try_once_the_client_has_a_byte() {
    let scene = Scene::with("on: [reset, malformed, timeout, 5xx], backoff: { base: 1ms }");
    let (mut client, mut app) = scene.ask(GET);
    app.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    drop(app);
    assert_eq!(client.read_to_end(), b"half");
    assert!(scene.app.try_accept().is_none());
}

#[test]
fn however_much_fails_the_app_sees_a_share_more() {
    let scene =
        Scene::with("on: [503], attempts: 10, backoff: { base: 0s }, budget: { ratio: 0.2, min_per_second: 0 }");
    let Scene { app, sidecar } = scene;
    let served = std::thread::spawn(move || {
        let mut served = 0;
        let mut peer = app.accept();
        // Each answer closes, so that tries can be counted by connections.
        loop {
            let head = peer.read_head();
            served += 1;
            peer.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if head.contains("/last") {
                return served;
            }
            peer = app.accept();
        }
    });
    let mut client = sidecar.connect();
    for _ in 0..500 {
        client.send(GET);
        assert_eq!(client.read_answer().status, 503);
    }
    client.send("POST /last HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    client.read_answer();
    let served = served.join().unwrap();
    assert!((590..=601).contains(&served), "{served}");
}

#[test]
fn an_app_that_starts_late_is_found() {
    let (address, listen) = App::late();
    let sidecar = crate::support::Setup::before(format!("http://{address}"))
        .filters("retry: { attempts: 10, backoff: { base: 100ms, max: 400ms } }")
        .start();
    let mut client = sidecar.connect();
    client.send(POST);
    sidecar.await_metric("pillion_upstream_connect_failures_total", 1.0);
    let mut app = listen().accept();
    app.read_head();
    assert_eq!(app.read_exactly(4), b"four");
    app.send(OK);
    assert_eq!(client.read_answer().status, 200);
}

#[test]
fn a_slow_request_is_sent_once_more_and_the_first_answer_taken() {
    let scene = Scene::with("hedge: { enabled: true, after: 50ms }");
    let (mut client, mut slow) = scene.ask(GET);
    let mut fast = scene.next_try(GET);
    fast.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfast");
    assert_eq!(client.read_answer().text(), "fast");
    // The loser is given up, not waited for.
    slow.expect_closed();
    assert!((scene.metric("attempts_total") - 1.0).abs() < 0.1);
    // The first may win all the same. The winner of before serves it.
    client.send(GET);
    fast.read_head();
    let mut second = scene.next_try(GET);
    fast.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
    assert_eq!(client.read_answer().text(), "first");
    second.expect_closed();
}

#[test]
fn a_second_try_that_fails_leaves_the_first() {
    let scene = Scene::with("hedge: { enabled: true, after: 50ms }");
    let (mut client, mut slow) = scene.ask(GET);
    scene.next_try(GET).reset();
    slow.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    let (mut client, slow) = scene.ask(GET);
    let other = scene.next_try(GET);
    slow.reset();
    other.reset();
    assert!(is_over(&scene, &client.read_answer()));
}

#[test]
fn of_two_tries_the_one_that_is_good_is_taken_not_the_one_that_fails_first() {
    let scene = Scene::with("hedge: { enabled: true, after: 50ms }");
    // The second is turned away at once, by an app that has enough to do.
    let (mut client, mut slow) = scene.ask(GET);
    let mut second = scene.next_try(GET);
    second.send(UNAVAILABLE);
    assert!(client.is_silent_for(Duration::from_millis(100)));
    slow.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    // The other way about.
    let (mut client, mut slow) = scene.ask(GET);
    let mut second = scene.next_try(GET);
    slow.send(UNAVAILABLE);
    assert!(client.is_silent_for(Duration::from_millis(100)));
    second.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    // Where there is nothing better, it is the answer.
    let (mut client, slow) = scene.ask(GET);
    let mut second = scene.next_try(GET);
    second.send(UNAVAILABLE);
    slow.reset();
    assert_eq!(client.read_answer().text(), "busy");
    let (mut client, mut slow) = scene.ask(GET);
    let mut second = scene.next_try(GET);
    slow.send(UNAVAILABLE);
    second.send(UNAVAILABLE.replace("busy", "late"));
    assert_eq!(client.read_answer().text(), "busy");
    // None of them was denied another try: nobody had asked for one.
    assert!(scene.metric("denied_total") < 0.1);
}

#[test]
fn what_is_not_safe_is_not_sent_beside_itself() {
    let scene = Scene::with("hedge: { enabled: true, after: 10ms }");
    for request in [POST, "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let (mut client, mut app) = scene.ask(request);
        assert!(app.is_silent_for(Duration::from_millis(200)));
        assert!(scene.app.try_accept().is_none());
        app.send(OK);
        assert_eq!(client.read_answer().status, 200);
        drop(app);
    }
}

#[test]
fn a_client_that_leaves_ends_both_tries() {
    let scene = Scene::with("hedge: { enabled: true, after: 10ms }");
    let (client, mut one) = scene.ask(GET);
    let mut other = scene.next_try(GET);
    drop(client);
    one.expect_closed();
    other.expect_closed();
}
