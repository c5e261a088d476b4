//! Who may use the admin API.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};

/// What a client must present, if anything; it may change while the admin API is served.
#[derive(Clone, Default)]
pub struct Token(Arc<ArcSwapOption<String>>);

impl Token {
    /// That one.
    pub fn new(token: Option<String>) -> Self {
        Self(Arc::new(ArcSwapOption::from_pointee(token)))
    }

    /// From now on that one.
    pub fn set(&self, token: Option<String>) {
        self.0.store(token.map(Arc::new));
    }
}

/// What a request is measured against.
pub(super) struct Guard {
    /// Listening where only this machine can reach it.
    loopback: bool,
    token: Token,
}

impl Guard {
    pub(super) fn new(listening: IpAddr, token: Token) -> Self {
        Self {
            loopback: listening.to_canonical().is_loopback(),
            token,
        }
    }
}

/// Lets through who presents the token, if there is one.
pub(super) async fn authorized(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.token.0.load_full() {
        Some(token) if !presents(request.headers(), &token) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, "a token is needed\n").into_response()
        }
        _ => next.run(request).await,
    }
}

/// Lets through what does not come from a strange web page.
pub(super) async fn from_here(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if guard.loopback && !asks_for_this_machine(request.headers(), request.uri()) {
        let why = "ask for localhost, 127.0.0.1 or [::1]\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    if !may_change(request.method(), request.headers()) {
        let why = "a request from another site may not change anything\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// Whether the one `Authorization` header is this bearer token (RFC 6750, section 2.1).
fn presents(headers: &HeaderMap, token: &str) -> bool {
    let Some((scheme, presented)) = single(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer") && same(presented.trim().as_bytes(), token.as_bytes())
}

/// Compares in a time that tells nothing of where the two differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a
        .iter()
        .zip(b)
        .fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    a.len() == b.len() && differences == 0
}

/// Whether the name a client asked for is one that only this machine has.
fn asks_for_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let local = |host: &str| {
        let name = match host.rsplit_once(':') {
            // The colon of `[::1]` itself is before its bracket.
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
    };
    single(headers, &header::HOST).is_some_and(local) && uri.authority().is_none_or(|host| local(host.as_str()))
}

/// Whether a request changes nothing, comes from no web page, or from one of ours.
fn may_change(method: &Method, headers: &HeaderMap) -> bool {
    if method.is_safe() || !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let origin = single(headers, &header::ORIGIN).unwrap_or_default();
    let site = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    site.is_some() && site == single(headers, &header::HOST)
}

/// The value of a header that is there once, as text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.to_str().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn a_token_is_presented_whole_and_once() {
        for (presented, expected) in [
            ("Bearer secret", true),
            ("bearer  secret ", true),
            ("Bearer secre", false),
            ("Bearer secrets", false),
            ("Bearer Secret", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("Basic secret", false),
            ("secret", false),
        ] {
            let headers = headers(&[(header::AUTHORIZATION, presented)]);
            assert_eq!(presents(&headers, "secret"), expected, "{presented}");
        }
        let mut twice = headers(&[(header::AUTHORIZATION, "Bearer secret")]);
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        assert!(!presents(&twice, "secret"));
        assert!(!presents(&HeaderMap::new(), "secret"));
    }

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        let asks = |host: &str, target: &str| {
            let headers = headers(&[(header::HOST, host)]);
            asks_for_this_machine(&headers, &target.parse().unwrap())
        };
        for host in [
            "localhost",
            "LocalHost:9901",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:9901",
            "localhost:",
        ] {
            assert!(asks(host, "/"), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost:80.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.2",
            "::1",
            "[::1",
            "localhost@evil.example",
        ] {
            assert!(!asks(host, "/"), "{host}");
        }
        assert!(!asks("localhost", "http://evil.example/"));
        assert!(asks("localhost", "http://localhost/"));
        assert!(!asks_for_this_machine(&HeaderMap::new(), &Uri::from_static("/")));
    }

    #[test]
    fn changes_come_from_no_web_page_or_ours() {
        let may = |method: Method, origin: &str| {
            let headers = headers(&[(header::HOST, "localhost:9901"), (header::ORIGIN, origin)]);
            may_change(&method, &headers)
        };
        assert!(may(Method::POST, "http://localhost:9901"));
        assert!(may(Method::GET, "http://evil.example"));
        for origin in [
            "http://evil.example",
            "null",
            "",
            "localhost:9901",
            "http://localhost:9902",
            "http://localhost",
        ] {
            assert!(!may(Method::POST, origin), "{origin}");
            assert!(!may(Method::DELETE, origin), "{origin}");
        }
        assert!(may_change(&Method::POST, &HeaderMap::new()));
    }
}
