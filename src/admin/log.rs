//! How much the sidecar writes to its own log.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pillion_filters::units::HumanDuration;
use serde::Deserialize;

use super::Source;
use super::asked::{Asked, refused};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chosen {
    level: String,
    ttl: Option<HumanDuration>,
}

pub(super) async fn show(State(source): Source) -> Response {
    Json(source.log_level()).into_response()
}

pub(super) async fn set(State(source): Source, Asked(asked): Asked<Chosen>) -> Response {
    if asked.ttl.is_some_and(|ttl| ttl.is_zero()) {
        return refused(StatusCode::UNPROCESSABLE_ENTITY, "a `ttl` of nothing changes nothing");
    }
    match source.choose_log_level(&asked.level, asked.ttl.map(|ttl| ttl.0)) {
        Ok(()) => Json(source.log_level()).into_response(),
        Err(wrong) => refused(StatusCode::UNPROCESSABLE_ENTITY, &wrong),
    }
}

pub(super) async fn reset(State(source): Source) -> Response {
    source.reset_log_level();
    Json(source.log_level()).into_response()
}
