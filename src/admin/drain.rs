//! Taking the sidecar out of service without stopping it, and putting it back.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Source;
use super::asked::{Asked, refused};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drained {
    drain: bool,
}

pub(super) async fn show(State(source): Source) -> Response {
    Json(json!({ "draining": source.is_draining() })).into_response()
}

pub(super) async fn set(State(source): Source, Asked(asked): Asked<Drained>) -> Response {
    if !source.drain(asked.drain) {
        return refused(StatusCode::CONFLICT, "the sidecar is stopping");
    }
    Json(json!({ "draining": asked.drain })).into_response()
}
