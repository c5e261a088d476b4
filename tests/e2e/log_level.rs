//! The sidecar's own log, more or less of it while it runs.

use crate::support::{App, GET, OK, Peer, Process, Sidecar};

/// A request that is too little to be one, of which `debug` tells.
fn mistake(sidecar: &mut Process) {
    let mut client = Peer::connect(sidecar.inbound());
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nno frames at all, whatever else it may be");
    client.read_to_end();
}

/// Whether the log tells of it, by a line that comes later in any case.
fn is_told(sidecar: &mut Process) -> bool {
    let before = sidecar.said.len();
    mistake(sidecar);
    assert_eq!(sidecar.reload().status, 200);
    sidecar.await_log("configuration reloaded");
    sidecar.said[before..].contains("DEBUG")
}

#[test]
fn a_level_is_chosen_and_taken_back() {
    let app = App::listen();
    let mut sidecar = Process::run(&Sidecar::setup(&app).yaml());
    assert!(!is_told(&mut sidecar));
    let chosen = sidecar.tell("PUT /log", r#"{"level":"debug"}"#);
    assert_eq!(chosen.json()["level"], "debug");
    assert_eq!(chosen.json()["configured"], "info");
    assert_eq!(chosen.json()["until"], serde_json::Value::Null);
    assert!(is_told(&mut sidecar));
    assert_eq!(sidecar.ask("DELETE /log").json()["level"], "info");
    assert!(!is_told(&mut sidecar));
    let parts = sidecar.tell("PUT /log", r#"{"level":"pillion::listener=debug"}"#);
    assert_eq!(parts.json()["level"], "pillion::listener=debug");
    assert!(is_told(&mut sidecar));
    let wrong = sidecar.tell("PUT /log", r#"{"level":"debgu"}"#);
    assert_eq!(
        (wrong.status, wrong.text().contains("`debug`")),
        (422, true),
        "{}",
        wrong.text()
    );
    sidecar.stop();
}

#[test]
fn a_level_for_a_time_is_over_by_itself() {
    let app = App::listen();
    let mut sidecar = Process::run(&Sidecar::setup(&app).yaml());
    sidecar.inbound();
    let chosen = sidecar.tell("PUT /log", r#"{"level":"debug","ttl":"100ms"}"#);
    assert!(chosen.json()["until"].as_str().unwrap().ends_with('Z'));
    sidecar.await_log("the log level is what it was again");
    assert_eq!(sidecar.ask("GET /log").json()["level"], "info");
    assert!(!is_told(&mut sidecar));
    sidecar.stop();
}

#[test]
fn a_level_in_the_configuration_takes_effect_at_a_reload() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run_without_rust_log(&yaml);
    assert!(!is_told(&mut sidecar));
    sidecar.configure(&format!("{yaml}log: {{ level: debug }}\n"));
    assert_eq!(sidecar.reload().status, 200);
    sidecar.await_log("configuration reloaded");
    assert!(is_told(&mut sidecar));
    assert_eq!(sidecar.ask("GET /log").json()["configured"], "debug");
    sidecar.configure(&yaml);
    assert_eq!(sidecar.reload().status, 200);
    sidecar.await_log("configuration reloaded");
    assert!(!is_told(&mut sidecar));
    let mut client = Peer::connect(sidecar.inbound());
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    sidecar.stop();
}

#[test]
fn the_environment_wins_over_a_reload_and_that_is_said() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    sidecar.inbound();
    sidecar.configure(&format!("{yaml}log: {{ level: debug }}\n"));
    assert_eq!(sidecar.reload().status, 200);
    sidecar.await_log("RUST_LOG is set, which wins over it");
    let told = sidecar.ask("GET /log").json();
    assert_eq!(
        (&told["level"], &told["rust_log"], &told["configured"]),
        (&"info".into(), &"info".into(), &"debug".into())
    );
    assert!(!is_told(&mut sidecar));
    sidecar.stop();
}
