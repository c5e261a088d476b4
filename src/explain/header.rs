//! `X-Pillion-Explain`: the explanation of a response, on it.
//!
//! Who may ask is told by address: the peer's, or, where the peer is one of `forwarded.trust`, the nearest in its forwarding header
//! that is not. A trusted peer that names nobody is believed to speak for somebody unknown, who may not ask: a load balancer within
//! `allow` does not open the door to all behind it.
//!
//! The value is a list of strings (RFC 9651, section 3.1). Where nobody may ask, requests and responses are not looked at.

use std::net::IpAddr;
use std::time::Instant;

use http::header::{FORWARDED, VARY};
use http::{HeaderName, HeaderValue};
use pillion_filters::words::{Told, took};
use pillion_filters::{AttemptRecord, Connection, Dictionary, Direction, Exchange};
use pingora_http::{RequestHeader, ResponseHeader};

use super::{Explain, told};
use crate::engine::Forwarding;

pub(crate) const EXPLAIN: HeaderName = HeaderName::from_static("x-pillion-explain");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The longest value, in bytes.
const LONGEST: usize = 4096;
/// Kept free for saying how many are left out.
const REST: usize = 32;

/// What becomes of the header on a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nobody may ask, so nobody looks.
    #[default]
    Off,
    /// It is not the app's to send.
    No,
    /// It was asked for, by who may.
    Yes,
}

/// Takes the header off a request head. Before its forwarding headers are brought in order.
pub(crate) fn asked(
    head: &mut RequestHeader,
    connection: &Connection,
    direction: Direction,
    forwarding: &Forwarding,
    explain: &Explain,
) -> Asked {
    if explain.allow.is_empty() {
        return Asked::Off;
    }
    let Some(value) = head.headers.get(&EXPLAIN) else {
        return Asked::No;
    };
    let wants = value.as_bytes() == b"1";
    let who = wants.then(|| client(head, connection, direction, forwarding)).flatten();
    head.remove_header(&EXPLAIN);
    match who {
        Some(who) if explain.allow.iter().any(|network| network.contains(who)) => Asked::Yes,
        _ => Asked::No,
    }
}

/// Who asks, as far as that is certain.
fn client(
    head: &RequestHeader,
    connection: &Connection,
    direction: Direction,
    forwarding: &Forwarding,
) -> Option<IpAddr> {
    let peer = connection.client?.ip();
    if direction == Direction::Outbound || !forwarding.trusts(Some(peer)) {
        return Some(peer);
    }
    let mut named = named(head)?;
    // The nearest that is not one of ours; whoever is before that may have written what it likes.
    named.find(|address| !address.is_some_and(|address| forwarding.trusts(Some(address))))?
}

/// The addresses that proxies saw, the nearest first; `None` for what is no address. `None` at all if there are none, or if two
/// headers tell two stories.
fn named(head: &RequestHeader) -> Option<impl Iterator<Item = Option<IpAddr>>> {
    let lines = |name: &HeaderName| -> Vec<&str> {
        let lines = head.headers.get_all(name).iter();
        lines.map(|line| line.to_str().unwrap_or("?")).collect()
    };
    let (x_forwarded, forwarded) = (lines(&X_FORWARDED_FOR), lines(&FORWARDED));
    let found: Vec<Option<IpAddr>> = match (x_forwarded.is_empty(), forwarded.is_empty()) {
        (false, true) => x_forwarded
            .iter()
            .flat_map(|line| line.split(','))
            .map(address)
            .collect(),
        (true, false) => forwarded
            .iter()
            .flat_map(|line| line.split(','))
            .map(of_element)
            .collect(),
        _ => return None,
    };
    Some(found.into_iter().rev())
}

/// `for=` of an element of `Forwarded` (RFC 7239, section 6).
fn of_element(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs
        .into_iter()
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

/// An address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, _) = rest.split_once(']')?;
        return Some(address.parse::<IpAddr>().ok()?.to_canonical());
    }
    let (address, _) = text.rsplit_once(':')?;
    Some(address.parse::<IpAddr>().ok()?.to_canonical())
}

/// Takes the app's header of that name off, before anything stores it.
pub(crate) fn strip(head: &mut ResponseHeader, asked: Asked) {
    if asked != Asked::Off {
        head.remove_header(&EXPLAIN);
    }
}

/// Writes the explanation to a response head that is on its way, if it was asked for.
pub(crate) fn write(
    head: &mut ResponseHeader,
    asked: Asked,
    exchange: &Exchange,
    attempts: &[AttemptRecord],
    words: &Dictionary,
) {
    // It may have been stored when it was nobody's.
    strip(head, asked);
    if asked != Asked::Yes {
        return;
    }
    let value = list(parts(exchange, attempts, words).iter());
    if let Ok(value) = HeaderValue::from_str(&value) {
        let _ = head.insert_header(EXPLAIN, value);
        // What is told to one is not to be stored for others.
        let _ = head.append_header(VARY, HeaderValue::from_static("X-Pillion-Explain"));
    }
}

fn parts(exchange: &Exchange, attempts: &[AttemptRecord], words: &Dictionary) -> Vec<String> {
    let started = exchange.timing.started;
    let told = Told {
        method: exchange.request.method.as_str(),
        endpoint: attempts.last().map(|attempt| &*attempt.endpoint),
        upstream: exchange.upstream().map(|name| &**name),
        started_at: exchange.timing.started_at,
    };
    let mut parts = vec![format!("route {}", exchange.route.name)];
    if let Some(upstream) = told.upstream {
        parts.push(format!("upstream {upstream}"));
    }
    for (index, attempt) in attempts.iter().enumerate() {
        let took = took(attempt.ended.saturating_duration_since(attempt.started));
        let said = told::attempt(attempt, words, &told);
        let reused = if attempt.reused { ", on a kept connection" } else { "" };
        parts.push(format!(
            "try {} to {}: {said} after {took}{reused}",
            index + 1,
            attempt.endpoint
        ));
    }
    let entries = exchange.ledger.entries().iter();
    parts.extend(entries.map(|entry| format!("{}: {}", entry.filter, words.say(entry, &told))));
    if exchange.ledger.dropped() > 0 {
        parts.push(format!("{} more decisions", exchange.ledger.dropped()));
    }
    parts.push(format!(
        "head after {}",
        took(Instant::now().saturating_duration_since(started))
    ));
    parts
}

/// A list of strings, no longer than a header may be.
fn list<'p>(parts: impl ExactSizeIterator<Item = &'p String>) -> String {
    let (mut value, all) = (String::new(), parts.len());
    for (index, part) in parts.enumerate() {
        let quoted = quoted(part);
        if value.len() + quoted.len() + 2 > LONGEST - REST {
            let left = format!("{}\"{} left out\"", if index > 0 { ", " } else { "" }, all - index);
            value.push_str(&left);
            break;
        }
        if index > 0 {
            value.push_str(", ");
        }
        value.push_str(&quoted);
    }
    value
}

/// A string of RFC 9651, section 3.3.3, which is of ASCII.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::engine::Style;

    fn ask(peer: &str, allow: &[&str], trust: &[&str], fields: &[(&'static str, &'static str)]) -> Asked {
        let cidrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let mut config = config::Explain::default();
        config.header.allow = cidrs(allow);
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        head.insert_header(EXPLAIN, "1").unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        let connection = Connection {
            client: Some(format!("{peer}:4711").parse().unwrap()),
            local: None,
            scheme: "http",
            version: http::Version::HTTP_11,
        };
        let forwarding = Forwarding {
            style: Style::XForwarded,
            trust: cidrs(trust),
        };
        let explain = Explain::from(&config);
        let asked = asked(&mut head, &connection, Direction::Inbound, &forwarding, &explain);
        assert_eq!(head.headers.contains_key(&EXPLAIN), asked == Asked::Off);
        asked
    }

    #[test]
    fn the_peer_is_who_asks() {
        assert_eq!(ask("10.0.0.1", &[], &[], &[]), Asked::Off);
        assert_eq!(ask("10.0.0.1", &["10.0.0.0/8"], &[], &[]), Asked::Yes);
        assert_eq!(ask("192.0.2.1", &["10.0.0.0/8"], &[], &[]), Asked::No);
        let claims = [("x-forwarded-for", "10.0.0.1")];
        assert_eq!(ask("192.0.2.1", &["10.0.0.0/8"], &[], &claims), Asked::No);
    }

    #[test]
    fn a_trusted_peer_says_who_asks() {
        let allow = ["10.1.0.0/16"];
        let trust = ["10.0.0.0/16"];
        for (field, value, asked) in [
            ("x-forwarded-for", "10.1.0.1", Asked::Yes),
            ("x-forwarded-for", "192.0.2.1", Asked::No),
            // Whoever wrote what is further off may be anybody.
            ("x-forwarded-for", "10.1.0.1, 192.0.2.1", Asked::No),
            ("x-forwarded-for", "10.1.0.1, 192.0.2.1, 10.0.0.9", Asked::No),
            ("x-forwarded-for", "192.0.2.1, 10.1.0.1, 10.0.0.9", Asked::Yes),
            ("x-forwarded-for", "unknown", Asked::No),
            ("x-forwarded-for", "10.0.0.9", Asked::No),
            ("x-forwarded-for", "10.1.0.1, unknown", Asked::No),
            ("forwarded", "for=192.0.2.1, for=\"10.1.0.1:80\";proto=http", Asked::Yes),
            ("forwarded", "for=10.1.0.1, proto=http", Asked::No),
            ("accept", "*/*", Asked::No),
        ] {
            assert_eq!(
                ask("10.0.0.1", &allow, &trust, &[(field, value)]),
                asked,
                "{field}: {value}"
            );
        }
        let both = [("x-forwarded-for", "10.1.0.1"), ("forwarded", "for=192.0.2.1")];
        assert_eq!(ask("10.0.0.1", &allow, &trust, &both), Asked::No);
        // The load balancer itself is allowed, which is nobody's leave who comes through it.
        assert_eq!(ask("10.0.0.1", &["10.0.0.1"], &trust, &[]), Asked::No);
    }

    #[test]
    fn a_list_is_of_ascii_and_has_an_end() {
        let parts = ["say \"ä\\\"".to_owned(), "b".to_owned()];
        assert_eq!(list(parts.iter()), r#""say \"?\\\"", "b""#);
        let many = vec!["x".repeat(100); 100];
        let told = list(many.iter());
        assert!(told.len() <= LONGEST, "{}", told.len());
        assert!(told.ends_with("\", \"61 left out\""), "{}", &told[told.len() - 30..]);
        assert_eq!(list(["y".repeat(LONGEST)].iter()), "\"1 left out\"");
    }
}
