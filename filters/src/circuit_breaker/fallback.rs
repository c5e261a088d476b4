//! What a client gets that is not sent on.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use super::config::{Fallback, StaticResponse};
use crate::failure::empty_head;
use crate::headers::is_reserved;
use crate::{Body, Fact, Refusal, Remark, Response};

/// Compiled.
pub(super) enum Compiled {
    /// What the cache holds, which stands before this filter.
    Stale,
    /// A fixed answer.
    Response(Box<Fixed>),
    /// Another upstream.
    Upstream(Arc<str>),
}

/// A fixed answer.
pub(super) struct Fixed {
    head: ResponseHeader,
    body: Bytes,
}

/// The answer where there is no fallback.
pub(super) fn refusal(seconds: u32, why: Fact) -> Refusal {
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: "circuit_open",
        message: "the upstream has failed too often; nothing is sent to it for a while",
        proxy_error: "destination_unavailable",
        retry_after: Some(seconds),
        fact: why,
    }
}

impl Compiled {
    pub(super) fn of(fallback: Option<Fallback>) -> Result<Option<Self>, Vec<Remark>> {
        Ok(match fallback {
            None => None,
            Some(Fallback::Stale) => Some(Self::Stale),
            Some(Fallback::Upstream(name)) => Some(Self::Upstream(Arc::from(name))),
            Some(Fallback::Response(response)) => Some(Self::Response(Box::new(Fixed::of(response)?))),
        })
    }
}

impl Fixed {
    fn of(response: StaticResponse) -> Result<Self, Vec<Remark>> {
        let mut wrong = Vec::new();
        let status = StatusCode::from_u16(response.status).ok();
        let status = status.filter(|status| (200..600).contains(&status.as_u16()));
        if status.is_none() {
            wrong.push(Remark::new(
                "fallback.response.status",
                "expected a status from 200 to 599",
            ));
        }
        let mut head = empty_head(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE));
        write(&mut head, response.headers, &mut wrong);
        let has_none = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_none && !response.body.is_empty() {
            let message = format!("a response with the status {} has no body", head.status.as_u16());
            wrong.push(Remark::new("fallback.response.body", message));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let body = Bytes::from(response.body);
        let mut or_else = |name: HeaderName, value: HeaderValue| {
            if !head.headers.contains_key(&name) {
                let _ = head.insert_header(name, value);
            }
        };
        // Nobody may keep it for an answer of the app.
        or_else(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !body.is_empty() {
            or_else(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        if !has_none {
            or_else(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        or_else(
            HeaderName::from_static("proxy-status"),
            HeaderValue::from_static("pillion; error=destination_unavailable; details=\"circuit_open\""),
        );
        Ok(Self { head, body })
    }

    /// The answer; one that says that it is unavailable says for how long, unless it was told what to say.
    pub(super) fn answer(&self, seconds: u32) -> Response {
        let mut head = Box::new(self.head.clone());
        if head.status == StatusCode::SERVICE_UNAVAILABLE && !head.headers.contains_key(RETRY_AFTER) {
            let _ = head.insert_header(RETRY_AFTER, HeaderValue::from(seconds));
        }
        Response {
            head,
            body: if self.body.is_empty() {
                Body::Empty
            } else {
                Body::Full(self.body.clone())
            },
        }
    }
}

fn write(head: &mut ResponseHeader, headers: BTreeMap<String, String>, wrong: &mut Vec<Remark>) {
    const KEY: &str = "fallback.response.headers";
    for (text, value) in headers {
        let Ok(name) = HeaderName::try_from(text.as_str()) else {
            wrong.push(Remark::new(KEY, format!("`{text}` is not a header name")));
            continue;
        };
        if is_reserved(&name) {
            wrong.push(Remark::new(KEY, format!("`{name}` is the sidecar's own to write")));
            continue;
        }
        let Ok(value) = HeaderValue::try_from(value) else {
            wrong.push(Remark::new(KEY, format!("the value of `{name}` is not a header value")));
            continue;
        };
        let _ = head.insert_header(name, value);
    }
}
