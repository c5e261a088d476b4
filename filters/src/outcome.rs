//! How an exchange ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::failure::Failure;
use crate::filter::AttemptResult;
use crate::trace_context::SpanId;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client got the whole response.
    Complete,
    /// The client went away first.
    ClientAborted,
    /// The sidecar answered with an error, or cut the response short.
    Failed(Failure),
}

/// One try towards an endpoint, as it is remembered.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// The endpoint's address.
    pub endpoint: Arc<str>,
    /// When the try began.
    pub started: Instant,
    /// When its connection was there; `None` where none was.
    pub connected: Option<Instant>,
    /// When its response was complete, or it failed.
    pub ended: Instant,
    /// Whether it went over a pooled connection.
    pub reused: bool,
    /// What came of it.
    pub result: AttemptResult,
    /// The id of its span, drawn when the exchange is traced and had more than one attempt.
    pub span_id: Option<SpanId>,
}

impl AttemptRecord {
    /// Whether there was a response head.
    pub fn is_answered(&self) -> bool {
        matches!(self.result, AttemptResult::Answered(_))
    }
}

/// The whole story, told once to every filter that was entered.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the client was answered; `None` when it went away before a head was sent.
    pub status: Option<StatusCode>,
    /// How it ended.
    pub end: End,
    /// From the request head's last byte to the response's.
    pub duration: Duration,
    /// Request body bytes read from the client.
    pub request_bytes: u64,
    /// Response body bytes written to the client.
    pub response_bytes: u64,
    /// The `grpc-status` of the response, where there was one.
    pub grpc_status: Option<u16>,
    /// The tries, first to last; empty where a filter answered.
    pub attempts: Vec<AttemptRecord>,
}

impl Outcome {
    /// Whether the server is to blame: the exchange failed, the status is from 500 on, or the gRPC status is one of those
    /// that OpenTelemetry's conventions call errors of a server (`UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`,
    /// `UNAVAILABLE`, `DATA_LOSS`). gRPC answers with 200 and says the truth in `grpc-status`.
    pub fn is_server_error(&self) -> bool {
        matches!(self.end, End::Failed(_))
            || self.status.is_some_and(|status| status.as_u16() >= 500)
            || matches!(self.grpc_status, Some(2 | 4 | 12..=15))
    }

    /// Whether the exchange became a tunnel, or something else that is no longer requests and responses: then its duration
    /// says nothing of the server's speed.
    pub fn is_tunnel(&self, method: &Method) -> bool {
        match self.status {
            Some(StatusCode::SWITCHING_PROTOCOLS) => true,
            Some(status) => *method == Method::CONNECT && status.is_success(),
            None => false,
        }
    }
}
