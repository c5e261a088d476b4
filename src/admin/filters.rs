//! The filters with their settings, and what an operator changes of them.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pillion_filters::Direction;
use pillion_filters::cache::Side;
use pillion_filters::units::HumanDuration;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Source;
use super::asked::{Asked, Params, refused};

/// The longest that may be said of who and why, in characters.
const MAX_WORDS: usize = 200;
const TOO_LONG: &str = "by, reason: at most 200 characters";

/// A change of a filter, as it was asked for.
#[derive(Debug)]
pub struct FilterChange {
    /// The filter's name.
    pub filter: String,
    /// For which direction; both if there is none.
    pub direction: Option<Direction>,
    /// For the routes of that name; all if there is none.
    pub route: Option<String>,
    /// Whether it is to be on.
    pub enabled: Option<bool>,
    /// Settings, over those it has.
    pub settings: Option<Map<String, Value>>,
    /// For how long; until it is taken back if there is none.
    pub ttl: Option<Duration>,
    /// Who wants it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Which changes of a filter are to be taken back.
#[derive(Debug)]
pub struct FilterRestore {
    /// The filter's name.
    pub filter: String,
    /// Those for this direction alone.
    pub direction: Option<Direction>,
    /// Those for this route alone.
    pub route: Option<String>,
    /// Who wants it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Why a filter was not changed; each in words for who asked.
#[derive(Debug)]
pub enum ChangeError {
    /// There is nothing it is for.
    Unknown(String),
    /// There are too many changes already.
    TooMany(String),
    /// It makes no sense.
    Invalid(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    enabled: Option<bool>,
    settings: Option<Map<String, Value>>,
    direction: Option<Side>,
    route: Option<String>,
    ttl: Option<HumanDuration>,
    by: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restore {
    direction: Option<Side>,
    route: Option<String>,
    by: Option<String>,
    reason: Option<String>,
}

pub(super) async fn show(State(source): Source) -> Response {
    Json(source.filters()).into_response()
}

pub(super) async fn show_one(State(source): Source, Path(name): Path<String>) -> Response {
    match source.filter(&name) {
        Some(filter) => Json(filter).into_response(),
        None => refused(StatusCode::NOT_FOUND, "there is no such filter"),
    }
}

pub(super) async fn change(State(source): Source, Path(filter): Path<String>, Asked(asked): Asked<Change>) -> Response {
    let Change {
        enabled,
        settings,
        direction,
        route,
        ttl,
        by,
        reason,
    } = asked;
    let unprocessable = |why: &str| refused(StatusCode::UNPROCESSABLE_ENTITY, why);
    let settings = settings.filter(|settings| !settings.is_empty());
    if enabled.is_none() && settings.is_none() {
        return unprocessable("say `enabled`, or `settings` with something in it");
    }
    let reserved = settings.as_ref().and_then(|settings| {
        let mut keys = settings.keys();
        keys.find(|key| ["enabled", "plugin"].contains(&key.as_str()))
    });
    if let Some(key) = reserved {
        return unprocessable(&format!("`{key}` is no setting; `enabled` stands beside `settings`"));
    }
    if ttl.is_some_and(|ttl| ttl.is_zero()) {
        return unprocessable("ttl: must be longer than 0s");
    }
    if is_too_long(by.as_deref()) || is_too_long(reason.as_deref()) {
        return unprocessable(TOO_LONG);
    }
    answer(source.change_filter(FilterChange {
        filter,
        direction: direction.map(Direction::from),
        route,
        enabled,
        settings,
        ttl: ttl.map(|ttl| ttl.0),
        by,
        reason,
    }))
}

pub(super) async fn restore(
    State(source): Source,
    Path(filter): Path<String>,
    Params(asked): Params<Restore>,
) -> Response {
    let Restore {
        direction,
        route,
        by,
        reason,
    } = asked;
    if is_too_long(by.as_deref()) || is_too_long(reason.as_deref()) {
        return refused(StatusCode::UNPROCESSABLE_ENTITY, TOO_LONG);
    }
    answer(source.restore_filter(FilterRestore {
        filter,
        direction: direction.map(Direction::from),
        route,
        by,
        reason,
    }))
}

/// The history keeps them.
fn is_too_long(words: Option<&str>) -> bool {
    words.is_some_and(|words| words.chars().count() > MAX_WORDS)
}

fn answer(changed: Result<Value, ChangeError>) -> Response {
    match changed {
        Ok(filter) => Json(filter).into_response(),
        Err(ChangeError::Unknown(why)) => refused(StatusCode::NOT_FOUND, &why),
        Err(ChangeError::TooMany(why)) => refused(StatusCode::CONFLICT, &why),
        Err(ChangeError::Invalid(why)) => refused(StatusCode::UNPROCESSABLE_ENTITY, &why),
    }
}
