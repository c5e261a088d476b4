//! `Cache-Status` (RFC 9211): what the cache did, on every response.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to the app (RFC 9211, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forward {
    /// The cache leaves such requests alone.
    Bypass,
    /// Not by that method.
    Method,
    /// Nothing is stored under the URL.
    UriMiss,
    /// Something is, but not for these request fields.
    VaryMiss,
    /// Something is, and the client wants it from the app.
    Request,
    /// Something is, and too old.
    Stale,
    /// What is asked for is part of something that is not stored.
    Partial,
}

impl Forward {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// Says that the response is a stored one, fresh for so long, or so long stale.
pub(super) fn hit(lifetime: Duration, age: Duration, detail: Option<&'static str>) -> Option<HeaderValue> {
    let mut digits = itoa::Buffer::new();
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let ttl = digits.format(seconds(lifetime).saturating_sub(seconds(age)));
    value(&["pillion; hit; ttl=", ttl], detail)
}

/// Says that the response is another's, who asked at the same time.
pub(super) fn collapsed(head: &mut ResponseHeader) {
    append(head, &["pillion; fwd=uri-miss; collapsed"], None);
}

/// Says why the request went to the app, what that answered, and whether the answer is stored.
pub(super) fn forwarded(
    head: &mut ResponseHeader,
    forward: Forward,
    status: Option<StatusCode>,
    stored: bool,
    detail: Option<&'static str>,
) {
    let status = status.as_ref().map(StatusCode::as_str);
    let text = [
        "pillion; fwd=",
        forward.as_str(),
        if status.is_some() { "; fwd-status=" } else { "" },
        status.unwrap_or_default(),
        if stored { "; stored" } else { "" },
    ];
    append(head, &text, detail);
}

/// The member of the list that is nearest to the client comes last.
fn append(head: &mut ResponseHeader, parts: &[&str], detail: Option<&'static str>) {
    if let Some(value) = value(parts, detail) {
        let _ = head.append_header(CACHE_STATUS, value);
    }
}

fn value(parts: &[&str], detail: Option<&'static str>) -> Option<HeaderValue> {
    let detail = detail.map_or(["", ""], |detail| ["; detail=", detail]);
    let all = || parts.iter().chain(&detail).copied();
    // Of the exact length: a text with room to spare is moved or kept in two pieces.
    let mut text = String::with_capacity(all().map(str::len).sum());
    text.extend(all());
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(say: impl FnOnce(&mut ResponseHeader)) -> String {
        let mut head = ResponseHeader::build(200, None).unwrap();
        say(&mut head);
        head.headers[CACHE_STATUS].to_str().unwrap().to_owned()
    }

    #[test]
    fn what_it_says() {
        let seconds = Duration::from_secs;
        assert_eq!(hit(seconds(10), seconds(4), None).unwrap(), "pillion; hit; ttl=6");
        assert_eq!(
            hit(seconds(4), seconds(10), Some("stale_while_revalidate")).unwrap(),
            "pillion; hit; ttl=-6; detail=stale_while_revalidate"
        );
        assert_eq!(
            said(|head| forwarded(head, Forward::UriMiss, Some(StatusCode::OK), true, None)),
            "pillion; fwd=uri-miss; fwd-status=200; stored"
        );
        assert_eq!(
            said(|head| forwarded(head, Forward::Method, None, false, Some("no_store"))),
            "pillion; fwd=method; detail=no_store"
        );
    }
}
