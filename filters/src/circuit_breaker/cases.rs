//! The filter in a chain: what exchanges get, and what their tries are counted as.

mod settings;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use pingora_http::ResponseHeader;
use tokio::time::advance;

use super::{Breakers, CircuitBreaker, Force, NAME, State};
use crate::chain::Way;
use crate::{
    Attempt, AttemptRecord, AttemptResult, Body, Chain, Context, Direction, End, Exchange, Failure, Link, Matches,
    Outcome, Plugin, Response, SharedState, Telemetry, Tried, Verdict, Warnings, testing,
};

/// What outlives the filters that are built.
#[derive(Default)]
struct Sidecar {
    telemetry: Telemetry,
    state: SharedState,
}

impl Sidecar {
    fn chain_of(&self, config: &str, route: &str) -> Result<Chain, String> {
        let context = Context {
            filter: NAME,
            route: &testing::route(Direction::Inbound, route),
            telemetry: &self.telemetry,
            state: &self.state,
            matches: &Matches::default(),
            background: &testing::no_background(),
            warnings: &Warnings::default(),
            upstreams: None,
        };
        let config = serde_json::from_str(config).map_err(|error| error.to_string())?;
        let filter = CircuitBreaker::build(config, &context).map_err(|error| error.to_string())?;
        Ok(Chain::new(vec![Link {
            plugin: NAME,
            name: Arc::from(NAME),
            filter,
        }]))
    }

    fn chain(&self, config: &str) -> Chain {
        self.chain_of(config, "/test").unwrap()
    }

    fn breakers(&self) -> Arc<Breakers> {
        self.state.each::<Breakers>().remove(0).2
    }

    fn state_of(&self, upstream: &str) -> State {
        let reports = self.breakers().report();
        let report = reports.iter().find(|report| report.upstream == upstream);
        report.unwrap_or_else(|| panic!("no {upstream}")).state
    }

    fn metric(&self, name: &str, label: &str) -> u64 {
        let families = self.telemetry.metrics.registry().gather();
        let family = families.iter().filter(|family| family.name() == name);
        let metrics = family.flat_map(prometheus::proto::MetricFamily::get_metric);
        let labelled = metrics.filter(|metric| {
            let mut labels = metric.get_label().iter();
            label.is_empty() || labels.any(|pair| pair.value() == label)
        });
        labelled
            .map(|metric| (metric.get_counter().get_value() + metric.get_gauge().get_value()) as u64)
            .sum()
    }
}

/// How a try goes.
#[derive(Clone, Copy)]
enum Try {
    Status(u16),
    Failed(Failure),
    Grpc { head: Option<&'static str>, trailers: u16 },
    Cut,
    Abandoned,
}

const DOWN: Try = Try::Failed(Failure::ConnectFailed);
const PLAIN: &str = r#"{"open": {"jitter": 0}}"#;

fn enter(chain: &Chain, exchange: &mut Exchange) -> Option<Response> {
    match chain.request(exchange) {
        Way::Through => None,
        Way::Answer(response) => Some(response),
        _ => panic!("it waits"),
    }
}

/// A try of an exchange that was let through.
fn attempt(chain: &Chain, exchange: &mut Exchange, number: u32, goes: Try, took: Duration) -> Verdict {
    let mut attempt = Attempt {
        number,
        endpoint: Arc::from("127.0.0.1:1"),
    };
    assert!(matches!(chain.attempt(exchange, &mut attempt), Way::Through));
    let mut head = ResponseHeader::build(200, None).unwrap();
    let result = match goes {
        Try::Status(status) => {
            head.set_status(StatusCode::from_u16(status).unwrap()).unwrap();
            AttemptResult::Answered(head.status)
        }
        Try::Grpc { head: status, .. } => {
            if let Some(status) = status {
                head.insert_header("grpc-status", status).unwrap();
            }
            AttemptResult::Answered(StatusCode::OK)
        }
        Try::Cut => AttemptResult::Answered(StatusCode::OK),
        Try::Failed(failure) => AttemptResult::Failed(failure),
        Try::Abandoned => AttemptResult::Abandoned,
    };
    let tried = Tried {
        result,
        head: matches!(result, AttemptResult::Answered(_)).then_some(&head),
        took,
        unprocessed: false,
        whole: true,
        beside: false,
    };
    chain.attempt_done(exchange, &attempt, tried)
}

fn complete(chain: &Chain, exchange: &mut Exchange, goes: Try, end: Option<End>) {
    let (result, natural) = match goes {
        Try::Status(status) => (
            Some(AttemptResult::Answered(StatusCode::from_u16(status).unwrap())),
            End::Complete,
        ),
        Try::Grpc { .. } => (Some(AttemptResult::Answered(StatusCode::OK)), End::Complete),
        Try::Cut => (
            Some(AttemptResult::Answered(StatusCode::OK)),
            End::Failed(Failure::ResponseIncomplete),
        ),
        Try::Failed(failure) => (Some(AttemptResult::Failed(failure)), End::Failed(failure)),
        Try::Abandoned => (None, End::ClientAborted),
    };
    let now = super::now();
    let attempts = result.map(|result| AttemptRecord {
        endpoint: Arc::from("127.0.0.1:1"),
        started: now,
        ended: now,
        connected: None,
        reused: false,
        result,
        span_id: None,
    });
    let outcome = Outcome {
        end: end.unwrap_or(natural),
        grpc_status: match goes {
            Try::Grpc { trailers, .. } => Some(trailers),
            _ => None,
        },
        attempts: attempts.into_iter().collect(),
        ..testing::outcome(200)
    };
    chain.complete(exchange, &outcome);
}

/// A whole exchange; the answer if it was not let through.
fn run_as(chain: &Chain, mut exchange: Exchange, goes: Try) -> Option<Response> {
    if let Some(response) = enter(chain, &mut exchange) {
        chain.complete(&mut exchange, &testing::outcome(response.head.status.as_u16()));
        return Some(response);
    }
    attempt(chain, &mut exchange, 1, goes, Duration::ZERO);
    complete(chain, &mut exchange, goes, None);
    None
}

fn run(chain: &Chain, goes: Try) -> Option<Response> {
    run_as(chain, testing::exchange("GET", "/"), goes)
}

fn open(chain: &Chain) {
    for number in 0..5 {
        assert!(run(chain, DOWN).is_none(), "{number}");
    }
    assert!(run(chain, DOWN).is_some());
}

fn grpc() -> Exchange {
    let mut exchange = testing::exchange("POST", "/pkg.Service/Method");
    let request = &mut exchange.request;
    request.insert_header("content-type", "application/grpc").unwrap();
    exchange
}

fn ledger(exchange: &Exchange) -> Vec<&'static str> {
    exchange.ledger.entries().iter().map(|entry| entry.reason).collect()
}

#[tokio::test(start_paused = true)]
async fn open_it_answers_503_and_says_when_to_come_again() {
    let sidecar = Sidecar::default();
    let chain = sidecar.chain(PLAIN);
    open(&chain);
    advance(Duration::from_millis(1500)).await;
    let mut exchange = testing::exchange("GET", "/");
    let response = enter(&chain, &mut exchange).unwrap();
    assert_eq!(response.head.status, 503);
    assert_eq!(response.head.headers["retry-after"], "4");
    assert_eq!(
        response.head.headers["proxy-status"],
        "pillion; error=destination_unavailable; details=\"circuit_open\""
    );
    assert_eq!(ledger(&exchange), ["circuit_open"]);
    let response = enter(&chain, &mut grpc()).unwrap();
    assert_eq!(response.head.headers["grpc-status"], "14");
    assert_eq!(sidecar.metric("pillion_circuit_breaker_state", ""), 2);
    assert_eq!(sidecar.metric("pillion_circuit_breaker_rejected_total", ""), 3);
    assert_eq!(
        sidecar.metric("pillion_circuit_breaker_transitions_total", "consecutive_failures"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_a_failure_is_configurable() {
    for (counts, goes, opens) in [
        (r#"["5xx"]"#, Try::Status(500), true),
        (r#"["5xx"]"#, Try::Status(501), false),
        (r#"["5xx"]"#, DOWN, false),
        (r#"["connect"]"#, DOWN, true),
        (r#"["connect"]"#, Try::Status(500), false),
        (r#"["timeout"]"#, Try::Failed(Failure::FirstByteTimeout), true),
        (r#"["reset"]"#, Try::Failed(Failure::UpstreamClosed), true),
        (r#"["incomplete"]"#, Try::Cut, true),
        (r#"["5xx"]"#, Try::Cut, false),
        ("[429]", Try::Status(429), true),
        (r#"["5xx", "connect"]"#, Try::Abandoned, false),
        (r#"["5xx"]"#, Try::Failed(Failure::RequestTimeout), false),
    ] {
        let sidecar = Sidecar::default();
        let chain = sidecar.chain(&format!("{{\"counts\": {counts}}}"));
        for _ in 0..5 {
            run(&chain, goes);
        }
        assert_eq!(sidecar.state_of("app") == State::Open, opens, "{counts}");
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_is_judged_by_its_status_wherever_that_is() {
    let head = |head, trailers| Try::Grpc { head, trailers };
    for (goes, opens) in [
        (head(Some("14"), 14), true),
        (head(None, 14), true),
        (head(None, 2), true),
        (head(None, 5), false),
        (head(Some("5"), 5), false),
        (head(None, 0), false),
        (head(None, 12), false),
    ] {
        let sidecar = Sidecar::default();
        let chain = sidecar.chain(PLAIN);
        for number in 0..5 {
            assert_eq!(sidecar.state_of("app"), State::Closed, "{number}");
            run_as(&chain, grpc(), goes);
        }
        assert_eq!(sidecar.state_of("app") == State::Open, opens);
        let report = &sidecar.breakers().report()[0];
        if opens {
            assert_eq!((report.calls, report.failed), (5, 5), "each is counted once");
        }
        // Half-open, the probe is judged by it too.
        if opens {
            advance(Duration::from_secs(5)).await;
            run_as(&chain, grpc(), goes);
            assert_eq!(sidecar.state_of("app"), State::Open);
            assert_eq!(sidecar.metric("pillion_circuit_breaker_probes_total", "failure"), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_status_in_the_head_is_counted_once() {
    let sidecar = Sidecar::default();
    let chain = sidecar.chain(r#"{"failures": {"consecutive": "none", "min_calls": 4, "ratio": 0.75}}"#);
    for status in ["0", "0", "14", "14"] {
        let goes = Try::Grpc {
            head: Some(status),
            trailers: status.parse().unwrap(),
        };
        assert!(run_as(&chain, grpc(), goes).is_none());
    }
    let report = &sidecar.breakers().report()[0];
    assert_eq!((report.state, report.calls, report.failed), (State::Closed, 4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_given_back_however_its_exchange_ends() {
    let sidecar = Sidecar::default();
    let chain = sidecar.chain(r#"{"open": {"jitter": 0}, "half_open": {"probes": 1, "successes": 1}}"#);
    open(&chain);
    advance(Duration::from_secs(5)).await;
    // Dropped on its way.
    let mut dropped = testing::exchange("GET", "/");
    assert!(enter(&chain, &mut dropped).is_none());
    assert_eq!(ledger(&dropped), ["probe"]);
    let full = enter(&chain, &mut testing::exchange("GET", "/")).unwrap();
    assert_eq!(full.head.headers["retry-after"], "1");
    drop(dropped);
    // Given up before an answer, and through no fault of the upstream.
    for (goes, end) in [
        (Try::Abandoned, None),
        (Try::Failed(Failure::RequestTimeout), None),
        (Try::Status(200), Some(End::Failed(Failure::ExchangeTimeout))),
    ] {
        let mut exchange = testing::exchange("GET", "/");
        assert!(enter(&chain, &mut exchange).is_none());
        attempt(&chain, &mut exchange, 1, goes, Duration::ZERO);
        assert!(enter(&chain, &mut testing::exchange("GET", "/")).is_some());
        complete(&chain, &mut exchange, goes, end);
        assert_eq!(sidecar.state_of("app"), State::HalfOpen);
    }
    // A try that met a dead connection is made again as the same probe.
    let mut exchange = testing::exchange("GET", "/");
    assert!(enter(&chain, &mut exchange).is_none());
    attempt(&chain, &mut exchange, 1, Try::Abandoned, Duration::ZERO);
    attempt(&chain, &mut exchange, 2, Try::Status(200), Duration::ZERO);
    complete(&chain, &mut exchange, Try::Status(200), None);
    assert_eq!(sidecar.state_of("app"), State::Closed);
    assert_eq!(sidecar.metric("pillion_circuit_breaker_probes_total", "unknown"), 4);
    assert_eq!(sidecar.metric("pillion_circuit_breaker_probes_total", "success"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_a_stream_without_end_went_well_after_a_while() {
    let sidecar = Sidecar::default();
    let chain = sidecar.chain(r#"{"open": {"jitter": 0}, "half_open": {"probes": 1, "successes": 1}}"#);
    open(&chain);
    advance(Duration::from_secs(5)).await;
    let mut stream = testing::exchange("GET", "/");
    assert!(enter(&chain, &mut stream).is_none());
    attempt(&chain, &mut stream, 1, Try::Status(200), Duration::ZERO);
    assert!(enter(&chain, &mut testing::exchange("GET", "/")).is_some());
    advance(Duration::from_secs(5)).await;
    assert!(enter(&chain, &mut testing::exchange("GET", "/")).is_none());
    assert_eq!(sidecar.state_of("app"), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_body_is_cut_or_whose_head_is_slow_has_failed() {
    let config = r#"{"open": {"jitter": 0}, "slow": {"after": "1s"}, "half_open": {"successes": 1}}"#;
    for (goes, took, end) in [
        (Try::Cut, Duration::ZERO, State::Open),
        (Try::Status(200), Duration::from_secs(2), State::Open),
        (Try::Status(404), Duration::from_secs(1), State::Closed),
        (Try::Status(101), Duration::ZERO, State::Closed),
    ] {
        let sidecar = Sidecar::default();
        let chain = sidecar.chain(config);
        open(&chain);
        advance(Duration::from_secs(5)).await;
        let mut exchange = testing::exchange("GET", "/");
        assert!(enter(&chain, &mut exchange).is_none());
        attempt(&chain, &mut exchange, 1, goes, took);
        complete(&chain, &mut exchange, goes, None);
        assert_eq!(sidecar.state_of("app"), end);
    }
}

#[tokio::test(start_paused = true)]
async fn no_other_try_is_made_once_it_is_open() {
    let sidecar = Sidecar::default();
    let chain = sidecar.chain(PLAIN);
    let mut exchange = testing::exchange("GET", "/");
    assert!(enter(&chain, &mut exchange).is_none());
    for number in 1..5 {
        assert_eq!(
            attempt(&chain, &mut exchange, number, DOWN, Duration::ZERO),
            Verdict::Keep
        );
    }
    // Nor is one that may not be repeated said to have been held back.
    let mut post = testing::exchange("POST", "/");
    assert!(enter(&chain, &mut post).is_none());
    assert_eq!(attempt(&chain, &mut exchange, 5, DOWN, Duration::ZERO), Verdict::Stop);
    assert_eq!(ledger(&exchange), ["not_retried"]);
    assert_eq!(attempt(&chain, &mut post, 1, DOWN, Duration::ZERO), Verdict::Stop);
    assert!(ledger(&post).is_empty());
    // One that was waited for while it opened is not made.
    let mut second = Attempt {
        number: 2,
        endpoint: Arc::from("127.0.0.1:1"),
    };
    let Way::Answer(response) = chain.attempt(&mut post, &mut second) else {
        panic!("it is made");
    };
    assert_eq!(response.head.status, 503);
}
