//! Refuses requests that are too large, and more of them at once than the service can bear.
//!
//! Checked in this order, the cheapest first; the first limit that is passed decides:
//!
//! | limit | refused with | reason |
//! | --- | --- | --- |
//! | `uri_length` | 414 | `uri_too_long` |
//! | `header_count` | 431 | `too_many_headers` |
//! | `header_bytes` | 431 | `headers_too_large` |
//! | `body` | 413 | `body_too_large` |
//! | `in_flight` | 503, `Retry-After: 1` | `too_many_in_flight` |
//!
//! A body whose `Content-Length` is over the limit is refused before the app hears of it. One of unknown length is counted
//! as it passes: the app may have seen its beginning when it is refused. A body whose declared length is within the limit
//! is not counted, because the protocol layer holds the client to what it declared (RFC 9112, section 6.3; RFC 9113,
//! section 8.1.1).
//!
//! `in_flight` comes last, so that a request refused for its size takes no place. A place is held until the exchange is
//! over, however it ends. The count is one for all routes of the filter and goes on over reloads.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{ByteSize, OrNone};
use crate::{BuildError, Context, Exchange, Filter, Outcome, Phases, Plugin, Refusal, Remark, Step};

mod in_flight;
mod limit;
use in_flight::{InFlight, Place};
use limit::{BODY_TOO_LARGE, HEADERS_TOO_LARGE, Limit, TOO_MANY_HEADERS, TOO_MANY_IN_FLIGHT, URI_TOO_LONG};

/// Refuses requests that are too large, and more of them at once than the service can bear. `none` lifts a limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The longest request target, query included. Longer: 414.
    pub uri_length: OrNone<ByteSize>,
    /// The most header fields. More: 431.
    pub header_count: OrNone<u32>,
    /// The most bytes of header fields: names, values and 4 for each field's punctuation. More: 431.
    pub header_bytes: OrNone<ByteSize>,
    /// The largest request body. Larger: 413.
    pub body: OrNone<ByteSize>,
    /// The most exchanges at once, all routes of this filter together. More: 503 with `Retry-After: 1`.
    pub in_flight: OrNone<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uri_length: ByteSize(8 * 1024).into(),
            header_count: 128.into(),
            header_bytes: ByteSize(64 * 1024).into(),
            body: OrNone(None),
            in_flight: OrNone(None),
        }
    }
}

/// The `limits` plugin.
pub struct Limits;

impl Plugin for Limits {
    const NAME: &'static str = "limits";
    type Config = Config;
    const WORDS: crate::Words = limit::WORDS;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let bytes = |limit: OrNone<ByteSize>| limit.0.map(|size| size.0);
        let limits = [
            ("uri_length", bytes(config.uri_length), URI_TOO_LONG),
            ("header_count", config.header_count.0.map(u64::from), TOO_MANY_HEADERS),
            ("header_bytes", bytes(config.header_bytes), HEADERS_TOO_LARGE),
            ("body", bytes(config.body), BODY_TOO_LARGE),
            ("in_flight", config.in_flight.0.map(u64::from), TOO_MANY_IN_FLIGHT),
        ];
        // A service without request bodies is a service; one without a URI, headers or requests is a mistake.
        let refuses_all = limits.iter().filter(|(key, max, _)| *max == Some(0) && *key != "body");
        let refuses_all: Vec<_> = refuses_all
            .map(|(key, ..)| Remark::new(key, "0 refuses every request").with_help("`none` lifts the limit"))
            .collect();
        if !refuses_all.is_empty() {
            return Err(BuildError::Mistakes(refuses_all));
        }
        let refused = limit::refused(context)?;
        let [uri_length, header_count, header_bytes, body, in_flight] =
            limits.map(|(_, max, refusal)| max.map(|max| Limit::new(max, refusal, &refused, context.route)));
        Ok(Arc::new(Guard {
            uri_length,
            header_count,
            header_bytes,
            body,
            in_flight: in_flight.map(|limit| (limit, context.shared(InFlight::default))),
        }))
    }
}

/// Left only by exchanges that hold a place or whose body must be counted.
#[derive(Default)]
struct State {
    /// Held, not read.
    _place: Option<Place>,
    /// Body bytes that have passed; `None` where they are not counted.
    body: Option<u64>,
}

struct Guard {
    uri_length: Option<Limit>,
    header_count: Option<Limit>,
    header_bytes: Option<Limit>,
    body: Option<Limit>,
    in_flight: Option<(Limit, Arc<InFlight>)>,
}

impl Filter for Guard {
    fn phases(&self) -> Phases {
        let on = |limit: &Option<Limit>| limit.is_some();
        let head = on(&self.uri_length) || on(&self.header_count) || on(&self.header_bytes);
        let mut phases = Phases::NONE;
        if head {
            phases = phases | Phases::REQUEST;
        }
        if self.body.is_some() {
            phases = phases | Phases::REQUEST | Phases::REQUEST_BODY;
        }
        if self.in_flight.is_some() {
            phases = phases | Phases::REQUEST | Phases::COMPLETE;
        }
        phases
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        if let Some(limit) = self.passed(&exchange.request) {
            return Step::Refuse(limit.refuse());
        }
        if let Some((limit, in_flight)) = &self.in_flight {
            let Some(place) = in_flight.enter(limit.max) else {
                return Step::Refuse(limit.refuse());
            };
            exchange.set_state(State {
                _place: Some(place),
                body: None,
            });
        }
        Step::Continue
    }

    fn request_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Refusal> {
        let (Some(limit), Some(chunk)) = (&self.body, chunk) else {
            return Ok(());
        };
        match count(exchange, chunk.len() as u64, end) {
            Some(passed) if passed > limit.max => Err(limit.refuse()),
            _ => Ok(()),
        }
    }

    fn complete(&self, exchange: &mut Exchange, _: &Outcome) {
        drop(exchange.take_state::<State>());
    }
}

impl Guard {
    /// The first limit that a request head passes.
    fn passed(&self, request: &RequestHeader) -> Option<&Limit> {
        let over = |limit: &Option<Limit>, measure: &dyn Fn() -> u64| {
            limit.as_ref().is_some_and(|limit| measure() > limit.max)
        };
        let limit = if over(&self.uri_length, &|| request.raw_path().len() as u64) {
            &self.uri_length
        } else if over(&self.header_count, &|| request.headers.len() as u64) {
            &self.header_count
        } else if over(&self.header_bytes, &|| header_bytes(request)) {
            &self.header_bytes
        } else if over(&self.body, &|| declared_length(request).unwrap_or(0)) {
            &self.body
        } else {
            return None;
        };
        limit.as_ref()
    }
}

/// How many body bytes have passed with this chunk; `None` where they need no counting.
fn count(exchange: &mut Exchange, chunk: u64, end: bool) -> Option<u64> {
    if let Some(State { body: Some(passed), .. }) = exchange.state::<State>() {
        *passed = passed.saturating_add(chunk);
        return Some(*passed);
    }
    if declared_length(&exchange.request).is_some() {
        return None;
    }
    // A body that comes at once leaves nothing to remember.
    if !end {
        if let Some(state) = exchange.state::<State>() {
            state.body = Some(chunk);
        } else {
            exchange.set_state(State {
                _place: None,
                body: Some(chunk),
            });
        }
    }
    Some(chunk)
}

/// As HTTP/1 would write them: `name: value`, CR, LF.
fn header_bytes(request: &RequestHeader) -> u64 {
    let sizes = request.headers.iter();
    sizes
        .map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64)
        .sum()
}

/// The body length a client declared and is held to. `None` where there is a `Transfer-Encoding`, which overrides it
/// (RFC 9112, section 6.3), and where the declaration is not plain: such a body is counted.
fn declared_length(request: &RequestHeader) -> Option<u64> {
    let headers = &request.headers;
    let mut declared = headers.get_all(header::CONTENT_LENGTH).iter();
    match (declared.next(), declared.next()) {
        (Some(length), None) if !headers.contains_key(header::TRANSFER_ENCODING) => length.to_str().ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Way;
    use crate::{Chain, Direction, Link, SharedState, Telemetry, testing};

    /// What outlives the filters that are built.
    #[derive(Default)]
    struct Sidecar {
        telemetry: Telemetry,
        state: SharedState,
    }

    impl Sidecar {
        fn filter(&self, config: &str) -> Result<Arc<dyn Filter>, BuildError> {
            let context = Context {
                filter: "limits",
                route: &testing::route(Direction::Inbound, "/test"),
                telemetry: &self.telemetry,
                state: &self.state,
                matches: &crate::Matches::default(),
                background: &testing::no_background(),
                warnings: &crate::Warnings::default(),
                upstreams: None,
            };
            Limits::build(serde_json::from_str(config).unwrap(), &context)
        }

        fn chain(&self, config: &str) -> Chain {
            let filter = self.filter(config).unwrap();
            Chain::new(vec![Link {
                plugin: "limits",
                name: Arc::from("limits"),
                filter,
            }])
        }

        fn refused(&self, reason: &str) -> u64 {
            let families = self.telemetry.metrics.registry().gather();
            let mut counts = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
            let of_reason = counts.find(|count| count.get_label().iter().any(|label| label.value() == reason));
            of_reason.map_or(0, |count| count.get_counter().get_value() as u64)
        }

        fn in_flight(&self) -> u64 {
            let context = Context {
                filter: "limits",
                route: &testing::route(Direction::Inbound, "/other"),
                telemetry: &self.telemetry,
                state: &self.state,
                matches: &crate::Matches::default(),
                background: &testing::no_background(),
                warnings: &crate::Warnings::default(),
                upstreams: None,
            };
            context.shared(InFlight::default).count()
        }
    }

    fn refusal(step: Step) -> Option<&'static str> {
        match step {
            Step::Continue => None,
            Step::Refuse(refusal) => Some(refusal.reason),
            other => panic!("{other:?}"),
        }
    }

    fn post(headers: &[(&'static str, &'static str)]) -> Exchange {
        let mut exchange = testing::exchange("POST", "/");
        for (name, value) in headers {
            exchange.request.append_header(*name, *value).unwrap();
        }
        exchange
    }

    /// Sends chunks; the reason of a refusal, and how many passed.
    fn send(chain: &Chain, exchange: &mut Exchange, chunks: &[&'static str]) -> (Option<&'static str>, usize) {
        assert!(matches!(chain.request(exchange), Way::Through));
        for (index, chunk) in chunks.iter().enumerate() {
            let mut chunk = Some(Bytes::from_static(chunk.as_bytes()));
            if let Err(refusal) = chain.request_body(exchange, &mut chunk, false) {
                return (Some(refusal.reason), index);
            }
        }
        assert_eq!(chain.request_body(exchange, &mut None, true), Ok(()));
        (None, chunks.len())
    }

    #[test]
    fn each_limit_allows_what_it_names_and_refuses_one_more() {
        // The request: `/?q`, `host: example.com` and `content-length: 5`, each 19 bytes as counted.
        for (within, beyond, reason) in [
            (r#""uri_length": 3"#, r#""uri_length": 2"#, "uri_too_long"),
            (r#""header_count": 2"#, r#""header_count": 1"#, "too_many_headers"),
            (r#""header_bytes": 38"#, r#""header_bytes": 37"#, "headers_too_large"),
            (r#""body": 5"#, r#""body": 4"#, "body_too_large"),
        ] {
            let sidecar = Sidecar::default();
            for (config, expected) in [(within, None), (beyond, Some(reason))] {
                let filter = sidecar.filter(&format!("{{{config}}}")).unwrap();
                let mut exchange = testing::exchange("POST", "/?q");
                exchange.request.insert_header("content-length", "5").unwrap();
                assert_eq!(refusal(filter.request(&mut exchange)), expected, "{config}");
            }
            assert_eq!(sidecar.refused(reason), 1);
        }
    }

    #[test]
    fn the_first_limit_that_is_passed_decides() {
        let sidecar = Sidecar::default();
        let all = r#"{"uri_length": 1, "header_count": 1, "header_bytes": 1, "body": 0, "in_flight": 1}"#;
        let filter = sidecar.filter(all).unwrap();
        let mut exchange = testing::exchange("POST", "/long");
        exchange.request.insert_header("content-length", "5").unwrap();
        assert_eq!(refusal(filter.request(&mut exchange)), Some("uri_too_long"));
        assert_eq!(sidecar.in_flight(), 0, "a request refused for its size takes no place");
    }

    #[test]
    fn a_body_of_unknown_length_is_counted_as_it_passes() {
        let sidecar = Sidecar::default();
        let chain = sidecar.chain(r#"{"body": 8}"#);
        for (chunks, expected) in [
            (&["1234", "5678"][..], (None, 2)),
            (&["1234", "5678", "9"][..], (Some("body_too_large"), 2)),
            (&["123456789"][..], (Some("body_too_large"), 0)),
            (&[][..], (None, 0)),
        ] {
            for headers in [
                &[("transfer-encoding", "chunked")][..],
                &[],
                &[("transfer-encoding", "chunked"), ("content-length", "1")],
                &[("content-length", "1"), ("content-length", "1")],
                &[("content-length", "99999999999999999999999")],
            ] {
                let mut exchange = post(headers);
                assert_eq!(send(&chain, &mut exchange, chunks), expected, "{chunks:?} {headers:?}");
            }
        }
        assert_eq!(sidecar.refused("body_too_large"), 10);
    }

    #[test]
    fn a_body_that_comes_at_once_is_counted_too() {
        let filter = Sidecar::default().filter(r#"{"body": 8}"#).unwrap();
        let whole = |text: &'static str| {
            let mut chunk = Some(Bytes::from_static(text.as_bytes()));
            filter
                .request_body(&mut post(&[]), &mut chunk, true)
                .err()
                .map(|refusal| refusal.reason)
        };
        assert_eq!(whole("12345678"), None);
        assert_eq!(whole("123456789"), Some("body_too_large"));
    }

    #[test]
    fn a_declared_body_within_the_limit_leaves_no_state() {
        let chain = Sidecar::default().chain(r#"{"body": 8}"#);
        let mut exchange = post(&[("content-length", "8")]);
        assert_eq!(send(&chain, &mut exchange, &["1234", "5678"]), (None, 2));
        assert!(exchange.state::<State>().is_none());
    }

    #[test]
    fn exchanges_beyond_the_limit_are_refused_until_one_ends() {
        let sidecar = Sidecar::default();
        let chain = sidecar.chain(r#"{"in_flight": 1, "body": 8}"#);
        let mut first = post(&[]);
        assert_eq!(send(&chain, &mut first, &["1234"]), (None, 1));
        assert_eq!(sidecar.in_flight(), 1);

        let mut second = post(&[]);
        let Way::Answer(answer) = chain.request(&mut second) else {
            panic!("not refused");
        };
        assert_eq!(answer.head.status, 503);
        assert_eq!(answer.head.headers["retry-after"], "1");
        // The filter that refuses is completed too, and must not give back what it never took.
        chain.complete(&mut second, &testing::outcome(503));
        assert_eq!(sidecar.in_flight(), 1);
        assert_eq!(sidecar.refused("too_many_in_flight"), 1);

        chain.complete(&mut first, &testing::outcome(200));
        assert_eq!(sidecar.in_flight(), 0);
        assert!(matches!(chain.request(&mut post(&[])), Way::Through));
    }

    #[test]
    fn a_place_is_given_back_once_on_every_path() {
        let sidecar = Sidecar::default();
        let chain = sidecar.chain(r#"{"in_flight": 9, "body": 2}"#);
        // Refused while the body passes, then completed.
        let mut refused = post(&[]);
        assert_eq!(send(&chain, &mut refused, &["123"]), (Some("body_too_large"), 0));
        assert_eq!(sidecar.in_flight(), 1);
        chain.complete(&mut refused, &testing::outcome(413));
        assert_eq!(sidecar.in_flight(), 0);
        drop(refused);
        assert_eq!(sidecar.in_flight(), 0);
        // Dropped without having been completed.
        let mut dropped = post(&[]);
        chain.request(&mut dropped);
        assert_eq!(sidecar.in_flight(), 1);
        drop(dropped);
        assert_eq!(sidecar.in_flight(), 0);
    }

    #[test]
    fn the_count_goes_on_over_a_reload() {
        let sidecar = Sidecar::default();
        let mut before = post(&[]);
        let old = sidecar.chain(r#"{"in_flight": 5}"#);
        old.request(&mut before);
        let new = sidecar.chain(r#"{"in_flight": 1}"#);
        assert!(matches!(new.request(&mut post(&[])), Way::Answer(_)));
        old.complete(&mut before, &testing::outcome(200));
        assert!(matches!(new.request(&mut post(&[])), Way::Through));
    }

    #[test]
    fn only_what_is_configured_takes_part() {
        let phases = |config: &str| Sidecar::default().filter(config).unwrap().phases();
        let off = r#""uri_length": "none", "header_count": "none", "header_bytes": "none""#;
        assert_eq!(phases("{}"), Phases::REQUEST);
        assert_eq!(phases(&format!("{{{off}}}")), Phases::NONE);
        assert_eq!(
            phases(&format!(r#"{{{off}, "body": "1MiB"}}"#)),
            Phases::REQUEST | Phases::REQUEST_BODY
        );
        assert_eq!(
            phases(&format!(r#"{{{off}, "in_flight": 1}}"#)),
            Phases::REQUEST | Phases::COMPLETE
        );
    }

    #[test]
    fn a_limit_that_refuses_everything_is_a_mistake() {
        let error = Sidecar::default()
            .filter(r#"{"header_count": 0, "in_flight": 0, "body": 0}"#)
            .err();
        assert_eq!(
            error.unwrap().to_string(),
            "header_count: 0 refuses every request; in_flight: 0 refuses every request"
        );
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let error = serde_json::from_str::<Config>(r#"{"boddy": "1MiB"}"#).unwrap_err();
        assert!(error.to_string().contains("boddy"), "{error}");
    }
}
