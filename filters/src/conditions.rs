//! What of a try is a failure: a list of words and statuses that operators write, as a set that is quick to ask.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::failure::Failure;
use crate::filter::{AttemptResult, Tried};

/// One kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `connect`: the endpoint could not be found or reached, or not in time. Nothing was sent.
    Connect,
    /// `refused`: the endpoint says that it has not looked at the request (`REFUSED_STREAM` or `GOAWAY` of HTTP/2).
    Refused,
    /// `reset`: the connection was closed or reset before anything of a response came.
    Reset,
    /// `malformed`: what came is not valid HTTP, or ended within the head.
    Malformed,
    /// `timeout`: the request was sent and no response head came in time.
    Timeout,
    /// `5xx`: any status from 500 on.
    ServerError,
    /// `gateway_error`: 502, 503 and 504.
    GatewayError,
    /// A status, such as `503`.
    Status(StatusCode),
    /// A gRPC status, such as `grpc:UNAVAILABLE`.
    Grpc(u16),
}

/// The names of gRPC's statuses, by their numbers.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

const EXPECTED: &str = "`connect`, `refused`, `reset`, `malformed`, `timeout`, `5xx`, `gateway_error`, a status such as 503, or a gRPC status such as \
                        `grpc:UNAVAILABLE`";

impl FromStr for Condition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "connect" => Self::Connect,
            "refused" => Self::Refused,
            "reset" => Self::Reset,
            "malformed" => Self::Malformed,
            "timeout" => Self::Timeout,
            "5xx" => Self::ServerError,
            "gateway_error" => Self::GatewayError,
            text => match text.strip_prefix("grpc:") {
                Some(name) => {
                    let number = GRPC.iter().position(|known| *known == name);
                    // 0 is what went well.
                    Self::Grpc(number.filter(|number| *number > 0).ok_or(())? as u16)
                }
                None => Self::status(text.parse().map_err(drop)?).ok_or(())?,
            },
        })
    }
}

impl Condition {
    fn status(number: u64) -> Option<Self> {
        let number = u16::try_from(number)
            .ok()
            .filter(|number| (200..600).contains(number))?;
        StatusCode::from_u16(number).ok().map(Self::Status)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrStatus;
        impl Visitor<'_> for WordOrStatus {
            type Value = Condition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Condition, E> {
                text.parse()
                    .map_err(|()| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Condition, E> {
                Condition::status(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_any(WordOrStatus)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let grpc: Vec<String> = GRPC.iter().skip(1).map(|name| format!("grpc:{name}")).collect();
        json_schema!({
            "description": "What counts: `connect`, `refused`, `reset`, `malformed`, `timeout`, `5xx`, `gateway_error`, a status, or a gRPC status.",
            "anyOf": [
                { "enum": ["connect", "refused", "reset", "malformed", "timeout", "5xx", "gateway_error"] },
                { "enum": grpc },
                { "type": "integer", "minimum": 200, "maximum": 599 },
            ],
        })
    }
}

/// Several conditions.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a set of independent words, each asked for by itself"
)]
pub struct Conditions {
    connect: bool,
    refused: bool,
    reset: bool,
    malformed: bool,
    timeout: bool,
    /// A bit a status, from 0 on.
    statuses: [u64; 10],
    /// A bit a gRPC status.
    grpc: u32,
}

impl Conditions {
    /// A set of these.
    pub fn new(conditions: &[Condition]) -> Self {
        let mut set = Self::default();
        for condition in conditions {
            match condition {
                Condition::Connect => set.connect = true,
                Condition::Refused => set.refused = true,
                Condition::Reset => set.reset = true,
                Condition::Malformed => set.malformed = true,
                Condition::Timeout => set.timeout = true,
                Condition::ServerError => (500..600).for_each(|status| set.add(status)),
                Condition::GatewayError => [502, 503, 504].into_iter().for_each(|status| set.add(status)),
                Condition::Status(status) => set.add(status.as_u16()),
                Condition::Grpc(number) => set.grpc |= 1 << number,
            }
        }
        set
    }

    fn add(&mut self, status: u16) {
        if let Some(word) = self.statuses.get_mut(usize::from(status / 64)) {
            *word |= 1 << (status % 64);
        }
    }

    fn has(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        let word = self.statuses.get(usize::from(status / 64));
        word.is_some_and(|word| word & (1 << (status % 64)) != 0)
    }

    /// Whether a gRPC status is among them.
    pub fn has_grpc(&self, status: u16) -> bool {
        status < 32 && self.grpc & (1 << status) != 0
    }

    /// Whether any gRPC status is among them.
    pub fn knows_grpc(&self) -> bool {
        self.grpc != 0
    }

    /// Which kind of failure a try was, if it was one of these: `connect`, `refused`, `reset`, `malformed`, `timeout`, `status` or `grpc`.
    pub fn cause(&self, tried: &Tried<'_>) -> Option<&'static str> {
        match tried.result {
            AttemptResult::Abandoned => None,
            AttemptResult::Answered(status) => {
                if self.has(status) {
                    return Some("status");
                }
                let said = tried.head.filter(|_| self.knows_grpc());
                let said = said.and_then(|head| grpc_status(&head.headers));
                said.filter(|status| self.has_grpc(*status)).map(|_| "grpc")
            }
            AttemptResult::Failed(failure) => self.failed(failure, tried.unprocessed),
        }
    }

    fn failed(&self, failure: Failure, unprocessed: bool) -> Option<&'static str> {
        match failure {
            failure if failure.nothing_was_sent() => self.connect.then_some("connect"),
            Failure::AttemptTimeout | Failure::FirstByteTimeout | Failure::IdleTimeout => {
                self.timeout.then_some("timeout")
            }
            Failure::UpstreamClosed if unprocessed && self.refused => Some("refused"),
            Failure::UpstreamClosed => self.reset.then_some("reset"),
            Failure::MalformedResponse => self.malformed.then_some("malformed"),
            _ => None,
        }
    }
}

/// The gRPC status in a response's head or trailers.
pub fn grpc_status(fields: &HeaderMap) -> Option<u16> {
    // A name that is text would be parsed for every response.
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
    fields.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora_http::ResponseHeader;

    use super::*;

    fn set(words: &[&str]) -> Conditions {
        let words: Vec<Condition> = words.iter().map(|word| word.parse().unwrap()).collect();
        Conditions::new(&words)
    }

    fn tried(result: AttemptResult, unprocessed: bool) -> Tried<'static> {
        Tried {
            result,
            head: None,
            took: Duration::ZERO,
            unprocessed,
            whole: true,
        }
    }

    #[test]
    fn each_word_is_for_its_own_failures() {
        let failed = |failure| tried(AttemptResult::Failed(failure), false);
        for (word, failure) in [
            ("connect", Failure::ConnectFailed),
            ("connect", Failure::ConnectTimeout),
            ("connect", Failure::DnsError),
            ("connect", Failure::NoEndpoint),
            ("reset", Failure::UpstreamClosed),
            ("malformed", Failure::MalformedResponse),
            ("timeout", Failure::FirstByteTimeout),
            ("timeout", Failure::AttemptTimeout),
            ("timeout", Failure::IdleTimeout),
        ] {
            for other in [
                "connect",
                "refused",
                "reset",
                "malformed",
                "timeout",
                "5xx",
                "grpc:UNKNOWN",
            ] {
                let cause = set(&[other]).cause(&failed(failure));
                assert_eq!(cause, (word == other).then_some(word), "{other} of {failure:?}");
            }
        }
        for never in [
            Failure::ExchangeTimeout,
            Failure::DestinationForbidden,
            Failure::MalformedRequest,
        ] {
            let all = set(&["connect", "refused", "reset", "timeout", "5xx"]);
            assert_eq!(all.cause(&failed(never)), None, "{never:?}");
        }
        let refused = tried(AttemptResult::Failed(Failure::UpstreamClosed), true);
        assert_eq!(set(&["refused"]).cause(&refused), Some("refused"));
        assert_eq!(set(&["reset"]).cause(&refused), Some("reset"));
        assert_eq!(set(&["reset"]).cause(&tried(AttemptResult::Abandoned, true)), None);
    }

    #[test]
    fn statuses_are_alone_or_in_groups() {
        let answered = |status| tried(AttemptResult::Answered(StatusCode::from_u16(status).unwrap()), false);
        for (words, counts) in [
            (&["5xx"][..], &[500, 501, 502, 503, 504, 599][..]),
            (&["gateway_error"], &[502, 503, 504]),
            (&["429", "503"], &[429, 503]),
        ] {
            for status in [200, 204, 302, 404, 429, 500, 501, 502, 503, 504, 599, 999] {
                let cause = set(words).cause(&answered(status));
                assert_eq!(cause.is_some(), counts.contains(&status), "{words:?} {status}");
            }
        }
    }

    #[test]
    fn a_grpc_status_is_read_from_the_head() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("grpc-status", "14").unwrap();
        let answered = Tried {
            head: Some(&head),
            ..tried(AttemptResult::Answered(StatusCode::OK), false)
        };
        assert_eq!(set(&["grpc:UNAVAILABLE"]).cause(&answered), Some("grpc"));
        assert_eq!(set(&["grpc:INTERNAL", "5xx"]).cause(&answered), None);
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["", "5XX", "199", "600", "conect", "grpc:", "grpc:OK", "grpc:14", "-1"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }
}
