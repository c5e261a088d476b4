//! Listeners that come, move and go with a reload.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::frames::{RawH2, Verdict};
use crate::support::{App, GET, H2Client, OK, PATIENCE, Peer, Process, Setup, Sidecar, answering, ask, collect, wait};

/// The configuration without the line that begins with that key.
fn without(yaml: &str, key: &str) -> String {
    let others = |line: &&str| !line.starts_with(&format!("{key}:"));
    yaml.split_inclusive('\n').filter(others).collect()
}

/// The configuration with another address for that.
fn at(yaml: &str, key: &str, address: impl std::fmt::Display) -> String {
    let lines = yaml.split_inclusive('\n').map(|line| {
        let (before, rest) = line.split_once("listen: '").unwrap_or((line, ""));
        match rest.split_once('\'') {
            Some((_, after)) if line.starts_with(&format!("{key}:")) => format!("{before}listen: '{address}'{after}"),
            _ => line.to_owned(),
        }
    });
    lines.collect()
}

fn request(app: &App) -> String {
    format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.address())
}

/// A request of that client reaches the app, and its connection stays.
fn is_served(client: &mut Peer, app: &App) {
    client.send(request(app));
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let answer = client.read_answer();
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.field("connection"), None);
}

/// A new connection reaches the app.
fn serves(listener: SocketAddr, app: &App) {
    is_served(&mut Peer::connect(listener), app);
}

/// Waits until nobody listens there any more. Connections that are made until then are closed at once.
fn await_refusal(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "{address} is listened on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn states(sidecar: &Process, direction: &str) -> Vec<String> {
    let connections = sidecar.ask("GET /connections").json();
    let listeners = connections["listeners"].as_array().unwrap().iter();
    let of_direction = listeners.filter(|one| one["direction"] == direction);
    of_direction
        .map(|one| one["state"].as_str().unwrap().to_owned())
        .collect()
}

fn await_states(sidecar: &Process, direction: &str, states_wanted: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while states(sidecar, direction) != states_wanted {
        assert!(Instant::now() < deadline, "{:?}", states(sidecar, direction));
    }
}

fn reload(sidecar: &Process, yaml: &str) {
    sidecar.configure(yaml);
    let answer = sidecar.reload();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_side_that_is_added_is_served_at_once() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&without(&yaml, "outbound"));
    let inbound = sidecar.inbound();
    let mut client = Peer::connect(inbound);
    is_served(&mut client, &app);
    reload(&sidecar, &yaml);
    serves(sidecar.bound("outbound"), &app);
    is_served(&mut client, &app);
    sidecar.stop();
}

#[test]
fn a_listener_that_moves_leaves_its_connections_alone() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    let (inbound, outbound) = (sidecar.inbound(), sidecar.outbound());
    let (mut idle, mut new, mut asks) = (Peer::connect(inbound), Peer::connect(inbound), Peer::connect(inbound));
    is_served(&mut idle, &app);
    let mut streams = H2Client::connect(inbound);
    let under_way = streams.get("/");
    let mut origin = app.accept();
    origin.read_head();
    asks.send(GET);
    let mut other = app.accept();
    other.read_head();
    reload(&sidecar, &at(&yaml, "inbound", "127.0.0.2:0"));
    let moved = sidecar.bound("inbound");
    assert_eq!(moved.ip().to_string(), "127.0.0.2");
    await_refusal(inbound);
    serves(moved, &app);
    is_served(&mut idle, &app);
    is_served(&mut new, &app);
    serves(outbound, &app);
    origin.send(OK);
    assert_eq!(wait(collect(under_way)).unwrap().body, b"ok");
    other.send(OK);
    let answer = asks.read_answer();
    assert_eq!((&*answer.text(), answer.field("connection")), ("ok", None));
    let again = streams.get("/");
    other.read_head();
    other.send(OK);
    assert_eq!(wait(collect(again)).unwrap().body, b"ok");
    assert_eq!(states(&sidecar, "inbound"), ["open"]);
    sidecar.stop();
}

#[test]
fn an_address_that_is_spelled_in_another_way_keeps_its_sockets() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    for spelled in [
        "127.0.0.1:0".to_owned(),
        inbound.to_string(),
        format!("localhost:{}", inbound.port()),
    ] {
        reload(&sidecar, &at(&yaml, "inbound", &spelled));
        assert_eq!(sidecar.bound("inbound"), inbound, "{spelled}");
        assert_eq!(states(&sidecar, "inbound"), ["open"]);
        serves(inbound, &app);
    }
    sidecar.stop();
}

#[test]
fn two_listeners_can_swap_their_addresses() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml().replace("workers: 1", "workers: 2");
    let mut sidecar = Process::run(&yaml);
    let (inbound, outbound) = (sidecar.inbound(), sidecar.outbound());
    let mut client = Peer::connect(inbound);
    is_served(&mut client, &app);
    reload(&sidecar, &at(&at(&yaml, "inbound", outbound), "outbound", inbound));
    assert_eq!(
        (sidecar.bound("inbound"), sidecar.bound("outbound")),
        (outbound, inbound)
    );
    await_states(&sidecar, "inbound", &["open"]);
    await_states(&sidecar, "outbound", &["open"]);
    // What names another host reaches the app all the same, but only inbound.
    let elsewhere = "GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n";
    for _ in 0..8 {
        let mut inner = Peer::connect(outbound);
        inner.send(elsewhere);
        let mut origin = app.accept();
        origin.read_head();
        origin.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        assert_eq!(inner.read_answer().text(), "ok");
        let mut outer = Peer::connect(inbound);
        outer.send(elsewhere);
        assert_eq!(outer.read_answer().status, 502);
    }
    // One from before is inbound still.
    is_served(&mut client, &app);
    sidecar.stop();
}

#[test]
fn an_address_may_grow_wider_and_narrower() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let mut client = Peer::connect(inbound);
    is_served(&mut client, &app);
    let other = SocketAddr::from(([127, 0, 0, 3], inbound.port()));
    reload(&sidecar, &at(&yaml, "inbound", format!("0.0.0.0:{}", inbound.port())));
    await_states(&sidecar, "inbound", &["open"]);
    serves(other, &app);
    serves(inbound, &app);
    reload(&sidecar, &at(&yaml, "inbound", inbound));
    await_refusal(other);
    serves(inbound, &app);
    is_served(&mut client, &app);
    sidecar.stop();
}

#[test]
fn connections_of_a_side_that_is_removed_are_led_out() {
    for key in ["inbound", "outbound"] {
        let app = App::listen();
        let yaml = Sidecar::setup(&app).grace("1m").yaml();
        let mut sidecar = Process::run(&yaml);
        sidecar.inbound();
        let address = sidecar.bound(key);
        let (mut idle, mut begun) = (Peer::connect(address), Peer::connect(address));
        is_served(&mut idle, &app);
        begun.send("GET / HTTP/1.1\r\n");
        let mut asks = Peer::connect(address);
        asks.send(request(&app));
        let mut origin = app.accept();
        origin.read_head();
        reload(&sidecar, &without(&yaml, key));
        idle.expect_closed();
        await_refusal(address);
        assert_eq!(states(&sidecar, key), ["leaving"]);
        // What comes only now goes where it would have gone before.
        begun.send(format!("Host: {}\r\n\r\n", app.address()));
        let mut late = app.accept();
        late.read_head();
        for (mut origin, mut client) in [(origin, asks), (late, begun)] {
            origin.send(OK);
            let answer = client.read_answer();
            assert_eq!((&*answer.text(), answer.field("connection")), ("ok", Some("close")));
            client.expect_closed();
        }
        await_states(&sidecar, key, &[]);
        assert_eq!(sidecar.ask("GET /connections").json()[key], serde_json::Value::Null);
        serves(
            sidecar.bound(if key == "inbound" { "outbound" } else { "inbound" }),
            &app,
        );
        sidecar.stop();
    }
}

#[test]
fn http_2_connections_of_a_side_that_is_removed_get_goaway() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).grace("1m").yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let mut idle = RawH2::connect(inbound);
    let mut client = RawH2::connect(inbound);
    let get = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ];
    client.headers(&get, true);
    let mut origin = app.accept();
    origin.read_head();
    sidecar.await_metric("pillion_connections_open{direction=\"inbound\"}", 2.0);
    reload(&sidecar, &without(&yaml, "inbound"));
    assert!(matches!(idle.verdict(), Verdict::GoAway(0) | Verdict::Closed));
    assert_eq!(client.verdict(), Verdict::GoAway(0));
    origin.send(OK);
    assert_eq!(client.verdict(), Verdict::Status(200));
    drop((client, idle));
    await_states(&sidecar, "inbound", &[]);
    sidecar.stop();
}

#[test]
fn what_is_left_of_a_removed_side_after_the_grace_period_is_cut() {
    let app = App::listen();
    let setup = Sidecar::setup(&app).grace("200ms").filters("access_log: {}");
    let yaml = setup.yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let mut client = Peer::connect(inbound);
    client.send("GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    let mut streams = H2Client::connect(inbound);
    let stream = streams.get("/two");
    let mut other = app.accept();
    other.read_head();
    reload(&sidecar, &without(&yaml, "inbound"));
    client.expect_closed();
    assert!(wait(collect(stream)).is_err());
    origin.expect_closed();
    other.expect_closed();
    await_states(&sidecar, "inbound", &[]);
    let written = sidecar.stop();
    for path in ["/one", "/two"] {
        let line = written.lines().find(|line| line.contains(path));
        let line: serde_json::Value = serde_json::from_str(line.expect(path)).unwrap();
        assert_eq!(line["error"], "stopped", "{line}");
    }
}

#[test]
fn an_address_in_use_is_refused_with_its_place_and_nothing_has_changed() {
    let (app, taken) = (App::listen(), App::listen());
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let before = ["inbound", "outbound", "admin"].map(|key| sidecar.bound(key));
    let mut client = Peer::connect(inbound);
    is_served(&mut client, &app);
    for key in ["inbound", "outbound", "admin"] {
        // Another one moves too, or would have.
        let other = if key == "inbound" { "outbound" } else { "inbound" };
        sidecar.configure(&at(&at(&yaml, key, taken.address()), other, "127.0.0.2:0"));
        let answer = sidecar.reload();
        assert_eq!(answer.status, 422);
        let said = answer.text();
        let line = yaml
            .lines()
            .position(|line| line.starts_with(&format!("{key}:")))
            .unwrap()
            + 1;
        let column = yaml.lines().nth(line - 1).unwrap().find('\'').unwrap() + 1;
        let wanted = format!(
            ".yaml:{line}:{column}: {key}.listen: cannot listen on `{}`: address in use",
            taken.address()
        );
        assert!(said.ends_with(&wanted), "{said}\n{wanted}");
        assert_eq!(["inbound", "outbound", "admin"].map(|key| sidecar.bound(key)), before);
        is_served(&mut client, &app);
        serves(inbound, &app);
    }
    reload(&sidecar, &yaml);
    sidecar.stop();
}

/// The address in the last log line with that text.
fn told(sidecar: &Process, text: &str) -> SocketAddr {
    let line = sidecar.said.lines().rfind(|line| line.contains(text)).unwrap();
    let bound = line.split_once("bound=").unwrap().1;
    bound.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_admin_api_moves_and_takes_a_new_token_while_it_is_asked_to() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    sidecar.inbound();
    let (old, outbound) = (sidecar.admin(), sidecar.outbound());
    let proxied = |to: SocketAddr| {
        let mut client = Peer::connect(outbound);
        client.send(format!("GET /livez HTTP/1.1\r\nHost: {to}\r\n\r\n"));
        client.read_answer()
    };
    assert_eq!(proxied(old).status, 403);
    let secret = at(&yaml, "admin", "127.0.0.2:0").replace("admin: {", "admin: { token: first,");
    sidecar.configure(&secret);
    // On one connection that stays open.
    let mut client = Peer::connect(old);
    client.send("POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.read_answer().text(), "reloaded\n");
    client.expect_closed();
    sidecar.await_log("admin moves");
    let new = told(&sidecar, "admin moves");
    assert_eq!(new.ip().to_string(), "127.0.0.2");
    await_refusal(old);
    assert_eq!(ask(new, "GET /config", "", "").status, 401);
    let with = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ask(new, "GET /config", &with("first"), "").status, 200);
    assert_eq!(proxied(new).status, 403);
    // Where it was, anybody may listen.
    assert_eq!(proxied(old).status, 502);
    sidecar.configure(&secret.replace("token: first", "token: second"));
    let mut client = Peer::connect(new);
    let mut asks = |request: &str, token: &str| {
        let fields = format!("Host: localhost\r\nContent-Length: 0\r\nAuthorization: Bearer {token}");
        client.send(format!("{request} HTTP/1.1\r\n{fields}\r\n\r\n"));
        client.read_answer().status
    };
    assert_eq!(asks("POST /reload", "first"), 200);
    assert_eq!(asks("GET /config", "first"), 401);
    assert_eq!(asks("GET /config", "second"), 200);
    sidecar.signal("TERM");
    assert!(sidecar.wait().success());
}

#[test]
fn the_admin_api_can_be_turned_off_and_on() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let admin = sidecar.admin();
    reload(&sidecar, &yaml.replace("admin: {", "admin: { enabled: false,"));
    sidecar.await_log("admin is removed");
    await_refusal(admin);
    serves(inbound, &app);
    sidecar.configure(&yaml);
    sidecar.signal("HUP");
    sidecar.await_log("admin is added");
    assert_eq!(ask(told(&sidecar, "admin is added"), "GET /livez", "", "").text(), "ok");
    sidecar.signal("TERM");
    assert!(sidecar.wait().success());
}

#[test]
fn a_new_process_is_given_the_sockets_of_now() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).grace("1m").yaml();
    let mut sidecar = Process::run(&without(&yaml, "outbound"));
    sidecar.inbound();
    let moved = at(&yaml, "inbound", "127.0.0.2:0");
    reload(&sidecar, &moved);
    let (inbound, outbound) = (sidecar.bound("inbound"), sidecar.bound("outbound"));
    // It waits for nobody else to accept it.
    let old = sidecar.upgrade();
    assert_eq!((sidecar.inbound(), sidecar.outbound()), (inbound, outbound));
    serves(inbound, &app);
    serves(outbound, &app);
    sidecar.await_end(old);
    serves(inbound, &app);
    reload(&sidecar, &without(&moved, "outbound"));
    await_refusal(outbound);
    sidecar.stop();
}

#[test]
fn what_is_listened_on_stays_while_a_new_process_starts() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let config = sidecar.config_file().to_owned();
    std::fs::remove_file(&config).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&config)
            .status()
            .unwrap()
            .success()
    );
    sidecar.signal("USR2");
    sidecar.await_log("a new process starts");
    let unwritten = await_reader(&config);
    // The next to look finds a file; the one that waits does not look again.
    std::fs::remove_file(&config).unwrap();
    let moved = at(&yaml, "inbound", "127.0.0.2:0");
    std::fs::write(&config, &moved).unwrap();
    let answer = sidecar.reload();
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("a new process is starting"), "{}", answer.text());
    serves(inbound, &app);
    std::fs::write(&config, &yaml).unwrap();
    assert_eq!(sidecar.reload().status, 200);
    drop(unwritten);
    sidecar.await_log("not upgraded");
    reload(&sidecar, &moved);
    serves(sidecar.bound("inbound"), &app);
    sidecar.stop();
}

/// Opens a pipe for writing once somebody waits to read from it.
fn await_reader(pipe: &std::path::Path) -> std::fs::File {
    use rustix::fs::{Mode, OFlags};
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::open(pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
            Ok(pipe) => return pipe.into(),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Tells clients to stop also when the test fails, which would else wait for them.
struct Stop<'l>(&'l AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn no_request_is_lost_while_listeners_come_move_and_go() {
    let app = answering();
    let yaml = Setup::before(format!("http://{app}"))
        .yaml()
        .replace("workers: 1", "workers: 2");
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    // So many lines would fill the pipe that nobody reads from.
    assert_eq!(sidecar.tell("PUT /log", r#"{"level":"error"}"#).status, 200);
    let other = at(&without(&yaml, "outbound"), "inbound", "127.0.0.2:0");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                // Accepted on a listener that has moved often since.
                let mut client = Peer::connect(inbound);
                while !stop.load(Ordering::Relaxed) {
                    client.send(GET);
                    let answer = client.read_answer();
                    assert_eq!((&*answer.text(), answer.field("connection")), ("ok", None));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut open = 0;
        for round in 0..25 {
            let before = answered.load(Ordering::Relaxed);
            reload(&sidecar, &other);
            reload(&sidecar, &yaml);
            let mut new = Peer::connect(sidecar.bound("outbound"));
            new.send(format!("GET / HTTP/1.1\r\nHost: {app}\r\n\r\n"));
            assert_eq!(new.read_answer().text(), "ok");
            drop(new);
            let deadline = Instant::now() + PATIENCE;
            while answered.load(Ordering::Relaxed) == before {
                assert!(Instant::now() < deadline, "the clients are not answered");
            }
            if round == 5 {
                open = open_files(sidecar.pid());
            }
        }
        await_states(&sidecar, "inbound", &["open"]);
        await_states(&sidecar, "outbound", &["open"]);
        let now = open_files(sidecar.pid());
        assert!(now <= open + 6, "{open} files were open, and now {now}");
    });
    sidecar.stop();
}
