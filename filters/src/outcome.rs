//! How an exchange ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

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
    /// When its response was complete, or it failed.
    pub ended: Instant,
    /// Whether it went over a pooled connection.
    pub reused: bool,
    /// What came of it.
    pub result: AttemptResult,
    /// The id of its span, drawn when the exchange is traced and had more than one attempt.
    pub span_id: Option<SpanId>,
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
