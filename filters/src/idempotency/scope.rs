//! What a key belongs to, and what it was used for: two hashes, since nothing of a request is kept.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use crate::Exchange;
use crate::cache::{cookie, origin};

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// What says who the caller is.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) headers: Vec<HeaderName>,
    pub(super) cookies: Vec<String>,
}

/// A hash of parts that cannot run into one another: each goes in after its length, and a list has an end.
struct Parts(Sha256);

impl Parts {
    /// A hash of that purpose, so that no two purposes share one.
    fn of(purpose: &[u8]) -> Self {
        let mut parts = Self(Sha256::new());
        parts.add(purpose);
        parts
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn add_all<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) {
        for part in parts {
            self.0.update([1]);
            self.add(part);
        }
        self.0.update([0]);
    }

    fn add_field(&mut self, headers: &HeaderMap, name: &HeaderName) {
        self.add_all(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    }

    /// Method, authority, path and query.
    fn add_operation(&mut self, exchange: &Exchange) {
        let (scheme, authority) = origin(exchange);
        let default: &[u8] = if scheme == "https" { b":443" } else { b":80" };
        let authority = authority.strip_suffix(default).unwrap_or(authority);
        self.add(exchange.request.method.as_str().as_bytes());
        self.add(scheme.as_bytes());
        self.add(&authority.to_ascii_lowercase());
        self.add(exchange.request.raw_path());
    }

    fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// Where a key counts: for this caller, and this operation.
pub(super) fn scope(exchange: &Exchange, identity: &Identity, key: &[u8]) -> Hash {
    let mut parts = Parts::of(b"scope");
    parts.add(exchange.route.direction.as_str().as_bytes());
    parts.add_all(exchange.upstream().map(|name| name.as_bytes()).into_iter());
    parts.add_operation(exchange);
    let headers = &exchange.request.headers;
    for name in &identity.headers {
        parts.add_field(headers, name);
    }
    for name in &identity.cookies {
        parts.add_all(cookie(headers, name).into_iter());
    }
    parts.add(key);
    parts.finish()
}

/// What a repeat must have in common with the first: the body and what says what its bytes mean.
pub(super) fn fingerprint(exchange: &Exchange, body: &[u8]) -> Hash {
    let mut parts = Parts::of(b"payload");
    parts.add_field(&exchange.request.headers, &header::CONTENT_TYPE);
    parts.add_field(&exchange.request.headers, &header::CONTENT_ENCODING);
    parts.add(body);
    parts.finish()
}

/// What a key is made of; `None` where one of the fields is missing, without which other steps would have the same key.
pub(super) fn content(exchange: &Exchange, fields: &[HeaderName], body: Option<&[u8]>) -> Option<Hash> {
    let mut parts = Parts::of(b"key");
    parts.add_operation(exchange);
    for name in fields {
        if !exchange.request.headers.contains_key(name) {
            return None;
        }
        parts.add_field(&exchange.request.headers, name);
    }
    parts.add_all(body.into_iter());
    Some(parts.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use super::*;
    use crate::{Direction, testing};

    fn identity() -> Identity {
        Identity {
            headers: vec![header::AUTHORIZATION],
            cookies: vec!["session".to_owned()],
        }
    }

    fn exchange(with: impl FnOnce(&mut Exchange)) -> Exchange {
        let mut exchange = testing::exchange("POST", "/pay");
        with(&mut exchange);
        exchange
    }

    fn field(name: &'static str, value: &'static str) -> impl FnOnce(&mut Exchange) {
        move |exchange| exchange.request.insert_header(name, value).unwrap()
    }

    #[test]
    fn a_key_counts_for_one_caller_and_one_operation() {
        let others = [
            exchange(|_| {}),
            exchange(field("authorization", "Bearer a")),
            exchange(field("authorization", "Bearer b")),
            exchange(field("cookie", "session=a")),
            exchange(field("cookie", "session=b")),
            exchange(field("x-forwarded-proto", "https")),
            exchange(|exchange| exchange.authority = Some(HeaderValue::from_static("other.example"))),
            exchange(|exchange| exchange.route = testing::route(Direction::Outbound, "/test")),
            exchange(|exchange| exchange.plan.upstream = Some(Arc::from("other"))),
            testing::exchange("PATCH", "/pay"),
            testing::exchange("POST", "/pay?x"),
            testing::exchange("POST", "/refund"),
        ];
        let mut scopes: HashSet<Hash> = others
            .iter()
            .map(|exchange| scope(exchange, &identity(), b"1"))
            .collect();
        scopes.insert(scope(&others[0], &identity(), b"2"));
        assert_eq!(scopes.len(), others.len() + 1);
    }

    #[test]
    fn what_does_not_tell_callers_apart_does_not_count() {
        let first = scope(&exchange(|_| {}), &identity(), b"1");
        for same in [
            exchange(field("cookie", "seen=1")),
            exchange(field("user-agent", "x")),
            exchange(|exchange| exchange.authority = Some(HeaderValue::from_static("Example.com:80"))),
        ] {
            assert_eq!(scope(&same, &identity(), b"1"), first);
        }
    }

    #[test]
    fn a_payload_is_its_bytes_and_what_they_mean() {
        let plain = exchange(|_| {});
        let prints: HashSet<Hash> = [
            fingerprint(&plain, b""),
            fingerprint(&plain, b"a"),
            fingerprint(&exchange(field("content-type", "text/plain")), b"a"),
            fingerprint(&exchange(field("content-encoding", "gzip")), b"a"),
        ]
        .into();
        assert_eq!(prints.len(), 4);
    }

    #[test]
    fn content_makes_a_key_only_if_all_fields_are_there() {
        let fields = [HeaderName::from_static("x-saga")];
        assert_eq!(content(&exchange(|_| {}), &fields, Some(b"a")), None);
        let one = exchange(field("x-saga", "1"));
        let two = exchange(field("x-saga", "2"));
        let keys: HashSet<_> = [
            content(&one, &fields, Some(b"a")),
            content(&one, &fields, Some(b"b")),
            content(&one, &fields, None),
            content(&two, &fields, Some(b"a")),
        ]
        .into();
        assert_eq!(keys.len(), 4);
        assert_eq!(content(&one, &fields, Some(b"a")), content(&one, &fields, Some(b"a")));
    }
}
