//! What once went wrong, each on its own: found by the [property test](super::properties), told here in a few requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use pingora_http::ResponseHeader;
use tokio::time::{Instant, advance};

use super::{Cache, CachePlugin, Purge};
use crate::{
    Background, Body, Chain, Context, Direction, Dispatcher, Exchange, Link, Plugin, Response, SharedState, Telemetry,
    Way, testing,
};

#[derive(Default)]
struct Jobs(Mutex<Vec<Background>>);

impl Dispatcher for Jobs {
    fn dispatch(&self, background: Background) -> bool {
        self.0.lock().unwrap().push(background);
        true
    }
}

/// A cache whose time tokio's clock tells, and which asks for `/` unless something else is said.
struct Bench {
    chain: Chain,
    cache: Arc<Cache>,
    jobs: Arc<Jobs>,
}

type Fields<'a> = &'a [(&'static str, &'a str)];

/// What a client was answered.
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn of(response: Response) -> Self {
        let body = match response.body {
            Body::Full(body) => String::from_utf8(body.to_vec()).unwrap(),
            _ => String::new(),
        };
        Self {
            status: response.head.status.as_u16(),
            headers: response.head.headers.clone(),
            body,
        }
    }

    fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Bench {
    fn new(config: &str) -> Self {
        let (state, jobs) = (SharedState::default(), Arc::<Jobs>::default());
        let background: Arc<dyn Dispatcher> = jobs.clone();
        let context = Context {
            filter: "cache",
            route: &testing::route(Direction::Inbound, "/test"),
            telemetry: &Telemetry::default(),
            state: &state,
            matches: &crate::Matches::default(),
            background: &background,
            warnings: &crate::Warnings::default(),
            upstreams: None,
        };
        let filter = CachePlugin::build(serde_json::from_str(config).unwrap(), &context).unwrap();
        let link = Link {
            plugin: "cache",
            name: "cache".into(),
            filter,
        };
        Self {
            chain: Chain::new(vec![link]),
            cache: state.each::<Cache>().remove(0).2,
            jobs,
        }
    }

    fn ask(&self, method: &str, fields: Fields<'_>) -> (Exchange, Way) {
        let mut exchange = testing::exchange(method, "/");
        exchange.timing.started = Instant::now().into_std();
        for (name, value) in fields {
            exchange.request.append_header(*name, *value).unwrap();
        }
        let way = self.chain.request(&mut exchange);
        (exchange, way)
    }

    /// A request that goes to the origin.
    fn forwarded(&self, method: &str, fields: Fields<'_>) -> Exchange {
        let (exchange, way) = self.ask(method, fields);
        assert!(matches!(way, Way::Through), "it was answered");
        exchange
    }

    /// A request that the cache answers.
    fn answered(&self, fields: Fields<'_>) -> Seen {
        match self.ask("GET", fields).1 {
            Way::Answer(response) => Seen::of(response),
            _ => panic!("it was not answered"),
        }
    }

    /// What the origin says, and what the client is told instead, if anything.
    fn replies(&self, exchange: &mut Exchange, status: u16, fields: Fields<'_>) -> Option<Seen> {
        exchange.timing.first_byte = Some(Instant::now().into_std());
        let mut head = Box::new(ResponseHeader::build(status, None).unwrap());
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        let replacement = self.chain.response(exchange, &mut head).map(Seen::of);
        let passed = (head.status != StatusCode::from_u16(status).unwrap()).then(|| {
            Seen::of(Response {
                head,
                body: Body::Empty,
            })
        });
        replacement.or(passed)
    }

    fn body(&self, exchange: &mut Exchange, piece: &'static str, end: bool) -> Option<Bytes> {
        let mut chunk = Some(Bytes::from_static(piece.as_bytes()));
        self.chain.response_body(exchange, &mut chunk, end).unwrap();
        chunk
    }

    /// A whole exchange with the origin: what the client is told instead of its answer, if anything.
    fn fetch(&self, asked: Fields<'_>, status: u16, fields: Fields<'_>) -> Option<Seen> {
        let mut exchange = self.forwarded("GET", asked);
        let seen = self.replies(&mut exchange, status, fields);
        if seen.is_none() {
            self.body(&mut exchange, "body", true);
        }
        seen
    }
}

const FRESH: Fields<'_> = &[("cache-control", "max-age=60"), ("etag", "\"a\"")];
const STALE: Fields<'_> = &[("cache-control", "max-age=0"), ("etag", "\"a\"")];
const ANSWERED: Fields<'_> = &[("cache-control", "max-age=60"), ("content-length", "4")];

#[test]
fn a_follower_gets_only_what_it_could_get_from_the_store() {
    for (response, request) in [
        ("no-cache", None),
        ("max-age=0", None),
        ("max-age=60", Some(("cache-control", "max-age=0"))),
    ] {
        let bench = Bench::new("{}");
        let mut leader = bench.forwarded("GET", &[]);
        let fields = [("cache-control", response), ("etag", "\"a\""), ("content-length", "4")];
        bench.replies(&mut leader, 200, &fields);
        bench.forwarded("GET", request.as_slice());
    }
}

#[test]
fn a_follower_is_told_the_age_of_what_it_gets() {
    let bench = Bench::new("{}");
    let mut leader = bench.forwarded("GET", &[]);
    let old = [
        ("cache-control", "max-age=2147483648"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ANSWERED[1],
    ];
    bench.replies(&mut leader, 200, &old);
    let age: u64 = bench.answered(&[]).field("age").parse().unwrap();
    assert!(age > 900_000_000);
}

#[test]
fn a_follower_of_an_error_does_not_have_it_already() {
    let bench = Bench::new("{}");
    let mut leader = bench.forwarded("GET", &[]);
    bench.replies(&mut leader, 404, &[ANSWERED[0], ANSWERED[1], ("etag", "\"a\"")]);
    assert_eq!(bench.answered(&[("if-none-match", "\"a\"")]).status, 404);
}

#[test]
fn a_follower_does_not_get_what_an_unsafe_request_ended() {
    for config in [
        r#"{"invalidate": {"tags": ["t"]}}"#,
        r#"{"invalidate": {"prefixes": ["/"]}}"#,
    ] {
        let bench = Bench::new(config);
        let mut leader = bench.forwarded("GET", &[]);
        bench.replies(&mut leader, 200, &[ANSWERED[0], ANSWERED[1], ("cache-tag", "t")]);
        let mut other = testing::exchange("POST", "/other");
        assert!(matches!(bench.chain.request(&mut other), Way::Through));
        bench.replies(&mut other, 200, &[]);
        bench.forwarded("GET", &[]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_grows_older_meanwhile() {
    let bench = Bench::new("{}");
    let mut leader = bench.forwarded("GET", &[]);
    let (mut exchange, way) = bench.ask("GET", &[]);
    let Way::Wait(mut waiting) = way else {
        panic!("it does not wait");
    };
    assert!((&mut waiting).now_or_never().is_none());
    bench.replies(&mut leader, 200, FRESH);
    bench.body(&mut leader, "body", true);
    advance(Duration::from_secs(3)).await;
    let step = waiting.await(&mut exchange);
    let Way::Answer(response) = bench.chain.resume(&mut exchange, step) else {
        panic!("it is not answered");
    };
    assert_eq!(Seen::of(response).field("age"), "3");
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_for_a_dead_origin_grew_older_while_that_was_waited_for() {
    let bench = Bench::new(r#"{"stale_if_error": "10s"}"#);
    bench.fetch(&[], 200, STALE);
    for (later, expected) in [(4, Some("4")), (8, None)] {
        let mut exchange = bench.forwarded("GET", &[]);
        advance(Duration::from_secs(later)).await;
        let mut head = Box::new(ResponseHeader::build(504, None).unwrap());
        let seen = bench.chain.response(&mut exchange, &mut head).map(Seen::of);
        assert_eq!(seen.as_ref().map(|seen| seen.field("age")), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn however_stale_it_stands_in_where_a_filter_takes_that_for_better() {
    for (said, accepts, expected) in [
        ("max-age=1", false, ""),
        ("max-age=1", true, "stale_accepted"),
        ("max-age=1, stale-if-error=600", true, "stale_if_error"),
        ("max-age=1, must-revalidate", true, ""),
        ("s-maxage=1", true, ""),
        ("no-cache", true, ""),
    ] {
        let bench = Bench::new(r#"{"stale_if_error": "10s"}"#);
        bench.fetch(&[], 200, &[("cache-control", said), ("etag", "\"a\"")]);
        advance(Duration::from_secs(120)).await;
        let mut exchange = bench.forwarded("GET", &[]);
        exchange.plan.accept_stale = accepts;
        let seen = bench.replies(&mut exchange, 503, &[]);
        let status = seen.as_ref().map_or("", |seen| seen.field("cache-status"));
        let detail = status.split_once("detail=").map_or("", |(_, detail)| detail);
        assert_eq!(detail, expected, "{said}: {status}");
        assert_eq!(
            seen.map(|seen| seen.status),
            (!expected.is_empty()).then_some(200),
            "{said}"
        );
    }
}

#[test]
fn nothing_follows_a_304_although_the_body_is_too_large_to_store() {
    let bench = Bench::new(r#"{"max_body": 5}"#);
    let mut exchange = bench.forwarded("GET", &[("if-none-match", "\"a\"")]);
    assert_eq!(bench.replies(&mut exchange, 200, FRESH).unwrap().status, 304);
    for end in [false, false, true] {
        assert_eq!(bench.body(&mut exchange, "body", end), None);
    }
}

#[test]
fn callers_who_do_not_say_who_they_are_are_not_one() {
    let bench = Bench::new(r#"{"shared": false, "key": {"identity": ["cookie"]}}"#);
    let own = [("cookie", "me")];
    for fields in [
        [("cache-control", "private, max-age=60"), ("x-a", "")],
        [("cache-control", "max-age=60"), ("set-cookie", "id=1")],
    ] {
        bench.fetch(&[], 200, &fields);
        bench.forwarded("GET", &[]);
        bench.fetch(&own, 200, &fields);
        assert_eq!(bench.answered(&own).body, "body");
        bench.cache.purge(&Purge::Everything).unwrap();
    }
    bench.fetch(&[("authorization", "a")], 200, FRESH);
    bench.forwarded("GET", &[("authorization", "b")]);
}

#[test]
fn a_304_of_another_version_updates_nothing() {
    for (stored, said) in [
        (("etag", "\"a\""), ("etag", "\"b\"")),
        (("etag", "W/\"a\""), ("etag", "\"a\"")),
        (("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), ("etag", "\"b\"")),
        (
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("last-modified", "Sun, 06 Nov 1994 08:49:38 GMT"),
        ),
    ] {
        let bench = Bench::new("{}");
        bench.fetch(&[], 200, &[("cache-control", "max-age=0"), stored]);
        let seen = bench.fetch(&[], 304, &[FRESH[0], said]).unwrap();
        assert_eq!((seen.body.as_str(), seen.field(stored.0)), ("body", stored.1));
        bench.forwarded("GET", &[]);
    }
}

#[test]
fn a_304_does_not_make_stored_what_may_not_be() {
    for (request, said) in [
        (("x", ""), ("cache-control", "private, max-age=60")),
        (("x", ""), ("vary", "x-a")),
        (("authorization", "a"), ("cache-control", "max-age=60")),
        (("cache-control", "no-store"), ("cache-control", "max-age=60")),
    ] {
        let bench = Bench::new("{}");
        bench.fetch(&[], 200, &[("cache-control", "max-age=60, no-cache"), FRESH[1]]);
        assert_eq!(bench.fetch(&[request], 304, &[said, FRESH[1]]).unwrap().body, "body");
        let exchange = bench.forwarded("GET", &[]);
        assert!(!exchange.request.headers.contains_key("if-none-match"), "{said:?}");
    }
}

#[test]
fn the_directives_of_a_304_are_for_stored_fields_too() {
    let bench = Bench::new("{}");
    bench.fetch(&[], 200, &[STALE[0], STALE[1], ("x-a", "1")]);
    let said = [("cache-control", "max-age=60, private=\"x-a\""), FRESH[1]];
    bench.fetch(&[], 304, &said).unwrap();
    assert_eq!(bench.answered(&[]).field("x-a"), "");
}

#[test]
fn tags_that_a_304_brings_can_be_purged() {
    let bench = Bench::new("{}");
    bench.fetch(&[], 200, STALE);
    bench
        .fetch(&[], 304, &[FRESH[0], FRESH[1], ("cache-tag", "t")])
        .unwrap();
    assert_eq!(bench.answered(&[]).body, "body");
    bench.cache.purge(&Purge::Tag("t".to_owned())).unwrap();
    bench.forwarded("GET", &[]);
}

#[test]
fn a_304_to_the_clients_own_tag_validates_nothing_else() {
    let bench = Bench::new("{}");
    bench.fetch(
        &[],
        200,
        &[STALE[0], ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
    );
    let exchange = bench.forwarded("GET", &[("range", "bytes=0-1"), ("if-none-match", "\"b\"")]);
    assert!(!exchange.request.headers.contains_key("if-none-match"));
    assert!(exchange.request.headers.contains_key("if-modified-since"));
}

#[test]
fn a_head_does_not_bring_back_what_has_ended() {
    let bench = Bench::new("{}");
    bench.fetch(&[], 200, FRESH);
    let mut change = bench.forwarded("PUT", &[]);
    bench.replies(&mut change, 204, &[]);
    let mut head = bench.forwarded("HEAD", &[]);
    bench.replies(&mut head, 200, FRESH);
    bench.forwarded("GET", &[]);
}

#[test]
fn a_head_of_another_version_refreshes_nothing() {
    let stored = ("cache-control", "max-age=60, no-cache");
    let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    for (said, kept) in [
        (&[FRESH[0], modified][..], true),
        // A tag that the stored response does not have is not the same tag.
        (&[FRESH[0], modified, ("etag", "\"a\"")], false),
        (&[("cache-control", "no-store"), modified], false),
        (&[FRESH[0], modified, ("vary", "x-a")], false),
    ] {
        let bench = Bench::new("{}");
        bench.fetch(&[], 200, &[stored, modified]);
        let mut head = bench.forwarded("HEAD", &[]);
        bench.replies(&mut head, 200, said);
        let (_, way) = bench.ask("GET", &[]);
        assert_eq!(matches!(way, Way::Answer(_)), kept, "{said:?}");
    }
}

#[test]
fn a_refresh_is_of_what_is_there_and_in_the_words_of_the_cache() {
    let bench = Bench::new("{}");
    bench.fetch(
        &[],
        200,
        &[("cache-control", "max-age=0, stale-while-revalidate=60"), STALE[1]],
    );
    assert_eq!(bench.answered(&[("cache-control", "max-stale")]).body, "body");
    bench.cache.purge(&Purge::Everything).unwrap();
    let job = bench.jobs.0.lock().unwrap().remove(0);
    assert!(!job.request.headers.contains_key("cache-control"));
    let mut exchange = testing::exchange("GET", "/");
    exchange.request = job.request;
    exchange.enter_at(0, job.state);
    assert!(matches!(bench.chain.request(&mut exchange), Way::Through));
    assert!(!exchange.request.headers.contains_key("if-none-match"));
}
