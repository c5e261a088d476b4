//! A sidecar that is taken out of service by its operator, and put back.

use crate::support::frames::{RawH2, Verdict};
use crate::support::{App, GET, H2Client, OK, Peer, Process, Sidecar, collect, wait};

/// What a client is told of its connection.
fn exchange(client: &mut Peer, app: &App) -> Option<String> {
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let answer = client.read_answer();
    assert_eq!(answer.text(), "ok");
    answer.field("connection").map(str::to_owned)
}

#[test]
fn clients_are_sent_away_one_answer_at_a_time_while_new_ones_are_served() {
    let app = App::listen();
    let mut sidecar = Process::run(&Sidecar::setup(&app).yaml());
    let inbound = sidecar.inbound();
    let (mut first, mut second) = (Peer::connect(inbound), Peer::connect(inbound));
    assert_eq!(exchange(&mut first, &app), None);
    assert_eq!(exchange(&mut second, &app), None);
    assert_eq!(sidecar.ask("GET /drain").text(), r#"{"draining":false}"#);
    assert_eq!(
        sidecar.tell("POST /drain", r#"{"drain":true}"#).text(),
        r#"{"draining":true}"#
    );
    assert_eq!(sidecar.ask("GET /drain").text(), r#"{"draining":true}"#);
    let ready = sidecar.ask("GET /readyz");
    // It has asked the app, too.
    drop(app.accept());
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["checks"]["listening"], "ok");
    assert_eq!(
        ready.json()["checks"]["drain"],
        "the sidecar is being taken out of service"
    );
    // One that waits for a request is not closed before it has had its answer.
    assert_eq!(exchange(&mut first, &app).as_deref(), Some("close"));
    first.expect_closed();
    let mut new = Peer::connect(inbound);
    assert_eq!(exchange(&mut new, &app).as_deref(), Some("close"));
    new.expect_closed();
    assert_eq!(
        sidecar.tell("POST /drain", r#"{"drain":false}"#).text(),
        r#"{"draining":false}"#
    );
    assert_eq!(sidecar.ask("GET /readyz").status, 200);
    drop(app.accept());
    assert_eq!(exchange(&mut second, &app), None);
    assert_eq!(exchange(&mut Peer::connect(inbound), &app), None);
    sidecar.stop();
}

#[test]
fn http_2_connections_get_goaway_and_new_ones_serve_what_they_came_for() {
    let app = App::listen();
    let mut sidecar = Process::run(&Sidecar::setup(&app).yaml());
    let inbound = sidecar.inbound();
    let get = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ];
    let mut before = RawH2::connect(inbound);
    before.headers(&get, true);
    let mut origin = app.accept();
    origin.read_head();
    assert_eq!(sidecar.tell("POST /drain", r#"{"drain":true}"#).status, 200);
    assert_eq!(before.verdict(), Verdict::GoAway(0));
    origin.send(OK);
    assert_eq!(before.verdict(), Verdict::Status(200));
    let mut new = RawH2::connect(inbound);
    new.headers(&get, true);
    origin.read_head();
    assert_eq!(new.verdict(), Verdict::GoAway(0));
    origin.send(OK);
    assert_eq!(new.verdict(), Verdict::Status(200));
    assert_eq!(sidecar.tell("POST /drain", r#"{"drain":false}"#).status, 200);
    let mut normal = H2Client::connect(inbound);
    for _ in 0..2 {
        let response = normal.get("/");
        origin.read_head();
        origin.send(OK);
        assert_eq!(wait(collect(response)).unwrap().body, b"ok");
    }
    sidecar.stop();
}

#[test]
fn a_side_that_a_reload_adds_drains_as_well() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let without: String = yaml
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("outbound:"))
        .collect();
    let mut sidecar = Process::run(&without);
    sidecar.inbound();
    assert_eq!(sidecar.tell("POST /drain", r#"{"drain":true}"#).status, 200);
    sidecar.configure(&yaml);
    assert_eq!(sidecar.reload().status, 200);
    let mut client = Peer::connect(sidecar.bound("outbound"));
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.address()));
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().field("connection"), Some("close"));
    sidecar.stop();
}
