//! The configuration in force, how it came to be, and reading it again.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::{Source, typed};

pub(super) async fn show(State(source): Source) -> impl IntoResponse {
    typed("application/yaml", source.config_yaml())
}

pub(super) async fn values(State(source): Source) -> Response {
    Json(source.config_values()).into_response()
}

pub(super) async fn history(State(source): Source) -> Response {
    Json(source.config_history()).into_response()
}

pub(super) async fn reload(State(source): Source) -> Response {
    match source.reload() {
        Ok(()) => "reloaded\n".into_response(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, error).into_response(),
    }
}
