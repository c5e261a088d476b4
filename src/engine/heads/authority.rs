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
    if host.as_ref().is_some_and(|host| !is_valid(host.as_bytes())) {
        return Err(bad("invalid_authority", "the request's Host is not valid"));
    }
    // RFC 9112, section 3.2. Some leave it out of CONNECT, whose target says the same.
    if host.is_none() && head.version == Version::HTTP_11 && head.method != Method::CONNECT {
        return Err(bad("missing_host", "the request names no Host"));
    }
    let Some(target) = absolute_target(head)? else {
        if host.is_none() {
            // RFC 9113, section 8.3.1.
            if head.version == Version::HTTP_2 {
                return Err(bad("missing_host", "the request names no authority"));
            }
            // The app is owed one, even if the client's version lets it leave it out.
            insert(head, HOST, HeaderValue::from_static("localhost"));
        }
        return Ok(host);
    };
    if direction == Direction::Outbound && target.scheme() == Some(&Scheme::HTTPS) {
        return Err(NO_TLS);
    }
    let authority = target.authority().map_or("", Authority::as_str);
    if !is_valid(authority.as_bytes()) {
        return Err(bad("invalid_authority", "the request's authority is not valid"));
    }
    if let Some(host) = &host
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
    {
        return Err(bad("host_mismatch", "the request's Host and its target disagree"));
    }
    let value = HeaderValue::from_str(authority)
        .map_err(|_| bad("invalid_authority", "the request's authority is not valid"))?;
    if head.method == Method::OPTIONS && names_no_path(&target, head) {
        // RFC 9112, section 3.2.4: the server as a whole was meant.
        head.set_uri(Uri::from_static("*"));
    } else if head.method != Method::CONNECT {
        head.set_uri(origin_form(&target)?);
    }
    if host.is_none() {
        insert(head, HOST, value.clone());
    }
    Ok(Some(value))
}

/// Whether an absolute-form target ends with its authority. HTTP/2 has a path always.
fn names_no_path(target: &Uri, head: &RequestHeader) -> bool {
    head.version != Version::HTTP_2
        && target
            .authority()
            .is_some_and(|authority| head.raw_path().ends_with(authority.as_str().as_bytes()))
}

/// The target, if it names an authority: HTTP/2's, absolute-form, or CONNECT's. pingora-http keeps the last two out of
/// the URI.
fn absolute_target(head: &RequestHeader) -> Result<Option<Uri>, Refusal> {
    if head.uri.authority().is_some() {
        return Ok(Some(head.uri.clone()));
    }
    let raw = head.raw_path();
    let connects = head.method == Method::CONNECT;
    if !connects && (raw.first() == Some(&b'/') || (raw == b"*" && head.method == Method::OPTIONS)) {
        return Ok(None);
    }
    // Authority-form is for CONNECT alone (RFC 9112, section 3.2.3).
    let fits = |target: &Uri| target.authority().is_some() && target.scheme().is_none() == connects;
    let target = Uri::try_from(raw).ok().filter(fits);
    target.map(Some).ok_or_else(invalid_target)
}

/// Path and query of a target. A path that is empty is written as `/` (RFC 9112, section 3.2.1).
fn origin_form(target: &Uri) -> Result<Uri, Refusal> {
    match target.path_and_query() {
        Some(query) if query.as_str().starts_with('?') => {
            format!("/{}", query.as_str()).parse().map_err(|_| invalid_target())
        }
        Some(path) => Ok(Uri::from(path.clone())),
        None => Ok(Uri::from(PathAndQuery::from_static("/"))),
    }
}

fn invalid_target() -> Refusal {
    bad("invalid_target", "the request's target is not valid")
}

/// `uri-host [ ":" port ]` (RFC 3986, section 3.2.2), empty where there is none. A comma is left out: it would make two hosts
/// of one for whoever reads a list.
fn is_valid(authority: &[u8]) -> bool {
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let in_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let (host_is_valid, port) = if let Some(rest) = authority.strip_prefix(b"[") {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, after) = rest.split_at(end);
        (!address.is_empty() && address.iter().all(in_address), after.get(1..))
    } else {
        let end = authority
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(authority.len());
        let (name, after) = authority.split_at(end);
        (
            name.iter().all(in_name) && (!name.is_empty() || after.is_empty()),
            Some(after),
        )
    };
    let port_is_valid = match port {
        Some([]) => true,
        Some([b':', digits @ ..]) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_is_valid && port_is_valid
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn authorities_are_hosts_and_ports() {
        for valid in [
            "",
            "a",
            "a.example:8000",
            "a:",
            "127.0.0.1:1",
            "[::1]",
            "[::ffff:1.2.3.4]:80",
            "a_b-c",
            "caf%C3%A9",
        ] {
            assert!(is_valid(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "a, b", "a b", "a/b", "a?", "a#", "b@a", "a\\b", "a:x", "a:1:2", ":80", "[::1", "::1", "[]", "[a]b",
            "a:123456", "\u{fc}", "a\"",
        ] {
            assert!(!is_valid(invalid.as_bytes()), "{invalid}");
        }
    }
}
