//! CONNECT: a tunnel that counts bytes and time; what is inside it, usually TLS, is not opened.

use std::time::Duration;

use http::{StatusCode, Version};
use pillion_filters::{Direction, Refusal};
use pingora_http::ResponseHeader;
use tokio::io::AsyncWriteExt;

use super::down::{Down, Kept, take_wire};
use super::h1_head;
use super::pump::Counts;
use crate::clock;
use crate::listener::wire::{Outlet, Wire, Writes};
use crate::telemetry::{OpenTunnel, ProxyMetrics};
use crate::upstream::{Endpoint, Protocol};

/// The outbound request names no host, or one that is no host.
pub(super) const NO_DESTINATION: Refusal = Refusal::denied(
    StatusCode::BAD_REQUEST,
    "no_destination",
    "the request names no host to send it to",
);

/// CONNECT towards the app, or over HTTP/2.
const NOT_A_TUNNEL: Refusal = Refusal::denied(
    StatusCode::METHOD_NOT_ALLOWED,
    "connect_not_allowed",
    "CONNECT is served to the app over HTTP/1 only",
);

/// RFC 9110, section 9.3.6: a body of a CONNECT request has no meaning, and could be taken for what goes through the tunnel.
pub(super) const HAS_BODY: Refusal = Refusal::denied(
    StatusCode::BAD_REQUEST,
    "connect_with_body",
    "a CONNECT request has no body",
);

/// Where a CONNECT request wants to go.
pub(super) fn destination(
    direction: Direction,
    version: Version,
    authority: Option<&str>,
) -> Result<Endpoint, Refusal> {
    // Python's http.client asks in HTTP/1.0 before 3.12.
    if direction != Direction::Outbound || version == Version::HTTP_2 {
        return Err(NOT_A_TUNNEL);
    }
    // RFC 9110, section 9.3.6: the port is not optional.
    let (host, port) = authority
        .and_then(|authority| host_and_port(authority, None))
        .ok_or(NO_DESTINATION)?;
    Ok(Endpoint::tcp(Protocol::Http1, host, port))
}

/// Splits `host:port` and `[v6]:port`.
pub(super) fn host_and_port(authority: &str, default: Option<u16>) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        // RFC 3986, section 3.2.3: an empty port is the default one.
        None | Some("") => default?,
        Some(port) => port.parse().ok()?,
    };
    (!host.is_empty()).then_some((host, port))
}

/// The answer that opens a tunnel.
pub(super) fn established() -> Box<ResponseHeader> {
    let head = ResponseHeader::build_no_case(StatusCode::OK, Some(4));
    Box::new(head.unwrap_or_else(|_| http::Response::new(()).into_parts().0.into()))
}

/// Counts what a tunnel moved, however it ends.
struct Meter<'a> {
    /// Towards the app, and away from it.
    inner: Outlet,
    outer: Outlet,
    /// What the app had sent before the tunnel's first byte.
    before: u64,
    open: OpenTunnel<'a>,
    counts: &'a mut Counts,
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.counts.request_bytes = self.inner.received() - self.before;
        self.counts.response_bytes = self.outer.received();
        self.open.moved(self.counts.request_bytes, self.counts.response_bytes);
    }
}

/// Runs a tunnel until both sides are done, one fails, or nothing moved for too long.
pub(super) async fn run(
    down: Down,
    head: &ResponseHeader,
    mut upstream: Box<Wire>,
    idle: Option<Duration>,
    metrics: &ProxyMetrics,
    counts: &mut Counts,
) {
    let Some((session, outlet)) = down.into_http1() else {
        return;
    };
    let Some(Kept {
        wire: mut client,
        prefix,
    }) = take_wire(session)
    else {
        return;
    };
    outlet.push_with(|out| h1_head::write(head, Some("1.1 pillion"), clock::date, out));
    client.set_writes(Writes::Direct);
    upstream.set_writes(Writes::Direct);
    let early = prefix.unwrap_or_default();
    let meter = Meter {
        before: outlet.received() - early.len() as u64,
        inner: outlet,
        outer: upstream.outlet(),
        open: metrics.tunnel(),
        counts,
    };
    let (client, upstream) = (&mut *client, &mut *upstream);
    let moving = async {
        meter.inner.drain().await?;
        upstream.write_all(&early).await?;
        tokio::io::copy_bidirectional(client, upstream).await
    };
    tokio::select! {
        // How a tunnel ends is the business of those inside it.
        _ = moving => {}
        () = stillness(&meter.inner, &meter.outer, idle) => {}
    }
}

/// Ready once nothing was received on either side for that long.
async fn stillness(a: &Outlet, b: &Outlet, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    let mut seen = None;
    loop {
        let now = (a.received(), b.received());
        if seen == Some(now) {
            return;
        }
        seen = Some(now);
        tokio::time::sleep(idle).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_split() {
        assert_eq!(host_and_port("a.example:443", None), Some(("a.example", 443)));
        assert_eq!(host_and_port("[::1]:8443", None), Some(("::1", 8443)));
        assert_eq!(host_and_port("a.example", Some(80)), Some(("a.example", 80)));
        assert_eq!(host_and_port("[::1]", Some(80)), Some(("::1", 80)));
        assert_eq!(host_and_port("a.example:", Some(80)), Some(("a.example", 80)));
        for bad in ["a.example", ":443", "a:b", "a:70000", "[::1", ""] {
            assert_eq!(host_and_port(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn only_the_app_may_open_tunnels() {
        let open =
            |direction, version| destination(direction, version, Some("a:443")).map_err(|refusal| refusal.reason);
        assert!(open(Direction::Outbound, Version::HTTP_11).is_ok());
        assert_eq!(
            open(Direction::Inbound, Version::HTTP_11).unwrap_err(),
            "connect_not_allowed"
        );
        assert_eq!(
            open(Direction::Outbound, Version::HTTP_2).unwrap_err(),
            "connect_not_allowed"
        );
    }
}
