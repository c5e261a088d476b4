//! Who the client is, told to the app, and which proxies a message has passed.
//!
//! `X-Forwarded-*`, `Forwarded` (RFC 7239) and `Via` (RFC 9110, section 7.6.3).

use std::net::IpAddr;

use bytes::BytesMut;
use http::header::{FORWARDED, VIA};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::RequestHeader;

use super::insert;
use crate::config::Cidr;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

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

/// Brings the forwarding fields a peer sent in order: from one that is trusted they are kept and added to, else taken off.
pub(super) fn forward(
    head: &mut RequestHeader,
    sent: bool,
    style: Style,
    trusted: bool,
    scheme: &'static str,
    authority: Option<&HeaderValue>,
    client: Option<&HeaderValue>,
) {
    if !sent && style == Style::XForwarded {
        return;
    }
    if sent && !trusted && style != Style::Off {
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            head.remove_header(&name);
        }
    }
    match style {
        Style::Off => {}
        // What is not there yet is written with the head, see [`Hop`].
        Style::XForwarded => {
            let chain = client.and_then(|client| add_to_list(head, &X_FORWARDED_FOR, client));
            if let Some(chain) = chain {
                insert(head, X_FORWARDED_FOR, chain);
            }
        }
        Style::Forwarded => {
            if let Some(element) = forwarded_element(scheme, authority, client) {
                let chain = add_to_list(head, &FORWARDED, &element);
                insert(head, FORWARDED, chain.unwrap_or(element));
            }
        }
    }
}

/// All lines of a list field as one, in order, and one more member; none when there is no line (RFC 9110, section 5.3).
fn add_to_list(head: &RequestHeader, name: &HeaderName, last: &HeaderValue) -> Option<HeaderValue> {
    let mut lines = head.headers.get_all(name).iter();
    let first = lines.next()?;
    let mut joined = first.as_bytes().to_vec();
    for line in lines.chain([last]) {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
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
pub(in crate::engine) struct Hop<'a> {
    /// See [`via`].
    pub(in crate::engine) via: &'static str,
    /// Whether the app is told of the client by `X-Forwarded-*`.
    pub(in crate::engine) x_forwarded: bool,
    /// The client's address.
    pub(in crate::engine) client: Option<&'a HeaderValue>,
    /// The scheme the client used.
    pub(in crate::engine) scheme: &'static str,
    /// The authority the client asked for.
    pub(in crate::engine) authority: Option<&'a HeaderValue>,
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
    pub(in crate::engine) fn write(&self, headers: &HeaderMap, out: &mut BytesMut) {
        for (_, name, value) in self.missing(headers) {
            for part in [name, value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        write_via(self.via, out);
    }

    /// Puts the fields into the head of an HTTP/2 request.
    pub(super) fn insert(&self, headers: &mut HeaderMap) {
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
pub(in crate::engine) fn write_via(via: &'static str, out: &mut BytesMut) {
    for part in ["Via: ", via, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}
