//! What a proxy must do to heads: authority, hop-by-hop fields, forwarding fields, cookies.
//!
//! RFC 9110, section 7.6 (forwarding), RFC 9112, section 3.2 (request target), RFC 9113, section 8.2.3 (cookie crumbs).

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use pillion_filters::{Connection, Direction, Refusal};
use pingora_http::{RequestHeader, ResponseHeader};

use super::h1_head::RequestBody;
use crate::config::Cidr;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A request that has passed this many proxies goes round in circles: every pass through a sidecar adds one.
const MAX_HOPS: usize = 16;

/// See [`MAX_HOPS`].
const LOOP: Refusal = Refusal::denied(
    StatusCode::LOOP_DETECTED,
    "proxy_loop",
    "the request has passed too many proxies, perhaps this one again and again",
);

/// An outbound request in absolute-form for `https`: sending it on in clear would betray it.
const NO_TLS: Refusal = Refusal::denied(
    StatusCode::NOT_IMPLEMENTED,
    "https_needs_connect",
    "requests for https go through CONNECT",
);

/// How the client is named to the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Not at all.
    Off,
}

/// Whose word is taken for who the client is, and how it is passed on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarding {
    /// The fields written.
    pub(crate) style: Style,
    /// Networks whose own forwarding fields are kept.
    pub(crate) trust: Vec<Cidr>,
}

impl Forwarding {
    /// Whether this peer's forwarding fields are kept. A peer on a Unix socket is on this host, chosen by whoever
    /// configured the socket.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.is_none_or(|peer| self.trust.iter().any(|network| network.contains(peer)))
    }
}

/// What the engine remembers of fields it took off the head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// The client asked to switch protocols (and not to HTTP/2).
    pub(super) upgrade: bool,
    /// The client takes trailers.
    pub(super) te_trailers: bool,
}

/// The fields that need a look, found in one pass over the names.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "a set of flags")]
struct Found {
    connection: bool,
    hop_by_hop: bool,
    hosts: usize,
    cookies: usize,
    upgrade: bool,
    te: bool,
    forwarding: bool,
    hops: usize,
}

fn look(head: &RequestHeader) -> Found {
    let mut found = Found::default();
    for name in head.headers.keys() {
        // `keys` gives each name once.
        match name.as_str() {
            "connection" => found.connection = true,
            "keep-alive" | "proxy-connection" | "transfer-encoding" | "trailer" => found.hop_by_hop = true,
            "upgrade" => found.upgrade = true,
            "te" => found.te = true,
            "host" => found.hosts = head.headers.get_all(HOST).iter().count(),
            "cookie" => found.cookies = head.headers.get_all(COOKIE).iter().count(),
            "via" => found.hops = head.headers.get_all(VIA).iter().count(),
            "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => found.forwarding = true,
            _ => {}
        }
    }
    found
}

/// A refusal that leaves no doubt about the framing of what follows only if the connection closes.
fn bad(reason: &'static str, message: &'static str) -> Refusal {
    Refusal::denied(StatusCode::BAD_REQUEST, reason, message)
}

/// Makes a received request head fit to be forwarded. Gives the authority the client asked for.
pub(super) fn receive(
    head: &mut RequestHeader,
    connection: &Connection,
    direction: Direction,
    forwarding: &Forwarding,
    client: Option<&HeaderValue>,
) -> Result<(Option<HeaderValue>, Taken), Refusal> {
    let found = look(head);
    if found.hops > MAX_HOPS {
        return Err(LOOP);
    }
    let authority = settle_authority(head, found.hosts, direction)?;
    let taken = strip_hop_by_hop(head, &found);
    if found.cookies > 1 {
        join_cookies(head);
    }
    if direction == Direction::Inbound {
        let trusted = forwarding.trusts(connection.client.map(|address| address.ip()));
        forward(head, &found, forwarding.style, trusted, connection.scheme, authority.as_ref(), client);
    }
    append(head, VIA, via(connection.version));
    Ok((authority, taken))
}

/// Leaves the target in origin-form and exactly one `Host`.
fn settle_authority(head: &mut RequestHeader, hosts: usize, direction: Direction) -> Result<Option<HeaderValue>, Refusal> {
    if hosts > 1 {
        return Err(bad("duplicate_host", "the request names more than one Host"));
    }
    let host = head.headers.get(HOST).cloned();
    let Some(target) = absolute_target(head)? else {
        // RFC 9112, section 3.2.
        if host.is_none() && head.version == Version::HTTP_11 {
            return Err(bad("missing_host", "the request names no Host"));
        }
        return Ok(host);
    };
    if direction == Direction::Outbound && target.scheme() == Some(&Scheme::HTTPS) {
        return Err(NO_TLS);
    }
    let authority = target.authority().map_or("", Authority::as_str);
    if authority.contains('@') {
        return Err(bad("invalid_authority", "the request's authority holds user information"));
    }
    if let Some(host) = &host {
        if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
            return Err(bad("host_mismatch", "the request's Host and its target disagree"));
        }
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

fn strip_hop_by_hop(head: &mut RequestHeader, found: &Found) -> Taken {
    let mut taken = Taken::default();
    if found.te {
        taken.te_trailers = tokens(head, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        head.remove_header(&TE);
    }
    if found.upgrade {
        let named = tokens(head, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
        let h2c = tokens(head, &UPGRADE).any(|token| token.eq_ignore_ascii_case("h2c"));
        taken.upgrade = named && !h2c && head.version == Version::HTTP_11;
        if !taken.upgrade {
            head.remove_header(&UPGRADE);
        }
    }
    if found.connection {
        // Fields the client nominates are for this hop alone, but it may not take away what the next one relies on.
        let nominated: Vec<HeaderName> = tokens(head, &CONNECTION)
            .filter_map(|token| token.parse().ok())
            .filter(|name| *name != HOST && *name != UPGRADE && *name != CONTENT_LENGTH && !is_forwarding(name))
            .collect();
        for name in nominated {
            head.remove_header(&name);
        }
        head.remove_header(&CONNECTION);
    }
    if found.hop_by_hop {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, TRAILER] {
            head.remove_header(&name);
        }
    }
    taken
}

fn is_forwarding(name: &HeaderName) -> bool {
    [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST].contains(name)
}

/// The members of a comma-separated field, over all its lines.
fn tokens<'a>(head: &'a RequestHeader, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = head.headers.get_all(name).into_iter();
    lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// HTTP/2 may split cookies into fields of their own; HTTP/1 has one (RFC 9113, section 8.2.3).
fn join_cookies(head: &mut RequestHeader) {
    let mut joined = Vec::new();
    for value in head.headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(value.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        insert(head, COOKIE, value);
    }
}

fn forward(
    head: &mut RequestHeader,
    found: &Found,
    style: Style,
    trusted: bool,
    scheme: &'static str,
    authority: Option<&HeaderValue>,
    client: Option<&HeaderValue>,
) {
    if found.forwarding && !trusted && style != Style::Off {
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            head.remove_header(&name);
        }
    }
    match style {
        Style::Off => {}
        Style::XForwarded => {
            if let Some(client) = client {
                let chain = head.headers.get(X_FORWARDED_FOR).map(|before| join(before, client));
                insert(head, X_FORWARDED_FOR, chain.flatten().unwrap_or_else(|| client.clone()));
            }
            if !head.headers.contains_key(X_FORWARDED_PROTO) {
                insert(head, X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
            }
            if let Some(authority) = authority.filter(|_| !head.headers.contains_key(X_FORWARDED_HOST)) {
                insert(head, X_FORWARDED_HOST, authority.clone());
            }
        }
        Style::Forwarded => {
            if let Some(element) = forwarded_element(scheme, authority, client) {
                let chain = head.headers.get(FORWARDED).and_then(|before| join(before, &element));
                insert(head, FORWARDED, chain.unwrap_or(element));
            }
        }
    }
}

fn join(before: &HeaderValue, after: &HeaderValue) -> Option<HeaderValue> {
    let mut joined = Vec::with_capacity(before.len() + 2 + after.len());
    joined.extend_from_slice(before.as_bytes());
    joined.extend_from_slice(b", ");
    joined.extend_from_slice(after.as_bytes());
    HeaderValue::from_bytes(&joined).ok()
}

/// One element of `Forwarded` (RFC 7239, section 4). Hosts and IPv6 addresses are quoted.
fn forwarded_element(
    scheme: &str,
    authority: Option<&HeaderValue>,
    client: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    let mut element = String::with_capacity(64);
    match client.and_then(|client| client.to_str().ok()) {
        Some(client) if client.contains(':') => element.push_str(&["for=\"[", client, "]\""].concat()),
        Some(client) => element.push_str(&["for=", client].concat()),
        None => element.push_str("for=unknown"),
    }
    if let Some(host) = authority.and_then(|host| host.to_str().ok()).filter(|host| !host.contains('"')) {
        element.push_str(&[";host=\"", host, "\""].concat());
    }
    element.push_str(&[";proto=", scheme].concat());
    HeaderValue::from_str(&element).ok()
}

/// The `Via` element for a message received in that version (RFC 9110, section 7.6.3).
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 pillion",
        Version::HTTP_10 => "1.0 pillion",
        _ => "1.1 pillion",
    })
}

/// What the request line and headers of an HTTP/1 request need beside them.
pub(super) fn request_body(head: &RequestHeader, has_body: bool) -> RequestBody {
    let has_length = head.headers.contains_key(CONTENT_LENGTH);
    if has_length {
        RequestBody::AsIs
    } else if has_body {
        RequestBody::Chunked
    } else if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        RequestBody::Zero
    } else {
        RequestBody::AsIs
    }
}

/// The head as an HTTP/2 upstream gets it.
pub(super) fn for_http2(head: &RequestHeader, taken: Taken) -> Result<http::Request<()>, Refusal> {
    let authority = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let authority: Authority = authority
        .parse()
        .map_err(|_| bad("invalid_authority", "the request's authority is not valid"))?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    let mut request = http::Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() =
        Uri::from_parts(parts).map_err(|_| bad("invalid_target", "the request's target is not valid"))?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers.clone();
    for name in [HOST, UPGRADE, EXPECT] {
        request.headers_mut().remove(name);
    }
    if taken.te_trailers {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// Makes a received response head fit to be forwarded.
pub(super) fn receive_response(head: &mut ResponseHeader) {
    let mut hop_by_hop = false;
    for name in head.headers.keys() {
        hop_by_hop |= matches!(
            name.as_str(),
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
        );
    }
    if hop_by_hop {
        let nominated: Vec<HeaderName> = head
            .headers
            .get_all(CONNECTION)
            .into_iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| token.trim().parse().ok())
            .filter(|name| *name != CONTENT_LENGTH && !(*name == UPGRADE && head.status == 101))
            .collect();
        for name in nominated {
            head.remove_header(&name);
        }
        for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING] {
            head.remove_header(&name);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let _ = head.insert_header(CONNECTION, HeaderValue::from_static("upgrade"));
        } else {
            head.remove_header(&UPGRADE);
        }
    }
    let _ = head.append_header(VIA, via(head.version));
}

fn insert(head: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    // Fails only on more fields than a header map can hold; the head was parsed with far fewer.
    let _ = head.insert_header(name, value);
}

fn append(head: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    let _ = head.append_header(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn connection(version: Version) -> Connection {
        Connection {
            client: Some(SocketAddr::from(([192, 0, 2, 7], 4000))),
            local: None,
            scheme: "http",
            version,
        }
    }

    fn head(version: Version, target: &str, fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        head.set_version(version);
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn received(mut head: RequestHeader, trust: &[&str]) -> Result<RequestHeader, &'static str> {
        let forwarding = Forwarding {
            style: Style::XForwarded,
            trust: trust.iter().map(|network| network.parse().unwrap()).collect(),
        };
        let client = HeaderValue::from_static("192.0.2.7");
        let version = head.version;
        receive(&mut head, &connection(version), Direction::Inbound, &forwarding, Some(&client))
            .map(|_| head)
            .map_err(|refusal| refusal.reason)
    }

    #[test]
    fn hop_by_hop_fields_go_and_nominated_ones_with_them() {
        let fields = [
            ("Host", "a"),
            ("Connection", "keep-alive, X-Secret, Host"),
            ("Keep-Alive", "timeout=5"),
            ("X-Secret", "1"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
        ];
        let head = received(head(Version::HTTP_11, "/", &fields), &[]).unwrap();
        for name in ["connection", "keep-alive", "x-secret", "te", "transfer-encoding"] {
            assert!(!head.headers.contains_key(name), "{name}");
        }
        assert_eq!(head.headers["host"], "a");
        assert_eq!(head.headers["via"], "1.1 pillion");
    }

    #[test]
    fn host_must_be_one_and_agree() {
        let v = Version::HTTP_11;
        assert_eq!(received(head(v, "/", &[]), &[]).unwrap_err(), "missing_host");
        assert_eq!(received(head(v, "/", &[("Host", "a"), ("Host", "a")]), &[]).unwrap_err(), "duplicate_host");
        assert_eq!(received(head(v, "http://b/x", &[("Host", "a")]), &[]).unwrap_err(), "host_mismatch");
        let absolute = received(head(v, "http://A/x?y=1", &[("Host", "a")]), &[]).unwrap();
        assert_eq!(absolute.uri, "/x?y=1");
        assert!(received(head(Version::HTTP_10, "/", &[]), &[]).is_ok());
    }

    #[test]
    fn http2_authority_becomes_host_and_crumbs_one_cookie() {
        let fields = [("cookie", "a=1"), ("cookie", "b=2")];
        let mut parts = http::Request::get("http://example.com/x").body(()).unwrap().into_parts().0;
        parts.version = Version::HTTP_2;
        for (name, value) in fields {
            parts.headers.append(name, HeaderValue::from_static(value));
        }
        let head = received(RequestHeader::from(parts), &[]).unwrap();
        assert_eq!(head.headers["host"], "example.com");
        assert_eq!(head.uri, "/x");
        assert_eq!(head.headers.get_all("cookie").iter().count(), 1);
        assert_eq!(head.headers["cookie"], "a=1; b=2");
        assert_eq!(head.headers["via"], "2 pillion");
    }

    #[test]
    fn only_a_trusted_peer_names_clients() {
        let fields = [("Host", "a"), ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")];
        let untrusted = received(head(Version::HTTP_11, "/", &fields), &[]).unwrap();
        assert_eq!(untrusted.headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(untrusted.headers["x-forwarded-proto"], "http");
        assert_eq!(untrusted.headers["x-forwarded-host"], "a");
        let trusted = received(head(Version::HTTP_11, "/", &fields), &["192.0.2.0/24"]).unwrap();
        assert_eq!(trusted.headers["x-forwarded-for"], "203.0.113.9, 192.0.2.7");
        assert_eq!(trusted.headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn an_upgrade_is_kept_unless_it_is_h2c() {
        let mut websocket = head(Version::HTTP_11, "/", &[("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]);
        let found = look(&websocket);
        assert!(strip_hop_by_hop(&mut websocket, &found).upgrade);
        assert_eq!(websocket.headers["upgrade"], "websocket");
        let mut h2c = head(Version::HTTP_11, "/", &[("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "h2c")]);
        let found = look(&h2c);
        assert!(!strip_hop_by_hop(&mut h2c, &found).upgrade);
        assert!(!h2c.headers.contains_key("upgrade"));
    }

    #[test]
    fn response_hop_by_hop_fields_go() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [("Connection", "close, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Upgrade", "h2c")] {
            head.append_header(name, value).unwrap();
        }
        receive_response(&mut head);
        assert_eq!(head.headers.len(), 1);
        assert_eq!(head.headers["via"], "1.1 pillion");
    }
}
