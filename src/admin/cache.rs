//! What the caches hold, and what is to be forgotten or fetched.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use pillion_filters::Direction;
use pillion_filters::cache::{Cache, Purge, Report, Side};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

use super::Source;
use super::asked::{Asked, Params};

/// The most used responses that are shown.
const TOP: usize = 20;
/// More are never shown.
const MOST: usize = 1000;
/// Fetches a second, unless the request says.
const RATE: u32 = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    top: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Purged {
    url: Option<String>,
    prefix: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    everything: bool,
    direction: Option<Side>,
    filter: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Warmed {
    urls: Vec<String>,
    rate: Option<u32>,
    direction: Option<Side>,
    filter: Option<String>,
}

pub(super) async fn show(State(source): Source, Params(shown): Params<Shown>) -> Response {
    let top = shown.top.unwrap_or(TOP).min(MOST);
    let caches = source.caches();
    let caches: Vec<_> = caches
        .iter()
        .map(|(direction, filter, cache)| json_of(*direction, filter, &cache.report(top)))
        .collect();
    Json(json!({ "caches": caches })).into_response()
}

fn json_of(direction: Direction, filter: &str, report: &Report) -> Value {
    let routes = report.routes.iter().map(|route| {
        let results: serde_json::Map<_, _> = route
            .results
            .iter()
            .map(|(result, count)| ((*result).to_owned(), json!(count)))
            .collect();
        json!({
            "route": route.route, "requests": results, "hit_ratio": route.hit_ratio, "upstream_seconds_saved": route.saved,
        })
    });
    let top = report.top.iter().map(|entry| {
        json!({
            "url": entry.url, "status": entry.status, "bytes": entry.bytes, "hits": entry.hits, "ttl_seconds": entry.ttl,
        })
    });
    json!({
        "filter": filter, "direction": direction.as_str(), "entries": report.entries, "bytes": report.bytes,
        "capacity_bytes": report.capacity, "routes": routes.collect::<Vec<_>>(), "top": top.collect::<Vec<_>>(),
    })
}

pub(super) async fn purge(State(source): Source, Asked(asked): Asked<Purged>) -> Response {
    let everything = asked.everything.then_some(Purge::Everything);
    let purges = [
        asked.url.map(Purge::Url),
        asked.prefix.map(Purge::Prefix),
        asked.tag.map(Purge::Tag),
        everything,
    ];
    let mut purges = purges.into_iter().flatten();
    let (Some(purge), None) = (purges.next(), purges.next()) else {
        let say = "say one of `url`, `prefix`, `tag` and `everything: true`\n";
        return (StatusCode::UNPROCESSABLE_ENTITY, say).into_response();
    };
    let caches = match chosen(&source, asked.direction, asked.filter.as_deref()) {
        Ok(caches) => caches,
        Err(response) => return response,
    };
    let purged: Result<Vec<u64>, String> = caches.iter().map(|cache| cache.purge(&purge)).collect();
    match purged {
        Ok(purged) => {
            let purged: u64 = purged.iter().sum();
            source.note(&format!("cache: purged {purged} stored responses, {}", words(&purge)));
            Json(json!({ "purged": purged })).into_response()
        }
        Err(wrong) => (StatusCode::UNPROCESSABLE_ENTITY, wrong + "\n").into_response(),
    }
}

/// What is purged, for the history; a query may hold what nobody else is to see.
fn words(purge: &Purge) -> String {
    let path = |url: &str| url.split_once('?').map_or(url, |(path, _)| path).to_owned();
    match purge {
        Purge::Url(url) => format!("those of {}", path(url)),
        Purge::Prefix(prefix) => format!("those that begin with {}", path(prefix)),
        Purge::Tag(tag) => format!("those with the tag {tag}"),
        Purge::Everything => "all".to_owned(),
    }
}

pub(super) async fn warm(State(source): Source, Asked(asked): Asked<Warmed>) -> Response {
    let rate = asked.rate.unwrap_or(RATE);
    if rate == 0 {
        return (StatusCode::UNPROCESSABLE_ENTITY, "a `rate` of 0 fetches nothing\n").into_response();
    }
    let caches = match chosen(
        &source,
        Some(asked.direction.unwrap_or(Side::Inbound)),
        asked.filter.as_deref(),
    ) {
        Ok(caches) => caches,
        Err(response) => return response,
    };
    let queued: Result<Vec<usize>, String> = caches.iter().map(|cache| cache.warm(&asked.urls, rate)).collect();
    match queued {
        Ok(queued) => {
            let queued: usize = queued.iter().sum();
            source.note(&format!("cache: {queued} URLs to be fetched"));
            Json(json!({ "queued": queued })).into_response()
        }
        Err(wrong) => (StatusCode::UNPROCESSABLE_ENTITY, wrong + "\n").into_response(),
    }
}

/// The caches a request is for; an answer if there is none.
#[allow(clippy::result_large_err, reason = "an answer, given at once")]
fn chosen(
    source: &Arc<dyn super::AdminSource>,
    direction: Option<Side>,
    filter: Option<&str>,
) -> Result<Vec<Arc<Cache>>, Response> {
    let wanted = direction.map(Direction::from);
    let caches: Vec<_> = source
        .caches()
        .into_iter()
        .filter(|(direction, name, _)| {
            wanted.is_none_or(|wanted| wanted == *direction) && filter.is_none_or(|wanted| wanted == name)
        })
        .map(|(.., cache)| cache)
        .collect();
    if caches.is_empty() {
        Err((StatusCode::NOT_FOUND, "there is no such cache\n").into_response())
    } else {
        Ok(caches)
    }
}
