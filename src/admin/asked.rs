//! What a request asks for, read strictly: one JSON object of at most 64 KiB with no key that is not known.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

/// The longest body that is read, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// A request's body. What cannot be read as one is refused: 413 if it is too long, 415 if it does not say that it is JSON, else
/// 422 with the place.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(asked)) => Ok(Self(asked)),
            Err(wrong) => Err(refused(status(&wrong), &wrong.body_text())),
        }
    }
}

fn status(wrong: &JsonRejection) -> StatusCode {
    match wrong.status() {
        // Not JSON at all is as wrong as the wrong JSON.
        StatusCode::BAD_REQUEST => StatusCode::UNPROCESSABLE_ENTITY,
        status => status,
    }
}

/// A request's query. A parameter that is not known or makes no sense is refused with 422.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let asked: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        match asked {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(wrong) => Err(refused(StatusCode::UNPROCESSABLE_ENTITY, &wrong.body_text())),
        }
    }
}

/// An answer that says what is wrong, in a line.
pub(super) fn refused(status: StatusCode, why: &str) -> Response {
    (status, format!("{}\n", why.trim_end())).into_response()
}
