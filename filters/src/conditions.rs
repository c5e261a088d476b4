//! Which tries and calls have failed: words and statuses that operators write, as a set that is quick to ask.

use std::borrow::Cow;
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
    /// `4xx`: all client errors.
    ClientErrors,
    /// `5xx`: all server errors but 501 and 505.
    ServerErrors,
    /// `gateway_error`: 502, 503 and 504.
    GatewayErrors,
    /// A status, such as `503`.
    Status(u16),
    /// A gRPC status, such as `grpc:UNAVAILABLE`.
    Grpc(u16),
    /// Something that went wrong on the way.
    Trouble(Trouble),
}

/// What can go wrong on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// `connect`: the endpoint could not be found or reached, or not in time. Nothing was sent.
    Connect,
    /// `refused`: the endpoint says that it has not looked at the request (`REFUSED_STREAM` or `GOAWAY` of HTTP/2).
    Refused,
    /// `reset`: closed or reset before anything of an answer came.
    Reset,
    /// `malformed`: an answer that is not valid HTTP, or ended within its head.
    Malformed,
    /// `timeout`: no answer in time, or none that went on.
    Timeout,
    /// `incomplete`: an answer that ended early.
    Incomplete,
}

const TROUBLES: [(&str, Trouble); 6] = [
    ("connect", Trouble::Connect),
    ("refused", Trouble::Refused),
    ("reset", Trouble::Reset),
    ("malformed", Trouble::Malformed),
    ("timeout", Trouble::Timeout),
    ("incomplete", Trouble::Incomplete),
];

impl Trouble {
    /// The word used in configuration, metrics and the ledger.
    pub fn as_str(self) -> &'static str {
        TROUBLES[self as usize].0
    }

    /// What a failure is; `None` where the upstream has no part in it. `unprocessed` says that the upstream cannot have acted on the
    /// request.
    pub fn of(failure: Failure, unprocessed: bool) -> Option<Self> {
        Some(match failure {
            Failure::AttemptTimeout | Failure::FirstByteTimeout | Failure::IdleTimeout | Failure::ExchangeTimeout => {
                Self::Timeout
            }
            Failure::DnsError | Failure::ConnectFailed | Failure::ConnectTimeout => Self::Connect,
            Failure::UpstreamClosed if unprocessed => Self::Refused,
            Failure::UpstreamClosed => Self::Reset,
            Failure::ResponseIncomplete => Self::Incomplete,
            Failure::MalformedResponse => Self::Malformed,
            // Nothing was asked of it, or the client or the sidecar is to blame.
            Failure::NoEndpoint
            | Failure::DestinationForbidden
            | Failure::RequestTimeout
            | Failure::MalformedRequest
            | Failure::Stopped
            | Failure::Internal => return None,
        })
    }
}

/// By number, from 0 on.
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

const EXPECTED: &str = "`5xx`, `4xx`, `gateway_error`, a status from 400 to 599, `connect`, `refused`, `reset`, `malformed`, `timeout`, \
                        `incomplete`, or a gRPC status such as `grpc:UNAVAILABLE`";

/// Say that the server does not know the method or the version of HTTP: of the request, not of how the server is.
const OF_THE_REQUEST: [u16; 2] = [501, 505];

const GATEWAY: [u16; 3] = [502, 503, 504];

impl Condition {
    fn status(number: u64) -> Option<Self> {
        let number = u16::try_from(number).ok()?;
        (400..600).contains(&number).then_some(Self::Status(number))
    }
}

impl FromStr for Condition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "4xx" => return Ok(Self::ClientErrors),
            "5xx" => return Ok(Self::ServerErrors),
            "gateway_error" => return Ok(Self::GatewayErrors),
            _ => {}
        }
        if let Some((_, trouble)) = TROUBLES.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Trouble(*trouble));
        }
        if let Some(name) = text.strip_prefix("grpc:") {
            // That all went well cannot be a failure.
            let code = GRPC.iter().skip(1).position(|known| *known == name).ok_or(())?;
            return Ok(Self::Grpc(code as u16 + 1));
        }
        text.parse().ok().and_then(Self::status).ok_or(())
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrStatus;
        impl Visitor<'_> for NameOrStatus {
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

            fn visit_i64<E: Error>(self, number: i64) -> Result<Condition, E> {
                let status = u64::try_from(number).ok().and_then(Condition::status);
                status.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
            }
        }
        deserializer.deserialize_any(NameOrStatus)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<String> = ["5xx", "4xx", "gateway_error"]
            .into_iter()
            .chain(TROUBLES.iter().map(|(name, _)| *name))
            .map(str::to_owned)
            .chain(GRPC.iter().skip(1).map(|name| format!("grpc:{name}")))
            .collect();
        json_schema!({
            "description": "What counts as a failure.",
            "anyOf": [{ "enum": names }, { "type": "integer", "minimum": 400, "maximum": 599 }],
        })
    }
}

/// Several conditions, compiled to be asked for every call.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Statuses from 400 on.
    statuses: [u64; 4],
    grpc: u32,
    troubles: u8,
}

impl Conditions {
    /// A set of these.
    pub fn new(conditions: &[Condition]) -> Self {
        let mut compiled = Self::default();
        for condition in conditions {
            match condition {
                Condition::ClientErrors => (400..500).for_each(|status| compiled.add(status)),
                Condition::ServerErrors => (500..600)
                    .filter(|status| !OF_THE_REQUEST.contains(status))
                    .for_each(|status| compiled.add(status)),
                Condition::GatewayErrors => GATEWAY.into_iter().for_each(|status| compiled.add(status)),
                Condition::Status(status) => compiled.add(*status),
                Condition::Grpc(code) => compiled.grpc |= 1 << code,
                Condition::Trouble(trouble) => compiled.troubles |= 1 << *trouble as u8,
            }
        }
        compiled
    }

    fn add(&mut self, status: u16) {
        let bit = usize::from(status.saturating_sub(400));
        if let Some(word) = self.statuses.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    /// Whether an answer with this status is a failure.
    pub fn has_status(&self, status: StatusCode) -> bool {
        let Some(bit) = status.as_u16().checked_sub(400).map(usize::from) else {
            return false;
        };
        self.statuses
            .get(bit / 64)
            .is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    /// Whether an answer with this gRPC status is one. A status that there is not is `UNKNOWN`, as clients take it.
    pub fn has_grpc(&self, code: u16) -> bool {
        let code = if usize::from(code) < GRPC.len() { code } else { 2 };
        self.grpc & (1 << code) != 0
    }

    /// Whether gRPC statuses matter.
    pub fn looks_at_grpc(&self) -> bool {
        self.grpc != 0
    }

    /// Whether that trouble is one of them.
    pub fn has(&self, trouble: Trouble) -> bool {
        self.troubles & (1 << trouble as u8) != 0
    }

    /// Whether a call that ended so failed. If not, that tells nothing of the upstream.
    pub fn has_failure(&self, failure: Failure, unprocessed: bool) -> bool {
        Trouble::of(failure, unprocessed).is_some_and(|trouble| self.has(trouble))
    }

    /// Which kind of failure a try was, if it was one of these: the word of its trouble, `status` or `grpc`.
    pub fn cause(&self, tried: &Tried<'_>) -> Option<&'static str> {
        match tried.result {
            AttemptResult::Abandoned => None,
            AttemptResult::Failed(failure) => {
                let trouble = Trouble::of(failure, tried.unprocessed)?;
                self.has(trouble).then(|| trouble.as_str())
            }
            AttemptResult::Answered(status) if self.has_status(status) => Some("status"),
            AttemptResult::Answered(_) => {
                let head = tried.head.filter(|_| self.looks_at_grpc())?;
                let code = grpc_status(&head.headers)?;
                self.has_grpc(code).then_some("grpc")
            }
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

    fn set(json: &str) -> Conditions {
        Conditions::new(&serde_json::from_str::<Vec<Condition>>(json).unwrap())
    }

    fn statuses(set: &Conditions) -> Vec<u16> {
        (100..1000)
            .filter(|status| set.has_status(StatusCode::from_u16(*status).unwrap()))
            .collect()
    }

    fn tried(result: AttemptResult, unprocessed: bool) -> Tried<'static> {
        Tried {
            result,
            head: None,
            took: Duration::ZERO,
            unprocessed,
            whole: true,
            beside: false,
        }
    }

    #[test]
    fn names_and_numbers_are_read() {
        assert_eq!(statuses(&set("[429, \"404\", 599]")), [404, 429, 599]);
        assert_eq!(statuses(&set("[\"4xx\"]")), (400..500).collect::<Vec<_>>());
        let server: Vec<u16> = (500..600).filter(|status| ![501, 505].contains(status)).collect();
        assert_eq!(statuses(&set("[\"5xx\"]")), server);
        assert_eq!(statuses(&set("[\"5xx\", 501]")).len(), server.len() + 1);
        assert_eq!(statuses(&set("[\"gateway_error\"]")), [502, 503, 504]);
        let grpc = set("[\"grpc:UNAVAILABLE\", \"grpc:UNKNOWN\"]");
        assert_eq!((0..17).filter(|code| grpc.has_grpc(*code)).collect::<Vec<_>>(), [2, 14]);
        assert!(grpc.has_grpc(999), "a status that there is not is UNKNOWN");
        assert!(!set("[\"5xx\"]").looks_at_grpc());
        for json in [
            "\"5XX\"",
            "\"grpc:OK\"",
            "\"grpc:unavailable\"",
            "200",
            "600",
            "-5",
            "true",
            "\"slow\"",
        ] {
            let error = serde_json::from_str::<Condition>(json).unwrap_err().to_string();
            assert!(error.contains("expected `5xx`, `4xx`"), "{json}: {error}");
        }
    }

    #[test]
    fn each_failure_is_of_its_kind() {
        for (name, failures) in [
            (
                "timeout",
                &[
                    Failure::AttemptTimeout,
                    Failure::FirstByteTimeout,
                    Failure::IdleTimeout,
                    Failure::ExchangeTimeout,
                ][..],
            ),
            (
                "connect",
                &[Failure::DnsError, Failure::ConnectFailed, Failure::ConnectTimeout],
            ),
            ("reset", &[Failure::UpstreamClosed]),
            ("incomplete", &[Failure::ResponseIncomplete]),
            ("malformed", &[Failure::MalformedResponse]),
        ] {
            let set = set(&format!("[\"{name}\"]"));
            for failure in Failure::ALL {
                let cause = set.cause(&tried(AttemptResult::Failed(failure), false));
                assert_eq!(cause, failures.contains(&failure).then_some(name), "{name} {failure:?}");
            }
        }
        // What was refused unread is that, and nothing else.
        let refused = tried(AttemptResult::Failed(Failure::UpstreamClosed), true);
        assert_eq!(set("[\"refused\"]").cause(&refused), Some("refused"));
        assert_eq!(set("[\"reset\"]").cause(&refused), None);
        assert_eq!(set("[\"refused\"]").cause(&tried(AttemptResult::Abandoned, true)), None);
    }

    #[test]
    fn a_grpc_status_is_read_from_the_head() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("grpc-status", "14").unwrap();
        let answered = Tried {
            head: Some(&head),
            ..tried(AttemptResult::Answered(StatusCode::OK), false)
        };
        assert_eq!(set("[\"grpc:UNAVAILABLE\"]").cause(&answered), Some("grpc"));
        assert_eq!(set("[\"grpc:INTERNAL\", \"5xx\"]").cause(&answered), None);
    }
}
