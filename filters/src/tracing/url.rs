//! What of a request's target and addresses goes into a span.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::hex::Text;

/// Queries carry credentials. The first four are those OpenTelemetry names; compared without regard to case.
const SENSITIVE: [&str; 17] = [
    "awsaccesskeyid",
    "signature",
    "sig",
    "x-goog-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "access_token",
    "api_key",
    "apikey",
    "client_secret",
    "code",
    "id_token",
    "password",
    "refresh_token",
    "secret",
    "token",
];

/// The query with the values of sensitive keys replaced.
pub(super) fn redacted(query: &str) -> Cow<'_, str> {
    let sensitive = |pair: &str| {
        let key = pair.split_once('=').map_or(pair, |(key, _)| key);
        SENSITIVE.iter().any(|name| key.eq_ignore_ascii_case(name))
    };
    if !query.split('&').any(sensitive) {
        return Cow::Borrowed(query);
    }
    let mut text = String::with_capacity(query.len() + 8);
    for (place, pair) in query.split('&').enumerate() {
        if place > 0 {
            text.push('&');
        }
        match pair.split_once('=') {
            Some((key, _)) if sensitive(pair) => {
                text.push_str(key);
                text.push_str("=REDACTED");
            }
            _ => text.push_str(pair),
        }
    }
    Cow::Owned(text)
}

/// Host and port of an authority; an IPv6 address without its brackets.
pub(super) fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    // User information has no place in an authority, and none in a span.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, None),
    }
}

/// The text of an address, shared by the attributes that name it. IPv4, by far the most frequent, does without the
/// formatting machinery.
pub(super) fn address(address: SocketAddr) -> Arc<str> {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip,
        ip @ IpAddr::V6(_) => return ip.to_string().into(),
    };
    let mut text = Text::<15>::new();
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            text.push(b".");
        }
        text.push(itoa::Buffer::new().format(octet).as_bytes());
    }
    std::str::from_utf8(text.as_bytes()).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_sensitive_keys_are_redacted() {
        for (query, expected) in [
            ("", ""),
            ("a=1&b=2", "a=1&b=2"),
            ("a=1&Token=abc&b=2", "a=1&Token=REDACTED&b=2"),
            ("sig=a=b", "sig=REDACTED"),
            ("token", "token"),
            ("tokens=1", "tokens=1"),
            ("&token=1&", "&token=REDACTED&"),
            ("X-Amz-Signature=x&code=", "X-Amz-Signature=REDACTED&code=REDACTED"),
        ] {
            assert_eq!(redacted(query), expected);
        }
    }

    #[test]
    fn an_authority_is_host_and_port() {
        for (authority, expected) in [
            ("example.com", ("example.com", None)),
            ("example.com:8080", ("example.com", Some(8080))),
            ("example.com:", ("example.com", None)),
            ("example.com:99999", ("example.com", None)),
            ("[::1]:80", ("::1", Some(80))),
            ("[::1]", ("::1", None)),
            ("user:secret@example.com:1", ("example.com", Some(1))),
            ("", ("", None)),
        ] {
            assert_eq!(host_and_port(authority), expected, "{authority}");
        }
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_does() {
        for text in [
            "0.0.0.0",
            "255.255.255.255",
            "192.0.2.7",
            "10.1.20.3",
            "::1",
            "2001:db8::1",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(&*address((ip, 1).into()), text);
        }
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(&*address((mapped, 1).into()), "192.0.2.7");
    }
}
