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
//! | `GET /connections` | listeners, open client connections, and the connections to upstreams by endpoint, as JSON |
//! | `GET /drain`, `POST /drain` | whether clients are told that their connections end: `{"drain": true}` tells them, `false` takes it back |
//! | `GET /log`, `PUT /log`, `DELETE /log` | how much is written to the sidecar's own log: `{"level": "debug", "ttl": "10m"}`; back to what is configured |
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
mod connections;
mod drain;
mod filters;
mod guard;
mod log;
mod page;
mod peers;
mod requests;
pub(crate) mod stats;
#[cfg(test)]
mod tests;
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
pub use self::guard::Token;
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
    /// Notes what an operator did, for the history.
    fn note(&self, action: &str);
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
    /// Whether clients are told that their connections end.
    fn is_draining(&self) -> bool;
    /// Begins that, or ends it; false if the process is stopping.
    fn drain(&self, drain: bool) -> bool;
    /// Listeners, clients and pools as JSON.
    fn connections(&self) -> BoxFuture<'_, Value>;
    /// What is written to the log, and until when, as JSON.
    fn log_level(&self) -> Value;
    /// Changes that, for a time if there is one. The error is for the person who asked.
    fn choose_log_level(&self, level: &str, ttl: Option<Duration>) -> Result<(), String>;
    /// Writes what the configuration says.
    fn reset_log_level(&self);
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
    token: Token,
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
        .route("/connections", get(connections::show))
        .route("/drain", get(drain::show).post(drain::set))
        .route("/log", get(log::show).put(log::set).delete(log::reset))
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
