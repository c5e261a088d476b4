//! Who is connected: listeners, clients, and the pools of connections to upstreams.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::Source;

pub(super) async fn show(State(source): Source) -> Response {
    Json(source.connections().await).into_response()
}
