//! The authority a request is for, and the form of its target (RFC 9112, section 3.2; RFC 9113, section 8.3.1).

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, StatusCode, Uri, Version};
use pillion_filters::{Direction, Refusal};
use pingora_http::RequestHeader;

use super::{bad, insert};

/// An outbound request in absolute-form for `https`: sending it on in clear would betray it.
const NO_TLS: Refusal = Refusal::denied(
    StatusCode::NOT_IMPLEMENTED,
    "https_needs_connect",
    "requests for https go through CONNECT",
);

/// Leaves the target in origin-form and exactly one `Host`.
pub(super) fn settle_authority(
    head: &mut RequestHeader,
    hosts: usize,
    direction: Direction,
) -> Result<Option<HeaderValue>, Refusal> {
    if hosts > 1 {
        return Err(bad("duplicate_host", "the request names more than one Host"));
    }
    let host = head.headers.get(HOST).cloned();
    let Some(target) = absolute_target(head)? else {
        // RFC 9112, section 3.2.
        if host.is_none() && head.version == Version::HTTP_11 {
            return Err(bad("missing_host", "the request names no Host"));
        }
        if host.is_none() {
            // The app is owed one, even if the client's version lets it leave it out.
            insert(head, HOST, HeaderValue::from_static("localhost"));
        }
        return Ok(host);
    };
    if direction == Direction::Outbound && target.scheme() == Some(&Scheme::HTTPS) {
        return Err(NO_TLS);
    }
    let authority = target.authority().map_or("", Authority::as_str);
    if authority.contains('@') {
        return Err(bad(
            "invalid_authority",
            "the request's authority holds user information",
        ));
    }
    if let Some(host) = &host
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
    {
        return Err(bad("host_mismatch", "the request's Host and its target disagree"));
    }
    let value = HeaderValue::from_str(authority)
        .map_err(|_| bad("invalid_authority", "the request's authority is not valid"))?;
    if head.method != Method::CONNECT {
        let path = target.path_and_query().cloned();
        head.set_uri(Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/"))));
    }
    if host.is_none() {
        insert(head, HOST, value.clone());
    }
    Ok(Some(value))
}

/// The target, if it names an authority: HTTP/2's, absolute-form, or CONNECT's. pingora-http keeps the last two out of
/// the URI.
fn absolute_target(head: &RequestHeader) -> Result<Option<Uri>, Refusal> {
    if head.uri.authority().is_some() {
        return Ok(Some(head.uri.clone()));
    }
    let raw = head.raw_path();
    if matches!(raw.first(), Some(b'/' | b'*')) && head.method != Method::CONNECT {
        return Ok(None);
    }
    let target = Uri::try_from(raw).ok().filter(|target| target.authority().is_some());
    target
        .map(Some)
        .ok_or_else(|| bad("invalid_target", "the request's target is not valid"))
}
