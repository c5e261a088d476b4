//! Turns failures and refusals into answers: one function, which knows gRPC.
//!
//! A *failure* is something that went wrong between the sidecar and the upstream; a *refusal* is a filter's decision.
//! Both become a small body in the service's [`ErrorFormat`], a `Proxy-Status` field (RFC 9209), and for gRPC requests a
//! trailers-only response with a gRPC status, because gRPC clients read no body of an error.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora_http::ResponseHeader;

use crate::exchange::Exchange;
use crate::ledger::Fact;
use crate::response::{Body, Response};

/// How the sidecar writes its own errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// `application/json`: `error`, `status`, `message`, `request_id`.
    #[default]
    Json,
    /// `application/problem+json` (RFC 9457).
    Problem,
}

/// What went wrong between the sidecar and the upstream, or within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No endpoint to send to: none known, or none healthy. Nothing was sent.
    NoEndpoint,
    /// The endpoint's name could not be resolved. Nothing was sent.
    DnsError,
    /// The endpoint refused the connection or could not be reached. Nothing was sent.
    ConnectFailed,
    /// The connection was not open in time. Nothing was sent.
    ConnectTimeout,
    /// The destination is one that nobody may be sent to, such as the sidecar's own admin API. Nothing was sent, nor would be
    /// the next time.
    DestinationForbidden,
    /// No response head in the time for one try.
    AttemptTimeout,
    /// No response head in time.
    FirstByteTimeout,
    /// No byte in either direction for too long.
    IdleTimeout,
    /// The whole exchange took too long.
    ExchangeTimeout,
    /// The upstream closed or reset before a response head.
    UpstreamClosed,
    /// The upstream closed or reset in the middle of the response body.
    ResponseIncomplete,
    /// The upstream's answer is not valid HTTP.
    MalformedResponse,
    /// The client did not send the request body in time.
    RequestTimeout,
    /// The client's request body is not valid HTTP.
    MalformedRequest,
    /// The sidecar stopped, its grace period over, before the exchange had ended.
    Stopped,
    /// A bug in the sidecar.
    Internal,
}

impl Failure {
    /// All there are.
    pub const ALL: [Self; 16] = [
        Self::NoEndpoint,
        Self::DnsError,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::DestinationForbidden,
        Self::AttemptTimeout,
        Self::FirstByteTimeout,
        Self::IdleTimeout,
        Self::ExchangeTimeout,
        Self::UpstreamClosed,
        Self::ResponseIncomplete,
        Self::MalformedResponse,
        Self::RequestTimeout,
        Self::MalformedRequest,
        Self::Stopped,
        Self::Internal,
    ];

    /// The stable word for logs, metrics and error bodies.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoEndpoint => "no_endpoint",
            Self::DnsError => "dns_error",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::DestinationForbidden => "destination_forbidden",
            Self::AttemptTimeout => "attempt_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::ExchangeTimeout => "exchange_timeout",
            Self::UpstreamClosed => "upstream_closed",
            Self::ResponseIncomplete => "response_incomplete",
            Self::MalformedResponse => "malformed_response",
            Self::RequestTimeout => "request_timeout",
            Self::MalformedRequest => "malformed_request",
            Self::Stopped => "stopped",
            Self::Internal => "internal_error",
        }
    }

    /// The error type of RFC 9209, section 2.3.
    pub fn proxy_error(self) -> &'static str {
        match self {
            Self::NoEndpoint => "destination_unavailable",
            Self::DnsError => "dns_error",
            Self::ConnectFailed => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::DestinationForbidden => "destination_ip_prohibited",
            Self::AttemptTimeout | Self::FirstByteTimeout | Self::ExchangeTimeout => "http_response_timeout",
            Self::IdleTimeout => "connection_read_timeout",
            Self::UpstreamClosed => "connection_terminated",
            Self::ResponseIncomplete => "http_response_incomplete",
            Self::MalformedResponse => "http_protocol_error",
            Self::RequestTimeout | Self::MalformedRequest => "http_request_error",
            Self::Stopped | Self::Internal => "proxy_internal_error",
        }
    }

    /// What the client is told in words.
    fn message(self) -> &'static str {
        match self {
            Self::NoEndpoint => "no healthy endpoint of the upstream is known",
            Self::DnsError => "the upstream's name could not be resolved",
            Self::ConnectFailed => "the upstream could not be reached",
            Self::ConnectTimeout => "the connection to the upstream was not open in time",
            Self::DestinationForbidden => "the sidecar does not connect to this address",
            Self::AttemptTimeout | Self::FirstByteTimeout => "the upstream did not answer in time",
            Self::IdleTimeout => "the upstream stopped sending",
            Self::ExchangeTimeout => "the exchange took longer than its limit",
            Self::UpstreamClosed => "the upstream closed the connection without an answer",
            Self::ResponseIncomplete => "the upstream's response ended early",
            Self::MalformedResponse => "the upstream's response is not valid HTTP",
            Self::RequestTimeout => "the request body did not arrive in time",
            Self::MalformedRequest => "the request is not valid HTTP",
            Self::Stopped => "the sidecar stopped",
            Self::Internal => "the sidecar failed",
        }
    }

    /// The HTTP status the client gets when no response head was sent yet.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoEndpoint | Self::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimeout
            | Self::AttemptTimeout
            | Self::FirstByteTimeout
            | Self::IdleTimeout
            | Self::ExchangeTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::DnsError
            | Self::ConnectFailed
            | Self::UpstreamClosed
            | Self::ResponseIncomplete
            | Self::MalformedResponse => StatusCode::BAD_GATEWAY,
            Self::DestinationForbidden => StatusCode::FORBIDDEN,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::MalformedRequest => StatusCode::BAD_REQUEST,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the upstream cannot have seen the request, so that any request may be sent again.
    pub fn nothing_was_sent(self) -> bool {
        matches!(
            self,
            Self::NoEndpoint | Self::DnsError | Self::ConnectFailed | Self::ConnectTimeout
        )
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            status: failure.status(),
            reason: failure.reason(),
            message: failure.message(),
            proxy_error: failure.proxy_error(),
            retry_after: matches!(failure, Failure::NoEndpoint).then_some(1),
            fact: Fact::None,
        }
    }
}

/// A decision not to serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable word such as `body_too_large`.
    pub reason: &'static str,
    /// The reason in words, for the client.
    pub message: &'static str,
    /// The error type of RFC 9209, section 2.3.
    pub proxy_error: &'static str,
    /// Seconds after which to try again, for `Retry-After`.
    pub retry_after: Option<u32>,
    /// What explains it beside its reason, for the ledger.
    pub fact: Fact,
}

impl Refusal {
    /// A refusal for a property of the request.
    pub const fn denied(status: StatusCode, reason: &'static str, message: &'static str) -> Self {
        Self {
            status,
            reason,
            message,
            proxy_error: "http_request_denied",
            retry_after: None,
            fact: Fact::None,
        }
    }

    /// The same, explained by a fact.
    #[must_use]
    pub const fn with_fact(mut self, fact: Fact) -> Self {
        self.fact = fact;
        self
    }

    /// What the ledger has of it: the fact, or what the client is told.
    pub fn explained(&self) -> Fact {
        match self.fact {
            Fact::None => Fact::Text(self.message),
            fact => fact,
        }
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The answer the client gets. Errors are rare enough to be written out.
    pub fn render(self, exchange: &Exchange) -> Response {
        if exchange.is_grpc() {
            return self.render_grpc();
        }
        let id = exchange
            .request_id
            .as_ref()
            .and_then(|id| id.to_str().ok())
            .unwrap_or_default();
        let status = self.status.as_u16();
        let title = self.status.canonical_reason().unwrap_or("Error");
        let (media, body) = match exchange.route.error_format {
            ErrorFormat::Json => (
                "application/json",
                serde_json::json!({
                    "error": self.reason, "status": status, "message": self.message, "request_id": id,
                }),
            ),
            ErrorFormat::Problem => (
                "application/problem+json",
                serde_json::json!({
                    "type": "about:blank", "title": title, "status": status,
                    "detail": self.message, "error": self.reason, "request_id": id,
                }),
            ),
        };
        let body = Bytes::from(body.to_string());
        let mut head = self.head(self.status, media);
        set(&mut head, header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        Response {
            head,
            body: Body::Full(body),
        }
    }

    /// Trailers-only, as the gRPC protocol over HTTP/2 has it: status 200, the gRPC status among the headers.
    fn render_grpc(self) -> Response {
        let mut head = self.head(StatusCode::OK, "application/grpc");
        set(&mut head, "grpc-status", HeaderValue::from(self.grpc_status()));
        set(&mut head, "grpc-message", HeaderValue::from_static(self.message));
        set(&mut head, header::CONTENT_LENGTH, HeaderValue::from(0));
        Response {
            head,
            body: Body::Empty,
        }
    }

    fn head(self, status: StatusCode, media: &'static str) -> Box<ResponseHeader> {
        let mut head = Box::new(empty_head(status));
        set(&mut head, header::CONTENT_TYPE, HeaderValue::from_static(media));
        // Nobody may keep an error of the sidecar's own for an answer of the app.
        set(&mut head, header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            set(&mut head, header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let status = format!("pillion; error={}; details=\"{}\"", self.proxy_error, self.reason);
        if let Ok(value) = HeaderValue::from_str(&status) {
            set(&mut head, "proxy-status", value);
        }
        head
    }

    /// The gRPC status code of a refusal.
    pub fn grpc_status(self) -> u16 {
        match self.status {
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => 4, // DEADLINE_EXCEEDED
            StatusCode::FORBIDDEN => 7,                                     // PERMISSION_DENIED
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 8, // RESOURCE_EXHAUSTED
            StatusCode::NOT_FOUND => 12, // UNIMPLEMENTED
            StatusCode::BAD_REQUEST | StatusCode::INTERNAL_SERVER_ERROR => 13, // INTERNAL
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => 14, // UNAVAILABLE
            StatusCode::UNAUTHORIZED => 16, // UNAUTHENTICATED
            _ => 2,                         // UNKNOWN
        }
    }
}

/// A response head without headers. The status is one of ours, so building cannot fail; should it, 500 stands in.
pub(crate) fn empty_head(status: StatusCode) -> ResponseHeader {
    ResponseHeader::build_no_case(status, Some(8)).unwrap_or_else(|_| http::Response::new(()).into_parts().0.into())
}

fn set(head: &mut ResponseHeader, name: impl pingora_http::IntoCaseHeaderName, value: HeaderValue) {
    // Fails only on more header fields than a map can hold, which an error of ours never has.
    let _ = head.insert_header(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn body(response: &Response) -> String {
        match &response.body {
            Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_timeout_is_504_with_proxy_status_and_the_request_id() {
        let mut exchange = testing::exchange("GET", "/");
        exchange.request_id = Some(HeaderValue::from_static("abc"));
        let response = Refusal::from(Failure::FirstByteTimeout).render(&exchange);
        assert_eq!(response.head.status, 504);
        assert_eq!(
            response.head.headers["proxy-status"],
            "pillion; error=http_response_timeout; details=\"first_byte_timeout\""
        );
        let told: serde_json::Value = serde_json::from_str(&body(&response)).unwrap();
        let expected = serde_json::json!({
            "error": "first_byte_timeout", "status": 504, "message": "the upstream did not answer in time", "request_id": "abc",
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn the_manual_has_them_all() {
        let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md")).unwrap();
        for failure in Failure::ALL {
            let refusal = Refusal::from(failure);
            let (status, grpc) = (refusal.status.as_u16(), refusal.grpc_status());
            let row = format!("| `{}` | {status} | {grpc} |", refusal.reason);
            assert!(manual.contains(&row), "no row begins with {row}");
        }
    }

    #[test]
    fn no_endpoint_is_503_with_retry_after() {
        let response = Refusal::from(Failure::NoEndpoint).render(&testing::exchange("GET", "/"));
        assert_eq!(response.head.status, 503);
        assert_eq!(response.head.headers["retry-after"], "1");
    }

    #[test]
    fn grpc_gets_trailers_only() {
        let mut exchange = testing::exchange("POST", "/pkg.Service/Method");
        exchange
            .request
            .insert_header("content-type", "application/grpc+proto")
            .unwrap();
        let response = Refusal::from(Failure::ConnectFailed).render(&exchange);
        assert_eq!(response.head.status, 200);
        assert_eq!(response.head.headers["grpc-status"], "14");
        assert!(matches!(response.body, Body::Empty));
    }
}
