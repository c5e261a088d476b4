use std::time::Duration;

use super::play::{Live, Stage, request};
use crate::{Exchange, Failure};

fn refused(live: &Live) -> (u16, String) {
    let (status, error, _) = live.refusal();
    (status, error)
}

fn field<'e>(exchange: &'e Exchange, name: &str) -> Option<&'e str> {
    let values: Vec<_> = exchange.request.headers.get_all(name).iter().collect();
    assert!(values.len() < 2);
    values.first().map(|value| value.to_str().unwrap())
}

#[test]
fn a_repeat_gets_the_first_answer() {
    let stage = Stage::new("{}");
    let first = stage.send(request(Some("\"k\"")), b"7 euro");
    assert!(first.is_at_the_app());
    assert!(first.exchange.plan.is_wanted());
    assert!(!first.exchange.plan.repeatable);
    stage.answers(first, 201, "paid", true);
    let repeat = stage.send(request(Some("k")), b"7 euro");
    assert_eq!(repeat.replay(), (201, "paid".to_owned()));
    assert_eq!(repeat.reasons(), ["replayed"]);
    for (name, label, count) in [
        ("pillion_idempotency_requests_total", "first", 1),
        ("pillion_idempotency_requests_total", "replayed", 1),
        ("pillion_idempotency_outcomes_total", "stored", 1),
        ("pillion_idempotency_entries", "", 1),
        ("pillion_idempotency_in_progress", "", 0),
    ] {
        assert_eq!(stage.counted(name, label), count, "{name} {label}");
    }
}

#[test]
fn errors_of_the_app_are_answers_too() {
    let stage = Stage::new("{}");
    for status in [400, 404, 409, 500, 502, 504] {
        let key = status.to_string();
        stage.answers(stage.send(request(Some(&key)), b""), status, "no", true);
        assert_eq!(stage.send(request(Some(&key)), b"").replay(), (status, "no".to_owned()));
    }
}

#[test]
fn what_an_app_has_not_acted_on_is_tried_again() {
    let stage = Stage::new("{}");
    for status in [401, 425, 429, 503] {
        let key = status.to_string();
        for _ in 0..2 {
            stage.answers(stage.send(request(Some(&key)), b""), status, "later", true);
        }
        stage.answers(stage.send(request(Some(&key)), b""), 200, "done", true);
        assert_eq!(stage.send(request(Some(&key)), b"").replay().0, 200);
    }
    let stage = Stage::new(r#"{"release": [500]}"#);
    stage.answers(stage.send(request(Some("k")), b""), 500, "", true);
    stage.answers(stage.send(request(Some("k")), b""), 503, "", true);
    assert_eq!(stage.send(request(Some("k")), b"").replay().0, 503);
}

#[test]
fn another_payload_is_refused_whatever_became_of_the_first() {
    let stage = Stage::new("{}");
    let first = stage.send(request(Some("k")), b"7 euro");
    let other = || refused(&stage.send(request(Some("k")), b"8 euro"));
    assert_eq!(other(), (422, "idempotency_key_reused".to_owned()));
    stage.answers(first, 201, "paid", true);
    assert_eq!(other(), (422, "idempotency_key_reused".to_owned()));
    assert!(stage.send(request(Some("other")), b"8 euro").is_at_the_app());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_waits_for_the_first_and_not_for_ever() {
    let stage = Stage::new(r#"{"wait": "10s"}"#);
    let first = stage.send(request(Some("k")), b"7 euro");
    let one = stage.send(request(Some("k")), b"7 euro");
    assert!(one.is_waiting());
    tokio::time::advance(Duration::from_secs(9)).await;
    let mut other = stage.send(request(Some("k")), b"7 euro");
    tokio::time::advance(Duration::from_millis(1001)).await;
    let one = stage.goes_on(one);
    let refusal = (409, "idempotency_in_progress".to_owned(), Some("1".to_owned()));
    assert_eq!(one.refusal(), refusal);
    stage.look(&mut other);
    assert!(other.is_waiting());
    stage.answers(first, 201, "paid", true);
    let other = stage.goes_on(other);
    assert_eq!(other.replay(), (201, "paid".to_owned()));
    assert_eq!(other.reasons(), ["waited", "replayed"]);
    assert_eq!(stage.counted("pillion_idempotency_waits_total", ""), 2);
}

#[test]
fn without_a_wait_a_repeat_is_refused_at_once() {
    let stage = Stage::new(r#"{"wait": "0s"}"#);
    let _first = stage.send(request(Some("k")), b"");
    let repeat = stage.send(request(Some("k")), b"");
    assert_eq!(refused(&repeat), (409, "idempotency_in_progress".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_was_sent_one_that_waits_takes_over() {
    let stage = Stage::new("{}");
    let first = stage.send(request(Some("k")), b"");
    let waits = [(); 3].map(|()| stage.send(request(Some("k")), b""));
    stage.fails(first, Failure::ConnectFailed, true);
    let mut waits = waits.map(|live| {
        let mut live = live;
        stage.look(&mut live);
        live
    });
    waits.sort_by_key(Live::is_waiting);
    let [second, third, fourth] = waits;
    assert!(second.is_at_the_app());
    assert!(third.is_waiting() && fourth.is_waiting());
    stage.answers(second, 200, "done", true);
    for live in [third, fourth] {
        assert_eq!(stage.goes_on(live).replay().1, "done");
    }
}

#[test]
fn an_answer_of_the_sidecars_own_is_not_kept() {
    let stage = Stage::new("{}");
    // A filter after this one answers.
    let mut live = stage.send(request(Some("k")), b"");
    let mut head = Box::new(pingora_http::ResponseHeader::build(200, None).unwrap());
    stage.chain.attempt_done(
        &mut live.exchange,
        &crate::Attempt {
            number: 1,
            endpoint: "app".into(),
        },
        crate::Tried {
            result: crate::AttemptResult::Abandoned,
            head: None,
            took: Duration::ZERO,
            unprocessed: true,
            whole: false,
            beside: false,
        },
    );
    stage.chain.response(&mut live.exchange, &mut head);
    assert!(stage.send(request(Some("k")), b"").is_at_the_app());
}

#[test]
fn a_lost_answer_is_not_tried_for() {
    let stage = Stage::new("{}");
    let lose: [&dyn Fn(Live); 5] = [
        &|live| stage.fails(live, Failure::UpstreamClosed, false),
        &|live| stage.fails(live, Failure::FirstByteTimeout, false),
        &|live| stage.answers(live, 200, "half of", false),
        &|live| stage.over(live),
        &drop,
    ];
    for (index, lose) in lose.iter().enumerate() {
        let key = index.to_string();
        lose(stage.send(request(Some(&key)), b""));
        let repeat = stage.send(request(Some(&key)), b"");
        let refusal = (409, "idempotency_outcome_unknown".to_owned(), None);
        assert_eq!(repeat.refusal(), refusal, "{index}");
    }
}

#[test]
fn one_try_that_may_have_been_acted_on_is_enough() {
    let stage = Stage::new("{}");
    for (first, second, is_known) in [(true, true, true), (false, true, false), (true, false, false)] {
        let key = format!("{first}{second}");
        let mut live = stage.send(request(Some(&key)), b"");
        stage.is_tried_again(&mut live, Failure::UpstreamClosed, first);
        stage.fails(live, Failure::UpstreamClosed, second);
        assert_eq!(stage.send(request(Some(&key)), b"").is_at_the_app(), is_known, "{key}");
    }
    // The last try was not acted on, by the app's word; the first may have been.
    let mut live = stage.send(request(Some("503")), b"");
    stage.is_tried_again(&mut live, Failure::AttemptTimeout, false);
    stage.answers(live, 503, "", true);
    assert_eq!(
        refused(&stage.send(request(Some("503")), b"")).1,
        "idempotency_outcome_unknown"
    );
}

#[test]
fn of_two_tries_at_once_each_may_have_been_acted_on() {
    let stage = Stage::new("{}");
    for (beside, other, is_free) in [(true, true, true), (true, false, false), (false, true, false)] {
        let key = format!("{beside}{other}");
        let mut live = stage.send(request(Some(&key)), b"");
        stage.attempt(&mut live.exchange);
        stage.fails_beside(&mut live.exchange, beside);
        stage.fails(live, Failure::UpstreamClosed, other);
        assert_eq!(stage.send(request(Some(&key)), b"").is_at_the_app(), is_free, "{key}");
    }
    // One of them is not over.
    let mut live = stage.send(request(Some("k")), b"");
    stage.attempt(&mut live.exchange);
    stage.fails_beside(&mut live.exchange, true);
    stage.over(live);
    assert_eq!(
        refused(&stage.send(request(Some("k")), b"")).1,
        "idempotency_outcome_unknown"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_may_be_tried_for_once_the_first_has_settled() {
    let stage = Stage::new(r#"{"unknown": "retry", "settle": "30s"}"#);
    stage.fails(stage.send(request(Some("k")), b""), Failure::UpstreamClosed, false);
    tokio::time::advance(Duration::from_millis(12_500)).await;
    let repeat = stage.send(request(Some("k")), b"");
    let refusal = (409, "idempotency_outcome_unknown".to_owned(), Some("18".to_owned()));
    assert_eq!(repeat.refusal(), refusal);
    tokio::time::advance(Duration::from_secs(18)).await;
    let repeat = stage.send(request(Some("k")), b"");
    assert!(repeat.is_at_the_app());
    assert_eq!(repeat.reasons(), ["retried_unknown"]);
    stage.answers(repeat, 200, "done", true);
    assert_eq!(stage.send(request(Some("k")), b"").replay().1, "done");
}

#[tokio::test(start_paused = true)]
async fn after_its_time_a_key_is_new() {
    let stage = Stage::new(r#"{"ttl": "1m"}"#);
    stage.answers(stage.send(request(Some("k")), b"a"), 200, "1", true);
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(stage.send(request(Some("k")), b"a").replay().1, "1");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(stage.send(request(Some("k")), b"b").is_at_the_app());
}

#[test]
fn what_is_too_large_to_compare_is_not_protected() {
    let stage = Stage::new(r#"{"max_body": 10}"#);
    for _ in 0..2 {
        let live = stage.send(request(Some("k")), b"hello, world");
        assert!(live.is_at_the_app());
        assert_eq!(live.reasons(), ["body_too_large"]);
        stage.answers(live, 200, "", true);
    }
    stage.answers(stage.send(request(Some("k")), b"small"), 200, "", true);
    let other = stage.send(request(Some("k")), b"hello, world");
    assert_eq!(refused(&other), (422, "idempotency_key_reused".to_owned()));
}

#[test]
fn an_answer_too_large_to_keep_is_one_that_was_lost() {
    let stage = Stage::new(r#"{"max_response": 10}"#);
    let first = stage.send(request(Some("k")), b"");
    stage.answers(first, 200, "longer than that", true);
    assert_eq!(
        refused(&stage.send(request(Some("k")), b"")).1,
        "idempotency_outcome_unknown"
    );
    let exact = stage.send(request(Some("l")), b"");
    stage.answers(exact, 200, "0123456789", true);
    assert_eq!(stage.send(request(Some("l")), b"").replay().1, "0123456789");
}

#[test]
fn keys_are_wanted_and_read() {
    let stage = Stage::new(r#"{"required": true}"#);
    assert_eq!(
        refused(&stage.send(request(None), b"")),
        (400, "idempotency_key_missing".to_owned())
    );
    let mut twice = request(Some("a"));
    twice.request.append_header("idempotency-key", "b").unwrap();
    let malformed = (400, "idempotency_key_malformed".to_owned());
    assert_eq!(refused(&stage.send(twice, b"")), malformed);
    assert_eq!(refused(&stage.send(request(Some("a b")), b"")), malformed);
}

#[test]
fn what_is_left_alone() {
    let stage = Stage::new(r#"{"required": true}"#);
    let with = |method: &str, name: &'static str, value: &'static str| {
        let mut exchange = crate::testing::exchange(method, "/pay");
        exchange.request.insert_header(name, value).unwrap();
        exchange
    };
    for exchange in [
        with("GET", "idempotency-key", "k"),
        with("PUT", "idempotency-key", "k"),
        with("POST", "content-type", "application/grpc"),
        with("POST", "upgrade", "websocket"),
    ] {
        let live = stage.send(exchange, b"");
        assert!(live.is_at_the_app());
        assert!(!live.exchange.plan.is_wanted());
        assert!(live.reasons().is_empty());
    }
    let stage = Stage::new(r#"{"methods": ["DELETE"]}"#);
    stage.answers(stage.send(with("DELETE", "idempotency-key", "k"), b""), 204, "", true);
    assert_eq!(stage.send(with("DELETE", "idempotency-key", "k"), b"").replay().0, 204);
}

#[test]
fn a_random_key_is_added_and_nothing_kept() {
    let stage = Stage::new(r#"{"add": {"from": "random"}}"#);
    let one = stage.send(request(None), b"a");
    let other = stage.send(request(None), b"a");
    let (one_key, other_key) = [&one, &other]
        .map(|live| field(&live.exchange, "idempotency-key").unwrap())
        .into();
    assert_ne!(one_key, other_key);
    assert_eq!(one_key.len(), 38, "{one_key}");
    assert!(one.exchange.plan.repeatable);
    assert_eq!(one.reasons(), ["key_added"]);
    assert_eq!(stage.counted("pillion_idempotency_keys_added_total", ""), 2);
    assert_eq!(stage.counted("pillion_idempotency_in_progress", ""), 0);
    // The client's own stays.
    let brought = stage.send(request(Some("k")), b"a");
    assert_eq!(field(&brought.exchange, "idempotency-key"), Some("k"));
    assert!(brought.exchange.plan.repeatable);
}

#[test]
fn a_key_of_the_content_is_the_same_for_the_same() {
    let stage = Stage::new(r#"{"add": {"from": "content", "fields": ["X-Saga"], "quoted": false}}"#);
    let step = |saga: &'static str| {
        let mut exchange = request(None);
        exchange.request.insert_header("x-saga", saga).unwrap();
        exchange
    };
    let first = stage.send(step("1"), b"reserve");
    let key = field(&first.exchange, "idempotency-key").unwrap().to_owned();
    assert_eq!(key.as_bytes()[14], b'8', "{key}");
    assert!(first.exchange.plan.repeatable);
    let other = stage.send(step("2"), b"reserve");
    assert_ne!(field(&other.exchange, "idempotency-key"), Some(&*key));
    stage.answers(first, 200, "reserved", true);
    let repeat = stage.send(step("1"), b"reserve");
    assert_eq!(field(&repeat.exchange, "idempotency-key"), Some(&*key));
    assert_eq!(repeat.replay().1, "reserved");
    // Without the field, steps cannot be told apart.
    let lacks = stage.send(request(None), b"reserve");
    assert_eq!(field(&lacks.exchange, "idempotency-key"), None);
    assert!(!lacks.exchange.plan.repeatable);
    assert_eq!(lacks.reasons(), ["field_missing"]);
}

#[test]
fn without_replay_keys_are_vouched_for_and_nothing_kept() {
    let stage = Stage::new(r#"{"replay": false, "upstream_honours": true}"#);
    for _ in 0..2 {
        let live = stage.send(request(Some("k")), &[0; 1000]);
        assert!(live.is_at_the_app());
        assert!(live.exchange.plan.repeatable);
        assert!(!live.exchange.plan.is_wanted());
    }
}

#[test]
fn a_body_that_was_read_can_be_sent_again() {
    let stage = Stage::new(r#"{"upstream_honours": true}"#);
    let live = stage.send(request(Some("k")), &vec![0; 200_000]);
    assert_eq!(live.exchange.plan.replay, 200_000);
    let live = stage.send(request(Some("l")), &[0; 200]);
    assert_eq!(live.exchange.plan.replay, 64 * 1024);
}
