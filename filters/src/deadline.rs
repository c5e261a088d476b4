//! Keeps to the time that a caller has, and passes on what is left of it.
//!
//! - A request may say how much time its caller waits: `grpc-timeout`, or milliseconds in a header. If that is less than
//!   `timeouts.exchange`, it holds instead. Once it is over the client gets 504, gRPC `DEADLINE_EXCEEDED`, and what goes on is
//!   cancelled. A time that is no number is ignored.
//! - Each try tells the upstream how much is left by then, in the same way.
//! - What the app sends while it works on a request has no more time than that request, if it carries the same trace on: the
//!   sidecar knows both sides. The app need not know of deadlines.
//! - A request whose time is over when it arrives is refused with 504 `deadline_exceeded`, and the app does no work for nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::own_header::OwnHeader;
use crate::{
    Attempt, BuildError, Context, Direction, Exchange, Fact, Filter, Outcome, Phases, Plugin, Refusal, Step,
    TraceContext, Words,
};

mod grpc;
mod known;

use known::Known;

/// Keeps to the time that a caller has, and passes on what is left of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The header with the milliseconds that the caller waits, and in which the upstream is told how many are left. gRPC has its
    /// own, `grpc-timeout`.
    pub header: String,
    /// Whether what the app sends has no more time than the request it works on. The two are known to belong together by
    /// their trace, which the app has to carry on (`traceparent`).
    pub follow_trace: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header: "x-request-timeout-ms".to_owned(),
            follow_trace: true,
        }
    }
}

/// The `deadline` plugin.
pub struct Deadline;

const NAME: &str = "deadline";

const EXCEEDED: Refusal = Refusal {
    status: StatusCode::GATEWAY_TIMEOUT,
    reason: "deadline_exceeded",
    message: "the caller's time was over when the request arrived",
    proxy_error: "http_request_denied",
    retry_after: None,
    fact: Fact::None,
};

/// What is entered in the ledger, in words.
const WORDS: Words = &[
    (
        "of_caller",
        &[
            "the caller waits {0}, less than `timeouts.exchange` ({1})",
            "the caller waits {0}",
            "the caller's time is the limit",
        ],
    ),
    (
        "of_trace",
        &[
            "the request that the app works on has {0} left, less than `timeouts.exchange` ({1})",
            "the request that the app works on has {0} left",
            "the time of the request that the app works on is the limit",
        ],
    ),
    (
        "deadline_exceeded",
        &["refused: the caller's time was over when the request arrived"],
    ),
];

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

impl Plugin for Deadline {
    const NAME: &'static str = NAME;
    type Config = Config;
    const WORDS: Words = WORDS;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Keep {
            header: OwnHeader::new(config.header, "a time")?,
            known: config
                .follow_trace
                .then(|| context.shared_by_both(|| Known::new(Instant::now()))),
            direction: context.route.direction,
        }))
    }
}

struct Keep {
    header: OwnHeader,
    /// Shared by both directions.
    known: Option<Arc<Known>>,
    direction: Direction,
}

/// What the app was given time for.
struct Remembered {
    trace: u64,
    until: Instant,
}

impl Filter for Keep {
    fn phases(&self) -> Phases {
        let phases = Phases::REQUEST | Phases::ATTEMPT;
        if self.known.is_some() && self.direction == Direction::Inbound {
            phases | Phases::COMPLETE
        } else {
            phases
        }
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        let said = self.said(exchange);
        let trace = exchange.trace.as_ref().map(trace_of);
        let caused = match (&self.known, trace, self.direction) {
            (Some(known), Some(trace), Direction::Outbound) => known.left(trace, exchange.timing.started),
            _ => None,
        };
        let own = exchange.plan.timeouts.exchange;
        let limit = [said, caused, own].into_iter().flatten().min();
        if limit.is_some_and(|limit| limit.is_zero()) {
            return Step::Refuse(EXCEEDED);
        }
        if limit != own {
            let reason = if limit == said { "of_caller" } else { "of_trace" };
            let fact = match (limit, own) {
                (Some(limit), Some(own)) => Fact::Times(limit, own),
                (Some(limit), None) => Fact::Time(limit),
                (None, _) => Fact::None,
            };
            exchange.ledger.enter_with(NAME, reason, fact);
            exchange.plan.timeouts.exchange = limit;
        }
        if let (Some(known), Some(trace), Some(limit), Direction::Inbound) = (&self.known, trace, limit, self.direction)
        {
            let until = exchange.timing.started + limit;
            known.remember(trace, until);
            exchange.set_state(Remembered { trace, until });
        }
        Step::Continue
    }

    fn attempt(&self, exchange: &mut Exchange, _: &mut Attempt) -> Step {
        let Some(limit) = exchange.plan.timeouts.exchange else {
            return Step::Continue;
        };
        let left = limit.saturating_sub(exchange.timing.started.elapsed());
        if exchange.is_grpc() {
            if let Ok(value) = HeaderValue::from_str(&grpc::write(left)) {
                let _ = exchange.request.insert_header(GRPC_TIMEOUT, value);
            }
        } else {
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            self.header
                .write_request(&mut exchange.request, HeaderValue::from(millis));
        }
        Step::Continue
    }

    fn complete(&self, exchange: &mut Exchange, _: &Outcome) {
        if let (Some(known), Some(remembered)) = (&self.known, exchange.state::<Remembered>()) {
            known.forget(remembered.trace, remembered.until);
        }
    }
}

impl Keep {
    /// How long the caller says that it waits.
    fn said(&self, exchange: &Exchange) -> Option<Duration> {
        let headers = &exchange.request.headers;
        let grpc = headers.get(GRPC_TIMEOUT).filter(|_| exchange.is_grpc());
        let grpc = grpc.and_then(|value| grpc::read(value.as_bytes()));
        let millis = headers.get(&self.header.name).and_then(|value| value.to_str().ok());
        let millis = millis
            .and_then(|text| text.trim().parse().ok())
            .map(Duration::from_millis);
        [grpc, millis].into_iter().flatten().min()
    }
}

/// A trace's id, of which the half that is random in all versions is enough.
fn trace_of(trace: &TraceContext) -> u64 {
    u128::from_be_bytes(trace.trace_id.to_bytes()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SharedState, Telemetry, TraceId, testing};

    fn pair(settings: &serde_json::Value) -> [Arc<dyn Filter>; 2] {
        let state = SharedState::default();
        [Direction::Inbound, Direction::Outbound].map(|direction| {
            let context = Context {
                filter: NAME,
                route: &testing::route(direction, "/test"),
                telemetry: &Telemetry::default(),
                state: &state,
                matches: &crate::Matches::default(),
                background: &testing::no_background(),
                warnings: &crate::Warnings::default(),
                upstreams: None,
            };
            Deadline::build(serde_json::from_value(settings.clone()).unwrap(), &context).unwrap()
        })
    }

    fn asking(name: &'static str, value: &str) -> Exchange {
        let mut exchange = testing::exchange("GET", "/");
        exchange.request.insert_header(name, value).unwrap();
        exchange
    }

    fn in_trace(mut exchange: Exchange, id: u128) -> Exchange {
        exchange.trace = Some(TraceContext {
            trace_id: TraceId::from(id),
            span_id: crate::SpanId::from(1),
            parent: None,
            sampled: false,
            tracestate: None,
            trace_id_hex: [b'0'; 32],
        });
        exchange
    }

    fn limit(filter: &dyn Filter, mut exchange: Exchange) -> Option<Duration> {
        assert!(matches!(filter.request(&mut exchange), Step::Continue));
        exchange.plan.timeouts.exchange
    }

    #[test]
    fn the_shorter_of_both_times_holds() {
        let [filter, _] = pair(&serde_json::json!({}));
        for (said, own, expected) in [
            ("1500", None, Some(1500)),
            ("1500", Some(1000), Some(1000)),
            ("500", Some(1000), Some(500)),
            ("soon", Some(1000), Some(1000)),
            ("-1", None, None),
            ("1.5", None, None),
        ] {
            let mut exchange = asking("x-request-timeout-ms", said);
            exchange.plan.timeouts.exchange = own.map(Duration::from_millis);
            assert_eq!(limit(&*filter, exchange), expected.map(Duration::from_millis), "{said}");
        }
    }

    #[test]
    fn grpc_has_its_own_header() {
        let [filter, _] = pair(&serde_json::json!({}));
        let mut exchange = asking("grpc-timeout", "2S");
        assert_eq!(limit(&*filter, asking("grpc-timeout", "2S")), None, "it is not gRPC");
        exchange
            .request
            .insert_header("content-type", "application/grpc")
            .unwrap();
        assert!(matches!(filter.request(&mut exchange), Step::Continue));
        assert_eq!(exchange.plan.timeouts.exchange, Some(Duration::from_secs(2)));
        let mut attempt = Attempt {
            number: 1,
            endpoint: Arc::from("a:1"),
        };
        filter.attempt(&mut exchange, &mut attempt);
        let left = grpc::read(exchange.request.headers["grpc-timeout"].as_bytes()).unwrap();
        assert!(
            left <= Duration::from_secs(2) && left > Duration::from_secs(1),
            "{left:?}"
        );
    }

    #[test]
    fn what_is_left_is_passed_on() {
        let [filter, _] = pair(&serde_json::json!({ "header": "X-Time" }));
        let mut exchange = asking("x-time", "1000");
        exchange.timing.started = Instant::now().checked_sub(Duration::from_millis(400)).unwrap();
        filter.request(&mut exchange);
        let mut attempt = Attempt {
            number: 1,
            endpoint: Arc::from("a:1"),
        };
        filter.attempt(&mut exchange, &mut attempt);
        let left: u64 = exchange.request.headers["x-time"].to_str().unwrap().parse().unwrap();
        assert!((300..=600).contains(&left), "{left}");
    }

    #[test]
    fn who_comes_too_late_is_refused() {
        let [filter, _] = pair(&serde_json::json!({}));
        let step = filter.request(&mut asking("x-request-timeout-ms", "0"));
        assert!(matches!(step, Step::Refuse(refusal) if refusal.status == 504));
    }

    #[test]
    fn what_the_app_sends_has_the_time_of_what_it_works_on() {
        let [inbound, outbound] = pair(&serde_json::json!({}));
        let mut received = in_trace(asking("x-request-timeout-ms", "5000"), 77);
        inbound.request(&mut received);
        let sent = || in_trace(testing::exchange("GET", "/"), 77);
        let left = limit(&*outbound, sent()).unwrap();
        assert!(
            left <= Duration::from_secs(5) && left > Duration::from_secs(4),
            "{left:?}"
        );
        assert_eq!(limit(&*outbound, in_trace(testing::exchange("GET", "/"), 78)), None);
        inbound.complete(&mut received, &testing::outcome(200));
        assert_eq!(limit(&*outbound, sent()), None);
        let [inbound, outbound] = pair(&serde_json::json!({ "follow_trace": false }));
        inbound.request(&mut in_trace(asking("x-request-timeout-ms", "5000"), 77));
        assert_eq!(limit(&*outbound, sent()), None);
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let config = serde_json::from_value::<Config>(serde_json::json!({ "heade": "x" }));
        assert!(config.unwrap_err().to_string().contains("heade"));
    }
}
