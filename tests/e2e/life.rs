//! Starting and stopping.

use std::time::Duration;

use crate::support::{App, GET, H2Client, OK, PATIENCE, Peer, Process, Setup, Sidecar, collect, wait};

/// A sidecar that waits longer for what is in flight than a test does.
fn patient(app: &App) -> Setup {
    Sidecar::setup(app).grace("1m")
}

#[test]
fn a_signal_lets_what_is_in_flight_finish() {
    for signal in ["TERM", "INT"] {
        let app = App::listen();
        let mut sidecar = Process::run(&patient(&app).yaml());
        let mut client = Peer::connect(sidecar.inbound());
        client.send(GET);
        let mut origin = app.accept();
        origin.read_head();
        sidecar.signal(signal);
        sidecar.await_log("stopping");
        assert!(client.is_silent_for(Duration::from_millis(100)));
        origin.send(OK);
        assert_eq!(client.read_answer().text(), "ok");
        client.expect_closed();
        assert!(sidecar.wait().success(), "{}", sidecar.said);
    }
}

#[test]
fn what_does_not_finish_in_the_grace_period_is_cut() {
    let app = App::listen();
    let mut sidecar = Process::run(&Sidecar::setup(&app).grace("200ms").yaml());
    let mut client = Peer::connect(sidecar.inbound());
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    sidecar.signal("TERM");
    client.expect_closed();
    origin.expect_closed();
    assert!(sidecar.wait().success(), "{}", sidecar.said);
}

#[test]
fn connections_between_requests_hold_no_stop_up() {
    let app = App::listen();
    let sidecar = patient(&app).start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    client.read_answer();
    assert!(sidecar.stop() < PATIENCE);
    client.expect_closed();
    origin.expect_closed();
}

#[test]
fn connections_without_a_byte_hold_no_stop_up() {
    let app = App::listen();
    let sidecar = patient(&app).start();
    let mut client = sidecar.connect();
    sidecar.await_metric("pillion_connections_open", 1.0);
    assert!(sidecar.stop() < PATIENCE);
    client.expect_closed();
}

#[test]
fn http_2_connections_without_a_stream_hold_no_stop_up() {
    let app = App::listen();
    let sidecar = patient(&app).start();
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    wait(collect(response)).unwrap();
    assert!(sidecar.stop() < PATIENCE);
}

#[test]
fn an_http_2_stream_in_flight_finishes() {
    let app = App::listen();
    let sidecar = patient(&app).start();
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    let address = sidecar.inbound();
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| sidecar.stop());
        // It is stopping once it takes no connections.
        while std::net::TcpStream::connect(address).is_ok() {
            std::thread::yield_now();
        }
        origin.send(OK);
        assert_eq!(wait(collect(response)).unwrap().body, b"ok");
        assert!(stopping.join().unwrap() < PATIENCE);
    });
}

#[test]
fn an_answer_given_while_stopping_says_that_the_connection_ends() {
    let app = App::listen();
    let sidecar = patient(&app).start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    let address = sidecar.inbound();
    std::thread::scope(|scope| {
        scope.spawn(|| sidecar.stop());
        while std::net::TcpStream::connect(address).is_ok() {
            std::thread::yield_now();
        }
        origin.send(OK);
        let answer = client.read_answer();
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.field("connection"), Some("close"));
        client.expect_closed();
    });
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = App::listen();
    let address = taken.address().to_string();
    let yaml = Setup::before("http://127.0.0.1:1")
        .yaml()
        .replacen("127.0.0.1:0", &address, 1);
    let mut sidecar = Process::run(&yaml);
    assert_eq!(sidecar.wait().code(), Some(1));
    assert!(sidecar.said.contains(&address), "{}", sidecar.said);
    assert!(sidecar.said.contains("in use"), "{}", sidecar.said);
}

#[test]
fn two_sidecars_do_not_share_an_address() {
    let app = App::listen();
    let first = Sidecar::before(&app);
    let address = first.inbound().to_string();
    let yaml = Sidecar::setup(&app).yaml().replacen("127.0.0.1:0", &address, 1);
    let mut second = Process::run(&yaml);
    assert_eq!(second.wait().code(), Some(1));
    assert!(second.said.contains(&address), "{}", second.said);
}

#[test]
fn a_bad_configuration_is_an_error_with_its_place() {
    let mut sidecar = Process::run("service: e2e\ninbound: { listen: '127.0.0.1:0', ap: 'http://127.0.0.1:1' }\n");
    assert_eq!(sidecar.wait().code(), Some(1));
    assert!(sidecar.said.contains(".yaml:2:"), "{}", sidecar.said);
    assert!(sidecar.said.contains("`app`"), "{}", sidecar.said);
}

#[test]
fn a_restart_takes_the_same_address_at_once() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let address = sidecar.inbound().to_string();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    client.read_answer();
    sidecar.stop();
    let mut again = Process::run(&Sidecar::setup(&app).yaml().replacen("127.0.0.1:0", &address, 1));
    assert_eq!(again.inbound().to_string(), address);
    again.signal("TERM");
    assert!(again.wait().success());
}

#[test]
fn what_is_cut_when_the_grace_period_is_over_is_in_the_access_log() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).filters("access_log: {}").yaml();
    let mut sidecar = Process::run(&yaml.replace("grace_period: 2s", "grace_period: 200ms"));
    let address = sidecar.inbound();
    let mut waiting = Peer::connect(address);
    waiting.send("GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut asked = app.accept();
    asked.read_head();
    let mut switched = Peer::connect(address);
    switched.send("GET /switched HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(switched.read_answer().status, 101);
    let written = sidecar.stop();
    for path in ["/waiting", "/switched"] {
        let line = written.lines().find(|line| line.contains(path));
        let line: serde_json::Value = serde_json::from_str(line.expect(path)).unwrap();
        assert_eq!(line["error"], "stopped", "{line}");
    }
}
