//! What a proxy must do to heads: authority, hop-by-hop fields, forwarding fields, cookies.
//!
//! RFC 9110, section 7.6 (forwarding), RFC 9112, section 3.2 (request target), RFC 9113, section 8.2.3 (cookie crumbs).

use std::net::IpAddr;
use std::sync::LazyLock;

use bytes::BytesMut;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use pillion_filters::{Connection, Direction, Failure, Refusal};
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
    /// The length, where it was said more than once.
    length: Option<HeaderValue>,
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
            "content-length" => found.length = said_once(&head.headers),
            "host" => found.hosts = head.headers.get_all(HOST).iter().count(),
            "cookie" => found.cookies = head.headers.get_all(COOKIE).iter().count(),
            "via" => found.hops = head.headers.get_all(VIA).iter().count(),
            "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => found.forwarding = true,
            _ => {}
        }
    }
    found
}

/// The length of a message that says it more than once; that it is the same each time is settled by then (RFC 9112,
/// section 6.3).
fn said_once(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next()?;
    let end = first.as_bytes().iter().position(|&byte| byte == b',');
    if end.is_none() && lengths.next().is_none() {
        return None;
    }
    let first = first.as_bytes().get(..end.unwrap_or(first.len())).unwrap_or_default();
    HeaderValue::from_bytes(first.trim_ascii()).ok()
}

/// Whether the body comes in a coding beside chunked, which alone is taken off it here.
fn has_unknown_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    codings.next().is_some_and(|coding| !chunked(coding)) || codings.next().is_some()
}

/// RFC 9112, section 6.1.
const UNKNOWN_CODING: Refusal = Refusal::denied(
    StatusCode::NOT_IMPLEMENTED,
    "unknown_transfer_coding",
    "no transfer coding but chunked is known here",
);

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
    if found.hop_by_hop && has_unknown_coding(&head.headers) {
        return Err(UNKNOWN_CODING);
    }
    let taken = strip_hop_by_hop(head, &found);
    if let Some(length) = &found.length {
        insert(head, CONTENT_LENGTH, length.clone());
    }
    if found.cookies > 1 {
        join_cookies(head);
    }
    if direction == Direction::Inbound {
        let trusted = forwarding.trusts(connection.client.map(|address| address.ip()));
        forward(
            head,
            &found,
            forwarding.style,
            trusted,
            connection.scheme,
            authority.as_ref(),
            client,
        );
    }
    Ok((authority, taken))
}

/// Leaves the target in origin-form and exactly one `Host`.
fn settle_authority(
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
    if !found.forwarding && style == Style::XForwarded {
        return;
    }
    if found.forwarding && !trusted && style != Style::Off {
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            head.remove_header(&name);
        }
    }
    match style {
        Style::Off => {}
        // What is not there yet is written with the head, see [`Hop`].
        Style::XForwarded => {
            let chain = client.and_then(|client| join(head.headers.get(X_FORWARDED_FOR)?, client));
            if let Some(chain) = chain {
                insert(head, X_FORWARDED_FOR, chain);
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
    if let Some(host) = authority
        .and_then(|host| host.to_str().ok())
        .filter(|host| !host.contains('"'))
    {
        element.push_str(&[";host=\"", host, "\""].concat());
    }
    element.push_str(&[";proto=", scheme].concat());
    HeaderValue::from_str(&element).ok()
}

/// What this hop adds to a request, unless a filter has set it. Written with the head: putting fields into a header map
/// only to write them out costs ten times as much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'a> {
    /// See [`via`].
    pub(super) via: &'static str,
    /// Whether the app is told of the client by `X-Forwarded-*`.
    pub(super) x_forwarded: bool,
    /// The client's address.
    pub(super) client: Option<&'a HeaderValue>,
    /// The scheme the client used.
    pub(super) scheme: &'static str,
    /// The authority the client asked for.
    pub(super) authority: Option<&'a HeaderValue>,
}

impl<'a> Hop<'a> {
    /// The fields that are missing from `headers`, `Via` apart.
    fn missing(&self, headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, &'static [u8], &'a [u8])> {
        let fields = [
            (
                X_FORWARDED_FOR,
                &b"X-Forwarded-For: "[..],
                self.client.map(HeaderValue::as_bytes),
            ),
            (X_FORWARDED_PROTO, b"X-Forwarded-Proto: ", Some(self.scheme.as_bytes())),
            (
                X_FORWARDED_HOST,
                b"X-Forwarded-Host: ",
                self.authority.map(HeaderValue::as_bytes),
            ),
        ];
        let absent = |name: &HeaderName| self.x_forwarded && !headers.contains_key(name);
        fields
            .map(|(name, text, value)| Some((absent(&name).then_some(name)?, text, value?)))
            .into_iter()
            .flatten()
    }

    /// Writes the fields as lines of an HTTP/1 head.
    pub(super) fn write(&self, headers: &HeaderMap, out: &mut BytesMut) {
        for (_, name, value) in self.missing(headers) {
            for part in [name, value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        write_via(self.via, out);
    }

    /// Puts the fields into the head of an HTTP/2 request.
    fn insert(&self, headers: &mut HeaderMap) {
        let missing: Vec<_> = self.missing(headers).collect();
        for (name, _, value) in missing {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        }
        headers.append(VIA, HeaderValue::from_static(self.via));
    }
}

/// Writes a `Via` line.
pub(super) fn write_via(via: &'static str, out: &mut BytesMut) {
    for part in ["Via: ", via, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The `Via` element for a message received in that version (RFC 9110, section 7.6.3).
pub(super) fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2 pillion",
        Version::HTTP_10 => "1.0 pillion",
        _ => "1.1 pillion",
    }
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
pub(super) fn for_http2(head: &RequestHeader, taken: Taken, hop: Hop<'_>) -> Result<http::Request<()>, Refusal> {
    let authority = head
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let authority: Authority = authority
        .parse()
        .map_err(|_| bad("invalid_authority", "the request's authority is not valid"))?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(
        head.uri
            .path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/")),
    );
    let mut request = http::Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() =
        Uri::from_parts(parts).map_err(|_| bad("invalid_target", "the request's target is not valid"))?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = head.headers.clone();
    hop.insert(request.headers_mut());
    for name in [HOST, UPGRADE, EXPECT] {
        request.headers_mut().remove(name);
    }
    if taken.te_trailers {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// Makes a received response head fit to be forwarded.
pub(super) fn receive_response(head: &mut ResponseHeader) -> Result<(), Failure> {
    let mut length = None;
    let (mut connection, mut others) = (false, false);
    for name in head.headers.keys() {
        match name.as_str() {
            "content-length" => length = said_once(&head.headers),
            "connection" => connection = true,
            "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => others = true,
            _ => {}
        }
    }
    if let Some(length) = length {
        let _ = head.insert_header(CONTENT_LENGTH, length);
    }
    if connection {
        strip_connection(head);
    }
    if others {
        if has_unknown_coding(&head.headers) {
            return Err(Failure::MalformedResponse);
        }
        for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING] {
            head.remove_header(&name);
        }
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            head.remove_header(&UPGRADE);
        }
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let _ = head.insert_header(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    Ok(())
}

/// Takes `Connection` off a response, and what it nominates.
fn strip_connection(head: &mut ResponseHeader) {
    let options = head.headers.get_all(CONNECTION);
    // What nearly every response says, and nominates nothing but itself.
    let plain = |value: &HeaderValue| matches!(value.as_bytes(), b"keep-alive" | b"close");
    if !options.iter().all(plain) {
        let nominated: Vec<HeaderName> = options
            .into_iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| token.trim().parse().ok())
            .filter(|name| *name != CONTENT_LENGTH && !(*name == UPGRADE && head.status == 101))
            .collect();
        for name in nominated {
            head.remove_header(&name);
        }
    }
    head.remove_header(&CONNECTION);
}

/// A head without headers, to stand in for one that was taken away.
pub(super) fn blank(method: Method, version: Version) -> RequestHeader {
    static BLANK: LazyLock<RequestHeader> =
        LazyLock::new(|| RequestHeader::from(http::Request::new(()).into_parts().0));
    let mut head = BLANK.clone();
    head.set_method(method);
    head.set_version(version);
    head
}

fn insert(head: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    // Fails only on more fields than a header map can hold; the head was parsed with far fewer.
    let _ = head.insert_header(name, value);
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
        receive(
            &mut head,
            &connection(version),
            Direction::Inbound,
            &forwarding,
            Some(&client),
        )
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
    }

    #[test]
    fn host_must_be_one_and_agree() {
        let v = Version::HTTP_11;
        assert_eq!(received(head(v, "/", &[]), &[]).unwrap_err(), "missing_host");
        assert_eq!(
            received(head(v, "/", &[("Host", "a"), ("Host", "a")]), &[]).unwrap_err(),
            "duplicate_host"
        );
        assert_eq!(
            received(head(v, "http://b/x", &[("Host", "a")]), &[]).unwrap_err(),
            "host_mismatch"
        );
        let absolute = received(head(v, "http://A/x?y=1", &[("Host", "a")]), &[]).unwrap();
        assert_eq!(absolute.uri, "/x?y=1");
        assert!(received(head(Version::HTTP_10, "/", &[]), &[]).is_ok());
    }

    #[test]
    fn http2_authority_becomes_host_and_crumbs_one_cookie() {
        let fields = [("cookie", "a=1"), ("cookie", "b=2")];
        let mut parts = http::Request::get("http://example.com/x")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        parts.version = Version::HTTP_2;
        for (name, value) in fields {
            parts.headers.append(name, HeaderValue::from_static(value));
        }
        let head = received(RequestHeader::from(parts), &[]).unwrap();
        assert_eq!(head.headers["host"], "example.com");
        assert_eq!(head.uri, "/x");
        assert_eq!(head.headers.get_all("cookie").iter().count(), 1);
        assert_eq!(head.headers["cookie"], "a=1; b=2");
    }

    /// The lines this hop adds to a head.
    fn added(head: &RequestHeader) -> String {
        let (client, authority) = (HeaderValue::from_static("192.0.2.7"), HeaderValue::from_static("a"));
        let hop = Hop {
            via: via(head.version),
            x_forwarded: true,
            client: Some(&client),
            scheme: "http",
            authority: Some(&authority),
        };
        let mut out = BytesMut::new();
        hop.write(&head.headers, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn only_a_trusted_peer_names_clients() {
        let fields = [
            ("Host", "a"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
        ];
        let untrusted = received(head(Version::HTTP_11, "/", &fields), &[]).unwrap();
        let own =
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nVia: 1.1 pillion\r\n";
        assert!(!untrusted.headers.contains_key("x-forwarded-for"));
        assert_eq!(added(&untrusted), own);
        let trusted = received(head(Version::HTTP_11, "/", &fields), &["192.0.2.0/24"]).unwrap();
        assert_eq!(trusted.headers["x-forwarded-for"], "203.0.113.9, 192.0.2.7");
        assert_eq!(trusted.headers["x-forwarded-proto"], "https");
        assert_eq!(added(&trusted), "X-Forwarded-Host: a\r\nVia: 1.1 pillion\r\n");
    }

    #[test]
    fn an_upgrade_is_kept_unless_it_is_h2c() {
        let mut websocket = head(
            Version::HTTP_11,
            "/",
            &[("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "websocket")],
        );
        let found = look(&websocket);
        assert!(strip_hop_by_hop(&mut websocket, &found).upgrade);
        assert_eq!(websocket.headers["upgrade"], "websocket");
        let mut h2c = head(
            Version::HTTP_11,
            "/",
            &[("Host", "a"), ("Connection", "Upgrade"), ("Upgrade", "h2c")],
        );
        let found = look(&h2c);
        assert!(!strip_hop_by_hop(&mut h2c, &found).upgrade);
        assert!(!h2c.headers.contains_key("upgrade"));
    }

    #[test]
    fn response_hop_by_hop_fields_go() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Upgrade", "h2c"),
        ] {
            head.append_header(name, value).unwrap();
        }
        receive_response(&mut head).unwrap();
        assert!(head.headers.is_empty(), "{:?}", head.headers);
    }
}
