//! The numbers that the page, `pillion top` and other sidecars draw their rates from: all counters since the start.
//!
//! They are what the `metrics` filter has counted, summed over methods and statuses, and nothing is counted for them: while
//! nobody asks they cost nothing. A route whose `metrics` filter is off is not there.

mod routes;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use prometheus::proto::MetricFamily;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AdminSource, Source};

/// The app gets no longer to take a connection: who asks for numbers wants them at once.
const READY_WITHIN: Duration = Duration::from_millis(300);

/// What is not in the metrics.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The service's name.
    pub service: String,
    /// Whether it is on its way out.
    pub draining: bool,
    /// How many configurations there have been, with the one in force.
    pub generation: u64,
}

/// A sidecar in numbers. Another version's may lack some.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Stats {
    pub(crate) service: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// When the process began (RFC 3339).
    pub(crate) started_at: String,
    pub(crate) uptime_seconds: f64,
    /// When this was said (RFC 3339).
    pub(crate) now: String,
    pub(crate) ready: bool,
    /// What readiness depends on: `ok`, or what is wrong.
    pub(crate) checks: BTreeMap<String, String>,
    pub(crate) draining: bool,
    pub(crate) generation: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: f64,
    pub(crate) connections: Connections,
    /// Upper bounds of the routes' buckets, in seconds. One more bucket has none.
    pub(crate) buckets: Vec<f64>,
    pub(crate) routes: Vec<RouteStats>,
}

/// Open client connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Connections {
    pub(crate) inbound: f64,
    pub(crate) outbound: f64,
}

/// The exchanges of one route in one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RouteStats {
    pub(crate) direction: String,
    pub(crate) route: String,
    pub(crate) requests: u64,
    /// By class, such as `2xx`; `none` where the client went away before there was a status.
    pub(crate) status: BTreeMap<String, u64>,
    /// Those of `5xx`.
    pub(crate) server_errors: u64,
    /// Exchanges that did not end well, by reason.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Under way.
    pub(crate) active: f64,
    /// How long all of them took together.
    pub(crate) seconds: f64,
    /// How many took no longer than each bound; then all.
    pub(crate) buckets: Vec<u64>,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

impl Stats {
    /// What `/stats` of a sidecar answered. JSON of anything else is not taken for one.
    pub(crate) fn read(answer: &[u8]) -> Option<Self> {
        let stats: Self = serde_json::from_slice(answer).ok()?;
        (!stats.service.is_empty()).then_some(stats)
    }
}

pub(super) async fn show(State(source): Source) -> Json<Stats> {
    Json(of(&*source).await)
}

/// How this sidecar stands.
pub(super) async fn of(source: &dyn AdminSource) -> Stats {
    let readiness = tokio::time::timeout(READY_WITHIN, source.ready()).await;
    let (ready, checks) = if let Ok(readiness) = readiness {
        (readiness.is_ready(), words(&readiness.json()))
    } else {
        let late = format!("no connection within {} ms", READY_WITHIN.as_millis());
        (false, BTreeMap::from([("app".to_owned(), late)]))
    };
    let standing = source.standing();
    let families = source.families();
    let (buckets, routes) = routes::read(&families);
    let now = SystemTime::now();
    let started =
        UNIX_EPOCH + Duration::try_from_secs_f64(single(&families, "process_start_time_seconds")).unwrap_or_default();
    Stats {
        service: standing.service,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: timestamp(started),
        uptime_seconds: now.duration_since(started).unwrap_or_default().as_secs_f64(),
        now: timestamp(now),
        ready,
        checks,
        draining: standing.draining,
        generation: standing.generation,
        cpu_seconds: single(&families, "process_cpu_seconds_total"),
        resident_bytes: single(&families, "process_resident_memory_bytes"),
        connections: Connections {
            inbound: open_connections(&families, "inbound"),
            outbound: open_connections(&families, "outbound"),
        },
        buckets,
        routes,
    }
}

fn words(readiness: &Value) -> BTreeMap<String, String> {
    let checks = readiness["checks"].as_object().into_iter().flatten();
    let said = checks.filter_map(|(name, said)| Some((name.clone(), said.as_str()?.to_owned())));
    said.collect()
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn family<'f>(families: &'f [MetricFamily], name: &str) -> Option<&'f MetricFamily> {
    families.iter().find(|family| family.name() == name)
}

/// The value of a metric without labels, 0 where there is none.
fn single(families: &[MetricFamily], name: &str) -> f64 {
    let metric = family(families, name).and_then(|family| family.get_metric().first());
    metric.map_or(0.0, |metric| {
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    })
}

fn open_connections(families: &[MetricFamily], direction: &str) -> f64 {
    let family = family(families, "pillion_connections_open");
    let metrics = family.map(MetricFamily::get_metric).unwrap_or_default();
    let of_direction = metrics
        .iter()
        .filter(|metric| metric.get_label().iter().any(|label| label.value() == direction));
    of_direction.map(|metric| metric.get_gauge().get_value()).sum()
}
