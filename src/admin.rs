//! The admin API: what an orchestrator probes, a scraper scrapes and a person looks at.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /livez` | 200 `ok` while the process turns |
//! | `GET /` | the page for people, with what it is made of under `/page` |
//! | `GET /readyz` | 200 when every check is passed, else 503; as JSON, by check |
//! | `GET /metrics` | Prometheus's text format |
//! | `GET /openapi.json` | all of this, for programs |
//! | `GET /config` | the configuration in force, as YAML |
//! | `GET /config/values` | the same as JSON, each value with its key and where it was written |
//! | `GET /config/history` | what was changed, from where, by whom, and what was refused; the newest first |
//! | `GET /filters`, `GET /filters/{name}` | the filters with their settings, where each is on, and what operators changed |
//! | `PATCH /filters/{name}` | turns one on or off or tunes it, for a time if it says so: `{"enabled": false, "ttl": "10m", "reason": "…"}` |
//! | `DELETE /filters/{name}` | takes that back |
//! | `GET /cache` | what the caches hold and have done, as JSON; `?top=50` for more of the most used responses |
//! | `POST /cache/purge` | forgets stored responses: `{"url": …}`, `{"prefix": …}`, `{"tag": …}` or `{"everything": true}` |
//! | `POST /cache/warm` | fetches `{"urls": […]}` |
//! | `GET /requests` | recent exchanges, as JSON, the newest first; `?route=`, `direction`, `status`, `method`, `min_duration`, `filter`, `reason`, `trace` and `limit` narrow them down |
//! | `GET /requests/{id}` | one of them: timing by phase, tries, and who decided what and why |
//! | `GET /upstreams` | upstreams with their endpoints and how each stands; circuit breakers, what they are in and why; as JSON |
//! | `POST /upstreams/breakers` | `{"direction": "inbound", "upstream": "app", "force": "open"}`: forces one `open` or `closed`, or leaves it to itself with `auto` |
//! | `GET /stats` | rate, errors and durations by route as counters, and how the process stands, as JSON |
//! | `GET /peers` | the same of this sidecar and of those that `admin.peers` names |
//! | `POST /reload` | reads the configuration again: 200, or 422 with what is wrong with it |
//!
//! Who may ask: with a token, whoever presents it as `Authorization: Bearer TOKEN`, else 401. The two probes and the page, which holds no
//! data of its own, need none. On a
//! loopback address only requests for `localhost`, `127.0.0.1` and `[::1]` are answered, else 403: a web page may give its
//! own name this machine's address and then read what it likes (DNS rebinding). A request that changes something and comes
//! from a web page must come from one of ours, else 403.
//!
//! The data path never meets any of this.

mod asked;
mod cache;
pub(crate) mod client;
mod configuration;
mod filters;
mod guard;
mod page;
mod peers;
mod requests;
pub(crate) mod stats;
mod upstreams;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, StatusCode, header};
use pillion_filters::Direction;
use pillion_filters::cache::Cache;
use pillion_filters::circuit_breaker::Breakers;
use prometheus::proto::MetricFamily;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

pub use self::filters::{ChangeError, FilterChange, FilterRestore};
use self::guard::Guard;
pub use self::stats::Standing;
use crate::config::{AdminPeer, TraceUrl};
use crate::explain::Recorder;

/// What there is to ask, for programs (`OpenAPI` 3.1).
const OPENAPI: &str = include_str!("admin/openapi.json");

/// After a shutdown, a request that is still being answered gets so long.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// What the admin API shows and does. Called on its thread, so a call may read a file, and hold up other admin requests
/// while it does.
pub trait AdminSource: Send + Sync + 'static {
    /// Whether the sidecar can serve.
    fn ready(&self) -> BoxFuture<'_, Readiness>;
    /// The configuration in force, without its secrets.
    fn config_yaml(&self) -> String;
    /// Each of its values with its origin, as JSON.
    fn config_values(&self) -> Value;
    /// What was changed and what was refused, as JSON.
    fn config_history(&self) -> Value;
    /// The filters, as JSON.
    fn filters(&self) -> Value;
    /// One of them, if there is one of that name.
    fn filter(&self, name: &str) -> Option<Value>;
    /// Changes a filter, and shows it.
    fn change_filter(&self, change: FilterChange) -> Result<Value, ChangeError>;
    /// Takes changes of a filter back, and shows it.
    fn restore_filter(&self, restore: FilterRestore) -> Result<Value, ChangeError>;
    /// All metrics in Prometheus's text format.
    fn metrics(&self) -> String;
    /// The caches, by direction and filter.
    fn caches(&self) -> Vec<(Direction, String, Arc<Cache>)>;
    /// The circuit breakers, by direction and filter.
    fn breakers(&self) -> Vec<(Direction, String, Arc<Breakers>)>;
    /// The upstreams, each as JSON.
    fn upstreams(&self) -> Vec<Value>;
    /// Who this is, and what a configuration or a signal made of it.
    fn standing(&self) -> Standing;
    /// All metrics as they are kept.
    fn families(&self) -> Vec<MetricFamily>;
    /// The sidecars that the page shows beside this one.
    fn peers(&self) -> Vec<AdminPeer>;
    /// What is remembered of exchanges, and where their traces can be looked at.
    fn recorder(&self) -> (Arc<Recorder>, Option<TraceUrl>);
    /// Reads the configuration again. The error is for the person who wrote it; then nothing has changed.
    fn reload(&self) -> Result<(), String>;
}

/// The checks that say whether the sidecar can serve, such as `listening` and `app`, each passed or why not.
#[derive(Clone, Debug, Default)]
pub struct Readiness(pub Vec<(&'static str, Result<(), String>)>);

impl Readiness {
    /// Whether every check is passed.
    pub fn is_ready(&self) -> bool {
        self.0.iter().all(|(_, check)| check.is_ok())
    }

    fn json(&self) -> Value {
        let said = |check: &Result<(), String>| match check {
            Ok(()) => "ok".into(),
            Err(why) => why.as_str().into(),
        };
        let checks: Map<_, _> = self
            .0
            .iter()
            .map(|(name, check)| ((*name).to_owned(), said(check)))
            .collect();
        json!({ "ready": self.is_ready(), "checks": checks })
    }
}

/// Answers on a listener until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    token: Option<String>,
    source: Arc<dyn AdminSource>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let guard = Guard::new(listener.local_addr()?.ip(), token);
    let shutdown = shutdown.boxed().shared();
    let server = axum::serve(listener, router(source, guard)).with_graceful_shutdown(shutdown.clone());
    tokio::select! {
        ended = server => ended,
        () = async { shutdown.await; tokio::time::sleep(LAST_ANSWER).await } => Ok(()),
    }
}

fn router(source: Arc<dyn AdminSource>, guard: Guard) -> Router {
    let guard = Arc::new(guard);
    let heard = Arc::new(peers::Heard::default());
    Router::new()
        .route("/metrics", get(metrics))
        .route("/config", get(configuration::show))
        .route("/openapi.json", get(async || typed("application/json", OPENAPI)))
        .route("/config/values", get(configuration::values))
        .route("/config/history", get(configuration::history))
        .route("/reload", post(configuration::reload))
        .route("/filters", get(filters::show))
        .route(
            "/filters/{name}",
            get(filters::show_one).patch(filters::change).delete(filters::restore),
        )
        .route("/cache", get(cache::show))
        .route("/cache/purge", post(cache::purge))
        .route("/cache/warm", post(cache::warm))
        .route("/requests", get(requests::list))
        .route("/requests/{id}", get(requests::one))
        .route("/upstreams", get(upstreams::show))
        .route("/upstreams/breakers", post(upstreams::force))
        .route("/stats", get(stats::show))
        .route(
            "/peers",
            get(async move |State(source): Source| heard.show(&*source).await),
        )
        .route_layer(from_fn_with_state(guard.clone(), guard::authorized))
        .merge(page::router())
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(readyz))
        .layer(from_fn_with_state(guard, guard::from_here))
        .layer(DefaultBodyLimit::max(asked::MAX_BODY))
        .layer(map_response(private))
        .with_state(source)
}

type Source = State<Arc<dyn AdminSource>>;

async fn readyz(State(source): Source) -> Response {
    let readiness = source.ready().await;
    let status = if readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness.json())).into_response()
}

async fn metrics(State(source): Source) -> impl IntoResponse {
    typed("text/plain; version=0.0.4; charset=utf-8", source.metrics())
}

fn typed(media: &'static str, body: impl Into<Body>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(media))], body.into())
}

/// What is said here is for the one who asked, now, and is what it says it is.
async fn private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Fake {
        app_is_down: bool,
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
            token.map(str::to_owned),
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
        let server = tokio::spawn(serve(listener, None, Arc::new(Fake::default()), stopped.map(drop)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        drop(stop);
        let ended = tokio::time::timeout(LAST_ANSWER * 10, server).await;
        ended.unwrap().unwrap().unwrap();
    }
}
