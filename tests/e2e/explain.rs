//! What the sidecar tells of exchanges: in words, without secrets, within bounds, and only to who may know.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Answer, App, GET, H2Client, OK, PATIENCE, Peer, Process, Setup, Sidecar, nobody, wait};

/// What is remembered whatever becomes of it.
const ALL: &str = "explain: { sample: 1 }";
/// The same, told to who asks from this machine.
const TOLD: &str = "explain: { sample: 1, header: { allow: [127.0.0.1] } }";

fn ask(admin: SocketAddr, target: &str) -> Answer {
    let mut peer = Peer::connect(admin);
    peer.send(format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    ));
    peer.read_answer()
}

fn send(sidecar: SocketAddr, request: &str) -> Answer {
    let mut client = Peer::connect(sidecar);
    client.send(request);
    client.read_answer()
}

/// The exchanges that are remembered, once there are so many: they are told of after their end.
fn remembered(sidecar: &Sidecar, query: &str, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = ask(sidecar.admin(), &format!("/requests{query}"));
        assert_eq!(told.status, 200, "{}", told.text());
        let told = told.json();
        let requests = told["requests"].as_array().unwrap();
        if requests.len() >= count {
            return requests.clone();
        }
        assert!(Instant::now() < deadline, "not {count}: {told}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// All there is of the newest of so many.
fn explained(sidecar: &Sidecar, count: usize) -> Value {
    let newest = &remembered(sidecar, "", count)[0];
    let told = ask(
        sidecar.admin(),
        &format!("/requests/{}", newest["id"].as_str().unwrap()),
    );
    assert_eq!(told.status, 200);
    told.json()
}

fn words(told: &Value) -> Vec<String> {
    let entries = told["ledger"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            format!(
                "{}: {}",
                entry["filter"].as_str().unwrap(),
                entry["words"].as_str().unwrap()
            )
        })
        .collect()
}

fn phases(told: &Value) -> Vec<&str> {
    let phases = told["phases"].as_array().unwrap().iter();
    phases.map(|phase| phase["name"].as_str().unwrap()).collect()
}

#[test]
fn an_app_that_is_down() {
    let app = nobody();
    let sidecar = Setup::before(format!("http://{app}"))
        .filters("retry: { enabled: true, backoff: { base: 0ms, max: 0ms } }")
        .start();
    assert_eq!(send(sidecar.inbound(), GET).status, 502);
    let told = explained(&sidecar, 1);
    let refused = format!("the connection to {app} was refused, or nobody could be reached there");
    assert_eq!(told["summary"], format!("engine: {refused}"));
    assert_eq!(
        (&told["kept_because"], &told["end"]),
        (&"error".into(), &"failed".into())
    );
    assert_eq!(
        (&told["status"], &told["failure"]),
        (&502.into(), &"connect_failed".into())
    );
    assert_eq!(
        words(&told),
        [
            "retry: tried again: no connection was open".to_owned(),
            "retry: given up: 2 tries were made, and `attempts` allows no more".to_owned(),
            format!("engine: {refused}"),
        ]
    );
    let attempts = told["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["words"], refused);
    assert_eq!(phases(&told), ["queue", "connect", "body"]);
}

#[test]
fn an_app_that_is_too_slow_and_a_post_that_is_not_repeated() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .with("timeouts: { first_byte: 50ms }")
        .filters("retry: { enabled: true, 'on': [timeout] }")
        .start();
    let mut client = sidecar.connect();
    client.send("POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let mut served = app.accept();
    served.read_until("hi");
    assert_eq!(client.read_answer().status, 504);
    let told = explained(&sidecar, 1);
    let name = app.address();
    assert_eq!(
        words(&told),
        [
            "retry: not tried again: POST is not safe to repeat".to_owned(),
            format!("engine: {name} did not answer within 50ms (`timeouts.first_byte`)"),
        ]
    );
    assert_eq!(phases(&told), ["queue", "connect", "first_byte", "body"]);
    assert!(told["phases"][2]["duration_ms"].as_f64().unwrap() >= 45.0, "{told}");
    assert_eq!(told["request_bytes"], 2);
}

#[test]
fn a_miss_then_a_hit() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .filters("cache: { enabled: true }")
        .with(ALL)
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut served = app.accept();
    served.read_head();
    served.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=300\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.read_answer().status, 200);
    let told = explained(&sidecar, 1);
    assert_eq!(told["summary"], "cache: miss, stored for 5m");
    assert_eq!(words(&told), ["cache: miss", "cache: stored for 5m"]);
    assert_eq!(phases(&told), ["queue", "connect", "first_byte", "body"]);
    client.send(GET);
    assert_eq!(client.read_answer().status, 200);
    let told = explained(&sidecar, 2);
    let said = told["summary"].as_str().unwrap();
    assert!(said.starts_with("cache: hit, ") && said.ends_with(" more"), "{said}");
    // Less than a second of its five minutes is over, unless this machine sleeps.
    assert!(said.contains(" old, fresh for 4m 59s more"), "{said}");
    assert_eq!(told["attempts"], Value::Array(Vec::new()));
    assert_eq!(phases(&told), ["queue"]);
}

#[test]
fn why_a_response_is_not_stored() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .filters("cache: { enabled: true }")
        .with(ALL)
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut served = app.accept();
    served.read_head();
    served.send("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.read_answer().status, 200);
    let told = explained(&sidecar, 1);
    assert_eq!(told["summary"], "cache: miss, not stored: the response says `no-store`");
}

#[test]
fn an_open_breaker() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .filters(
            "retry: { enabled: false }, circuit_breaker: { enabled: true, open: { for: 5m, max: 5m, jitter: 0 }, \
             failures: { consecutive: none, ratio: 0.5, min_calls: 4, window: 10s } }",
        )
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut served = app.accept();
    for call in 0..4 {
        if call > 0 {
            client.send(GET);
        }
        served.read_head();
        let status = if call < 1 { "200 OK" } else { "500 Oh" };
        served.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        client.read_answer();
    }
    client.send(GET);
    assert_eq!(client.read_answer().status, 503);
    let told = &remembered(&sidecar, "?reason=circuit_open", 1)[0];
    let said = told["summary"].as_str().unwrap();
    assert!(said.starts_with("circuit_breaker: refused: open since "), "{said}");
    assert!(said.ends_with(", 3 of 4 calls failed"), "{said}");
    // The moment is one of the last: the same minute as that of the exchange, or the one before.
    let clock = said.split("since ").nth(1).unwrap();
    let seconds = |text: &str| -> i64 {
        let parts: Vec<i64> = text.split(':').map(|part| part[..2].parse().unwrap()).collect();
        parts[0] * 3600 + parts[1] * 60 + parts[2]
    };
    let at = told["at"].as_str().unwrap().split('T').nth(1).unwrap();
    let ago = (seconds(at) - seconds(clock)).rem_euclid(86_400);
    assert!((0..=60).contains(&ago), "{said} at {at}");
}

/// How long an app takes that is slow.
const SLOW: Duration = Duration::from_millis(30);

#[test]
fn what_is_slow_is_remembered_but_not_a_stream_of_events_for_being_long() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with("explain: { slow: 20ms, sample: 0 }").start();
    let mut client = sidecar.connect();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut served = app.accept();
    served.read_head();
    served.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4\r\n\r\na");
    client.read_until("\r\n\r\na");
    assert!(client.is_silent_for(SLOW));
    served.send("bcd");
    client.read_until("bcd");
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    served.read_head();
    assert!(client.is_silent_for(SLOW));
    served.send(OK);
    client.read_answer();
    let slow = remembered(&sidecar, "", 1);
    assert_eq!(slow.len(), 1, "{slow:?}");
    assert_eq!(
        (&slow[0]["target"], &slow[0]["kept_because"]),
        (&"/slow".into(), &"slow".into())
    );
    assert_eq!(remembered(&sidecar, "?min_duration=30ms", 1).len(), 1);
    assert_eq!(remembered(&sidecar, "?min_duration=1h", 0).len(), 0);
}

#[test]
fn what_is_remembered_outlives_a_reload_that_changes_what_is() {
    let setup = || Setup::before(format!("http://{}", nobody())).filters("limits: { body: 1B }");
    let yaml = |settings: &str| setup().with(settings).yaml();
    let mut process = Process::run(&yaml("explain: { sample: 0 }"));
    let inbound = process.inbound();
    assert_eq!(send(inbound, "GET /before HTTP/1.1\r\nHost: a\r\n\r\n").status, 502);
    // No error, so it is not remembered yet.
    let refused = "POST /asked HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(send(inbound, refused).status, 413);
    process.configure(&yaml("explain: { sample: 1 }"));
    assert_eq!(process.reload().status, 200);
    assert_eq!(send(inbound, refused).status, 413);
    let deadline = Instant::now() + PATIENCE;
    let targets = loop {
        let told = ask(process.admin(), "/requests").json();
        let requests = told["requests"].as_array().unwrap().iter();
        let targets: Vec<String> = requests.map(|one| one["target"].as_str().unwrap().to_owned()).collect();
        if targets.len() == 2 {
            break targets;
        }
        assert!(Instant::now() < deadline, "{told}");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(targets, ["/asked", "/before"]);
    process.configure(&yaml("explain: { enabled: false }"));
    assert_eq!(process.reload().status, 200);
    assert_eq!(ask(process.admin(), "/requests").json()["kept"], 0);
}

#[test]
fn a_refusal_says_which_limit() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).filters("limits: { body: 4B }").with(ALL).start();
    let answer = send(
        sidecar.inbound(),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(answer.status, 413);
    let told = explained(&sidecar, 1);
    assert_eq!(
        told["summary"],
        "limits: refused: the request body is larger than `body` (4B)"
    );
}

#[test]
fn what_is_no_request_is_explained_too() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).with(ALL).start();
    assert_eq!(send(sidecar.inbound(), "GET / HTTP/1.1\nHost: a\r\n\r\n").status, 400);
    let told = explained(&sidecar, 1);
    assert_eq!(
        told["summary"],
        "engine: the request is not valid HTTP: a line that ends with LF alone"
    );
}

#[test]
fn no_secret_is_remembered() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .with("explain: { sample: 1, show_query: [page], show_headers: [x-session-kind] }")
        .start();
    let mut client = sidecar.connect();
    client.send(
        "GET /a?page=2&token=hush HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer hush\r\nCookie: s=hush\r\nX-Api-Key: hush\r\n\
         Referer: http://me:hush@a/?t=hush\r\nX-Session-Kind: guest\r\nUser-Agent: test\r\n\r\n",
    );
    let mut served = app.accept();
    served.read_head();
    served.send(OK);
    client.read_answer();
    let told = explained(&sidecar, 1);
    assert!(!told.to_string().contains("hush"), "{told}");
    assert_eq!(told["target"], "/a?page=2&token=[redacted]");
    let headers = told["request_headers"].as_array().unwrap();
    let field = |name: &str| {
        headers
            .iter()
            .find(|field| field[0] == name)
            .map(|field| field[1].clone())
    };
    assert_eq!(field("authorization"), Some("[redacted]".into()));
    assert_eq!(field("x-session-kind"), Some("guest".into()));
    assert_eq!(field("user-agent"), Some("test".into()));
}

#[test]
fn a_flood_is_remembered_within_bounds() {
    let sidecar = Setup::before(format!("http://{}", nobody()))
        .with("explain: { memory: 64KiB }")
        .filters("retry: { enabled: false }")
        .start();
    let mut client = sidecar.connect();
    for number in 0..300 {
        let filler = "x".repeat(900);
        client.send(format!("GET /{number}?{filler}= HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.read_answer().status, 502);
    }
    remembered(&sidecar, "", 1);
    let told = ask(sidecar.admin(), "/requests?limit=500").json();
    assert_eq!(
        (&told["recorded"], &told["capacity_bytes"]),
        (&300.into(), &(64 * 1024).into())
    );
    assert!(told["bytes"].as_u64().unwrap() <= 32 * 1024, "{}", told["bytes"]);
    let requests = told["requests"].as_array().unwrap();
    assert!((5..40).contains(&requests.len()), "{}", requests.len());
    assert!(requests[0]["target"].as_str().unwrap().starts_with("/299?"));
    let gone = ask(sidecar.admin(), "/requests/1");
    assert_eq!(gone.status, 404);
    assert!(
        gone.text().starts_with("no request of that id is remembered"),
        "{}",
        gone.text()
    );
}

#[test]
fn a_query_that_makes_no_sense_is_refused() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    for (query, said) in [
        ("?rout=a", "unknown field `rout`"),
        (
            "?status=teapot",
            "`status` is `teapot`: expected a status such as `404`, or a class such as `5xx`",
        ),
        ("?limit=501", "`limit` is 501: expected a number from 1 to 500"),
        ("?limit=-1", "limit"),
        (
            "?min_duration=5",
            "`min_duration` is `5`: expected a duration such as 5m",
        ),
        ("?direction=up", "direction"),
        ("?trace=abc", "`trace` is no trace id: expected 32 hexadecimal digits"),
    ] {
        let answer = ask(sidecar.admin(), &format!("/requests{query}"));
        assert_eq!(answer.status, 422, "{query}");
        assert!(answer.text().contains(said), "{query}: {}", answer.text());
    }
    assert_eq!(ask(sidecar.admin(), "/requests/zz").status, 404);
}

/// A request that asks for its explanation.
const ASKING: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Pillion-Explain: 1\r\n\r\n";

#[test]
fn who_may_ask_gets_the_explanation_on_the_response() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .filters("cache: { enabled: true }")
        .with(TOLD)
        .start();
    let mut client = sidecar.connect();
    client.send(ASKING);
    let mut served = app.accept();
    let head = served.read_head();
    assert!(!head.to_lowercase().contains("x-pillion-explain"), "{head}");
    served.send(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=300\r\nX-Pillion-Explain: the app's\r\nContent-Length: 0\r\n\r\n",
    );
    let answer = client.read_answer();
    let told = answer.field("x-pillion-explain").unwrap();
    let start = format!(
        "\"route unmatched\", \"upstream app\", \"try 1 to {}: answered 200 after ",
        app.address()
    );
    assert!(told.starts_with(&start), "{told}");
    assert!(
        told.contains("\"cache: miss\", \"cache: stored for 5m\", \"head after "),
        "{told}"
    );
    assert_eq!(answer.field("vary"), Some("X-Pillion-Explain"));
    // A hit has its own, and who does not ask has none.
    client.send(ASKING);
    let answer = client.read_answer();
    let told = answer.field("x-pillion-explain").unwrap();
    assert!(told.contains("\"cache: hit, ") && !told.contains("try 1"), "{told}");
    client.send(GET);
    assert_eq!(client.read_answer().field("x-pillion-explain"), None);
}

#[test]
fn errors_are_explained_on_the_response_too() {
    let app = nobody();
    let sidecar = Setup::before(format!("http://{app}"))
        .filters("retry: { enabled: false }")
        .with(TOLD)
        .start();
    let answer = send(sidecar.inbound(), ASKING);
    assert_eq!(answer.status, 502);
    let told = answer.field("x-pillion-explain").unwrap();
    let said = format!("\"engine: the connection to {app} was refused, or nobody could be reached there\"");
    assert!(told.contains(&said), "{told}");
    let mut client = H2Client::connect(sidecar.inbound());
    let request = http::Request::get("http://a/")
        .header("x-pillion-explain", "1")
        .body(())
        .unwrap();
    let (response, _) = client.send(request, true);
    let response = wait(response).unwrap();
    assert!(
        response.headers()["x-pillion-explain"]
            .to_str()
            .unwrap()
            .contains(&said)
    );
}

#[test]
fn who_may_not_ask_is_told_nothing() {
    let app = App::listen();
    // Somebody else may.
    let elsewhere = "explain: { header: { allow: [192.0.2.0/24] } }";
    let sidecar = Sidecar::setup(&app).with(elsewhere).start();
    let mut client = sidecar.connect();
    for claim in ["", "X-Forwarded-For: 192.0.2.1\r\n"] {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{claim}X-Pillion-Explain: 1\r\n\r\n"
        ));
        let mut served = app.accept();
        let head = served.read_head();
        assert!(!head.to_lowercase().contains("x-pillion-explain"), "{head}");
        served
            .send("HTTP/1.1 200 OK\r\nX-Pillion-Explain: the app's\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_answer().field("x-pillion-explain"), None);
    }
}

#[test]
fn where_nobody_may_ask_the_header_is_one_like_any_other() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(ASKING);
    let mut served = app.accept();
    let head = served.read_head();
    assert!(head.to_lowercase().contains("x-pillion-explain: 1"), "{head}");
    served.send(OK);
    assert_eq!(client.read_answer().field("x-pillion-explain"), None);
}

#[test]
fn a_second_try_beside_the_first_is_explained() {
    let (slow, quick) = (App::listen(), App::listen());
    let upstreams = format!(
        "upstreams: {{ both: {{ endpoints: ['http://{}', 'http://{}'], balance: {{ algorithm: round_robin }} }} }}",
        slow.address(),
        quick.address()
    );
    let sidecar = Sidecar::setup(&slow)
        .filters("retry: { enabled: true, hedge: { enabled: true, after: 20ms } }")
        .with(&upstreams)
        .with("routes: [{ match: { path: '/*' }, name: all, upstream: both }]")
        .with(TOLD)
        .start();
    let mut client = sidecar.connect();
    client.send(ASKING);
    // Whichever is asked first never answers.
    let deadline = Instant::now() + PATIENCE;
    let (mut first, other) = loop {
        if let Some(first) = slow.try_accept() {
            break (first, &quick);
        }
        if let Some(first) = quick.try_accept() {
            break (first, &slow);
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    };
    first.read_head();
    let mut second = other.accept();
    second.read_head();
    second.send(OK);
    let answer = client.read_answer();
    let told = answer.field("x-pillion-explain").unwrap();
    assert!(
        told.contains("\"engine: a second try was made beside the first, which had no answer after 2"),
        "{told}"
    );
    assert!(told.contains("\"engine: the second try was answered first\""), "{told}");
    let full = explained(&sidecar, 1);
    let results: Vec<_> = full["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["words"].clone())
        .collect();
    assert_eq!(results, ["given up", "answered 200"]);
    assert_eq!(phases(&full), ["queue", "connect", "first_byte", "body"]);
}
