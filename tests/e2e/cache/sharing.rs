//! One fetch for all who ask at once, whatever becomes of who asked first.

use std::time::Duration;

use super::scene::{Scene, response};

const FRESH: &str = "Cache-Control: max-age=600";
const LONG: usize = 900_000;

#[test]
fn followers_get_what_the_leader_is_still_receiving() {
    let scene = Scene::with("", "");
    let mut leader = scene.ask("GET /", "");
    let mut app = scene.app.accept();
    app.read_head();
    app.send(format!("HTTP/1.1 200 OK\r\n{FRESH}\r\nContent-Length: 10\r\n\r\n01234"));
    leader.read_head();
    let mut follower = scene.ask("GET /", "");
    let head = follower.read_head();
    assert!(head.contains("pillion; fwd=uri-miss; collapsed"), "{head}");
    assert_eq!(follower.read_exactly(5), b"01234");
    app.send("56789");
    assert_eq!(follower.read_exactly(5), b"56789");
    assert_eq!(leader.read_exactly(10), b"0123456789");
    assert!(scene.app.try_accept().is_none());
    scene.sidecar.await_metric(
        "pillion_cache_requests_total{direction=\"inbound\",result=\"collapsed\",route=\"unmatched\",service=\"e2e\"}",
        1.0,
    );
}

#[test]
fn a_leader_that_leaves_takes_nobody_with_it() {
    let scene = Scene::with("", "");
    let leader = scene.ask("GET /", "");
    let mut app = scene.app.accept();
    app.read_head();
    let mut follower = scene.ask("GET /", "");
    scene.sidecar.await_metric("pillion_cache_collapsed_total", 1.0);
    leader.reset();
    assert!(app.is_silent_for(Duration::from_millis(200)), "the app is still wanted");
    app.send(response(FRESH, "for all"));
    assert_eq!(follower.read_answer().text(), "for all");
    assert_eq!(scene.hit("GET /", "").text(), "for all");
}

#[test]
fn what_is_being_stored_is_stored_though_its_client_left() {
    let scene = Scene::with("", "");
    let mut leader = scene.ask("GET /", "");
    let mut app = scene.app.accept();
    app.read_head();
    app.send(format!("HTTP/1.1 200 OK\r\n{FRESH}\r\nContent-Length: 10\r\n\r\n01234"));
    leader.read_head();
    leader.reset();
    std::thread::sleep(Duration::from_millis(100));
    app.send("56789");
    scene.await_stored("/");
    assert_eq!(scene.hit("GET /", "").text(), "0123456789");
}

#[test]
fn nobody_waits_for_an_app_when_the_only_client_left() {
    let scene = Scene::with("", "");
    let leader = scene.ask("GET /", "");
    let mut app = scene.app.accept();
    app.read_head();
    leader.reset();
    app.expect_closed();
}

#[test]
fn a_slow_leader_holds_up_neither_app_nor_followers() {
    let scene = Scene::with("", "");
    let mut leader = crate::support::Peer::connect_narrow(scene.sidecar.inbound());
    super::scene::send(&mut leader, "GET /", "");
    let mut app = scene.app.accept();
    app.read_head();
    let body = "x".repeat(LONG);
    // All of it is taken although the leader reads nothing.
    app.send(response(FRESH, &body));
    let mut follower = scene.ask("GET /", "");
    assert_eq!(follower.read_answer().body.len(), LONG);
    assert_eq!(leader.read_answer().body.len(), LONG);
}

#[test]
fn the_wait_for_another_is_bounded() {
    let scene = Scene::with("collapse: { wait: 100ms }", "");
    let mut leader = scene.ask("GET /", "");
    let mut first = scene.app.accept();
    first.read_head();
    let mut follower = scene.ask("GET /", "");
    let mut second = scene.app.accept();
    second.read_head();
    second.send(response(FRESH, "second"));
    assert_eq!(follower.read_answer().text(), "second");
    first.send(response(FRESH, "first"));
    assert_eq!(leader.read_answer().text(), "first");
}

#[test]
fn an_answer_for_nobody_else_is_waited_for_once() {
    let scene = Scene::with("", "");
    let mut clients: Vec<_> = (0..5).map(|_| scene.ask("GET /", "")).collect();
    scene.sidecar.await_metric("pillion_cache_collapsed_total", 4.0);
    scene.answer("Cache-Control: private", "one");
    // The others are let go at once, all together.
    let mut apps: Vec<_> = (0..4).map(|_| scene.app.accept()).collect();
    for app in &mut apps {
        app.read_head();
    }
    for app in &mut apps {
        app.send(response("Cache-Control: private", "own"));
    }
    for client in &mut clients {
        assert_eq!(client.read_answer().status, 200);
    }
    // Those who come later do not wait either.
    let mut late: Vec<_> = (0..3).map(|_| scene.ask("GET /", "")).collect();
    let mut apps: Vec<_> = (0..3).map(|_| scene.app.accept()).collect();
    for app in &mut apps {
        app.read_head();
        app.send(response("Cache-Control: private", "own"));
    }
    for client in &mut late {
        assert_eq!(client.read_answer().status, 200);
    }
}

#[test]
fn a_purge_parts_those_who_asked_before_from_those_after() {
    let scene = Scene::with("", "");
    let mut before = scene.ask("GET /", "");
    let mut old = scene.app.accept();
    old.read_head();
    assert_eq!(
        scene.admin("POST /cache/purge", r#"{"url": "http://a.test/"}"#).status,
        200
    );
    let mut after = scene.ask("GET /", "");
    let mut new = scene.app.accept();
    new.read_head();
    old.send(response(FRESH, "old"));
    assert_eq!(before.read_answer().text(), "old");
    new.send(response(FRESH, "new"));
    assert_eq!(after.read_answer().text(), "new");
    assert_eq!(scene.hit("GET /", "").text(), "new");
}
