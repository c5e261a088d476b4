//! The demo's app: a small service that behaves, well or badly, as services do, so that there is something to see.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | what there is, as text |
//! | `GET /fast` | small JSON with the trace and client headers that arrived |
//! | `GET /slow?ms=300` | the same wait, 10 s at most, then 200 |
//! | `GET /fail?status=503` | that status, 400 to 599 |
//! | `GET /flaky` | every third request is a 500 |
//! | `GET /cacheable` | fresh for a minute, with an `ETag` that changes every minute; 304 to a client that has it |
//! | `GET /large` | 1 MiB of JSON |
//! | `GET /events?count=5` | server-sent events, one a second, 3600 at most |
//! | `POST /echo` | the request's body, piece by piece as it arrives |
//!
//! It knows nothing of the sidecar: whatever a client sees beyond this comes from there.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const INDEX: &str = "\
GET  /                  this list
GET  /fast              small JSON with the trace and client headers that arrived here
GET  /slow?ms=300       waits, at most 10 s
GET  /fail?status=503   answers with that status, 400 to 599
GET  /flaky             fails every third time
GET  /cacheable         fresh for a minute; made_at says when it was made
GET  /large             1 MiB of JSON
GET  /events?count=5    server-sent events, one a second
POST /echo              sends the body back as it arrives
";

/// What `/fast` shows of a request.
const SHOWN: [&str; 3] = ["traceparent", "x-request-id", "x-forwarded-for"];
const SLOWEST: Duration = Duration::from_secs(10);
const MOST_EVENTS: u32 = 3600;
const FRESH_SECONDS: u64 = 60;
const LARGE_BYTES: usize = 1024 * 1024;

/// Everything the app answers.
pub(crate) fn router() -> Router {
    // Made once: the demo measures the sidecar, not this.
    let large = large_body();
    Router::new()
        .route("/", get(INDEX))
        .route("/fast", get(fast))
        .route("/slow", get(slow))
        .route("/fail", get(fail))
        .route("/flaky", get(flaky).with_state(Arc::new(AtomicU64::new(0))))
        .route("/cacheable", get(cacheable))
        .route("/large", get(|| async move { json_bytes(large) }))
        .route("/events", get(events))
        .route("/echo", post(echo))
}

/// Serves the app until its task is dropped.
pub(crate) async fn serve(listener: tokio::net::TcpListener) {
    // Small answers must not wait for the client's acknowledgements. A connection on which that cannot be set is
    // about to fail anyway.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    if let Err(error) = axum::serve(listener, router()).await {
        tracing::error!(%error, "the demo's app stopped");
    }
}

async fn fast(headers: HeaderMap) -> Json<Value> {
    let received: Map<String, Value> = SHOWN
        .iter()
        .map(|name| ((*name).to_owned(), received(&headers, name)))
        .collect();
    Json(json!({ "hello": "from the app", "received": received }))
}

/// A header's values as one text, `null` without any.
fn received(headers: &HeaderMap, name: &str) -> Value {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    if values.is_empty() {
        Value::Null
    } else {
        Value::String(values.join(", "))
    }
}

#[derive(Deserialize)]
struct Slow {
    #[serde(default = "Slow::usual")]
    ms: u64,
}

impl Slow {
    fn usual() -> u64 {
        300
    }
}

async fn slow(Query(slow): Query<Slow>) -> Json<Value> {
    let wait = Duration::from_millis(slow.ms).min(SLOWEST);
    tokio::time::sleep(wait).await;
    Json(json!({ "waited_ms": wait.as_millis() as u64 }))
}

#[derive(Deserialize)]
struct Fail {
    #[serde(default = "Fail::usual")]
    status: u16,
}

impl Fail {
    fn usual() -> u16 {
        503
    }
}

async fn fail(Query(fail): Query<Fail>) -> Response {
    match StatusCode::from_u16(fail.status) {
        Ok(status) if status.is_client_error() || status.is_server_error() => {
            failure(status, "as you asked").into_response()
        }
        _ => failure(StatusCode::BAD_REQUEST, "`status` must be 400 to 599").into_response(),
    }
}

async fn flaky(State(served): State<Arc<AtomicU64>>) -> Response {
    let number = served.fetch_add(1, Ordering::Relaxed) + 1;
    if number % 3 == 0 {
        failure(StatusCode::INTERNAL_SERVER_ERROR, "every third request fails").into_response()
    } else {
        Json(json!({ "request": number })).into_response()
    }
}

/// An error of the app's own. It names the app, so that nobody takes it for one of the sidecar's.
fn failure(status: StatusCode, message: &str) -> (StatusCode, Json<Value>) {
    (status, Json(json!({ "app_error": message, "status": status.as_u16() })))
}

async fn cacheable(headers: HeaderMap) -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let minute = now.as_secs() / FRESH_SECONDS;
    // Weak (RFC 9110, section 8.8.1): within a minute only `made_at` differs, which is there to tell a stored answer
    // from a new one.
    let tag = format!("W/\"{minute}\"");
    let caching = [
        (header::CACHE_CONTROL, format!("max-age={FRESH_SECONDS}")),
        (header::ETAG, tag.clone()),
    ];
    if has(&headers, &tag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let body = json!({ "minute": minute, "made_at": now.as_millis() as u64 });
    (caching, Json(body)).into_response()
}

/// Whether `If-None-Match` names that weak tag (RFC 9110, section 13.1.2: its comparison is the weak one).
fn has(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = tag.trim_start_matches("W/");
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == opaque)
}

/// A JSON list of about [`LARGE_BYTES`], regular enough to compress well, as lists of an API do.
fn large_body() -> Bytes {
    let mut body = String::with_capacity(LARGE_BYTES + 128);
    body.push_str(r#"{"items":["#);
    for number in 0_u64.. {
        // Multiplied by a large odd number, so that prices look like prices.
        let price = number.wrapping_mul(2_654_435_761) % 100_000;
        // Writing to a String cannot fail.
        let _ = write!(
            body,
            r#"{{"id":{number},"name":"item {number}","price_cents":{price},"in_stock":{}}}"#,
            price % 7 != 0
        );
        if body.len() >= LARGE_BYTES {
            break;
        }
        body.push(',');
    }
    body.push_str("]}");
    Bytes::from(body)
}

fn json_bytes(body: Bytes) -> Response {
    let media = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, media)], body).into_response()
}

#[derive(Deserialize)]
struct Events {
    #[serde(default = "Events::usual")]
    count: u32,
}

impl Events {
    fn usual() -> u32 {
        5
    }
}

async fn events(Query(events): Query<Events>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let last = events.count.min(MOST_EVENTS);
    Sse::new(stream::unfold(1, move |number| async move {
        if number > last {
            return None;
        }
        if number > 1 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let event = Event::default()
            .event("tick")
            .id(number.to_string())
            .data(format!("{number} of {last}"));
        Some((Ok(event), number + 1))
    }))
}

async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body);
    if let Some(media) = head.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, media.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_headers_are_shown_whole_and_missing_ones_as_null() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.7"));
        headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.8"));
        assert_eq!(received(&headers, "x-forwarded-for"), json!("192.0.2.7, 192.0.2.8"));
        assert_eq!(received(&headers, "traceparent"), Value::Null);
    }

    #[test]
    fn the_large_body_is_valid_and_about_a_mebibyte() {
        let body = large_body();
        assert!((LARGE_BYTES..LARGE_BYTES + 128).contains(&body.len()), "{}", body.len());
        let parsed: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(parsed["items"][1]["id"], 1);
    }

    #[test]
    fn if_none_match_is_compared_weakly() {
        for (value, expected) in [
            (r#"W/"7""#, true),
            (r#""7""#, true),
            (r#""6", W/"7""#, true),
            ("*", true),
            (r#""6""#, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            assert_eq!(has(&headers, r#"W/"7""#), expected, "{value}");
        }
        assert!(!has(&HeaderMap::new(), r#"W/"7""#));
    }

    #[tokio::test]
    async fn every_third_flaky_request_fails() {
        let served = Arc::new(AtomicU64::new(0));
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(flaky(State(served.clone())).await.status().as_u16());
        }
        assert_eq!(statuses, [200, 200, 500, 200, 200, 500]);
    }

    #[tokio::test]
    async fn fail_makes_errors_and_nothing_else() {
        for (asked, answered) in [(503, 503), (404, 404), (200, 400), (301, 400), (99, 400), (600, 400)] {
            assert_eq!(fail(Query(Fail { status: asked })).await.status(), answered);
        }
    }
}
