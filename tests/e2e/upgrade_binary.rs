//! A new process in the place of a running one, and no client that notices.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Answer, App, GET, OK, PATIENCE, Peer, Process, Sidecar, answering, ask};

/// A sidecar that waits longer for what is in flight than a test does.
fn patient(app: &App) -> String {
    Sidecar::setup(app).grace("1m").yaml()
}

/// A request through a new connection reaches the app.
fn serves(listener: SocketAddr, app: &App) {
    let mut client = Peer::connect(listener);
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.address()));
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

/// Clients that ask without a pause until they are told to stop. One that is not answered fails the test.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    /// A new connection for each request.
    fn ask_anew(&self, address: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut client = Peer::connect(address);
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            self.expect_answer(&mut client);
            client.expect_closed();
        }
    }

    /// Connections are used for as long as the sidecar leaves them open.
    fn ask_again(&self, address: SocketAddr) {
        let mut client = Peer::connect(address);
        while !self.stop.load(Ordering::Relaxed) {
            client.send(GET);
            if self.expect_answer(&mut client).field("connection") == Some("close") {
                client.expect_closed();
                client = Peer::connect(address);
            }
        }
    }

    fn expect_answer(&self, client: &mut Peer) -> Answer {
        let answer = client.read_answer();
        assert_eq!(answer.text(), "ok");
        self.answered.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// Waits for that many more answers.
    fn await_more(&self, more: usize) {
        let (enough, deadline) = (self.answered.load(Ordering::Relaxed) + more, Instant::now() + PATIENCE);
        while self.answered.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "the clients are not answered");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Tells clients to stop also when the test fails, which would else wait for them.
struct Stop<'l>(&'l Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_client_notices_upgrades_with_more_and_fewer_workers() {
    let yaml = Sidecar::setup(&App::listen()).grace("1m").yaml();
    let app = answering();
    let with = |workers: usize| {
        let listen = format!("inbound: {{ listen: '127.0.0.1:0', app: 'http://{app}' }}");
        let others = yaml.lines().filter(|line| !line.starts_with("inbound:"));
        let lines: Vec<String> = others
            .map(|line| line.replace("workers: 1", &format!("workers: {workers}")))
            .collect();
        format!("{listen}\n{}\n", lines.join("\n"))
    };
    let mut sidecar = Process::run(&with(2));
    let address = sidecar.inbound();
    let load = Load::default();
    std::thread::scope(|scope| {
        let stop = Stop(&load);
        let anew = || load.ask_anew(address);
        let again = || load.ask_again(address);
        let clients = [
            scope.spawn(anew),
            scope.spawn(anew),
            scope.spawn(anew),
            scope.spawn(again),
            scope.spawn(again),
        ];
        for workers in [2, 1, 3] {
            load.await_more(100);
            sidecar.configure(&with(workers));
            let old = sidecar.upgrade();
            assert_eq!(sidecar.inbound(), address);
            load.await_more(100);
            sidecar.await_end(old);
            load.await_more(100);
        }
        drop(stop);
        for client in clients {
            client.join().unwrap();
        }
    });
    sidecar.stop();
}

#[test]
fn a_request_in_flight_finishes_at_the_old_process() {
    let app = App::listen();
    let yaml = patient(&app);
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let mut client = Peer::connect(inbound);
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    let old = sidecar.upgrade();
    serves(inbound, &app);
    serves(sidecar.outbound(), &app);
    assert!(client.is_silent_for(Duration::from_millis(100)));
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    sidecar.await_end(old);
    serves(inbound, &app);
    sidecar.stop();
}

#[test]
fn the_admin_api_speaks_for_the_new_process() {
    let app = App::listen();
    let yaml = patient(&app);
    let mut sidecar = Process::run(&yaml);
    let mut client = Peer::connect(sidecar.inbound());
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    let admin = sidecar.admin();
    sidecar.configure(&yaml.replace("service: e2e", "service: renamed"));
    let old = sidecar.upgrade();
    assert_eq!(sidecar.admin(), admin);
    // The old one is there still, and has something to do, but after a moment it accepts nothing here.
    let (deadline, mut in_a_row) = (Instant::now() + PATIENCE, 0);
    while in_a_row < 20 {
        assert!(Instant::now() < deadline, "the old process answers");
        // One that it has accepted and not read may be closed without a word.
        let mut probe = Peer::connect(admin);
        let asked = probe.try_send("GET /config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let told = String::from_utf8(probe.read_to_end()).unwrap();
        in_a_row = if asked.is_ok() && told.contains("renamed") {
            in_a_row + 1
        } else {
            0
        };
    }
    assert_eq!(ask(admin, "GET /readyz", "", "").status, 200);
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
    sidecar.await_end(old);
    sidecar.stop();
}

#[test]
fn a_bad_configuration_leaves_the_old_process_serving_until_it_is_mended() {
    let app = App::listen();
    let yaml = patient(&app);
    let mut sidecar = Process::run(&yaml);
    let (inbound, pid) = (sidecar.inbound(), sidecar.pid());
    for bad in [
        yaml.replace("app: '", "ap: '"),
        yaml.replace("'127.0.0.1:0'", "'192.0.2.1:1'"),
    ] {
        sidecar.configure(&bad);
        sidecar.signal("USR2");
        sidecar.await_log("not upgraded");
        assert_eq!(sidecar.pid(), pid);
        serves(inbound, &app);
    }
    assert!(sidecar.said.contains("`app`"), "{}", sidecar.said);
    assert!(sidecar.said.contains("192.0.2.1:1"), "{}", sidecar.said);
    sidecar.configure(&yaml);
    assert_eq!(sidecar.upgrade(), pid);
    serves(inbound, &app);
    sidecar.await_end(pid);
    sidecar.stop();
}

#[test]
fn a_stop_does_not_wait_for_a_process_that_does_not_come_up() {
    let app = App::listen();
    let mut sidecar = Process::run(&patient(&app));
    let inbound = sidecar.inbound();
    // Nobody writes into it, so whoever reads it waits for ever.
    std::fs::remove_file(sidecar.config_file()).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(sidecar.config_file())
            .status()
            .unwrap()
            .success()
    );
    sidecar.signal("USR2");
    sidecar.await_log("a new process starts");
    sidecar.signal("USR2");
    sidecar.await_log("starting already");
    serves(inbound, &app);
    sidecar.signal("TERM");
    // Until the end of the log, which the other process would keep open.
    assert!(sidecar.wait().success(), "{}", sidecar.said);
}

#[test]
fn what_has_replaced_the_program_on_disk_is_started() {
    let app = App::listen();
    let built = env!("CARGO_BIN_EXE_pillion");
    let program = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pillion-{}", std::process::id()));
    std::fs::hard_link(built, &program).unwrap();
    let mut sidecar = Process::run_program(&program, &patient(&app));
    let inbound = sidecar.inbound();
    assert_eq!(sidecar.program(), program);
    std::fs::remove_file(&program).unwrap();
    assert!(sidecar.program().to_str().unwrap().ends_with(" (deleted)"));
    sidecar.signal("USR2");
    sidecar.await_log("not upgraded");
    assert!(sidecar.said.contains(program.to_str().unwrap()), "{}", sidecar.said);
    std::fs::hard_link(built, &program).unwrap();
    let old = sidecar.upgrade();
    assert_eq!(sidecar.program(), program);
    serves(inbound, &app);
    sidecar.await_end(old);
    sidecar.stop();
    std::fs::remove_file(&program).unwrap();
}
