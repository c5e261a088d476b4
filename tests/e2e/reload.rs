//! A configuration read again while the sidecar runs.

use std::net::SocketAddr;

use crate::support::{App, OK, Peer, Process, Sidecar};

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
fn what_needs_a_restart_is_named_and_the_rest_takes_effect() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    sidecar.configure(&yaml.replace("workers: 1", "workers: 2\nlog: { format: json }"));
    assert_eq!(sidecar.reload().status, 200);
    sidecar.await_log("configuration reloaded");
    for key in ["workers", "log.format"] {
        let line = format!("changed, but takes effect only at the next start key=\"{key}\"");
        assert!(sidecar.said.contains(&line), "{}", sidecar.said);
    }
    serves(inbound, &app);
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

#[test]
fn what_is_refused_leaves_nothing_behind() {
    let app = App::listen();
    let warm = |path: &str, more: &str| {
        let cache = format!(
            "cache: {{ enabled: true, warm: {{ urls: ['http://{}{path}'] }} }}",
            app.address()
        );
        Sidecar::setup(&app).filters(&format!("{cache}{more}")).yaml()
    };
    let mut sidecar = Process::run(&Sidecar::setup(&app).filters("cache: { enabled: true }").yaml());
    sidecar.inbound();
    // One filter's settings are right, and those of another after it are wrong.
    sidecar.configure(&warm("/refused", ", compression: { levels: { gzip: 99 } }"));
    assert_eq!(sidecar.reload().status, 422);
    sidecar.configure(&warm("/taken", ""));
    assert_eq!(sidecar.reload().status, 200);
    let mut origin = app.accept();
    let head = origin.read_head();
    assert!(head.starts_with("GET /taken "), "{head}");
    origin.send(OK);
    sidecar.stop();
}
