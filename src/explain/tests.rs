//! What is kept, what pushes out what, and what a record says.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use pillion_filters::{
    AttemptRecord, AttemptResult, End, Exchange, Fact, Failure, Outcome, Registry, TraceContext, TraceId, testing,
};
use serde_json::{Value, json};

use super::record::Story;
use super::*;

fn explain(settings: &config::Explain) -> Explain {
    Explain::from(settings)
}

/// Keeps all that is neither slow nor failed, too.
fn all() -> Explain {
    explain(&config::Explain {
        sample: pillion_filters::units::Share(1.0),
        ..config::Explain::default()
    })
}

fn recorder(explain: &Explain) -> Recorder {
    let recorder = Recorder::new(&Registry::builtin());
    recorder.settle(explain);
    recorder
}

fn keep(recorder: &Recorder, explain: &Explain, mut exchange: Exchange, outcome: Outcome) {
    if let Some(why) = explain.keeps(&exchange, &outcome, false) {
        recorder.keep(Record::of(&mut exchange, outcome, Story::default(), why, explain));
    }
}

fn lasting(status: u16, duration: Duration) -> Outcome {
    Outcome {
        duration,
        ..testing::outcome(status)
    }
}

/// All that is kept, in short.
fn shown(recorder: &Recorder) -> Vec<Value> {
    let (records, _) = recorder.all();
    records
        .iter()
        .map(|record| json::in_short(record, &recorder.words))
        .collect()
}

#[test]
fn what_failed_and_what_was_slow_is_kept_and_a_share_of_the_rest() {
    let explain = explain(&config::Explain {
        sample: pillion_filters::units::Share(0.0),
        ..config::Explain::default()
    });
    let recorder = recorder(&explain);
    let (short, long) = (Duration::from_millis(5), Duration::from_secs(1));
    let why = |outcome: &Outcome| explain.keeps(&testing::exchange("GET", "/"), outcome, false);
    assert_eq!(why(&lasting(200, short)), None);
    assert_eq!(why(&lasting(404, short)), None);
    assert_eq!(why(&lasting(500, short)), Some(Why::Error));
    assert_eq!(why(&lasting(200, long)), Some(Why::Slow));
    // It lasts as long as both sides like.
    assert_eq!(why(&lasting(101, long)), None);
    assert_eq!(
        explain.keeps(&testing::exchange("GET", "/"), &lasting(200, long), true),
        None
    );
    let cut = Outcome {
        end: End::Failed(Failure::ResponseIncomplete),
        ..lasting(200, short)
    };
    assert_eq!(why(&cut), Some(Why::Error));
    let left = Outcome {
        end: End::ClientAborted,
        ..lasting(200, short)
    };
    assert_eq!(why(&left), None);
    let mut stalled = testing::exchange("GET", "/");
    stalled.ledger.enter("engine", CLIENT_STALLED);
    assert_eq!(explain.keeps(&stalled, &left, false), Some(Why::Error));
    assert!(recorder.all().0.is_empty());
    let half = super::Explain::from(&config::Explain {
        sample: pillion_filters::units::Share(0.5),
        ..config::Explain::default()
    });
    let kept = |_: &usize| {
        half.keeps(&testing::exchange("GET", "/"), &lasting(200, short), false)
            .is_some()
    };
    let kept = (0..10_000).filter(kept).count();
    assert!((4_000..6_000).contains(&kept), "{kept}");
}

#[test]
fn nothing_is_kept_when_it_is_off() {
    let off = explain(&config::Explain {
        enabled: false,
        sample: pillion_filters::units::Share(1.0),
        ..config::Explain::default()
    });
    let recorder = recorder(&all());
    keep(&recorder, &all(), testing::exchange("GET", "/"), testing::outcome(500));
    assert_eq!(recorder.all().0.len(), 1);
    // What was kept is forgotten, too.
    recorder.settle(&off);
    keep(&recorder, &off, testing::exchange("GET", "/"), testing::outcome(500));
    assert!(recorder.all().0.is_empty());
}

#[test]
fn a_flood_stays_within_its_bounds_and_pushes_no_other_kind_out() {
    let explain = all();
    let recorder = recorder(&explain);
    keep(
        &recorder,
        &explain,
        testing::exchange("GET", "/the-error"),
        testing::outcome(502),
    );
    keep(
        &recorder,
        &explain,
        testing::exchange("GET", "/the-slow-one"),
        lasting(200, Duration::from_secs(2)),
    );
    // Nobody reads meanwhile.
    for number in 0..2_000 {
        let mut exchange = testing::exchange("GET", &format!("/{number}/{}", "x".repeat(4000)));
        for field in 0..50 {
            let name: HeaderName = format!("x-{field}").parse().unwrap();
            exchange.request.insert_header(name, "y".repeat(2000)).unwrap();
        }
        keep(&recorder, &explain, exchange, testing::outcome(200));
    }
    let (records, load) = recorder.all();
    assert_eq!(load.recorded, 2_002);
    assert_eq!(load.capacity, 4 * 1024 * 1024);
    assert!(load.bytes <= load.capacity / 4 + 10_000, "{load:?}");
    assert!(load.bytes >= load.capacity / 5, "{load:?}");
    assert_eq!(load.kept, records.len());
    let whys = |why: Why| records.iter().filter(|record| record.why == why).count();
    assert_eq!((whys(Why::Error), whys(Why::Slow)), (1, 1));
    // The newest stay.
    assert_eq!(records[0].id, 2_002);
    assert!(records[0].target.starts_with("/1999/"));
}

#[test]
fn threads_that_keep_and_one_that_reads_do_not_wait_for_each_other() {
    let explain = Arc::new(all());
    let recorder = Arc::new(recorder(&explain));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    keep(
                        &recorder,
                        &explain,
                        testing::exchange("GET", "/"),
                        testing::outcome(500),
                    );
                }
            });
        }
        scope.spawn(|| (0..200).for_each(|_| drop(recorder.all())));
    });
    let (records, load) = recorder.all();
    assert_eq!(load.recorded, 8_000);
    assert!(load.bytes <= load.capacity / 2, "{load:?}");
    assert!(records.windows(2).all(|pair| pair[0].id > pair[1].id));
}

#[test]
fn a_reader_who_holds_a_ring_holds_up_nobody() {
    let explain = all();
    let recorder = recorder(&explain);
    let began = Instant::now();
    recorder.while_locked(|| {
        // On this very thread: who waited would wait for ever.
        for _ in 0..1_000 {
            keep(
                &recorder,
                &explain,
                testing::exchange("GET", "/"),
                testing::outcome(500),
            );
        }
    });
    assert!(began.elapsed() < Duration::from_secs(10));
    // What waited meanwhile is bounded, and the newest of it is there.
    let (records, _) = recorder.all();
    assert_eq!(records.len(), super::recorder::WAITING);
    assert_eq!(records[0].id, 1_000);
}

fn attempt(exchange: &Exchange, millis: [u64; 2], connected: Option<u64>, result: AttemptResult) -> AttemptRecord {
    let at = |millis| exchange.timing.started + Duration::from_millis(millis);
    AttemptRecord {
        endpoint: Arc::from("127.0.0.1:8080"),
        started: at(millis[0]),
        connected: connected.map(at),
        ended: at(millis[1]),
        reused: false,
        result,
        span_id: None,
    }
}

fn in_full(recorder: &Recorder) -> Value {
    let (records, _) = recorder.all();
    let url = "http://jaeger:16686/trace/{trace_id}".parse().unwrap();
    json::in_full(&records[0], &recorder.words, Some(&url))
}

#[test]
fn the_phases_follow_each_other_without_gaps() {
    let explain = all();
    let recorder = recorder(&explain);
    let mut exchange = testing::exchange("GET", "/");
    let failed = attempt(&exchange, [1, 3], None, AttemptResult::Failed(Failure::ConnectFailed));
    let answered = attempt(&exchange, [10, 90], Some(12), AttemptResult::Answered(StatusCode::OK));
    exchange.timing.first_byte = Some(exchange.timing.started + Duration::from_millis(50));
    let outcome = Outcome {
        attempts: vec![failed, answered],
        ..lasting(200, Duration::from_millis(100))
    };
    keep(&recorder, &explain, exchange, outcome);
    let told = in_full(&recorder);
    assert_eq!(
        told["phases"],
        json!([
            { "name": "queue", "start_ms": 0.0, "duration_ms": 10.0 },
            { "name": "connect", "start_ms": 10.0, "duration_ms": 2.0 },
            { "name": "first_byte", "start_ms": 12.0, "duration_ms": 38.0 },
            { "name": "body", "start_ms": 50.0, "duration_ms": 50.0 },
        ])
    );
    assert_eq!(
        told["attempts"],
        json!([
            {
                "number": 1, "endpoint": "127.0.0.1:8080", "start_ms": 1.0, "connect_ms": null, "duration_ms": 2.0,
                "reused": false, "result": "connect_failed",
                "words": "the connection to 127.0.0.1:8080 was refused, or nobody could be reached there",
            },
            {
                "number": 2, "endpoint": "127.0.0.1:8080", "start_ms": 10.0, "connect_ms": 2.0, "duration_ms": 80.0,
                "reused": false, "result": "200", "words": "answered 200",
            },
        ])
    );
}

#[test]
fn what_a_filter_answered_has_no_upstream_phases() {
    let explain = all();
    let recorder = recorder(&explain);
    keep(
        &recorder,
        &explain,
        testing::exchange("GET", "/"),
        testing::outcome(200),
    );
    let queue = json!([{ "name": "queue", "start_ms": 0.0, "duration_ms": 5.0 }]);
    assert_eq!(in_full(&recorder)["phases"], queue);
}

#[test]
fn decisions_are_told_in_words_and_summed_up() {
    let explain = all();
    let recorder = recorder(&explain);
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let mut exchange = testing::exchange("GET", "/");
    exchange.ledger.enter("cache", "miss");
    exchange.ledger.enter_with("cache", "stored", Fact::Time(minutes(5)));
    exchange.ledger.enter("compression", "gzip");
    keep(&recorder, &explain, exchange, testing::outcome(200));
    let told = in_full(&recorder);
    assert_eq!(
        told["summary"],
        "cache: miss, stored for 5m; compression: compressed with gzip"
    );
    assert_eq!(
        told["ledger"][1],
        json!({ "filter": "cache", "reason": "stored", "words": "stored for 5m" })
    );

    let mut exchange = testing::exchange("GET", "/");
    let timeout = Failure::FirstByteTimeout;
    exchange.ledger.enter("retry", "not_repeatable");
    exchange
        .ledger
        .enter_with("engine", timeout.reason(), Fact::Time(minutes(1)));
    let tried = attempt(&exchange, [0, 60_000], Some(1), AttemptResult::Failed(timeout));
    let outcome = Outcome {
        end: End::Failed(timeout),
        attempts: vec![tried],
        ..lasting(504, minutes(1))
    };
    keep(&recorder, &explain, exchange, outcome);
    let told = in_full(&recorder);
    let summary = "engine: 127.0.0.1:8080 did not answer within 1m (`timeouts.first_byte`)";
    assert_eq!(
        (told["summary"].as_str(), &told["failure"]),
        (Some(summary), &json!("first_byte_timeout"))
    );
    assert_eq!(told["ledger"][0]["words"], "not tried again: GET is not safe to repeat");
}

#[test]
fn a_sampled_trace_has_a_link() {
    let explain = all();
    let recorder = recorder(&explain);
    for sampled in [false, true] {
        let mut exchange = testing::exchange("GET", "/");
        exchange.request_id = Some(HeaderValue::from_static("abc"));
        exchange.trace = Some(TraceContext {
            trace_id: TraceId::from(7_u128),
            span_id: pillion_filters::SpanId::from(9_u64),
            parent: None,
            sampled,
            tracestate: None,
            trace_id_hex: *b"00000000000000000000000000000007",
        });
        keep(&recorder, &explain, exchange, testing::outcome(200));
        let told = in_full(&recorder);
        let link = "http://jaeger:16686/trace/00000000000000000000000000000007";
        assert_eq!(told["trace_url"].as_str(), sampled.then_some(link));
        assert_eq!(
            (&told["span_id"], &told["request_id"]),
            (&json!("0000000000000009"), &json!("abc"))
        );
    }
}

#[test]
fn a_list_is_narrowed_down() {
    let explain = all();
    let recorder = recorder(&explain);
    let mut hit = testing::exchange("GET", "/");
    hit.ledger.enter("cache", "hit");
    keep(&recorder, &explain, hit, testing::outcome(200));
    keep(
        &recorder,
        &explain,
        testing::exchange("POST", "/"),
        lasting(503, Duration::from_millis(300)),
    );
    let count = |wanted: json::Wanted| recorder.all().0.iter().filter(|record| wanted.holds(record)).count();
    let some = |text: &str| Some(text.to_owned());
    for (wanted, found) in [
        (
            json::Wanted {
                method: some("post"),
                ..Default::default()
            },
            1,
        ),
        (
            json::Wanted {
                status: Some(json::Statuses::Class(5)),
                ..Default::default()
            },
            1,
        ),
        (
            json::Wanted {
                status: Some(json::Statuses::One(200)),
                ..Default::default()
            },
            1,
        ),
        (
            json::Wanted {
                min_duration: Some(Duration::from_millis(200)),
                ..Default::default()
            },
            1,
        ),
        (
            json::Wanted {
                filter: some("cache"),
                reason: some("hit"),
                ..Default::default()
            },
            1,
        ),
        (
            json::Wanted {
                filter: some("retry"),
                ..Default::default()
            },
            0,
        ),
        (
            json::Wanted {
                reason: some("miss"),
                ..Default::default()
            },
            0,
        ),
        (
            json::Wanted {
                route: some("/test"),
                ..Default::default()
            },
            2,
        ),
        (
            json::Wanted {
                route: some("/other"),
                ..Default::default()
            },
            0,
        ),
        (
            json::Wanted {
                direction: Some(pillion_filters::Direction::Outbound),
                ..Default::default()
            },
            0,
        ),
        (
            json::Wanted {
                trace: some("7"),
                ..Default::default()
            },
            0,
        ),
        (json::Wanted::default(), 2),
    ] {
        assert_eq!(count(wanted), found);
    }
    assert_eq!(shown(&recorder)[0]["method"], "POST");
}

/// `docs/explain.md` lists every reason as it is told. To write the list anew, run with `BLESS=1`.
#[test]
fn the_manual_has_every_reason() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/explain.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once("<!-- words -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let mut table = "| filter | reason | in words |\n| --- | --- | --- |\n".to_owned();
    let recorder = Recorder::new(&Registry::builtin());
    for (filter, words) in recorder.words.all() {
        for (reason, ways) in *words {
            let blanks = ["{0}", "{1}", "{method}", "{endpoint}", "{upstream}"];
            let said = blanks
                .iter()
                .fold(ways[0].to_owned(), |said, blank| said.replace(blank, "…"));
            let (reason, kind) = reason.split_once('.').unwrap_or((reason, ""));
            let kind = if kind.is_empty() {
                String::new()
            } else {
                format!(" ({})", kind.replace('_', " "))
            };
            let _ = writeln!(table, "| `{filter}` | `{reason}`{kind} | {said} |");
        }
    }
    let written = format!("{before}<!-- words -->\n{table}<!-- end -->{after}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, written).unwrap();
    } else {
        assert!(
            written == page,
            "the words of docs/explain.md are old: run with BLESS=1"
        );
    }
}
