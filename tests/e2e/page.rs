//! The page, what it draws from, and `pillion top`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Answer, App, OK, PATIENCE, Peer, Process, Setup, Sidecar, nobody};

/// What the page's own files may weigh together, as they are sent.
const MOST: usize = 100 * 1024;

fn ask(admin: SocketAddr, path: &str, fields: &str) -> Answer {
    let mut peer = Peer::connect(admin);
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
    peer.read_answer()
}

fn stats(admin: SocketAddr) -> Value {
    ask(admin, "/stats", "").json()
}

fn route<'s>(stats: &'s Value, direction: &str, name: &str) -> Option<&'s Value> {
    let routes = stats["routes"].as_array().unwrap();
    routes
        .iter()
        .find(|route| route["direction"] == direction && route["route"] == name)
}

/// One exchange of the app's with that status.
fn exchange(sidecar: &Sidecar, app: &App, target: &str, answer: &str) {
    let mut client = sidecar.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let mut origin = app.accept();
    origin.read_head();
    origin.send(answer);
    client.read_answer();
}

/// A sidecar whose admin API is set up so.
fn with_admin(setup: &Setup, admin: &str) -> Sidecar {
    Sidecar::of(&setup.yaml().replace("admin: { listen: '127.0.0.1:0' }", admin))
}

#[test]
fn the_page_is_small_and_runs_nothing_but_itself() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut left = vec!["/".to_owned()];
    let mut sizes = BTreeMap::new();
    while let Some(path) = left.pop() {
        let answer = ask(sidecar.admin(), &path, "");
        assert_eq!(answer.status, 200, "{path}");
        for (field, expected) in [
            (
                "content-security-policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                 frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            ),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.field(field), Some(expected), "{path}");
        }
        let text = answer.text();
        // What it asks for in turn: `src="…"`, `href="…"`, and imports beside the file.
        for (before, base) in [("src=\"/", "/"), ("href=\"/", "/"), ("from \"./", "")] {
            for found in text.split(before).skip(1) {
                let name = found.split('"').next().unwrap();
                let folder = if path.starts_with("/page/") { "/page/" } else { "/" };
                left.push(format!("{}{name}", if base.is_empty() { folder } else { base }));
            }
        }
        left.retain(|path| !sizes.contains_key(path));
        sizes.insert(path, text.len());
    }
    assert!(sizes.len() > 10, "{sizes:?}");
    assert!(sizes.values().sum::<usize>() < MOST, "{sizes:?}");
    assert!(
        sizes.contains_key("/page.css") && sizes.contains_key("/page/icon.svg"),
        "{sizes:?}"
    );
}

#[test]
fn the_page_needs_no_token_and_its_numbers_do() {
    let app = App::listen();
    let sidecar = with_admin(&Sidecar::setup(&app), "admin: { listen: '127.0.0.1:0', token: opener }");
    for path in ["/", "/page.css", "/page.js", "/page/api.js"] {
        let answer = ask(sidecar.admin(), path, "");
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains("opener"), "{path}");
    }
    for path in ["/stats", "/peers"] {
        assert_eq!(ask(sidecar.admin(), path, "").status, 401, "{path}");
        let shown = ask(sidecar.admin(), path, "Authorization: Bearer opener\r\n");
        assert_eq!(shown.status, 200, "{path}");
        assert!(!shown.text().contains("opener"), "{path}");
    }
}

#[test]
fn stats_count_by_direction_and_route() {
    let app = App::listen();
    let setup = Sidecar::setup(&app).with("routes: [{ match: { path: /a }, name: a }]");
    let sidecar = setup.start();
    exchange(&sidecar, &app, "/a", OK);
    exchange(&sidecar, &app, "/a", "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno");
    exchange(&sidecar, &app, "/b", OK);
    sidecar.await_metric("http_server_request_duration_seconds_count", 3.0);
    let stats = stats(sidecar.admin());
    let a = route(&stats, "inbound", "a").unwrap();
    assert_eq!((&a["requests"], &a["server_errors"]), (&2.into(), &1.into()), "{a}");
    assert_eq!(
        (&a["status"]["2xx"], &a["status"]["5xx"]),
        (&1.into(), &1.into()),
        "{a}"
    );
    assert_eq!(a["response_bytes"], 4);
    let (bounds, counts) = (stats["buckets"].as_array().unwrap(), a["buckets"].as_array().unwrap());
    assert_eq!(counts.len(), bounds.len() + 1);
    assert_eq!(counts.last().unwrap(), 2);
    assert_eq!(route(&stats, "inbound", "unmatched").unwrap()["requests"], 1);
    assert_eq!(route(&stats, "outbound", "unmatched").unwrap()["requests"], 0);
    assert_eq!((&stats["service"], &stats["generation"]), (&"e2e".into(), &1.into()));
    assert_eq!(
        (&stats["draining"], &stats["checks"]["listening"]),
        (&false.into(), &"ok".into())
    );
    assert!(stats["resident_bytes"].as_f64().unwrap() > 1e6, "{stats}");
    assert!(stats["uptime_seconds"].as_f64().unwrap() >= 0.0, "{stats}");
}

#[test]
fn a_route_without_the_metrics_filter_is_not_there() {
    let app = App::listen();
    let off = "routes: [{ match: { path: /a }, name: a, filters: { metrics: { enabled: false } } }]";
    let sidecar = Sidecar::setup(&app).with(off).start();
    exchange(&sidecar, &app, "/a", OK);
    exchange(&sidecar, &app, "/b", OK);
    sidecar.await_metric("http_server_request_duration_seconds_count", 1.0);
    let stats = stats(sidecar.admin());
    assert!(route(&stats, "inbound", "a").is_none(), "{stats}");
}

#[test]
fn peers_are_told_with_their_numbers_or_why_not() {
    let app = App::listen();
    let token = "admin: { listen: '127.0.0.1:0', token: opener }";
    let other = with_admin(&Sidecar::setup(&app), token);
    exchange(&other, &app, "/", OK);
    let counted = || {
        let stats = ask(other.admin(), "/stats", "Authorization: Bearer opener\r\n").json();
        route(&stats, "inbound", "unmatched").unwrap()["requests"] == 1
    };
    let deadline = Instant::now() + PATIENCE;
    while !counted() {
        assert!(Instant::now() < deadline, "it was not counted");
    }
    // Takes connections and says nothing.
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_kind = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!(
        "admin: {{ listen: '127.0.0.1:0', peers: [\
         {{ name: orders, url: 'http://{orders}', token: opener }}, \
         {{ name: guarded, url: 'http://{orders}', token: hunter2 }}, \
         {{ name: gone, url: 'http://{gone}' }}, \
         {{ name: slow, url: 'http://{slow}' }}, \
         {{ name: other, url: 'http://{other_kind}' }}] }}",
        orders = other.admin(),
        gone = nobody(),
        slow = slow.local_addr().unwrap(),
        other_kind = other_kind.local_addr().unwrap(),
    );
    let sidecar = with_admin(&Sidecar::setup(&app), &admin);
    let asking = std::thread::spawn({
        let admin = sidecar.admin();
        move || {
            let began = Instant::now();
            (ask(admin, "/peers", ""), began.elapsed())
        }
    });
    let mut stranger = Peer::over(other_kind.accept().unwrap().0);
    let asked = stranger.read_until("\r\n\r\n");
    assert!(asked.starts_with("GET /stats HTTP/1.1\r\n"), "{asked}");
    stranger.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
    let (answer, took) = asking.join().unwrap();
    // Beside each other, not one after the other.
    assert!(took < Duration::from_secs(3), "{took:?}");
    let text = answer.text();
    assert!(!text.contains("opener") && !text.contains("hunter2"), "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    let peers: Vec<&Value> = told["peers"].as_array().unwrap().iter().collect();
    assert_eq!(peers.len(), 6);
    assert_eq!(
        (&peers[0]["name"], &peers[0]["url"], &peers[0]["reachable"]),
        (&"e2e".into(), &Value::Null, &true.into())
    );
    assert_eq!(
        (&peers[1]["name"], &peers[1]["reachable"]),
        (&"orders".into(), &true.into()),
        "{text}"
    );
    assert_eq!(
        route(&peers[1]["stats"], "inbound", "unmatched").unwrap()["requests"],
        1
    );
    for (peer, said) in peers[2..].iter().zip([
        "another token",
        "cannot connect",
        "no answer within 1s",
        "no sidecar's numbers",
    ]) {
        assert_eq!((&peer["reachable"], &peer["stats"]), (&false.into(), &Value::Null));
        assert!(peer["error"].as_str().unwrap().contains(said), "{peer}");
    }
}

#[test]
fn many_who_look_ask_a_peer_once() {
    let app = App::listen();
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!(
        "admin: {{ listen: '127.0.0.1:0', peers: [{{ name: p, url: 'http://{}' }}] }}",
        peer.local_addr().unwrap()
    );
    let sidecar = with_admin(&Sidecar::setup(&app), &admin);
    let began = Instant::now();
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let admin = sidecar.admin();
            std::thread::spawn(move || ask(admin, "/peers", "").status)
        })
        .collect();
    let (stream, _) = peer.accept().unwrap();
    let mut stream = Peer::over(stream);
    stream.read_until("\r\n\r\n");
    stream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    for asking in asking {
        assert_eq!(asking.join().unwrap(), 200);
    }
    // What was heard is good for a second; on a machine that took longer they may ask again.
    if began.elapsed() < Duration::from_secs(1) {
        peer.set_nonblocking(true).unwrap();
        assert!(peer.accept().is_err(), "it was asked twice");
    }
}

#[test]
fn a_reload_takes_up_peers() {
    let app = App::listen();
    let yaml = Sidecar::setup(&app).yaml();
    let mut sidecar = Process::run(&yaml);
    sidecar.inbound();
    let names = |admin| {
        let told = ask(admin, "/peers", "").json();
        let peers = told["peers"].as_array().unwrap().clone();
        peers
            .iter()
            .map(|peer| peer["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(sidecar.admin()), ["e2e"]);
    let peer = format!(
        "admin: {{ listen: '127.0.0.1:0', peers: [{{ name: gone, url: 'http://{}' }}] }}",
        nobody()
    );
    sidecar.configure(&yaml.replace("admin: { listen: '127.0.0.1:0' }", &peer));
    assert_eq!(sidecar.reload().status, 200);
    // What was heard before is good for a second.
    let deadline = Instant::now() + PATIENCE;
    while names(sidecar.admin()) != ["e2e", "gone"] {
        assert!(Instant::now() < deadline, "{:?}", names(sidecar.admin()));
        std::thread::sleep(Duration::from_millis(20));
    }
    sidecar.stop();
}

/// What `pillion top` printed, and its exit code.
fn top(arguments: &[&str], token: &str) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .arg("top")
        .args(arguments)
        .env("TOP_TOKEN", token)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn top_prints_a_table_of_what_happens() {
    // Every request fails at once, which is all that the table needs.
    let sidecar = Setup::before(format!("http://{}", nobody()))
        .with("routes: [{ match: { path: /a }, name: \"a\\e[2J\" }]")
        .start();
    let url = format!("http://{}", sidecar.admin());
    let deadline = Instant::now() + PATIENCE;
    // Rates are of the time between two looks: something has to happen just then.
    loop {
        let asking = std::thread::spawn({
            let url = url.clone();
            move || top(&["--admin", &url, "--once", "--interval", "1s"], "")
        });
        while !asking.is_finished() {
            let mut client = sidecar.connect();
            client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.read_answer().status, 502);
        }
        let (code, out, err) = asking.join().unwrap();
        assert_eq!((code, &*err), (Some(0), ""));
        assert!(out.starts_with("e2e  "), "{out}");
        assert!(!out.contains('\u{1b}'), "{out}");
        let line = out
            .lines()
            .find(|line| line.contains("a\\u{1b}[2J"))
            .unwrap_or_default();
        if line.contains("100.0%!") {
            return;
        }
        assert!(Instant::now() < deadline, "{out}");
    }
}

#[test]
fn top_says_what_is_wrong() {
    let gone = format!("http://{}", nobody());
    let (code, out, err) = top(&["--admin", &gone, "--once"], "");
    assert_eq!((code, &*out), (Some(1), ""));
    assert!(err.contains(&format!("no admin API at {gone}")), "{err}");
    let app = App::listen();
    let sidecar = with_admin(&Sidecar::setup(&app), "admin: { listen: '127.0.0.1:0', token: opener }");
    let url = format!("http://{}", sidecar.admin());
    let (code, _, err) = top(&["--admin", &url, "--once"], "");
    assert_eq!(code, Some(1));
    assert!(
        err.contains("wants a token: name the environment variable that holds it with --token-env"),
        "{err}"
    );
    let asked = [
        "--admin",
        &url,
        "--once",
        "--interval",
        "100ms",
        "--token-env",
        "TOP_TOKEN",
    ];
    let (code, _, err) = top(&asked, "wrong");
    assert_eq!(code, Some(1));
    assert!(err.contains("does not take the token that TOP_TOKEN holds"), "{err}");
    assert_eq!(top(&asked, "opener").0, Some(0));
}
