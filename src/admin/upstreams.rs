//! How the upstreams are: their endpoints, the circuit breakers before them, and what an operator wants of those.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pillion_filters::Direction;
use pillion_filters::cache::Side;
use pillion_filters::circuit_breaker::{BreakerReport, Force};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Source;
use super::asked::Asked;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forced {
    direction: Side,
    upstream: String,
    route: Option<String>,
    force: Wanted,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    Open,
    Closed,
    Auto,
}

impl From<Wanted> for Force {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Open => Self::Open,
            Wanted::Closed => Self::Closed,
            Wanted::Auto => Self::Auto,
        }
    }
}

pub(super) async fn show(State(source): Source) -> Response {
    let breakers: Vec<Value> = source
        .breakers()
        .iter()
        .flat_map(|(direction, filter, breakers)| {
            let reports = breakers.report().into_iter();
            reports.map(move |report| json_of(*direction, filter, &report))
        })
        .collect();
    Json(json!({ "upstreams": source.upstreams(), "breakers": breakers })).into_response()
}

fn json_of(direction: Direction, filter: &str, report: &BreakerReport) -> Value {
    json!({
        "direction": direction.as_str(), "filter": filter, "upstream": report.upstream, "is_host": report.is_host,
        "route": report.route, "state": report.state.as_str(), "forced": report.forced, "reason": report.reason,
        "state_seconds": report.age.as_secs_f64(), "half_open_in_seconds": report.left.map(|left| left.as_secs_f64()),
        "calls": report.calls, "failed": report.failed, "slow": report.slow, "consecutive_failures": report.consecutive,
    })
}

pub(super) async fn force(State(source): Source, Asked(asked): Asked<Forced>) -> Response {
    let direction = Direction::from(asked.direction);
    let breakers = source.breakers();
    let of_direction = breakers.iter().filter(|(known, ..)| *known == direction);
    let forced: usize = of_direction
        .map(|(.., breakers)| breakers.force(&asked.upstream, asked.route.as_deref(), asked.force.into()))
        .sum();
    if forced == 0 {
        return (StatusCode::NOT_FOUND, "there is no such breaker\n").into_response();
    }
    let route = asked
        .route
        .as_ref()
        .map_or(String::new(), |route| format!(", route `{route}`"));
    let how = match asked.force {
        Wanted::Open => "forced open",
        Wanted::Closed => "forced closed",
        Wanted::Auto => "left to itself",
    };
    source.note(&format!(
        "circuit breaker: `{}` ({}{route}) {how}",
        asked.upstream,
        direction.as_str()
    ));
    Json(json!({ "forced": forced })).into_response()
}
