//! Recent exchanges, explained.

use std::str::FromStr;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pillion_filters::Direction;
use pillion_filters::cache::Side;
use pillion_filters::units::HumanDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Source;
use super::asked::{Params, refused};
use crate::explain::json::{Statuses, Wanted, in_full, in_short};

/// How many are shown, unless the request says.
const SHOWN: usize = 50;
/// More are never shown.
const MOST: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Asked {
    route: Option<String>,
    direction: Option<Side>,
    status: Option<String>,
    method: Option<String>,
    min_duration: Option<String>,
    filter: Option<String>,
    reason: Option<String>,
    trace: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(State(source): Source, Params(asked): Params<Asked>) -> Response {
    let limit = asked.limit.unwrap_or(SHOWN);
    let wanted = match wanted(asked) {
        Ok(wanted) => wanted,
        Err(wrong) => return refused(StatusCode::UNPROCESSABLE_ENTITY, &wrong),
    };
    let (recorder, _) = source.recorder();
    let (records, load) = recorder.all();
    let shown = records.iter().filter(|record| wanted.holds(record)).take(limit);
    let shown: Vec<Value> = shown.map(|record| in_short(record, &recorder.words)).collect();
    let answer = json!({
        "recorded": load.recorded, "kept": load.kept, "bytes": load.bytes, "capacity_bytes": load.capacity,
        "requests": shown,
    });
    Json(answer).into_response()
}

pub(super) async fn one(State(source): Source, Path(id): Path<String>) -> Response {
    let Ok(number) = u64::from_str_radix(&id, 16) else {
        return (
            StatusCode::NOT_FOUND,
            "ids of requests are hexadecimal numbers, such as `1f`\n",
        )
            .into_response();
    };
    let (recorder, trace_url) = source.recorder();
    let Some(record) = recorder.get(number) else {
        let why = "no request of that id is remembered: it was not kept, or newer ones have taken its place\n";
        return (StatusCode::NOT_FOUND, why).into_response();
    };
    Json(in_full(&record, &recorder.words, trace_url.as_ref())).into_response()
}

/// What the query means, or what is wrong with it.
fn wanted(asked: Asked) -> Result<Wanted, String> {
    let limit = asked.limit.unwrap_or(SHOWN);
    if !(1..=MOST).contains(&limit) {
        return Err(format!("`limit` is {limit}: expected a number from 1 to {MOST}"));
    }
    if let Some(trace) = &asked.trace
        && (trace.len() != 32 || !trace.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err("`trace` is no trace id: expected 32 hexadecimal digits".to_owned());
    }
    let min_duration = asked.min_duration.map(|text| {
        let duration = HumanDuration::from_str(&text);
        duration.map_err(|error| format!("`min_duration` is `{text}`: {error}"))
    });
    Ok(Wanted {
        route: asked.route,
        direction: asked.direction.map(Direction::from),
        status: asked.status.as_deref().map(statuses).transpose()?,
        method: asked.method,
        min_duration: min_duration.transpose()?.map(|duration| duration.0),
        filter: asked.filter,
        reason: asked.reason,
        trace: asked.trace.map(|trace| trace.to_ascii_lowercase()),
    })
}

fn statuses(text: &str) -> Result<Statuses, String> {
    let wrong = || format!("`status` is `{text}`: expected a status such as `404`, or a class such as `5xx`");
    let statuses = match text.strip_suffix("xx") {
        Some(class) => class
            .parse()
            .ok()
            .filter(|class| (1..=5).contains(class))
            .map(Statuses::Class),
        None => text
            .parse()
            .ok()
            .filter(|status| (100..600).contains(status))
            .map(Statuses::One),
    };
    statuses.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(asked: Asked) -> String {
        wanted(asked).unwrap_err()
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, meant) in [("404", Statuses::One(404)), ("5xx", Statuses::Class(5))] {
            assert_eq!(statuses(text), Ok(meant));
        }
        for text in ["", "5", "6xx", "xx", "099", "9999", "5XX"] {
            assert!(
                statuses(text)
                    .unwrap_err()
                    .starts_with(&format!("`status` is `{text}`: ")),
                "{text}"
            );
        }
        let limit = |limit| Asked {
            limit: Some(limit),
            ..Asked::default()
        };
        assert_eq!(wrong(limit(501)), "`limit` is 501: expected a number from 1 to 500");
        assert_eq!(wrong(limit(0)), "`limit` is 0: expected a number from 1 to 500");
        assert!(wanted(limit(500)).is_ok());
        let duration = Asked {
            min_duration: Some("200".to_owned()),
            ..Asked::default()
        };
        assert_eq!(
            wrong(duration),
            "`min_duration` is `200`: expected a duration such as 5m"
        );
        let trace = Asked {
            trace: Some("12".to_owned()),
            ..Asked::default()
        };
        assert_eq!(wrong(trace), "`trace` is no trace id: expected 32 hexadecimal digits");
    }
}
