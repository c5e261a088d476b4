//! The place of an exchange in a distributed trace.

use http::HeaderValue;

/// A trace's id, never zero.
pub type TraceId = opentelemetry::TraceId;
/// A span's id, never zero.
pub type SpanId = opentelemetry::SpanId;

/// The place of an exchange in a distributed trace (W3C Trace Context, section 3).
#[derive(Clone, Debug)]
pub struct TraceContext {
    /// The trace, shared by all its spans.
    pub trace_id: TraceId,
    /// The span of this exchange, the parent of what the app does.
    pub span_id: SpanId,
    /// The caller's span; `None` where this exchange began the trace.
    pub parent: Option<SpanId>,
    /// Whether the span is recorded and exported.
    pub sampled: bool,
    /// Vendors' entries, passed on as received.
    pub tracestate: Option<HeaderValue>,
    /// `trace_id` in lower-case hexadecimal, written once for logs and headers.
    pub trace_id_hex: [u8; 32],
}

impl TraceContext {
    /// `trace_id` in lower-case hexadecimal.
    pub fn trace_id_hex(&self) -> &str {
        std::str::from_utf8(&self.trace_id_hex).unwrap_or_default()
    }
}
