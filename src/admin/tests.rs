//! The admin API over a socket, before a source that is made up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

#[derive(Default)]
struct Fake {
    app_is_down: bool,
    stops: bool,
    drains: AtomicBool,
    level: Mutex<Option<(String, Option<Duration>)>>,
    reloads: Mutex<Vec<Result<(), String>>>,
}

impl AdminSource for Fake {
    fn ready(&self) -> BoxFuture<'_, Readiness> {
        let app = if self.app_is_down {
            Err("connection refused".to_owned())
        } else {
            Ok(())
        };
        std::future::ready(Readiness(vec![("listening", Ok(())), ("app", app)])).boxed()
    }
    fn config_yaml(&self) -> String {
        "service: test\n".to_owned()
    }
    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }
    fn config_values(&self) -> Value {
        json!({})
    }
    fn note(&self, _: &str) {}
    fn config_history(&self) -> Value {
        json!({})
    }
    fn filters(&self) -> Value {
        json!({})
    }
    fn filter(&self, name: &str) -> Option<Value> {
        (name == "cache").then(|| json!({ "name": name }))
    }
    fn change_filter(&self, change: FilterChange) -> Result<Value, ChangeError> {
        Ok(json!({ "changed": format!("{change:?}") }))
    }
    fn restore_filter(&self, restore: FilterRestore) -> Result<Value, ChangeError> {
        Err(ChangeError::Unknown(format!("nothing lies over `{}`", restore.filter)))
    }
    fn caches(&self) -> Vec<(Direction, String, Arc<Cache>)> {
        Vec::new()
    }
    fn breakers(&self) -> Vec<(Direction, String, Arc<Breakers>)> {
        Vec::new()
    }
    fn upstreams(&self) -> Vec<Value> {
        Vec::new()
    }
    fn standing(&self) -> Standing {
        Standing::default()
    }
    fn families(&self) -> Vec<MetricFamily> {
        Vec::new()
    }
    fn peers(&self) -> Vec<AdminPeer> {
        Vec::new()
    }
    fn recorder(&self) -> (Arc<Recorder>, Option<TraceUrl>) {
        (Arc::new(Recorder::new(&pillion_filters::Registry::builtin())), None)
    }
    fn is_draining(&self) -> bool {
        self.drains.load(Ordering::Relaxed)
    }
    fn drain(&self, drain: bool) -> bool {
        self.drains.store(drain, Ordering::Relaxed);
        !self.stops
    }
    fn connections(&self) -> BoxFuture<'_, Value> {
        std::future::ready(json!({ "listeners": [] })).boxed()
    }
    fn log_level(&self) -> Value {
        json!({ "level": format!("{:?}", self.level.lock().unwrap()) })
    }
    fn choose_log_level(&self, level: &str, ttl: Option<Duration>) -> Result<(), String> {
        *self.level.lock().unwrap() = Some((level.to_owned(), ttl));
        if level == "loud" {
            Err("no level".to_owned())
        } else {
            Ok(())
        }
    }
    fn reset_log_level(&self) {
        *self.level.lock().unwrap() = None;
    }
    fn reload(&self) -> Result<(), String> {
        self.reloads.lock().unwrap().pop().unwrap_or(Ok(()))
    }
}

/// Sends one request, `{host}` standing for the listener's own address, and gives back the whole answer.
async fn ask(source: Fake, token: Option<&str>, request: &str) -> String {
    ask_with(source, token, request, "").await
}

/// The same with a body.
async fn ask_with(source: Fake, token: Option<&str>, request: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(
        listener,
        Token::new(token.map(str::to_owned)),
        Arc::new(source),
        stopped.map(drop),
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = request.replace("{host}", &address.to_string()).replace('\n', "\r\n");
    let request = format!("{request}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    drop(stop);
    server.await.unwrap().unwrap();
    answer
}

#[track_caller]
fn assert_answer(answer: &str, status: u16, body: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, body, "{answer}");
    assert!(answer.contains("cache-control: no-store"), "{answer}");
    assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
}

#[test]
fn all_there_is_to_ask_is_in_the_document() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let source = include_str!("../admin.rs");
    let routes = source
        .split(".route(")
        .skip(1)
        .map(|rest| rest.split('"').nth(1).unwrap());
    let known: Vec<&str> = routes.collect();
    assert!(known.len() > 20);
    for path in known {
        assert!(
            document["paths"][path].is_object(),
            "{path} is not in admin/openapi.json"
        );
    }
}

#[tokio::test]
async fn it_is_alive() {
    let answer = ask(Fake::default(), None, "GET /livez HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 200, "ok");
}

#[tokio::test]
async fn ready_names_each_check() {
    let request = "GET /readyz HTTP/1.1\nHost: {host}";
    let body = |answer: &str| serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let answer = ask(Fake::default(), None, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(
        body(&answer),
        json!({ "ready": true, "checks": { "listening": "ok", "app": "ok" } })
    );
    let down = Fake {
        app_is_down: true,
        ..Fake::default()
    };
    let answer = ask(down, None, request).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(body(&answer)["checks"]["app"], "connection refused");
    assert_eq!(body(&answer)["ready"], false);
}

#[tokio::test]
async fn metrics_and_config_are_texts() {
    let answer = ask(Fake::default(), None, "GET /metrics HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 200, "up 1\n");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    let answer = ask(Fake::default(), None, "GET /config HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 200, "service: test\n");
    assert!(answer.contains("content-type: application/yaml"), "{answer}");
}

#[tokio::test]
async fn a_reload_works_or_says_why_not() {
    let request = "POST /reload HTTP/1.1\nHost: {host}\nContent-Length: 0";
    assert_answer(&ask(Fake::default(), None, request).await, 200, "reloaded\n");
    let bad = Fake {
        reloads: Mutex::new(vec![Err("a.yaml:3:1: unknown key".to_owned())]),
        ..Fake::default()
    };
    assert_answer(&ask(bad, None, request).await, 422, "a.yaml:3:1: unknown key");
    let answer = ask(Fake::default(), None, "GET /reload HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 405, "");
}

#[tokio::test]
async fn what_is_not_there_is_neither_shown_nor_forced() {
    let answer = ask(Fake::default(), None, "GET /upstreams HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 200, r#"{"upstreams":[],"breakers":[]}"#);
    let answer = ask(Fake::default(), None, "GET /upstreams/breakers HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 405, "");
    let body = r#"{"direction":"inbound","upstream":"app","force":"open"}"#;
    let fields = format!("Content-Type: application/json\nContent-Length: {}", body.len());
    let request = format!("POST /upstreams/breakers HTTP/1.1\nHost: {{host}}\n{fields}");
    let answer = ask_with(Fake::default(), None, &request, body).await;
    assert_answer(&answer, 404, "there is no such breaker\n");
}

/// What a request with that body is answered, as JSON if it is 200.
async fn change(source: Fake, request: &str, body: &str) -> (u16, String) {
    let fields = format!(
        "Host: {{host}}\nContent-Type: application/json\nContent-Length: {}",
        body.len()
    );
    let answer = ask_with(source, None, &format!("{request} HTTP/1.1\n{fields}"), body).await;
    let status = answer[9..12].parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn a_drain_is_begun_and_ended_unless_the_sidecar_stops() {
    for (body, status, said) in [
        (r#"{"drain":true}"#, 200, r#"{"draining":true}"#),
        (r#"{"drain":false}"#, 200, r#"{"draining":false}"#),
        ("{}", 422, "missing field `drain`"),
        (r#"{"drain":true,"until":1}"#, 422, "unknown field `until`"),
        (r#"{"drain":"yes"}"#, 422, "invalid type"),
    ] {
        let (answered, text) = change(Fake::default(), "POST /drain", body).await;
        assert_eq!(answered, status, "{body}: {text}");
        assert!(text.contains(said), "{body}: {text}");
    }
    let stops = Fake {
        stops: true,
        ..Fake::default()
    };
    let answered = change(stops, "POST /drain", r#"{"drain":false}"#).await;
    assert_eq!(answered, (409, "the sidecar is stopping\n".to_owned()));
    let answer = ask(Fake::default(), None, "GET /drain HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 200, r#"{"draining":false}"#);
}

#[tokio::test]
async fn a_log_level_is_chosen_for_a_time_or_refused() {
    for (body, status, said) in [
        (r#"{"level":"debug","ttl":"10m"}"#, 200, "600s"),
        (r#"{"level":"debug"}"#, 200, "None"),
        (r#"{"level":"debug","ttl":"0s"}"#, 422, "changes nothing"),
        (r#"{"level":"debug","ttl":"soon"}"#, 422, "ttl"),
        (r#"{"level":"loud"}"#, 422, "no level\n"),
        (r#"{"ttl":"10m"}"#, 422, "missing field `level`"),
        (r#"{"level":"debug","for":"10m"}"#, 422, "unknown field `for`"),
    ] {
        let (answered, text) = change(Fake::default(), "PUT /log", body).await;
        assert_eq!(answered, status, "{body}: {text}");
        assert!(text.contains(said), "{body}: {text}");
    }
    let plain = "PUT /log HTTP/1.1\nHost: {host}\nContent-Type: text/plain\nContent-Length: 2";
    let answer = ask_with(Fake::default(), None, plain, "{}").await;
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    let answer = ask(Fake::default(), None, "DELETE /log HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 200, r#"{"level":"None"}"#);
}

#[tokio::test]
async fn a_strange_web_page_can_neither_drain_nor_choose_a_level() {
    for request in ["POST /drain", "PUT /log", "DELETE /log"] {
        let request = format!("{request} HTTP/1.1\nHost: {{host}}\nOrigin: http://evil.example");
        let answer = ask(Fake::default(), None, &request).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
}

#[tokio::test]
async fn a_token_that_changes_holds_at_once_on_the_same_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let token = Token::new(Some("old".to_owned()));
    let server = tokio::spawn(serve(
        listener,
        token.clone(),
        Arc::new(Fake::default()),
        stopped.map(drop),
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    for (now, presented, status) in [("old", "old", "200"), ("new", "old", "401"), ("new", "new", "200")] {
        token.set(Some(now.to_owned()));
        let request = format!("HEAD /config HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {presented}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert_eq!(&head[9..12], status.as_bytes());
    }
    drop(stop);
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_token_is_needed_but_for_the_probes() {
    let request = |path: &str, header: &str| format!("GET {path} HTTP/1.1\nHost: {{host}}{header}");
    for (path, header, status) in [
        ("/config", "", 401),
        ("/upstreams", "", 401),
        ("/requests", "", 401),
        ("/requests/1", "", 401),
        ("/requests", "\nAuthorization: Bearer secret", 200),
        ("/metrics", "\nAuthorization: Bearer wrong", 401),
        ("/metrics", "\nAuthorization: Basic secret", 401),
        ("/metrics", "\nAuthorization: Bearer secret", 200),
        ("/stats", "", 401),
        ("/peers", "", 401),
        ("/", "", 200),
        ("/livez", "", 200),
        ("/readyz", "", 200),
    ] {
        let answer = ask(Fake::default(), Some("secret"), &request(path, header)).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path} {header}: {answer}"
        );
    }
    let answer = ask(Fake::default(), Some("secret"), "POST /reload HTTP/1.1\nHost: {host}").await;
    assert_answer(&answer, 401, "a token is needed\n");
    assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
}

#[tokio::test]
async fn a_name_that_is_not_this_machine_is_refused() {
    for host in ["evil.example", "localhost.evil.example:80"] {
        for target in ["/config", "/"] {
            let answer = ask(Fake::default(), None, &format!("GET {target} HTTP/1.1\nHost: {host}")).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        }
    }
    let answer = ask(Fake::default(), None, "GET /nothing HTTP/1.1\nHost: localhost").await;
    assert_answer(&answer, 404, "");
}

#[tokio::test]
async fn a_strange_web_page_cannot_reload() {
    for (origin, status) in [("http://evil.example", 403), ("null", 403), ("http://{host}", 200)] {
        let request = format!("POST /reload HTTP/1.1\nHost: {{host}}\nOrigin: {origin}");
        let answer = ask(Fake::default(), None, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_stalls_does_not_hold_up_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(
        listener,
        Token::default(),
        Arc::new(Fake::default()),
        stopped.map(drop),
    ));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    drop(stop);
    let ended = tokio::time::timeout(LAST_ANSWER * 10, server).await;
    ended.unwrap().unwrap().unwrap();
}
