//! What a client saw, and whether it is what a case demands.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::case::{Check, HOST, Place, Request};
use super::origin::Asked;
use crate::support::{Peer, fields};

/// A response, whole or not.
pub(super) struct Seen {
    /// 0 if there was none.
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
    /// Whether it ended where it said it would.
    pub(super) whole: bool,
    pub(super) took: Duration,
}

/// Sends a request on a connection of its own and reads until it ends.
pub(super) fn exchange(inbound: SocketAddr, place: &Place, request: &Request) -> Seen {
    let began = Instant::now();
    let mut peer = Peer::connect(inbound);
    peer.send(head(place, request) + request.body.as_deref().unwrap_or_default());
    let mut seen = read(&peer.read_to_end(), &request.method);
    seen.took = began.elapsed();
    seen
}

fn head(place: &Place, request: &Request) -> String {
    let target = place.fill(&request.target);
    let target = if request.target.contains("{path}") {
        target
    } else {
        place.path.clone() + &target
    };
    let mut fields = place.fill_fields(&request.fields);
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        fields.insert(0, ("Host".to_owned(), HOST.to_owned()));
    }
    if let Some(body) = &request.body {
        fields.push(("Content-Length".to_owned(), body.len().to_string()));
    }
    fields.push(("Connection".to_owned(), "close".to_owned()));
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("{} {target} HTTP/1.1\r\n{}\r\n", request.method, lines.concat())
}

fn read(bytes: &[u8], method: &str) -> Seen {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let length = fields(head, "content-length")
        .first()
        .and_then(|length| length.parse().ok());
    let (body, whole) = if method == "HEAD" || matches!(status, 204 | 304) {
        (rest.to_owned(), rest.is_empty())
    } else if !fields(head, "transfer-encoding").is_empty() {
        chunked(rest)
    } else {
        (rest.to_owned(), length.is_none_or(|length: usize| length == rest.len()))
    };
    Seen {
        status,
        head: head.to_owned(),
        body,
        whole: whole && status > 0,
        took: Duration::ZERO,
    }
}

/// The content of chunks, and whether the last of them came.
fn chunked(mut rest: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        match after.split_at_checked(size) {
            Some(_) if size == 0 => return (body, after == "\r\n"),
            Some((chunk, after)) => {
                body.push_str(chunk);
                rest = after.strip_prefix("\r\n").unwrap_or_default();
            }
            None => break,
        }
    }
    (body, false)
}

impl Seen {
    pub(super) fn has_status(&self, pattern: &str) -> bool {
        let status = self.status.to_string();
        pattern
            .split('/')
            .any(|one| one == status || one.strip_suffix("xx").is_some_and(|class| status.starts_with(class)))
    }

    pub(super) fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }

    pub(super) fn fault(&self, check: &Check, place: &Place) -> Option<String> {
        let actual = match check.name.as_str() {
            "body" => Some(self.body.clone()),
            name => self.field(name),
        };
        fault(check, actual.as_deref(), place)
    }
}

impl Asked {
    pub(super) fn fault(&self, check: &Check, place: &Place) -> Option<String> {
        let actual = match check.name.as_str() {
            "body" => Some(self.body.clone()),
            "method" => Some(self.word(0).to_owned()),
            "target" => Some(self.word(1).to_owned()),
            name => field(&self.head, name),
        };
        fault(check, actual.as_deref(), place).map(|fault| format!("in the request to the app: {fault}"))
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    let values = fields(head, name);
    (!values.is_empty()).then(|| values.join(", "))
}

fn fault(check: &Check, actual: Option<&str>, place: &Place) -> Option<String> {
    let Check { name, value } = check;
    let pattern = value.as_ref().map(|value| place.fill(value));
    let pattern = pattern.as_deref();
    let holds = match (pattern, actual) {
        (None, None) => true,
        (Some(pattern), Some(actual)) if name.eq_ignore_ascii_case("cache-status") => has_member(actual, pattern),
        (Some(pattern), Some(actual)) => fits(pattern, actual),
        _ => false,
    };
    let brief = |text: Option<&str>| text.map(|text| text.chars().take(200).collect::<String>());
    (!holds).then(|| {
        let (expected, actual) = (brief(pattern), brief(actual));
        format!("{name}: expected {expected:?}, got {actual:?}")
    })
}

fn fits(pattern: &str, actual: &str) -> bool {
    if let Some(part) = pattern.strip_prefix("!~") {
        return !actual.contains(part);
    }
    if let Some(part) = pattern.strip_prefix('~') {
        return actual.contains(part);
    }
    let range = pattern.split_once("..").and_then(|(least, most)| {
        let range: (i64, i64) = (least.parse().ok()?, most.parse().ok()?);
        Some(range.0..=range.1)
    });
    match range {
        Some(range) => actual.parse().is_ok_and(|number| range.contains(&number)),
        None => pattern == "*" || pattern == actual,
    }
}

/// Whether this cache's member of a `Cache-Status`, the last one, has these parameters.
fn has_member(actual: &str, pattern: &str) -> bool {
    let member = actual.rsplit(',').next().unwrap_or_default();
    let parameters: Vec<&str> = member.split(';').map(str::trim).collect();
    parameters.first() == Some(&"pillion")
        && pattern.split(';').map(str::trim).all(|expected| {
            if let Some(absent) = expected.strip_prefix('!') {
                return !parameters.iter().any(|one| one.split('=').next() == Some(absent));
            }
            match expected.split_once('=') {
                None => parameters.contains(&expected),
                Some((name, pattern)) => parameters
                    .iter()
                    .filter_map(|one| one.split_once('='))
                    .any(|(one, actual)| one == name && fits(pattern, actual)),
            }
        })
}
