//! What an access-log line can tell.

use http::{HeaderName, Version, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Format;
use super::encode::{address, escape, hexadecimal, integer, milliseconds};
use super::timestamp::timestamp;
use crate::exchange::{Exchange, Route};
use crate::outcome::{End, Outcome};

/// A field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// When the request head was complete: RFC 3339, UTC, milliseconds.
    Time,
    /// The service the sidecar serves.
    Service,
    /// `inbound` or `outbound`.
    Direction,
    /// The matched route's name.
    Route,
    /// The request method.
    Method,
    /// The request path, without the query.
    Path,
    /// The query. May hold secrets, so it is off by default.
    Query,
    /// The authority the client asked for.
    Host,
    /// `HTTP/1.1` or `HTTP/2`.
    Protocol,
    /// The status the client got.
    Status,
    /// From the request head's last byte to the response's, in milliseconds.
    DurationMs,
    /// From the request head's last byte to the upstream's response head, in milliseconds.
    FirstByteMs,
    /// Request body bytes read from the client.
    RequestBytes,
    /// Response body bytes written to the client.
    ResponseBytes,
    /// The client's IP address.
    Client,
    /// The client's port.
    ClientPort,
    /// The endpoint of the last attempt.
    Upstream,
    /// How many attempts were made; 0 where a filter answered.
    Attempts,
    /// The request's id.
    RequestId,
    /// The trace the exchange belongs to.
    TraceId,
    /// The exchange's own span.
    SpanId,
    /// The `User-Agent` header.
    UserAgent,
    /// The `Referer` header.
    Referer,
    /// The `grpc-status` of the response.
    GrpcStatus,
    /// `complete`, `client_aborted` or `failed`.
    End,
    /// Why it failed, e.g. `first_byte_timeout`.
    Error,
    /// What filters decided, each as `filter:reason`; in `logfmt` separated by commas.
    Ledger,
}

/// Bytes of a client's text that a line holds. All of them together stay under the 16 KiB at which Docker's log drivers
/// split a line.
const TEXT: usize = 2048;

impl Field {
    /// What a line tells unless told otherwise.
    pub const DEFAULT: [Self; 23] = [
        Self::Time,
        Self::Service,
        Self::Direction,
        Self::Route,
        Self::Method,
        Self::Path,
        Self::Host,
        Self::Protocol,
        Self::Status,
        Self::DurationMs,
        Self::FirstByteMs,
        Self::RequestBytes,
        Self::ResponseBytes,
        Self::Client,
        Self::Upstream,
        Self::Attempts,
        Self::RequestId,
        Self::TraceId,
        Self::UserAgent,
        Self::GrpcStatus,
        Self::End,
        Self::Error,
        Self::Ledger,
    ];

    /// The name, in configuration and in lines; taken from the one definition above.
    pub fn name(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.and_then(|name| name.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// The value, where the route alone settles it.
    pub(super) fn of_route(self, route: &Route) -> Option<&str> {
        match self {
            Self::Service => Some(&route.service),
            Self::Direction => Some(route.direction.as_str()),
            Self::Route => Some(&route.name),
            _ => None,
        }
    }

    /// Appends the value, unless there is none. It may have begun to: who gets `None` cuts the line back.
    pub(super) fn write(
        self,
        format: Format,
        line: &mut Vec<u8>,
        exchange: &Exchange,
        outcome: &Outcome,
    ) -> Option<()> {
        let timing = &exchange.timing;
        let request = &exchange.request;
        let mut from_client = |text: &[u8]| format.text(line, text.get(..TEXT).unwrap_or(text));
        match self {
            Self::Method => from_client(request.method.as_str().as_bytes()),
            Self::Path => from_client(request.uri.path().as_bytes()),
            Self::Query => from_client(request.uri.query()?.as_bytes()),
            Self::Host => from_client(exchange.authority.as_ref()?.as_bytes()),
            Self::RequestId => from_client(exchange.request_id.as_ref()?.as_bytes()),
            Self::UserAgent => from_client(received(exchange, &header::USER_AGENT)?),
            Self::Referer => from_client(received(exchange, &header::REFERER)?),

            Self::Service | Self::Direction | Self::Route => {
                format.text(line, self.of_route(&exchange.route)?.as_bytes());
            }
            Self::Protocol => format.text(line, protocol(exchange.connection.version)?.as_bytes()),
            Self::Upstream => format.text(line, outcome.attempts.last()?.endpoint.as_bytes()),
            Self::TraceId => format.text(line, &exchange.trace.as_ref()?.trace_id_hex),
            Self::End => format.text(line, end(outcome.end).as_bytes()),
            Self::Error => match outcome.end {
                End::Failed(failure) => format.text(line, failure.reason().as_bytes()),
                End::Complete | End::ClientAborted => return None,
            },

            Self::Time => format.plain(line, |line| timestamp(line, timing.started_at)),
            Self::Client => {
                let client = exchange.connection.client?.ip();
                format.plain(line, |line| address(line, client));
            }
            Self::SpanId => {
                let id = exchange.trace.as_ref()?.span_id.to_bytes();
                format.plain(line, |line| hexadecimal(line, &id));
            }
            Self::Ledger => return ledger(format, line, exchange),

            Self::Status => integer(line, outcome.status?.as_u16()),
            Self::DurationMs => milliseconds(line, outcome.duration),
            Self::FirstByteMs => milliseconds(line, timing.first_byte?.saturating_duration_since(timing.started)),
            Self::RequestBytes => integer(line, outcome.request_bytes),
            Self::ResponseBytes => integer(line, outcome.response_bytes),
            Self::ClientPort => integer(line, exchange.connection.client?.port()),
            Self::Attempts => integer(line, outcome.attempts.len()),
            Self::GrpcStatus => integer(line, outcome.grpc_status?),
        }
        Some(())
    }
}

fn received<'a>(exchange: &'a Exchange, name: &HeaderName) -> Option<&'a [u8]> {
    exchange.request.headers.get(name).map(http::HeaderValue::as_bytes)
}

fn protocol(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2"),
        Version::HTTP_3 => Some("HTTP/3"),
        _ => None,
    }
}

fn end(end: End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::ClientAborted => "client_aborted",
        End::Failed(_) => "failed",
    }
}

/// A list in JSON, one text in logfmt. Decisions the ledger had no room for are counted in a last entry, `dropped:N`.
fn ledger(format: Format, line: &mut Vec<u8>, exchange: &Exchange) -> Option<()> {
    let ledger = &exchange.ledger;
    if ledger.entries().is_empty() {
        return None;
    }
    let (open, between, close) = format.list();
    line.extend_from_slice(open);
    for (place, entry) in ledger.entries().iter().enumerate() {
        if place > 0 {
            line.extend_from_slice(between);
        }
        escape(line, entry.filter.as_bytes());
        line.push(b':');
        escape(line, entry.reason.as_bytes());
    }
    if ledger.dropped() > 0 {
        line.extend_from_slice(between);
        line.extend_from_slice(b"dropped:");
        integer(line, ledger.dropped());
    }
    line.extend_from_slice(close);
    Some(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant, SystemTime};

    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::{AttemptRecord, AttemptResult, Failure, SpanId, TraceContext, TraceId, testing};

    fn value(field: Field, format: Format, exchange: &Exchange, outcome: &Outcome) -> Option<String> {
        let mut line = Vec::new();
        field.write(format, &mut line, exchange, outcome)?;
        Some(String::from_utf8(line).unwrap())
    }

    fn rich() -> (Exchange, Outcome) {
        let mut exchange = testing::exchange("POST", "/a?b=c");
        exchange.request.insert_header("user-agent", "curl/8 (x)").unwrap();
        exchange.request.insert_header("referer", "http://a/").unwrap();
        exchange.request_id = Some(HeaderValue::from_static("abc"));
        exchange.trace = Some(TraceContext {
            trace_id: TraceId::from(1),
            span_id: SpanId::from(0xab),
            parent: None,
            sampled: true,
            tracestate: None,
            trace_id_hex: *b"00000000000000000000000000000001",
        });
        exchange.timing.started_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
        exchange.timing.first_byte = Some(exchange.timing.started + Duration::from_micros(1_234));
        exchange.ledger.enter("cache", "stale");
        exchange.ledger.enter("retry", "attempts_exhausted");
        let attempt = |endpoint: &str| AttemptRecord {
            endpoint: Arc::from(endpoint),
            started: Instant::now(),
            ended: Instant::now(),
            connected: None,
            reused: false,
            result: AttemptResult::Answered(StatusCode::BAD_GATEWAY),
            span_id: None,
        };
        let outcome = Outcome {
            end: End::Failed(Failure::ResponseIncomplete),
            request_bytes: 10,
            response_bytes: 20,
            grpc_status: Some(14),
            attempts: vec![attempt("10.0.0.1:80"), attempt("10.0.0.2:80")],
            ..testing::outcome(502)
        };
        (exchange, outcome)
    }

    #[test]
    fn every_field_has_its_value_in_both_formats() {
        let (exchange, outcome) = rich();
        for (field, json, logfmt) in [
            (Field::Time, r#""2023-11-14T22:13:20.042Z""#, "2023-11-14T22:13:20.042Z"),
            (Field::Service, r#""test""#, "test"),
            (Field::Direction, r#""inbound""#, "inbound"),
            (Field::Route, r#""/test""#, "/test"),
            (Field::Method, r#""POST""#, "POST"),
            (Field::Path, r#""/a""#, "/a"),
            (Field::Query, r#""b=c""#, r#""b=c""#),
            (Field::Host, r#""example.com""#, "example.com"),
            (Field::Protocol, r#""HTTP/1.1""#, "HTTP/1.1"),
            (Field::Status, "502", "502"),
            (Field::DurationMs, "5.000", "5.000"),
            (Field::FirstByteMs, "1.234", "1.234"),
            (Field::RequestBytes, "10", "10"),
            (Field::ResponseBytes, "20", "20"),
            (Field::Client, r#""192.0.2.7""#, "192.0.2.7"),
            (Field::ClientPort, "40000", "40000"),
            (Field::Upstream, r#""10.0.0.2:80""#, "10.0.0.2:80"),
            (Field::Attempts, "2", "2"),
            (Field::RequestId, r#""abc""#, "abc"),
            (
                Field::TraceId,
                r#""00000000000000000000000000000001""#,
                "00000000000000000000000000000001",
            ),
            (Field::SpanId, r#""00000000000000ab""#, "00000000000000ab"),
            (Field::UserAgent, r#""curl/8 (x)""#, r#""curl/8 (x)""#),
            (Field::Referer, r#""http://a/""#, "http://a/"),
            (Field::GrpcStatus, "14", "14"),
            (Field::End, r#""failed""#, "failed"),
            (Field::Error, r#""response_incomplete""#, "response_incomplete"),
            (
                Field::Ledger,
                r#"["cache:stale","retry:attempts_exhausted"]"#,
                r#""cache:stale,retry:attempts_exhausted""#,
            ),
        ] {
            let written = |format| value(field, format, &exchange, &outcome);
            assert_eq!(written(Format::Json).as_deref(), Some(json), "{field:?}");
            assert_eq!(written(Format::Logfmt).as_deref(), Some(logfmt), "{field:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let mut exchange = testing::exchange("GET", "/");
        exchange.connection.client = None;
        exchange.authority = None;
        let mut outcome = testing::outcome(200);
        outcome.status = None;
        for field in [
            Field::Query,
            Field::Host,
            Field::Status,
            Field::FirstByteMs,
            Field::Client,
            Field::ClientPort,
            Field::Upstream,
            Field::RequestId,
            Field::TraceId,
            Field::SpanId,
            Field::UserAgent,
            Field::Referer,
            Field::GrpcStatus,
            Field::Error,
            Field::Ledger,
        ] {
            assert_eq!(value(field, Format::Json, &exchange, &outcome), None, "{field:?}");
        }
    }

    #[test]
    fn decisions_the_ledger_had_no_room_for_are_counted() {
        let mut exchange = testing::exchange("GET", "/");
        for _ in 0..18 {
            exchange.ledger.enter("a", "b");
        }
        let written = value(Field::Ledger, Format::Json, &exchange, &testing::outcome(200)).unwrap();
        assert!(written.ends_with(r#","a:b","dropped:2"]"#), "{written}");
    }

    #[test]
    fn a_long_text_is_cut() {
        let mut exchange = testing::exchange("GET", "/");
        let long = "x".repeat(TEXT + 1);
        exchange.request.insert_header("user-agent", long).unwrap();
        let written = value(Field::UserAgent, Format::Logfmt, &exchange, &testing::outcome(200));
        assert_eq!(written.unwrap().len(), TEXT);
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        assert_eq!(Field::FirstByteMs.name(), "first_byte_ms");
        assert!(Field::DEFAULT.iter().all(|field| !field.name().is_empty()));
    }
}
