use http::StatusCode;
use pingora_http::ResponseHeader;

use super::*;
use crate::{Failure, Telemetry, testing};

fn filter(settings: serde_json::Value) -> Arc<dyn Filter> {
    let config = serde_json::from_value(settings).unwrap();
    testing::with_context(NAME, &Telemetry::default(), |context| Retry::build(config, context)).unwrap()
}

fn attempt() -> Attempt {
    Attempt {
        number: 1,
        endpoint: Arc::from("192.0.2.1:80"),
    }
}

fn failed(failure: Failure) -> Tried<'static> {
    Tried {
        result: AttemptResult::Failed(failure),
        head: None,
        took: Duration::from_millis(1),
        unprocessed: failure.nothing_was_sent(),
        whole: true,
        beside: false,
    }
}

/// What becomes of an exchange whose tries all end so: how many there are, and the ledger's last word.
fn tries(filter: &dyn Filter, method: &str, tried: Tried<'_>) -> (u32, &'static str) {
    let mut exchange = testing::exchange(method, "/");
    assert!(matches!(filter.request(&mut exchange), Step::Continue));
    let mut made = 1;
    while let Verdict::Retry(_) = filter.attempt_done(&mut exchange, &attempt(), tried) {
        made += 1;
        assert!(made < 20);
    }
    (made, exchange.ledger.entries().last().map_or("", |entry| entry.reason))
}

#[test]
fn what_was_not_sent_is_tried_again_whatever_it_is() {
    let retry = filter(serde_json::json!({ "attempts": 3 }));
    for method in ["GET", "POST", "PATCH"] {
        let (made, why) = tries(&*retry, method, failed(Failure::ConnectFailed));
        assert_eq!((made, why), (3, "attempts_exhausted"), "{method}");
    }
}

#[test]
fn what_may_have_been_acted_on_is_not_tried_again_unless_it_is_idempotent() {
    let retry = filter(serde_json::json!({ "attempts": 2, "on": ["reset", "timeout", "5xx"] }));
    for (method, made, why) in [
        ("GET", 2, "attempts_exhausted"),
        ("PUT", 2, "attempts_exhausted"),
        ("DELETE", 2, "attempts_exhausted"),
        ("POST", 1, "not_repeatable"),
        ("PATCH", 1, "not_repeatable"),
    ] {
        for failure in [Failure::UpstreamClosed, Failure::FirstByteTimeout] {
            assert_eq!(tries(&*retry, method, failed(failure)), (made, why), "{method}");
        }
        let head = ResponseHeader::build(500, None).unwrap();
        let answered = Tried {
            result: AttemptResult::Answered(StatusCode::INTERNAL_SERVER_ERROR),
            head: Some(&head),
            ..failed(Failure::Internal)
        };
        assert_eq!(tries(&*retry, method, answered), (made, why), "{method}");
    }
    let search = filter(serde_json::json!({ "on": ["reset"], "unsafe_methods": ["POST"] }));
    assert_eq!(tries(&*search, "POST", failed(Failure::UpstreamClosed)).0, 2);
    assert_eq!(tries(&*search, "PATCH", failed(Failure::UpstreamClosed)).0, 1);
}

#[test]
fn what_was_refused_unread_is_tried_again_whatever_it_is() {
    let retry = filter(serde_json::json!({}));
    let refused = Tried {
        unprocessed: true,
        ..failed(Failure::UpstreamClosed)
    };
    assert_eq!(tries(&*retry, "POST", refused).0, 2);
}

#[test]
fn without_a_word_only_what_is_surely_safe_is_tried_again() {
    let retry = filter(serde_json::json!({}));
    for failure in Failure::ALL {
        let again = failure.nothing_was_sent() && failure != Failure::NoEndpoint;
        assert_eq!(
            tries(&*retry, "GET", failed(failure)).0,
            1 + u32::from(again),
            "{failure:?}"
        );
    }
}

#[test]
fn a_body_that_is_not_kept_is_not_sent_again() {
    let retry = filter(serde_json::json!({ "on": ["reset"] }));
    let tried = Tried {
        whole: false,
        ..failed(Failure::UpstreamClosed)
    };
    assert_eq!(tries(&*retry, "PUT", tried), (1, "body_too_large"));
}

#[test]
fn the_budget_is_for_all_routes_of_an_upstream() {
    let telemetry = Telemetry::default();
    let state = crate::SharedState::default();
    let build = |name: &str, upstream: &str| {
        let mut route = (*testing::route(crate::Direction::Inbound, name)).clone();
        route.upstream = Some(Arc::from(upstream));
        let config = serde_json::json!({ "budget": { "ratio": 0, "min_per_second": 1 }, "backoff": { "base": "0s" } });
        let context = Context {
            filter: NAME,
            route: &Arc::new(route),
            telemetry: &telemetry,
            state: &state,
            matches: &crate::Matches::default(),
            background: &testing::no_background(),
            warnings: &crate::Warnings::default(),
            upstreams: None,
        };
        Retry::build(serde_json::from_value(config).unwrap(), &context).unwrap()
    };
    let (one, other, elsewhere) = (build("/one", "a"), build("/other", "a"), build("/else", "b"));
    let granted = |filter: &dyn Filter| {
        let tried = |_: &u32| tries(filter, "GET", failed(Failure::ConnectFailed)).0 == 2;
        (0..20).filter(tried).count()
    };
    assert_eq!(granted(&*one), budget::WINDOW as usize);
    assert_eq!(granted(&*other), 0);
    assert_eq!(granted(&*elsewhere), budget::WINDOW as usize);
    let (_, why) = tries(&*one, "GET", failed(Failure::ConnectFailed));
    assert_eq!(why, "budget_exhausted");
}

#[test]
fn hedging_is_for_safe_requests_without_a_body() {
    let retry = filter(serde_json::json!({ "hedge": { "enabled": true, "after": "50ms" } }));
    let hedged = |method: &str, has_body: bool| {
        let mut exchange = testing::exchange(method, "/");
        exchange.has_body = has_body;
        retry.request(&mut exchange);
        exchange.plan.hedge.map(|hedge| hedge.after)
    };
    assert_eq!(hedged("GET", false), Some(Duration::from_millis(50)));
    for (method, has_body) in [("GET", true), ("DELETE", false), ("PUT", false), ("POST", false)] {
        assert_eq!(hedged(method, has_body), None, "{method}");
    }
}

#[test]
fn a_misspelt_key_is_refused() {
    let config = serde_json::from_value::<Config>(serde_json::json!({ "attemps": 2 }));
    assert!(config.unwrap_err().to_string().contains("attemps"));
}

/// A try that was answered, or given up, after so long.
fn took(millis: u64, result: AttemptResult) -> Tried<'static> {
    Tried {
        result,
        took: Duration::from_millis(millis),
        ..Tried::abandoned(false)
    }
}

/// Which part of the requests is hedged, in the end, of those to an app that takes 100 ms in the mean, exponentially
/// distributed.
fn hedged(status: u16) -> f64 {
    let mut random = fastrand::Rng::with_seed(5);
    let retry = filter(serde_json::json!({ "hedge": { "enabled": true } }));
    let start = Instant::now();
    let answered = AttemptResult::Answered(StatusCode::from_u16(status).unwrap());
    let mut hedged = 0;
    for request in 0..60_000 {
        let mut exchange = testing::exchange("GET", "/");
        exchange.timing.started = start + Duration::from_millis(request * 10);
        retry.request(&mut exchange);
        let mut takes = || (-100.0 * (1.0 - random.f64()).ln()) as u64;
        let (first, second) = (takes(), takes());
        let after = exchange
            .plan
            .hedge
            .as_ref()
            .map_or(u64::MAX, |hedge| hedge.after.as_millis() as u64);
        let mut done = |tried| retry.attempt_done(&mut exchange, &attempt(), tried);
        if first <= after {
            done(took(first, answered));
            continue;
        }
        hedged += u32::from(request >= 30_000);
        let beside = |millis| Tried {
            beside: true,
            ..took(millis, AttemptResult::Abandoned)
        };
        if first <= after + second {
            done(beside(first - after));
            done(took(first, answered));
        } else {
            done(beside(after + second));
            done(took(second, answered));
        }
    }
    f64::from(hedged) / 30_000.0
}

#[test]
fn no_more_are_slow_because_slow_ones_are_given_up() {
    let hedged = hedged(200);
    assert!((0.03..0.07).contains(&hedged), "{hedged}");
}

#[test]
fn what_fails_says_nothing_of_how_long_answers_take() {
    assert!(hedged(503).abs() < f64::EPSILON);
}

#[test]
fn what_becomes_of_one_of_two_tries_decides_nothing() {
    let retry = filter(serde_json::json!({ "attempts": 2, "hedge": { "enabled": true, "after": "10ms" } }));
    let mut exchange = testing::exchange("GET", "/");
    retry.request(&mut exchange);
    let beside = Tried {
        beside: true,
        ..failed(Failure::ConnectFailed)
    };
    assert_eq!(retry.attempt_done(&mut exchange, &attempt(), beside), Verdict::Keep);
    assert!(exchange.ledger.entries().is_empty());
    let verdict = retry.attempt_done(&mut exchange, &attempt(), failed(Failure::ConnectFailed));
    assert!(matches!(verdict, Verdict::Retry(_)), "it is the first of two");
}

#[test]
fn each_upstream_has_its_budget_however_requests_come_to_it() {
    let names: [Arc<str>; 2] = ["orders".into(), "users".into()];
    let telemetry = Telemetry::default();
    let retry = testing::with_context(NAME, &telemetry, |context| {
        let settings = serde_json::json!({ "budget": { "ratio": 0, "min_per_second": 1 } });
        let context = Context {
            upstreams: Some(&names),
            ..*context
        };
        Retry::build(serde_json::from_value(settings).unwrap(), &context)
    });
    let retry = retry.unwrap();
    let granted = |upstream: Option<&Arc<str>>| {
        let again = |_: &u32| {
            let mut exchange = testing::exchange("GET", "/");
            exchange.plan.upstream = upstream.cloned();
            retry.request(&mut exchange);
            let verdict = retry.attempt_done(&mut exchange, &attempt(), failed(Failure::ConnectFailed));
            verdict != Verdict::Keep
        };
        (0..100).filter(again).count()
    };
    // All of one is spent, and nothing of the others.
    for upstream in [Some(&names[0]), Some(&names[1]), None] {
        assert_eq!(granted(upstream), 10, "{upstream:?}");
    }
    assert_eq!(granted(Some(&names[0])), 0);
}

#[test]
fn a_body_that_is_kept_already_may_be_longer() {
    let replay = |before: Option<usize>| {
        let mut exchange = testing::exchange("POST", "/");
        exchange.plan.replay = before.unwrap_or(exchange.plan.replay);
        filter(serde_json::json!({ "max_body": "1KiB" })).request(&mut exchange);
        exchange.plan.replay
    };
    assert_eq!(replay(None), 1024);
    assert_eq!(replay(Some(1024 * 1024)), 1024 * 1024);
}

#[test]
fn what_becomes_another_protocol_is_not_hedged() {
    let retry = filter(serde_json::json!({ "hedge": { "enabled": true, "after": "10ms" } }));
    let mut exchange = testing::exchange("GET", "/");
    retry.request(&mut exchange);
    assert!(exchange.plan.hedge.is_some());
    let mut exchange = testing::exchange("GET", "/");
    exchange.request.insert_header("upgrade", "websocket").unwrap();
    retry.request(&mut exchange);
    assert!(exchange.plan.hedge.is_none());
}
