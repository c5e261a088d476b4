//! What a proxy must do to response heads (RFC 9110, section 7.6.1).

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use super::{KEEP_ALIVE, PROXY_CONNECTION, said_once};

/// Makes a received response head fit to be forwarded. Gives how long its sender said it would keep the connection.
pub(in crate::engine) fn receive_response(head: &mut ResponseHeader) -> Option<Duration> {
    let mut keep_alive = None;
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
        keep_alive = head.headers.get(KEEP_ALIVE).and_then(timeout);
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
    keep_alive
}

/// `Keep-Alive: timeout=5, max=100`: never in a standard, and sent by Apache httpd, Node.js and others. A connection with no
/// request left says `Connection: close` as well.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let mut members = value.to_str().ok()?.split(',');
    members.find_map(|member| {
        let (name, seconds) = member.split_once('=')?;
        let seconds = seconds.trim().parse::<u32>().ok()?;
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then(|| Duration::from_secs(seconds.into()))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(receive_response(&mut head), Some(Duration::from_secs(5)));
        assert!(head.headers.is_empty(), "{:?}", head.headers);
    }

    #[test]
    fn the_timeout_is_found_among_the_members() {
        let of = |value| timeout(&HeaderValue::from_static(value));
        assert_eq!(of("max=100, Timeout = 72"), Some(Duration::from_secs(72)));
        for none in ["", "timeout", "timeout=", "timeout=-1", "timeout=a", "max=5"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
