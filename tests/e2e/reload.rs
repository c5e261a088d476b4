//! A configuration read again while the sidecar runs.

use std::net::SocketAddr;

use crate::support::{App, OK, Peer, Process, Sidecar};

/// The configuration without the line that begins with that key.
fn without(yaml: &str, key: &str) -> String {
    let others = |line: &&str| !line.starts_with(&format!("{key}:"));
    yaml.split_inclusive('\n').filter(others).collect()
}

/// A request through that listener reaches the app.
fn serves(listener: SocketAddr, app: &App) {
    let mut client = Peer::connect(listener);
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.address()));
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_reload_that_leaves_a_listener_with_nothing_to_do_is_refused() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    for key in ["inbound", "outbound"] {
        sidecar.configure(&without(&yaml, key));
        let answer = sidecar.reload();
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert!(answer.text().contains(&format!("`{key}` is gone")), "{}", answer.text());
        sidecar.signal("HUP");
        sidecar.await_log(&format!("`{key}` is gone"));
        // Both listeners still serve, the one that the new file knows nothing of as well.
        serves(inbound, &app);
        serves(sidecar.outbound(), &app);
    }
    sidecar.await_metric("pillion_config_reloads_total{result=\"failure\"}", 4.0);
    sidecar.configure(&yaml);
    assert_eq!(sidecar.reload().status, 200);
    sidecar.stop();
}

#[test]
fn a_listener_that_a_reload_adds_is_said_to_need_a_restart() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&without(&yaml, "outbound"));
    let inbound = sidecar.inbound();
    sidecar.configure(&yaml);
    sidecar.signal("HUP");
    sidecar.await_log("added, but listened on only after the next start");
    assert!(sidecar.said.contains("key=\"outbound\""), "{}", sidecar.said);
    serves(inbound, &app);
    // It was never listened on, so it may go again.
    sidecar.configure(&without(&yaml, "outbound"));
    assert_eq!(sidecar.reload().status, 200);
    sidecar.stop();
}

#[test]
fn what_may_be_a_mistake_is_told_at_the_start_and_at_each_reload() {
    let app = App::listen();
    let doubtful = "{ match: { path: /me }, filters: { cache: { enabled: true, ttl: 1m } } }";
    let setup = Sidecar::setup(&app);
    let yaml = setup.with(&format!("routes: [{doubtful}]\n")).yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let warning = "routes[0].filters.cache.ttl: one caller may get another's response";
    let told = |log: &str| {
        let lines = log.lines();
        lines
            .filter(|line| line.contains("WARN") && line.contains(warning))
            .count()
    };
    assert_eq!(told(&sidecar.said), 1, "{}", sidecar.said);
    assert_eq!(sidecar.reload().status, 200);
    sidecar.await_log("configuration reloaded");
    assert_eq!(told(&sidecar.said), 2, "{}", sidecar.said);
    serves(inbound, &app);
    sidecar.stop();
}
