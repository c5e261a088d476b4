//! What stands in, who shares a breaker, what a reload leaves, and what cannot be set.

use std::sync::Arc;
use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_fixed_answer_stands_in() {
    let sidecar = Sidecar::default();
    let config = r#"{"fallback": {"response": {
        "status": 200, "headers": {"Content-Type": "application/json", "X-Degraded": "1"}, "body": "[]"
    }}}"#;
    let chain = sidecar.chain(config);
    open(&chain);
    let mut exchange = testing::exchange("GET", "/");
    let response = enter(&chain, &mut exchange).unwrap();
    let headers = &response.head.headers;
    assert_eq!(response.head.status, 200);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-degraded"], "1");
    assert_eq!(headers["cache-control"], "no-store", "nobody stores it for the app's");
    assert_eq!(headers["content-length"], "2");
    assert!(!headers.contains_key("retry-after"));
    assert!(matches!(&response.body, Body::Full(body) if body == "[]"));
    assert_eq!(ledger(&exchange), ["fallback_response"]);
    // A gRPC client could not read it.
    assert_eq!(enter(&chain, &mut grpc()).unwrap().head.headers["grpc-status"], "14");
    let plain = Sidecar::default().chain(r#"{"fallback": {"response": {"body": "later"}}}"#);
    open(&plain);
    let response = enter(&plain, &mut testing::exchange("GET", "/")).unwrap();
    assert_eq!(response.head.status, 503);
    assert_eq!(response.head.headers["retry-after"], "6", "5s and up to a fifth more");
    assert_eq!(response.head.headers["content-type"], "text/plain; charset=utf-8");
}

#[tokio::test(start_paused = true)]
async fn another_upstream_stands_in_and_has_a_breaker_of_its_own() {
    let sidecar = Sidecar::default();
    let chain = sidecar.chain(r#"{"open": {"jitter": 0}, "fallback": {"upstream": "spare"}}"#);
    for _ in 0..5 {
        assert!(run(&chain, DOWN).is_none());
    }
    let mut exchange = testing::exchange("GET", "/");
    assert!(enter(&chain, &mut exchange).is_none());
    assert_eq!(exchange.plan.upstream.as_deref(), Some("spare"));
    assert_eq!(ledger(&exchange), ["fallback_upstream"]);
    attempt(&chain, &mut exchange, 1, DOWN, Duration::ZERO);
    complete(&chain, &mut exchange, DOWN, None);
    assert_eq!(sidecar.state_of("spare"), State::Closed);
    for _ in 0..4 {
        assert!(run(&chain, DOWN).is_none());
    }
    assert_eq!(sidecar.state_of("spare"), State::Open);
    let mut exchange = testing::exchange("GET", "/");
    assert_eq!(enter(&chain, &mut exchange).unwrap().head.status, 503);
}

#[tokio::test(start_paused = true)]
async fn stale_is_asked_of_the_cache_before_it() {
    let sidecar = Sidecar::default();
    let chain = sidecar.chain(r#"{"fallback": "stale"}"#);
    let mut exchange = testing::exchange("GET", "/");
    assert!(enter(&chain, &mut exchange).is_none());
    assert!(!exchange.plan.accept_stale, "as long as the app can be asked");
    open(&chain);
    let mut exchange = testing::exchange("GET", "/");
    assert_eq!(enter(&chain, &mut exchange).unwrap().head.status, 503);
    assert!(exchange.plan.accept_stale);
}

#[tokio::test(start_paused = true)]
async fn routes_share_a_breaker_or_have_their_own() {
    let sidecar = Sidecar::default();
    let [a, b] = ["/a", "/b"].map(|route| sidecar.chain_of(PLAIN, route).unwrap());
    let own = sidecar.chain_of(r#"{"per": "route"}"#, "/c").unwrap();
    open(&a);
    assert!(run(&b, DOWN).is_some());
    assert!(run(&own, DOWN).is_none());
    let reports = sidecar.breakers().report();
    let told: Vec<_> = reports
        .iter()
        .map(|report| (report.route.as_deref(), report.state, report.failed))
        .collect();
    assert_eq!(told, [(None, State::Open, 5), (Some("/c"), State::Closed, 1)]);
    assert_eq!(sidecar.breakers().force("app", Some("/c"), Force::Open), 1);
    assert!(run(&own, DOWN).is_some());
    assert_eq!(sidecar.breakers().force("app", Some("/d"), Force::Open), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reload_forgets_nothing_although_settings_change() {
    let sidecar = Sidecar::default();
    let before = sidecar.chain(PLAIN);
    for _ in 0..4 {
        run(&before, DOWN);
    }
    let same = sidecar.chain(PLAIN);
    drop(before);
    assert!(run(&same, DOWN).is_none());
    assert_eq!(sidecar.state_of("app"), State::Open);
    let after = sidecar.chain(r#"{"failures": {"window": "30s", "consecutive": 3}}"#);
    drop(same);
    assert!(run(&after, DOWN).is_some());
    assert_eq!(sidecar.state_of("app"), State::Open);
    drop(after);
    assert!(sidecar.breakers().report().is_empty(), "nobody needs it any more");
}

#[tokio::test(start_paused = true)]
async fn each_host_that_requests_name_has_its_own() {
    let sidecar = Sidecar::default();
    let mut route = Arc::into_inner(testing::route(Direction::Outbound, "/test")).unwrap();
    route.upstream = None;
    let route = Arc::new(route);
    let filter = CircuitBreaker::build(
        serde_json::from_str(PLAIN).unwrap(),
        &Context {
            filter: NAME,
            route: &route,
            telemetry: &sidecar.telemetry,
            state: &sidecar.state,
            matches: &Matches::default(),
            background: &testing::no_background(),
            warnings: &Warnings::default(),
            upstreams: None,
        },
    );
    let chain = Chain::new(vec![Link {
        plugin: NAME,
        name: Arc::from(NAME),
        filter: filter.unwrap(),
    }]);
    let to = |host: &'static str| {
        let pattern = testing::exchange("GET", "/");
        let mut exchange = Exchange::new(route.clone(), pattern.connection, pattern.request, pattern.timing);
        exchange.authority = Some(http::HeaderValue::from_static(host));
        exchange
    };
    for _ in 0..5 {
        assert!(run_as(&chain, to("users.example"), DOWN).is_none());
        assert!(run_as(&chain, to("orders.example"), Try::Status(200)).is_none());
    }
    assert!(run_as(&chain, to("Users.Example:80"), DOWN).is_some());
    assert!(run_as(&chain, to("orders.example"), Try::Status(200)).is_none());
    let reports = sidecar.breakers().report();
    let told: Vec<_> = reports
        .iter()
        .map(|report| (&*report.upstream, report.is_host, report.state))
        .collect();
    let expected = [
        ("orders.example", true, State::Closed),
        ("users.example", true, State::Open),
    ];
    assert_eq!(told, expected);
}

#[test]
fn wrong_settings_are_refused() {
    for (config, why) in [
        (r#"{"failure": {}}"#, "unknown field `failure`"),
        (
            r#"{"failures": {"consecutive": 0}}"#,
            "failures.consecutive: 0 failures",
        ),
        (r#"{"failures": {"ratio": 0}}"#, "failures.ratio: a share of 0"),
        (r#"{"failures": {"ratio": 50}}"#, "a share, from 0 to 1"),
        (r#"{"failures": {"min_calls": 0}}"#, "from 1 to 5000"),
        (
            r#"{"failures": {"window": "10ms"}}"#,
            "failures.window: expected at least 1s",
        ),
        (r#"{"open": {"for": "2m"}}"#, "open.max: is shorter than `for`"),
        (r#"{"open": {"growth": 0.5}}"#, "open.growth: expected a factor"),
        (r#"{"half_open": {"probes": 0}}"#, "half_open.probes: expected"),
        (r#"{"counts": []}"#, "counts: no call would ever fail"),
        (
            r#"{"fallback": {"upstream": "app"}}"#,
            "`app` is the upstream that fails",
        ),
        (
            r#"{"fallback": {"response": {"status": 99}}}"#,
            "a status from 200 to 599",
        ),
        (
            r#"{"fallback": {"response": {"headers": {"Connection": "x"}}}}"#,
            "the sidecar's own",
        ),
        (r#"{"fallback": "none"}"#, "unknown variant"),
    ] {
        let told = Sidecar::default().chain_of(config, "/test").err().unwrap_or_default();
        assert!(told.contains(why), "{config}: {told}");
    }
}
