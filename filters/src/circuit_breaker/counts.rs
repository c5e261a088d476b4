//! Which calls have failed.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Failure;

/// What makes a failure of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// All client errors.
    ClientErrors,
    /// All server errors but 501 and 505.
    ServerErrors,
    /// That status.
    Status(u16),
    /// That gRPC status.
    Grpc(u16),
    /// Something that went wrong on the way.
    Trouble(Trouble),
}

/// What can go wrong on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer in time, or none that went on.
    Timeout,
    /// No connection.
    Connect,
    /// Closed or reset without an answer.
    Reset,
    /// An answer that ended early.
    Incomplete,
    /// An answer that is not valid HTTP.
    Malformed,
}

const TROUBLES: [(&str, Trouble); 5] = [
    ("timeout", Trouble::Timeout),
    ("connect", Trouble::Connect),
    ("reset", Trouble::Reset),
    ("incomplete", Trouble::Incomplete),
    ("malformed", Trouble::Malformed),
];

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

const EXPECTED: &str = "`5xx`, `4xx`, a status from 400 to 599, `timeout`, `connect`, `reset`, `incomplete`, `malformed`, or a \
                        gRPC status such as `grpc:UNAVAILABLE`";

/// Say that the server does not know the method or the version of HTTP: of the request, not of how the server is.
const OF_THE_REQUEST: [u16; 2] = [501, 505];

impl Count {
    /// What counts unless something is said: server errors, whatever goes wrong on the way, and the gRPC statuses that
    /// OpenTelemetry's conventions call errors of a server, without `UNIMPLEMENTED`, which is of the request.
    pub(super) fn defaults() -> Vec<Self> {
        let troubles = TROUBLES.map(|(_, trouble)| Self::Trouble(trouble));
        let grpc = [2, 4, 13, 14, 15].map(Self::Grpc);
        [&[Self::ServerErrors][..], &troubles, &grpc].concat()
    }

    fn status(number: u64) -> Option<Self> {
        let number = u16::try_from(number).ok()?;
        (400..600).contains(&number).then_some(Self::Status(number))
    }
}

impl FromStr for Count {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "4xx" => return Ok(Self::ClientErrors),
            "5xx" => return Ok(Self::ServerErrors),
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

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrStatus;
        impl Visitor<'_> for NameOrStatus {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Count, E> {
                text.parse()
                    .map_err(|()| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Count, E> {
                Count::status(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Count, E> {
                let status = u64::try_from(number).ok().and_then(Count::status);
                status.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
            }
        }
        deserializer.deserialize_any(NameOrStatus)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "FailedCall".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<String> = ["5xx", "4xx"]
            .into_iter()
            .chain(TROUBLES.iter().map(|(name, _)| *name))
            .map(str::to_owned)
            .chain(GRPC.iter().skip(1).map(|name| format!("grpc:{name}")))
            .collect();
        json_schema!({
            "description": "What makes a failure of a call.",
            "anyOf": [{ "enum": names }, { "type": "integer", "minimum": 400, "maximum": 599 }],
        })
    }
}

/// What counts, compiled to be asked for every call.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Statuses from 400 on.
    statuses: [u64; 4],
    grpc: u32,
    troubles: u8,
}

impl Counts {
    pub(super) fn of(counts: &[Count]) -> Self {
        let mut compiled = Self::default();
        for count in counts {
            match count {
                Count::ClientErrors => (400..500).for_each(|status| compiled.add(status)),
                Count::ServerErrors => (500..600)
                    .filter(|status| !OF_THE_REQUEST.contains(status))
                    .for_each(|status| compiled.add(status)),
                Count::Status(status) => compiled.add(*status),
                Count::Grpc(code) => compiled.grpc |= 1 << code,
                Count::Trouble(trouble) => compiled.troubles |= 1 << *trouble as u8,
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
    pub(super) fn has_status(&self, status: StatusCode) -> bool {
        let Some(bit) = status.as_u16().checked_sub(400).map(usize::from) else {
            return false;
        };
        self.statuses
            .get(bit / 64)
            .is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    /// Whether an answer with this gRPC status is one. A status that there is not is `UNKNOWN`, as clients take it.
    pub(super) fn has_grpc(&self, code: u16) -> bool {
        let code = if usize::from(code) < GRPC.len() { code } else { 2 };
        self.grpc & (1 << code) != 0
    }

    /// Whether gRPC statuses matter.
    pub(super) fn looks_at_grpc(&self) -> bool {
        self.grpc != 0
    }

    fn has(&self, trouble: Trouble) -> bool {
        self.troubles & (1 << trouble as u8) != 0
    }

    /// Whether a call that ended so failed. If not, that tells nothing of the upstream.
    pub(super) fn has_failure(&self, failure: Failure) -> bool {
        let trouble = match failure {
            Failure::AttemptTimeout | Failure::FirstByteTimeout | Failure::IdleTimeout | Failure::ExchangeTimeout => {
                Trouble::Timeout
            }
            Failure::DnsError | Failure::ConnectFailed | Failure::ConnectTimeout => Trouble::Connect,
            Failure::UpstreamClosed => Trouble::Reset,
            Failure::ResponseIncomplete => Trouble::Incomplete,
            Failure::MalformedResponse => Trouble::Malformed,
            // Nothing was asked of it, or the client or the sidecar is to blame.
            Failure::NoEndpoint
            | Failure::DestinationForbidden
            | Failure::RequestTimeout
            | Failure::MalformedRequest
            | Failure::Stopped
            | Failure::Internal => return false,
        };
        self.has(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(json: &str) -> Counts {
        Counts::of(&serde_json::from_str::<Vec<Count>>(json).unwrap())
    }

    fn statuses(counts: &Counts) -> Vec<u16> {
        (100..1000)
            .filter(|status| counts.has_status(StatusCode::from_u16(*status).unwrap()))
            .collect()
    }

    #[test]
    fn names_and_numbers_are_read() {
        assert_eq!(statuses(&counts("[429, \"404\", 599]")), [404, 429, 599]);
        assert_eq!(statuses(&counts("[\"4xx\"]")), (400..500).collect::<Vec<_>>());
        let server: Vec<u16> = (500..600).filter(|status| ![501, 505].contains(status)).collect();
        assert_eq!(statuses(&counts("[\"5xx\"]")), server);
        assert_eq!(statuses(&counts("[\"5xx\", 501]")).len(), server.len() + 1);
        let grpc = counts("[\"grpc:UNAVAILABLE\", \"grpc:UNKNOWN\"]");
        assert_eq!((0..17).filter(|code| grpc.has_grpc(*code)).collect::<Vec<_>>(), [2, 14]);
        assert!(grpc.has_grpc(999), "a status that there is not is UNKNOWN");
        assert!(!counts("[\"5xx\"]").looks_at_grpc());
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
            let error = serde_json::from_str::<Count>(json).unwrap_err().to_string();
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
            let counts = counts(&format!("[\"{name}\"]"));
            for failure in Failure::ALL {
                let expected = failures.contains(&failure);
                assert_eq!(counts.has_failure(failure), expected, "{name} {failure:?}");
            }
        }
    }

    #[test]
    fn what_is_about_the_request_does_not_count_by_default() {
        let counts = Counts::of(&Count::defaults());
        let not: Vec<u16> = (400..600)
            .filter(|status| !statuses(&counts).contains(status))
            .filter(|status| *status >= 500)
            .collect();
        assert_eq!(not, [501, 505]);
        assert_eq!(
            (0..17).filter(|code| counts.has_grpc(*code)).collect::<Vec<_>>(),
            [2, 4, 13, 14, 15]
        );
        assert!(!counts.has_failure(Failure::NoEndpoint));
        assert!(!counts.has_failure(Failure::Stopped));
    }
}
