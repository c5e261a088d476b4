//! What a breaker that is closed costs a call, and one that is open a request: `cargo bench -p pillion-filters --bench
//! circuit_breaker`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "for who runs it, who is told at once"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use pillion_filters::circuit_breaker::{CircuitBreaker, Config};
use pillion_filters::{
    Attempt, AttemptRecord, AttemptResult, Chain, Context, Direction, Exchange, Failure, Link, Matches, Outcome,
    Plugin, Route, SharedState, Telemetry, Tried, Warnings, Way, testing,
};
use pingora_http::ResponseHeader;

const CALLS: u32 = 2_000_000;
const ROUNDS: usize = 7;

/// A chain with the breaker alone, or with nothing.
fn chain(route: &Arc<Route>, with: bool) -> Chain {
    let context = Context {
        filter: "circuit_breaker",
        route,
        telemetry: &Telemetry::default(),
        state: &SharedState::default(),
        matches: &Matches::default(),
        background: &testing::no_background(),
        warnings: &Warnings::default(),
        upstreams: None,
    };
    let filter = CircuitBreaker::build(Config::default(), &context).expect("settings that hold");
    let link = Link {
        plugin: "circuit_breaker",
        name: Arc::from("circuit_breaker"),
        filter,
    };
    Chain::new(if with { vec![link] } else { Vec::new() })
}

struct Call {
    exchange: Exchange,
    attempt: Attempt,
    head: ResponseHeader,
    outcome: Outcome,
}

impl Call {
    fn new(route: &Arc<Route>) -> Self {
        let pattern = testing::exchange("GET", "/");
        let mut exchange = Exchange::new(route.clone(), pattern.connection, pattern.request, pattern.timing);
        exchange.authority = Some(HeaderValue::from_static("users.example:8080"));
        let endpoint: Arc<str> = Arc::from("127.0.0.1:8080");
        let now = Instant::now();
        let outcome = Outcome {
            attempts: vec![AttemptRecord {
                endpoint: endpoint.clone(),
                started: now + Duration::from_secs(3600),
                ended: now,
                connected: None,
                reused: true,
                result: AttemptResult::Answered(StatusCode::OK),
                span_id: None,
            }],
            ..testing::outcome(200)
        };
        Self {
            exchange,
            attempt: Attempt { number: 1, endpoint },
            head: ResponseHeader::build(200, None).expect("a status"),
            outcome,
        }
    }

    /// All phases of one call; whether it was let through.
    fn make(&mut self, chain: &Chain, result: AttemptResult) -> bool {
        let through = matches!(chain.request(&mut self.exchange), Way::Through);
        if through {
            let _ = chain.attempt(&mut self.exchange, &mut self.attempt);
            let tried = Tried {
                result,
                head: Some(&self.head),
                took: Duration::ZERO,
                unprocessed: false,
                whole: true,
                beside: false,
            };
            black_box(chain.attempt_done(&mut self.exchange, &self.attempt, tried));
        }
        chain.complete(&mut self.exchange, &self.outcome);
        through
    }
}

/// Nanoseconds a call takes: the best of several rounds, since whatever else runs only adds.
fn measure(route: &Arc<Route>, with: bool) -> f64 {
    let chain = chain(route, with);
    let mut call = Call::new(route);
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        for _ in 0..CALLS {
            black_box(call.make(&chain, AttemptResult::Answered(StatusCode::OK)));
        }
        began.elapsed().as_nanos() as f64 / f64::from(CALLS)
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// The same of a request that is refused, its answer included.
fn measure_open(route: &Arc<Route>) -> f64 {
    let chain = chain(route, true);
    for _ in 0..5 {
        let mut call = Call::new(route);
        call.make(&chain, AttemptResult::Failed(Failure::ConnectFailed));
    }
    let calls = 100_000;
    let mut call = Call::new(route);
    let began = Instant::now();
    for _ in 0..calls {
        assert!(!call.make(&chain, AttemptResult::Abandoned), "it is open for 5s");
    }
    began.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// What it is to ask for the time, as the filter does.
fn measure_clock() -> f64 {
    let began = Instant::now();
    for _ in 0..CALLS {
        black_box(tokio::time::Instant::now().into_std());
    }
    began.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn main() {
    let named = testing::route(Direction::Inbound, "/test");
    let by_host = Arc::new(Route {
        service: Arc::from("test"),
        name: Arc::from("/test"),
        matched: true,
        direction: Direction::Outbound,
        upstream: None,
        error_format: named.error_format,
        plan: named.plan.clone(),
    });
    let empty = measure(&named, false);
    println!("| a call | ns |\n| --- | ---: |");
    println!("| the clock alone, which a call reads once | {:.1} |", measure_clock());
    println!("| a chain without filters | {empty:.1} |");
    println!("| with a breaker, closed | {:.1} |", measure(&named, true));
    println!(
        "| likewise, of a host that the request names | {:.1} |",
        measure(&by_host, true)
    );
    println!("| open: refused, the answer made | {:.1} |", measure_open(&named));
}
