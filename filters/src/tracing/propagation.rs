//! Which headers a trace context is read from and written to.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{b3, hex, jaeger, w3c};
use crate::trace_context::{SpanId, TraceContext, TraceId};

// Written with lower-case names: the formats ask for it, and pingora-http copies a `HeaderName` where it takes a static
// text as it is.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";
const B3: &str = "b3";
const B3_TRACE_ID: &str = "x-b3-traceid";
const B3_SPAN_ID: &str = "x-b3-spanid";
const B3_PARENT: &str = "x-b3-parentspanid";
const B3_SAMPLED: &str = "x-b3-sampled";
const B3_FLAGS: &str = "x-b3-flags";
const UBER_TRACE_ID: &str = "uber-trace-id";

/// The same names, parsed once: looking one up by its text would parse it each time.
struct Names {
    traceparent: HeaderName,
    tracestate: HeaderName,
    baggage: HeaderName,
    b3: HeaderName,
    b3_trace_id: HeaderName,
    b3_span_id: HeaderName,
    b3_parent: HeaderName,
    b3_sampled: HeaderName,
    b3_flags: HeaderName,
    uber_trace_id: HeaderName,
}

static NAMES: Names = Names {
    traceparent: HeaderName::from_static(TRACEPARENT),
    tracestate: HeaderName::from_static(TRACESTATE),
    baggage: HeaderName::from_static(BAGGAGE),
    b3: HeaderName::from_static(B3),
    b3_trace_id: HeaderName::from_static(B3_TRACE_ID),
    b3_span_id: HeaderName::from_static(B3_SPAN_ID),
    b3_parent: HeaderName::from_static(B3_PARENT),
    b3_sampled: HeaderName::from_static(B3_SAMPLED),
    b3_flags: HeaderName::from_static(B3_FLAGS),
    uber_trace_id: HeaderName::from_static(UBER_TRACE_ID),
};

/// A way to write a trace context into headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// W3C Trace Context and Baggage: `traceparent`, `tracestate`, `baggage`.
    W3c,
    /// Zipkin's single header: `b3`.
    B3,
    /// Zipkin's many headers: `x-b3-traceid`, `x-b3-spanid`, `x-b3-parentspanid`, `x-b3-sampled`, `x-b3-flags`.
    B3multi,
    /// Jaeger's own: `uber-trace-id`.
    Jaeger,
}

/// The caller's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) trace_id: TraceId,
    pub(super) parent: SpanId,
    /// `None` leaves the decision to us.
    pub(super) sampled: Option<bool>,
}

impl Remote {
    /// A context with these ids; `None` where one is zero, which every format forbids, or too large.
    pub(super) fn new(trace_id: u128, parent: u128, sampled: Option<bool>) -> Option<Self> {
        let parent = u64::try_from(parent).ok()?;
        (trace_id != 0 && parent != 0).then(|| Self {
            trace_id: TraceId::from(trace_id),
            parent: SpanId::from(parent),
            sampled,
        })
    }
}

/// What a caller said of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Its span.
    Context(Remote),
    /// Only whether the trace that begins here is to be sampled.
    Decision(bool),
}

/// What came with a request.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) found: Option<Found>,
    pub(super) tracestate: Option<HeaderValue>,
}

/// Reads the first valid context in the order of `formats`, and takes out of the request what must not go on: what
/// belongs to a context that is not continued, and what is malformed.
pub(super) fn receive(request: &mut RequestHeader, formats: &[Format]) -> Incoming {
    let found = formats
        .iter()
        .find_map(|&format| Some((format, read(&request.headers, format)?)));
    if !formats.contains(&Format::W3c) {
        return Incoming {
            found: found.map(|(_, found)| found),
            tracestate: None,
        };
    }
    let lines = |name| request.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    if !w3c::baggage_is_valid(lines(&NAMES.baggage)) {
        request.remove_header(&NAMES.baggage);
    }
    // W3C Trace Context, section 4.3: without a valid traceparent nobody may look at the tracestate.
    let continued = matches!(found, Some((Format::W3c, _)));
    Incoming {
        found: found.map(|(_, found)| found),
        tracestate: tracestate(request, continued),
    }
}

/// Takes every header that carries a context out of a request nobody trusts.
pub(super) fn forget(request: &mut RequestHeader) {
    for name in [
        &NAMES.traceparent,
        &NAMES.tracestate,
        &NAMES.baggage,
        &NAMES.b3,
        &NAMES.b3_trace_id,
        &NAMES.b3_span_id,
        &NAMES.b3_parent,
        &NAMES.b3_sampled,
        &NAMES.b3_flags,
        &NAMES.uber_trace_id,
    ] {
        request.remove_header(name);
    }
}

fn read(headers: &HeaderMap, format: Format) -> Option<Found> {
    match format {
        Format::W3c => w3c::parse(single(headers, &NAMES.traceparent)?).map(Found::Context),
        Format::B3 => b3::parse(single(headers, &NAMES.b3)?),
        Format::Jaeger => jaeger::parse(single(headers, &NAMES.uber_trace_id)?).map(Found::Context),
        Format::B3multi => b3::parse_fields(&b3::Fields {
            trace_id: single(headers, &NAMES.b3_trace_id),
            span_id: single(headers, &NAMES.b3_span_id),
            parent: single(headers, &NAMES.b3_parent),
            sampled: single(headers, &NAMES.b3_sampled),
            flags: single(headers, &NAMES.b3_flags),
        }),
    }
}

/// The value of a header that is there once. Of two nobody can tell which is meant.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

/// The `tracestate` to go on, as one line; the header is taken out where there is none.
fn tracestate(request: &mut RequestHeader, continued: bool) -> Option<HeaderValue> {
    let mut lines = request.headers.get_all(&NAMES.tracestate).iter();
    let first = lines.next()?;
    let valid = || {
        w3c::tracestate_is_valid(
            request
                .headers
                .get_all(&NAMES.tracestate)
                .iter()
                .map(HeaderValue::as_bytes),
        )
    };
    if !continued || !valid() {
        request.remove_header(&NAMES.tracestate);
        return None;
    }
    let Some(second) = lines.next() else {
        return Some(first.clone());
    };
    let mut joined = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.push(b',');
        joined.extend_from_slice(line.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).ok()?;
    set(request, TRACESTATE, joined.clone());
    Some(joined)
}

/// Writes the context, with this exchange's span as the parent, in every one of `formats`.
pub(super) fn send(request: &mut RequestHeader, formats: &[Format], trace: &TraceContext) {
    for format in formats {
        match format {
            Format::W3c => {
                let text = w3c::write(&trace.trace_id_hex, trace.span_id, trace.sampled);
                set(request, TRACEPARENT, text.as_bytes());
            }
            Format::B3 => set(request, B3, b3::write(trace).as_bytes()),
            Format::B3multi => {
                set(request, B3_TRACE_ID, trace.trace_id_hex.as_slice());
                let id = |id: SpanId| {
                    let mut text = hex::Text::<16>::new();
                    text.push_hex(&id.to_bytes());
                    text
                };
                set(request, B3_SPAN_ID, id(trace.span_id).as_bytes());
                match trace.parent {
                    Some(parent) => set(request, B3_PARENT, id(parent).as_bytes()),
                    None => drop(request.remove_header(&NAMES.b3_parent)),
                }
                let sampled = HeaderValue::from_static(if trace.sampled { "1" } else { "0" });
                set(request, B3_SAMPLED, sampled);
                request.remove_header(&NAMES.b3_flags);
            }
            Format::Jaeger => set(request, UBER_TRACE_ID, jaeger::write(trace).as_bytes()),
        }
    }
}

fn set(request: &mut RequestHeader, name: &'static str, value: impl TryInto<HeaderValue>) {
    // Fails only on more header fields than a map can hold: then the trace ends here, and the request goes on.
    if let Ok(value) = value.try_into() {
        let _ = request.insert_header(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = *testing::exchange("GET", "/").request;
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn trace(rng: &mut fastrand::Rng) -> TraceContext {
        let trace_id = TraceId::from(rng.u128(1..));
        let mut trace_id_hex = [0; 32];
        hex::write(&trace_id.to_bytes(), &mut trace_id_hex);
        TraceContext {
            trace_id,
            span_id: SpanId::from(rng.u64(1..)),
            parent: rng.bool().then(|| SpanId::from(rng.u64(1..))),
            sampled: rng.bool(),
            tracestate: None,
            trace_id_hex,
        }
    }

    #[test]
    fn the_first_valid_format_wins() {
        let all = [("traceparent", PARENT), ("b3", "0"), ("uber-trace-id", "1:2:0:0")];
        let found = |formats: &[Format]| receive(&mut request(&all), formats).found;
        let trace_id = |found| match found {
            Some(Found::Context(remote)) => remote.trace_id.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(trace_id(found(&[Format::W3c, Format::B3])).starts_with("4bf"));
        assert!(trace_id(found(&[Format::Jaeger, Format::W3c])).ends_with("01"));
        assert_eq!(found(&[Format::B3, Format::W3c]), Some(Found::Decision(false)));
        assert_eq!(found(&[Format::B3multi]), None);

        let broken = [("traceparent", "00-broken"), ("b3", "1")];
        let mut request = request(&broken);
        assert_eq!(
            receive(&mut request, &[Format::W3c, Format::B3]).found,
            Some(Found::Decision(true))
        );
    }

    #[test]
    fn a_doubled_header_is_invalid() {
        for (name, value, format) in [
            ("traceparent", PARENT, Format::W3c),
            ("b3", "1", Format::B3),
            ("uber-trace-id", "1:2:0:1", Format::Jaeger),
        ] {
            let mut request = request(&[(name, value), (name, value)]);
            assert_eq!(receive(&mut request, &[format]).found, None, "{name}");
        }
    }

    #[test]
    fn tracestate_goes_on_with_a_valid_traceparent_only() {
        let state = |headers: &[(&'static str, &str)], formats: &[Format]| {
            let mut request = request(headers);
            let incoming = receive(&mut request, formats);
            let left: Vec<_> = request.headers.get_all("tracestate").iter().cloned().collect();
            assert_eq!(left, incoming.tracestate.iter().cloned().collect::<Vec<_>>());
            incoming.tracestate.map(|value| value.to_str().unwrap().to_owned())
        };
        let (parent, foo) = (("traceparent", PARENT), ("tracestate", "foo=1"));
        let w3c = [Format::W3c];
        assert_eq!(state(&[parent, foo], &w3c).as_deref(), Some("foo=1"));
        assert_eq!(
            state(&[parent, foo, ("tracestate", "bar=2")], &w3c).as_deref(),
            Some("foo=1,bar=2")
        );
        assert_eq!(state(&[parent, ("tracestate", "Foo=1")], &w3c), None);
        assert_eq!(state(&[parent, foo, ("tracestate", "=")], &w3c), None);
        assert_eq!(state(&[foo], &w3c), None);
        assert_eq!(state(&[parent, parent, foo], &w3c), None);
        assert_eq!(state(&[("traceparent", "00-broken"), foo], &w3c), None);
        assert_eq!(state(&[("b3", "1"), parent, foo], &[Format::B3, Format::W3c]), None);
    }

    #[test]
    fn valid_baggage_is_left_untouched() {
        for (baggage, kept) in [("a=1,b=2;c", true), ("no pair", false)] {
            let mut request = request(&[("baggage", baggage)]);
            receive(&mut request, &[Format::W3c]);
            assert_eq!(request.headers.contains_key("baggage"), kept, "{baggage}");
        }
    }

    #[test]
    fn an_untrusted_request_loses_every_format() {
        let mut request = request(&[("traceparent", PARENT), ("x-b3-flags", "1"), ("baggage", "a=1")]);
        forget(&mut request);
        assert_eq!(request.headers.len(), 1, "only host is left");
    }

    #[test]
    fn every_format_reads_what_it_wrote() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            for format in [Format::W3c, Format::B3, Format::B3multi, Format::Jaeger] {
                let trace = trace(&mut rng);
                let mut request = request(&[("x-b3-flags", "1"), ("x-b3-parentspanid", "00000000000000ff")]);
                send(&mut request, &[format], &trace);
                let expected = Remote {
                    trace_id: trace.trace_id,
                    parent: trace.span_id,
                    sampled: Some(trace.sampled),
                };
                assert_eq!(
                    receive(&mut request, &[format]).found,
                    Some(Found::Context(expected)),
                    "{format:?}"
                );
            }
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic() {
        let mut rng = fastrand::Rng::with_seed(11);
        let alphabet = b"0123456789abcdefABCDEF--::%3a=@,; \t\xff\x00xd";
        for _ in 0..50_000 {
            let mut text: Vec<u8> = (0..rng.usize(..80))
                .map(|_| alphabet[rng.usize(..alphabet.len())])
                .collect();
            if rng.bool() {
                // Near misses reach deeper than noise does.
                text = PARENT.as_bytes().to_vec();
                let at = rng.usize(..text.len());
                text[at] = rng.u8(..);
            }
            w3c::parse(&text);
            b3::parse(&text);
            jaeger::parse(&text);
            w3c::tracestate_is_valid(text.chunks(9));
            w3c::baggage_is_valid(text.chunks(9));
            let field = || Some(text.as_slice());
            b3::parse_fields(&b3::Fields {
                trace_id: field(),
                span_id: field(),
                parent: field(),
                sampled: field(),
                flags: None,
            });
        }
    }
}
