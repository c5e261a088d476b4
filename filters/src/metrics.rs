//! The `metrics` plugin: rate, errors and duration of every exchange, by route.
//!
//! | family | type | labels |
//! | --- | --- | --- |
//! | `http_server_request_duration_seconds` | histogram | `service`, `route`, `method`, `status_code` |
//! | `http_server_active_requests` | gauge | `service`, `route` |
//! | `http_server_request_body_bytes_total`, `http_server_response_body_bytes_total` | counter | `service`, `route` |
//! | `pillion_failures_total` | counter | `service`, `direction`, `route`, `reason` |
//!
//! Outbound exchanges are in the same families with `http_client_` in front. The histogram's own `_count` is the rate of
//! requests, so there is no counter beside it.
//!
//! Labels are bounded, whatever clients send: `route` is the configured name and never a path, an unknown method is
//! `_OTHER`, a status outside 100 to 599 is `_OTHER`. `status_code` is empty when the client went away before a response
//! head was sent, where OpenTelemetry leaves the attribute out. `reason` is a failure's stable word or `client_aborted`; a
//! refusal by a filter is an answer, not a failure.
//!
//! A tunnel or a switched connection (CONNECT, WebSocket) is timed until it is open; how long it stays so is in
//! `pillion_tunnel_duration_seconds`. A response that is streamed for hours, such as server-sent events, is timed to its
//! end: a route of its own keeps it out of the others' percentiles.
//!
//! On the hot path no label is looked up: the handles of a route are kept, and those by method and status are found among
//! the few that the route has seen.

mod families;
mod handles;
pub(crate) mod methods;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};
use schemars::JsonSchema;
use serde::Deserialize;

use self::families::Families;
use self::handles::Handles;
use crate::{BuildError, Context, End, Exchange, Failure, Filter, Outcome, Phases, Plugin, Route, Step};

/// Configuration of `metrics`. There is nothing to tune: the buckets are the sidecar's, under `telemetry`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// A method's index and a status, 0 for none.
type Answer = (usize, u16);
/// A failure, or `None` for a client that went away.
type Reason = Option<Failure>;

/// The status that stands for all that are none.
const OTHER_STATUS: u16 = 600;

/// The `metrics` plugin.
pub struct MetricsPlugin {
    route: Arc<Route>,
    families: Families,
    active: IntGauge,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
    durations: Handles<Answer, Histogram, 32>,
    failures: Handles<Reason, IntCounter, 16>,
}

impl Plugin for MetricsPlugin {
    const NAME: &'static str = "metrics";
    type Config = Config;

    fn build(_: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let families = Families::of(context)?;
        let labels = [&*context.route.service, &*context.route.name];
        let failed = |error: prometheus::Error| BuildError::Meaning(error.to_string());
        Ok(Arc::new(Self {
            route: context.route.clone(),
            active: families.active.get_metric_with_label_values(&labels).map_err(failed)?,
            request_bytes: families
                .request_bytes
                .get_metric_with_label_values(&labels)
                .map_err(failed)?,
            response_bytes: families
                .response_bytes
                .get_metric_with_label_values(&labels)
                .map_err(failed)?,
            durations: Handles::default(),
            failures: Handles::default(),
            families,
        }))
    }
}

impl Filter for MetricsPlugin {
    fn phases(&self) -> Phases {
        Phases::REQUEST | Phases::COMPLETE
    }

    fn request(&self, _: &mut Exchange) -> Step {
        self.active.inc();
        Step::Continue
    }

    fn complete(&self, exchange: &mut Exchange, outcome: &Outcome) {
        // Balanced: a chain completes the filters it has entered, each once.
        self.active.dec();
        let answer = answer(exchange, outcome);
        self.durations.with(
            answer,
            || self.duration(answer),
            |histogram| histogram.observe(duration(exchange, outcome).as_secs_f64()),
        );
        // Most requests have no body, and a write to a line other cores write to as well is what metrics cost.
        if outcome.request_bytes > 0 {
            self.request_bytes.inc_by(outcome.request_bytes);
        }
        if outcome.response_bytes > 0 {
            self.response_bytes.inc_by(outcome.response_bytes);
        }
        if let Some(reason) = reason(outcome.end) {
            self.failures.with(reason, || self.failure(reason), IntCounter::inc);
        }
    }
}

impl MetricsPlugin {
    fn duration(&self, (method, status): Answer) -> Option<Histogram> {
        let mut digits = itoa::Buffer::new();
        let status = match status {
            0 => "",
            OTHER_STATUS => methods::OTHER,
            status => digits.format(status),
        };
        let labels = [
            &*self.route.service,
            &*self.route.name,
            methods::NAMES.get(method)?,
            status,
        ];
        self.families.durations.get_metric_with_label_values(&labels).ok()
    }

    fn failure(&self, reason: Reason) -> Option<IntCounter> {
        let labels = [
            &*self.route.service,
            self.route.direction.as_str(),
            &*self.route.name,
            reason.map_or("client_aborted", Failure::reason),
        ];
        self.families.failures.get_metric_with_label_values(&labels).ok()
    }
}

/// What the histogram is divided by.
fn answer(exchange: &Exchange, outcome: &Outcome) -> Answer {
    let status = match outcome.status.map_or(0, |status| status.as_u16()) {
        status @ (0 | 100..=599) => status,
        _ => OTHER_STATUS,
    };
    (methods::index(&exchange.request.method), status)
}

/// How long an exchange took; where it became a tunnel, until that was open.
fn duration(exchange: &Exchange, outcome: &Outcome) -> Duration {
    let timing = &exchange.timing;
    match timing.first_byte {
        Some(opened) if outcome.is_tunnel(&exchange.request.method) => opened.saturating_duration_since(timing.started),
        _ => outcome.duration,
    }
}

/// Why an exchange did not end well.
fn reason(end: End) -> Option<Reason> {
    match end {
        End::Complete => None,
        End::ClientAborted => Some(None),
        End::Failed(failure) => Some(Some(failure)),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::context::{SharedState, Telemetry};
    use crate::{Chain, Direction, Link, testing};

    fn filter(telemetry: &Telemetry, direction: Direction, route: &str) -> Arc<dyn Filter> {
        let context = Context {
            filter: "metrics",
            route: &testing::route(direction, route),
            telemetry,
            state: &SharedState::default(),
            matches: &crate::Matches::default(),
            background: &testing::no_background(),
            warnings: &crate::Warnings::default(),
            upstreams: None,
        };
        MetricsPlugin::build(Config::default(), &context).unwrap()
    }

    fn exposed(telemetry: &Telemetry) -> String {
        let families = telemetry.metrics.registry().gather();
        TextEncoder::new().encode_to_string(&families).unwrap()
    }

    fn pass(filter: &dyn Filter, method: &str, outcome: &Outcome) {
        let mut exchange = testing::exchange(method, "/");
        filter.request(&mut exchange);
        filter.complete(&mut exchange, outcome);
    }

    #[track_caller]
    fn assert_has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    #[test]
    fn an_exchange_is_counted_and_timed_by_route() {
        let telemetry = Telemetry::default();
        let filter = filter(&telemetry, Direction::Inbound, "/users/{id}");
        let outcome = Outcome {
            request_bytes: 10,
            response_bytes: 20,
            ..testing::outcome(200)
        };
        pass(&*filter, "GET", &outcome);
        pass(&*filter, "GET", &outcome);
        let text = exposed(&telemetry);
        let labels = r#"method="GET",route="/users/{id}",service="test",status_code="200""#;
        let name = "http_server_request_duration_seconds";
        assert_has(&text, &format!("{name}_count{{{labels}}} 2"));
        assert_has(&text, &format!("{name}_sum{{{labels}}} 0.01"));
        assert_has(&text, &format!("{name}_bucket{{{labels},le=\"0.005\"}} 2"));
        let labels = r#"{route="/users/{id}",service="test"}"#;
        assert_has(&text, &format!("http_server_request_body_bytes_total{labels} 20"));
        assert_has(&text, &format!("http_server_response_body_bytes_total{labels} 40"));
        assert_has(&text, &format!("http_server_active_requests{labels} 0"));
        assert!(!text.contains("pillion_failures_total{"));
    }

    #[test]
    fn outbound_exchanges_are_the_clients() {
        let telemetry = Telemetry::default();
        pass(
            &*filter(&telemetry, Direction::Outbound, "/a"),
            "GET",
            &testing::outcome(200),
        );
        let text = exposed(&telemetry);
        assert!(text.contains("http_client_request_duration_seconds_count{"));
        assert!(text.contains("http_client_active_requests{"));
        assert!(!text.contains("http_server_"));
    }

    #[test]
    fn the_gauge_goes_up_and_down_once() {
        let telemetry = Telemetry::default();
        let chain = Chain::new(vec![Link {
            plugin: MetricsPlugin::NAME,
            name: Arc::from(MetricsPlugin::NAME),
            filter: filter(&telemetry, Direction::Inbound, "/a"),
        }]);
        let active = |count| {
            let line = format!("http_server_active_requests{{route=\"/a\",service=\"test\"}} {count}");
            assert_has(&exposed(&telemetry), &line);
        };
        active(0);
        let mut exchange = testing::exchange("GET", "/");
        chain.request(&mut exchange);
        active(1);
        chain.complete(&mut exchange, &testing::outcome(200));
        active(0);
    }

    #[test]
    fn a_tunnel_is_timed_until_it_is_open() {
        let telemetry = Telemetry::default();
        let filter = filter(&telemetry, Direction::Inbound, "/a");
        let mut exchange = testing::exchange("GET", "/");
        exchange.timing.first_byte = Some(exchange.timing.started + Duration::from_millis(3));
        filter.request(&mut exchange);
        let hours = Outcome {
            duration: Duration::from_secs(7200),
            ..testing::outcome(101)
        };
        filter.complete(&mut exchange, &hours);
        let labels = r#"method="GET",route="/a",service="test",status_code="101""#;
        let line = format!("http_server_request_duration_seconds_sum{{{labels}}} 0.003");
        assert_has(&exposed(&telemetry), &line);
    }

    #[test]
    fn labels_are_bounded() {
        let telemetry = Telemetry::default();
        let filter = filter(&telemetry, Direction::Inbound, "/a");
        pass(&*filter, "PROPFIND", &testing::outcome(299));
        pass(&*filter, "BREW", &testing::outcome(999));
        let text = exposed(&telemetry);
        for (method, status) in [("_OTHER", "299"), ("_OTHER", "_OTHER")] {
            let labels = format!(r#"method="{method}",route="/a",service="test",status_code="{status}""#);
            assert_has(
                &text,
                &format!("http_server_request_duration_seconds_count{{{labels}}} 1"),
            );
        }
    }

    #[test]
    fn failures_are_counted_by_reason() {
        let telemetry = Telemetry::default();
        let filter = filter(&telemetry, Direction::Inbound, "/a");
        let failed = Outcome {
            end: End::Failed(Failure::ConnectFailed),
            ..testing::outcome(502)
        };
        let aborted = Outcome {
            status: None,
            end: End::ClientAborted,
            ..testing::outcome(200)
        };
        pass(&*filter, "GET", &failed);
        pass(&*filter, "GET", &aborted);
        let text = exposed(&telemetry);
        for reason in ["connect_failed", "client_aborted"] {
            let labels = format!(r#"direction="inbound",reason="{reason}",route="/a",service="test""#);
            assert_has(&text, &format!("pillion_failures_total{{{labels}}} 1"));
        }
        let labels = r#"method="GET",route="/a",service="test",status_code="""#;
        assert_has(
            &text,
            &format!("http_server_request_duration_seconds_count{{{labels}}} 1"),
        );
    }

    #[test]
    fn more_answers_than_handles_are_counted_all_the_same() {
        let telemetry = Telemetry::default();
        let filter = filter(&telemetry, Direction::Inbound, "/a");
        for status in 200..300 {
            pass(&*filter, "GET", &testing::outcome(status));
            pass(&*filter, "GET", &testing::outcome(status));
        }
        let counts = exposed(&telemetry);
        let counts = counts.lines().filter(|line| line.contains("duration_seconds_count{"));
        assert_eq!(counts.filter(|line| line.ends_with(" 2")).count(), 100);
    }

    #[test]
    fn routes_and_snapshots_share_the_families() {
        let telemetry = Telemetry::default();
        for route in ["/a", "/b", "/a"] {
            pass(
                &*filter(&telemetry, Direction::Inbound, route),
                "GET",
                &testing::outcome(200),
            );
        }
        let labels = r#"method="GET",route="/a",service="test",status_code="200""#;
        assert_has(
            &exposed(&telemetry),
            &format!("http_server_request_duration_seconds_count{{{labels}}} 2"),
        );
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(serde_json::from_str::<Config>("{}").is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"bucket": []}"#).is_err());
    }
}
