//! What a proxy must do to heads: authority, hop-by-hop fields, forwarding fields, cookies.
//!
//! RFC 9110, section 7.6 (forwarding), RFC 9112, section 3.2 (request target), RFC 9113, section 8.2.3 (cookie crumbs).

mod authority;
mod forwarding;
mod response;
mod trailers;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use pillion_filters::{Connection, Direction, Refusal};
use pingora_http::RequestHeader;

use self::authority::settle_authority;
pub(crate) use self::forwarding::{Forwarding, Style};
pub(super) use self::forwarding::{Hop, write_via};
use self::forwarding::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, forward};
pub(super) use self::response::receive_response;
pub(super) use self::trailers::receive_trailers;
use super::h1_head::RequestBody;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// A request that has passed this many proxies goes round in circles: every pass through a sidecar adds one.
const MAX_HOPS: usize = 16;

/// See [`MAX_HOPS`].
const LOOP: Refusal = Refusal::denied(
    StatusCode::LOOP_DETECTED,
    "proxy_loop",
    "the request has passed too many proxies, perhaps this one again and again",
);

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
            "via" => found.hops = tokens(head, &VIA).count(),
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
    if let Some(length) = &found.length {
        insert(head, CONTENT_LENGTH, length.clone());
    }
    // Unless `Connection` took them away.
    if found.cookies > 1 && head.headers.contains_key(COOKIE) {
        join_cookies(head);
    }
    if direction == Direction::Inbound {
        let trusted = forwarding.trusts(connection.client.map(|address| address.ip()));
        forward(
            head,
            found.forwarding,
            forwarding.style,
            trusted,
            connection.scheme,
            authority.as_ref(),
            client,
        );
    }
    Ok((authority, taken))
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

/// A head without headers, to stand in for one that was taken away.
pub(super) fn blank(method: Method, version: Version) -> RequestHeader {
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = method;
    parts.version = version;
    RequestHeader::from(parts)
}

/// What stands for a head that could not be read.
pub(super) fn unread() -> RequestHeader {
    let mut head = blank(Method::from_bytes(b"-").unwrap_or_default(), Version::HTTP_11);
    head.set_uri(Uri::from_static("*"));
    head
}

fn insert(head: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    // Fails only on more fields than a header map can hold; the head was parsed with far fewer.
    let _ = head.insert_header(name, value);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

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
    fn all_lines_of_a_chain_are_kept_in_order() {
        let lines = [
            ("Host", "a"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "203.0.113.10, 203.0.113.11"),
        ];
        let head = received(head(Version::HTTP_11, "/", &lines), &["192.0.2.0/24"]).unwrap();
        let chain: Vec<_> = head.headers.get_all("x-forwarded-for").iter().collect();
        assert_eq!(chain, ["203.0.113.9, 203.0.113.10, 203.0.113.11, 192.0.2.7"]);
    }

    #[test]
    fn cookies_may_be_nominated_too() {
        let fields = [
            ("Host", "a"),
            ("Connection", "cookie"),
            ("Cookie", "a=1"),
            ("Cookie", "b=2"),
        ];
        let head = received(head(Version::HTTP_11, "/", &fields), &[]).unwrap();
        assert!(!head.headers.contains_key("cookie"));
    }

    #[test]
    fn hops_are_counted_by_members() {
        let via = ["1.1 a"; MAX_HOPS].join(", ");
        let via: &'static str = via.leak();
        let few = head(Version::HTTP_11, "/", &[("Host", "a"), ("Via", via)]);
        assert!(received(few, &[]).is_ok());
        let many = head(Version::HTTP_11, "/", &[("Host", "a"), ("Via", via), ("Via", "1.1 b")]);
        assert_eq!(received(many, &[]).unwrap_err(), "proxy_loop");
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
            via: pillion_filters::via(head.version),
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
}
