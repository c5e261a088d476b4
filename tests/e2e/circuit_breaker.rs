//! What clients and the app see of a circuit breaker, and what operators do with it.

mod app;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

use self::app::{Mode, Moody};
use crate::support::echo::{self, Codec, Note, note};
use crate::support::{Answer, App, GET, PATIENCE, Peer, Process, Setup, Sidecar, nobody};

/// Opens for so short that a test need not wait long.
const SHORT: &str = "open: { for: 100ms, jitter: 0 }";
/// Opens for longer than any test takes.
const LONG: &str = "open: { for: 5m, max: 5m, jitter: 0 }";

fn setup(app: SocketAddr, settings: &str) -> Setup {
    setup_with(app, settings, "")
}

fn setup_with(app: SocketAddr, settings: &str, more: &str) -> Setup {
    let filters = format!("circuit_breaker: {{ enabled: true, {settings} }}{more}");
    Setup::before(format!("http://{app}")).filters(&filters)
}

fn get(sidecar: SocketAddr, target: &str) -> Answer {
    let mut client = Peer::connect(sidecar);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    client.read_answer()
}

fn admin(admin: SocketAddr, request: &str, body: &Value) -> Answer {
    let mut peer = Peer::connect(admin);
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let length = body.len();
    peer.send(format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    peer.read_answer()
}

/// The breaker of an upstream, as the admin API tells of it.
fn breaker(address: SocketAddr, upstream: &str) -> Value {
    let told = admin(address, "GET /upstreams", &Value::Null).json();
    let breakers = told["breakers"].as_array().unwrap();
    let found = breakers.iter().find(|breaker| breaker["upstream"] == upstream);
    found.unwrap_or_else(|| panic!("no {upstream} in {told}")).clone()
}

fn await_breaker(address: SocketAddr, what: &str, is: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = breaker(address, "app");
        if is(&told) {
            return;
        }
        assert!(Instant::now() < deadline, "not {what}: {told}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the interval is over: the next request is a probe.
fn await_interval(address: SocketAddr) {
    await_breaker(address, "over", |told| told["half_open_in_seconds"] == 0.0);
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.head);
    assert_eq!(answer.json()["error"], "circuit_open");
    let after: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&after), "{}", answer.head);
}

/// Fails until it is open. It stays so until somebody asks after its interval.
fn open(sidecar: &Sidecar, app: &Moody) {
    app.be(Mode::Status(500));
    for _ in 0..5 {
        assert_eq!(get(sidecar.inbound(), "/").status, 500);
    }
    assert_eq!(breaker(sidecar.admin(), "app")["state"], "open");
}

#[test]
fn it_opens_on_failures_and_answers_without_the_app() {
    let app = Moody::start();
    let sidecar = setup(app.address(), LONG).start();
    app.be(Mode::Status(500));
    for _ in 0..5 {
        assert_eq!(get(sidecar.inbound(), "/").status, 500);
    }
    for _ in 0..10 {
        let answer = get(sidecar.inbound(), "/");
        assert_refused(&answer);
        let status = answer.field("proxy-status").unwrap();
        assert!(
            status.contains("error=destination_unavailable; details=\"circuit_open\""),
            "{status}"
        );
    }
    assert_eq!(app.asked(), 5);
    let told = breaker(sidecar.admin(), "app");
    assert_eq!(told["state"], "open");
    assert_eq!(told["reason"], "5 calls failed one after another");
    assert_eq!(told["direction"], "inbound");
    let left = told["half_open_in_seconds"].as_f64().unwrap();
    assert!(left > 200.0 && left <= 300.0, "{told}");
    assert!((sidecar.metric("pillion_circuit_breaker_state") - 2.0).abs() < f64::EPSILON);
    assert!((sidecar.metric("pillion_circuit_breaker_rejected_total") - 10.0).abs() < f64::EPSILON);
}

#[test]
fn an_app_that_is_not_there_opens_it() {
    // Tries count, not requests.
    let sidecar = setup_with(nobody(), LONG, ", retry: { enabled: false }").start();
    for _ in 0..5 {
        assert_eq!(get(sidecar.inbound(), "/").status, 502);
    }
    assert_refused(&get(sidecar.inbound(), "/"));
}

#[test]
fn a_try_that_it_forbids_is_not_counted_as_made() {
    // Of two requests, the first is tried twice, and the second's first try opens it.
    let settings = format!("{LONG}, failures: {{ consecutive: 3 }}");
    let sidecar = setup_with(nobody(), &settings, ", retry: { backoff: { base: 1ms } }").start();
    for _ in 0..2 {
        assert_eq!(get(sidecar.inbound(), "/").status, 502);
    }
    assert_refused(&get(sidecar.inbound(), "/"));
    assert!((sidecar.metric("pillion_retry_attempts_total") - 1.0).abs() < 0.1);
}

#[test]
fn a_client_without_patience_does_not_close_the_app_to_others() {
    let app = App::listen();
    let sidecar = setup(app.address(), LONG).start();
    for _ in 0..10 {
        let mut client = Peer::connect(sidecar.inbound());
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Timeout-Ms: 20\r\n\r\n");
        assert_eq!(client.read_answer().status, 504);
    }
    // Those that were given up.
    while app.try_accept().is_some() {}
    let mut client = Peer::connect(sidecar.inbound());
    client.send(GET);
    let mut asked = app.accept();
    asked.read_head();
    asked.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.read_answer().status, 200);
}

#[test]
fn answers_that_are_cut_open_it() {
    let app = Moody::start();
    let sidecar = setup(app.address(), LONG).start();
    app.be(Mode::Cut);
    for _ in 0..5 {
        let mut client = sidecar.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(client.read_answer_to_head().status, 200);
        assert_eq!(client.read_to_end(), b"ok");
    }
    // A client may see the end before the breaker is told of it.
    await_breaker(sidecar.admin(), "open", |told| told["state"] == "open");
    assert_refused(&get(sidecar.inbound(), "/"));
    assert_eq!(app.asked(), 5);
}

#[test]
fn half_open_it_lets_a_few_through_while_many_ask_and_closes_when_they_went_well() {
    let app = Moody::start();
    let sidecar = setup(app.address(), SHORT).start();
    open(&sidecar, &app);
    await_interval(sidecar.admin());
    app.be(Mode::Hold);
    let before = app.asked();
    let mut clients: Vec<Peer> = (0..12).map(|_| sidecar.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    // All but three are told at once; those three wait for the app.
    app.await_asked(before + 3);
    sidecar.await_metric("pillion_circuit_breaker_rejected_total", 9.0);
    assert_eq!(app.asked(), before + 3);
    assert_eq!(breaker(sidecar.admin(), "app")["state"], "half_open");
    app.be(Mode::Status(200));
    let mut statuses: Vec<u16> = clients.iter_mut().map(|client| client.read_answer().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200; 3], vec![503; 9]].concat());
    await_breaker(sidecar.admin(), "closed", |told| told["state"] == "closed");
    for _ in 0..5 {
        assert_eq!(get(sidecar.inbound(), "/").status, 200);
    }
    assert!((sidecar.metric("pillion_circuit_breaker_state") - 0.0).abs() < f64::EPSILON);
}

#[test]
fn an_app_that_fails_for_good_sees_probes_only() {
    let app = Moody::start();
    let sidecar = setup(
        app.address(),
        "open: { for: 100ms, growth: 1.5, max: 300ms, jitter: 0.2 }",
    )
    .start();
    app.be(Mode::Status(503));
    let failed = "pillion_circuit_breaker_probes_total{direction=\"inbound\",result=\"failure\"";
    let deadline = Instant::now() + PATIENCE;
    let mut refused = 0;
    let probes = |exposition: &str| -> u64 {
        let line = exposition.lines().find(|line| line.starts_with(failed));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    };
    while probes(&sidecar.exposition()) < 4 {
        for _ in 0..25 {
            let answer = get(sidecar.inbound(), "/");
            refused += u64::from(answer.text().contains("circuit_open"));
        }
        assert!(Instant::now() < deadline, "{}", sidecar.exposition());
    }
    let probes = probes(&sidecar.exposition());
    assert_eq!(app.asked() as u64, 5 + probes);
    assert!(refused > 0, "all were probes");
}

#[test]
fn it_is_forced_by_the_admin_api() {
    let app = Moody::start();
    let sidecar = setup(app.address(), SHORT).start();
    let force = |how: &str| {
        let asked = json!({"direction": "inbound", "upstream": "app", "force": how});
        let answer = admin(sidecar.admin(), "POST /upstreams/breakers", &asked);
        assert_eq!((answer.status, answer.json()["forced"].as_u64()), (200, Some(1)));
    };
    force("open");
    assert_refused(&get(sidecar.inbound(), "/"));
    assert_eq!(app.asked(), 0);
    let told = breaker(sidecar.admin(), "app");
    assert_eq!(
        (&told["state"], &told["forced"], &told["reason"]),
        (&json!("open"), &json!(true), &json!("forced by the admin API"))
    );
    force("closed");
    app.be(Mode::Status(500));
    for _ in 0..20 {
        assert_eq!(get(sidecar.inbound(), "/").status, 500);
    }
    force("auto");
    open(&sidecar, &app);
    for (asked, status, why) in [
        (
            json!({"direction": "inbound", "upstream": "nobody", "force": "open"}),
            404,
            "no such breaker",
        ),
        (
            json!({"direction": "outbound", "upstream": "app", "force": "open"}),
            404,
            "no such breaker",
        ),
        (
            json!({"direction": "inbound", "upstream": "app", "route": "/x", "force": "open"}),
            404,
            "no such breaker",
        ),
        (
            json!({"direction": "inbound", "upstream": "app", "force": "ajar"}),
            422,
            "unknown variant `ajar`",
        ),
        (
            json!({"direction": "inbound", "upstream": "app"}),
            422,
            "missing field `force`",
        ),
        (json!({"upstreams": "app"}), 422, "unknown field `upstreams`"),
    ] {
        let answer = admin(sidecar.admin(), "POST /upstreams/breakers", &asked);
        assert_eq!(answer.status, status, "{asked}");
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    let mut page = Peer::connect(sidecar.admin());
    page.send("POST /upstreams/breakers HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(page.read_answer().status, 403);
}

#[test]
fn a_fixed_answer_stands_in() {
    let app = Moody::start();
    let fallback = "fallback: { response: { status: 200, headers: { Content-Type: application/json }, body: '[]' } }";
    let sidecar = setup(app.address(), &format!("{LONG}, {fallback}")).start();
    app.be(Mode::Status(500));
    for _ in 0..5 {
        assert_eq!(get(sidecar.inbound(), "/").status, 500);
    }
    let answer = get(sidecar.inbound(), "/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "[]"));
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let mut client = sidecar.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_answer_to_head().status, 200);
    assert!(client.read_to_end().is_empty());
    assert_eq!(app.asked(), 5);
}

#[test]
fn a_stale_answer_of_the_cache_stands_in_unless_it_forbids_that() {
    let app = Moody::start();
    let cache = ", cache: { enabled: true, stale_if_error: none }";
    let sidecar = setup_with(app.address(), &format!("{LONG}, fallback: stale"), cache).start();
    let store = |target: &str, control: &str| {
        app.be(Mode::Says(format!("Cache-Control: {control}\r\nETag: \"a\"\r\n")));
        let answer = get(sidecar.inbound(), target);
        let status = answer.field("cache-status").unwrap();
        assert!(status.contains("stored"), "{status}");
    };
    store("/may", "max-age=0");
    store("/must", "max-age=0, must-revalidate");
    app.be(Mode::Status(500));
    for _ in 0..5 {
        assert_eq!(get(sidecar.inbound(), "/other").status, 500);
    }
    let asked = app.asked();
    let answer = get(sidecar.inbound(), "/may");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    let status = answer.field("cache-status").unwrap();
    assert!(
        status.contains("fwd=stale; fwd-status=503; detail=stale_accepted"),
        "{status}"
    );
    assert!(answer.field("age").is_some());
    for target in ["/must", "/never"] {
        assert_refused(&get(sidecar.inbound(), target));
    }
    assert_eq!(app.asked(), asked);
}

#[test]
fn another_upstream_stands_in() {
    let (app, other) = (Moody::start(), Moody::start());
    let sidecar = setup(app.address(), &format!("{LONG}, fallback: {{ upstream: other }}"))
        .with(&format!(
            "upstreams: {{ other: {{ endpoints: ['http://{}'] }} }}",
            other.address()
        ))
        .start();
    app.be(Mode::Status(500));
    for _ in 0..5 {
        assert_eq!(get(sidecar.inbound(), "/").status, 500);
    }
    for _ in 0..3 {
        assert_eq!(get(sidecar.inbound(), "/").status, 200);
    }
    assert_eq!((app.asked(), other.asked()), (5, 3));
}

#[test]
fn grpc_is_judged_by_its_trailers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let test = async {
        let settings = "open: { for: 5m, max: 5m }, failures: { consecutive: 2 }, counts: ['grpc:FAILED_PRECONDITION']";
        let filters = format!("circuit_breaker: {{ enabled: true, {settings} }}");
        let setup = Setup::before(format!("h2c://{}", echo::start())).filters(&filters);
        let sidecar = setup.start();
        let endpoint = Endpoint::from_shared(format!("http://{}", sidecar.inbound())).unwrap();
        let mut client = Grpc::new(endpoint.connect().await.unwrap());
        let path = PathAndQuery::from_static("/e2e.Echo/ServerStreaming");
        for asked in ["refuse", "fine", "refuse", "refuse"] {
            client.ready().await.unwrap();
            let request = Request::new(note(asked));
            let answer = client.server_streaming(request, path.clone(), Codec::default()).await;
            let notes: Vec<Result<Note, _>> = answer.unwrap().into_inner().collect().await;
            assert_eq!(notes.len(), if asked == "refuse" { 4 } else { 3 }, "{asked}");
        }
        let admin = sidecar.admin();
        let opened = move || await_breaker(admin, "open", |told| told["state"] == "open");
        tokio::task::spawn_blocking(opened).await.unwrap();
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/e2e.Echo/Unary");
        let answer = client.unary(Request::new(note("hello")), path, Codec::default()).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    };
    let within = async { tokio::time::timeout(PATIENCE, test).await };
    runtime.block_on(within).expect("it did not happen in time");
}

#[test]
fn a_reload_keeps_the_state() {
    let app = Moody::start();
    let mut sidecar = Process::run(&setup(app.address(), LONG).yaml());
    let inbound = sidecar.inbound();
    app.be(Mode::Status(500));
    for _ in 0..5 {
        assert_eq!(get(inbound, "/").status, 500);
    }
    sidecar.await_log("open: 5 calls failed one after another");
    let other = format!("{LONG}, failures: {{ consecutive: 50, window: 1m }}");
    sidecar.configure(&setup(app.address(), &other).yaml());
    assert_eq!(sidecar.reload().status, 200);
    assert_refused(&get(inbound, "/"));
    // Off, it lets everything through, and is forgotten once nobody needs it any more.
    let off = Setup::before(format!("http://{}", app.address()));
    sidecar.configure(&off.yaml());
    assert_eq!(sidecar.reload().status, 200);
    assert_eq!(get(inbound, "/").status, 500);
    sidecar.stop();
}

#[test]
fn each_host_the_app_asks_has_its_own() {
    let (bad, good) = (Moody::start(), Moody::start());
    bad.be(Mode::Status(500));
    let sidecar = setup(nobody(), LONG).start();
    let ask = |app: &Moody| {
        let mut client = sidecar.connect_out();
        client.send(format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", app.address()));
        client.read_answer()
    };
    for _ in 0..5 {
        assert_eq!(ask(&bad).status, 500);
        assert_eq!(ask(&good).status, 200);
    }
    assert_refused(&ask(&bad));
    assert_eq!(ask(&good).status, 200);
    let told = breaker(sidecar.admin(), &bad.address().to_string());
    assert_eq!(
        (&told["state"], &told["is_host"], &told["direction"]),
        (&json!("open"), &json!(true), &json!("outbound"))
    );
    assert_eq!(breaker(sidecar.admin(), &good.address().to_string())["state"], "closed");
    let exposition = sidecar.exposition();
    let is_scraped = |app: &Moody| exposition.contains(&format!("upstream=\"{}\"", app.address()));
    assert!(is_scraped(&bad) && !is_scraped(&good), "{exposition}");
}
