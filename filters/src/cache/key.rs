//! What tells requests apart: the primary key.
//!
//! A key is text and bytes in one block: a letter for the method, the URL, a zero byte, then the parts that operators add,
//! each after its length. The URL is scheme, authority in lower case without a default port, path and the query that
//! counts; two hosts, ports or schemes never share a key. What says who the caller is goes in as a SHA-256 hash, so that no
//! credential is kept.

use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use sha2::{Digest, Sha256};

use super::config::{BypassConfig, KeyConfig};
use super::warm::Fields;
use crate::{Exchange, Remark};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The longest key that is stored.
pub(super) const LONGEST: usize = 16 * 1024;

/// A name, or the beginning of one.
#[derive(Debug)]
struct Pattern {
    text: String,
    prefix: bool,
}

impl Pattern {
    fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self {
                text: beginning.to_owned(),
                prefix: true,
            },
            None => Self {
                text: text.to_owned(),
                prefix: false,
            },
        }
    }

    fn matches(&self, name: &[u8]) -> bool {
        if self.prefix {
            name.starts_with(self.text.as_bytes())
        } else {
            name == self.text.as_bytes()
        }
    }
}

fn patterns(names: &[String]) -> Vec<Pattern> {
    names.iter().map(|name| Pattern::new(name)).collect()
}

/// Header names as configured; what is none is told and left out.
pub(crate) fn names(names: &[String], key: &'static str, wrong: &mut Vec<Remark>) -> Vec<HeaderName> {
    let mut parsed = Vec::with_capacity(names.len());
    for name in names {
        match HeaderName::try_from(name.as_str()) {
            Ok(name) => parsed.push(name),
            Err(_) => wrong.push(Remark::new(key, format!("`{name}` is not a header name"))),
        }
    }
    parsed
}

/// How keys are written.
#[derive(Debug, Default)]
pub(super) struct KeyRule {
    include: Option<Vec<Pattern>>,
    exclude: Vec<Pattern>,
    sort: bool,
    headers: Vec<HeaderName>,
    cookies: Vec<String>,
    identity: Vec<HeaderName>,
}

impl KeyRule {
    pub(super) fn new(config: &KeyConfig, personal: bool, wrong: &mut Vec<Remark>) -> Self {
        let mut identity = names(&config.identity, "key.identity", wrong);
        if config.identity.is_empty() && personal {
            identity = vec![header::AUTHORIZATION, header::COOKIE];
        }
        Self {
            include: config.query.include.as_deref().map(patterns),
            exclude: patterns(&config.query.exclude),
            sort: config.query.sort,
            headers: names(&config.headers, "key.headers", wrong),
            cookies: config.cookies.clone(),
            identity,
        }
    }

    /// Whether entries belong to one caller.
    pub(super) fn has_identity(&self) -> bool {
        !self.identity.is_empty()
    }

    /// Whether a request says who the caller is.
    pub(super) fn identifies(&self, headers: &HeaderMap) -> bool {
        self.identity.iter().any(|name| headers.contains_key(name))
    }

    /// Whether a caller's credentials are all in the key.
    pub(super) fn covers_authorization(&self) -> bool {
        self.identity.contains(&header::AUTHORIZATION)
    }

    /// The request fields that choose a response, to fetch it again by; `None` where they say who the caller is.
    pub(super) fn chosen_by(&self, names: &[HeaderName], headers: &HeaderMap) -> Option<Fields> {
        let secret = |name: &HeaderName| matches!(*name, header::AUTHORIZATION | header::COOKIE);
        if self.has_identity() || !self.cookies.is_empty() || self.headers.iter().chain(names).any(secret) {
            return None;
        }
        let chosen = self.headers.iter().chain(names).flat_map(|name| {
            let values = headers.get_all(name).iter();
            // A copy: the value that was received keeps all of the request's head in memory.
            values.filter_map(move |value| Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?)))
        });
        Some(chosen.collect())
    }

    /// Writes the key of a request, `body` being that of a POST.
    pub(super) fn write(&self, exchange: &Exchange, body: Option<&[u8]>, key: &mut Vec<u8>) {
        let request = &exchange.request;
        key.clear();
        key.push(match request.method {
            Method::POST => b'P',
            _ => b'G',
        });
        let (scheme, authority) = origin(exchange);
        self.write_url(scheme, authority, request.raw_path(), key);
        key.push(0);
        if let Some(forwarded) = request.headers.get(header::FORWARDED) {
            let said = forwarded.as_bytes().split(|byte| matches!(byte, b',' | b';'));
            let said = said.map(<[u8]>::trim_ascii);
            part(
                key,
                said.filter(|pair| !pair[..pair.len().min(3)].eq_ignore_ascii_case(b"for")),
            );
        }
        for name in &self.headers {
            part(key, request.headers.get_all(name).iter().map(HeaderValue::as_bytes));
        }
        for name in &self.cookies {
            part(key, cookie(&request.headers, name).into_iter());
        }
        if !self.identity.is_empty() {
            let mut hash = Sha256::new();
            for name in &self.identity {
                for value in request.headers.get_all(name) {
                    hash.update((value.len() as u64).to_le_bytes());
                    hash.update(value.as_bytes());
                }
                hash.update(u64::MAX.to_le_bytes());
            }
            key.extend_from_slice(&hash.finalize());
        }
        if let Some(body) = body {
            // What the bytes mean is the content type's to say.
            part(
                key,
                request
                    .headers
                    .get_all(header::CONTENT_TYPE)
                    .iter()
                    .map(HeaderValue::as_bytes),
            );
            key.extend_from_slice(&Sha256::digest(body));
        }
    }

    /// A URL as keys have it.
    pub(super) fn url(&self, url: &Uri) -> Vec<u8> {
        let mut written = Vec::new();
        let authority = url.authority().map_or("", Authority::as_str);
        let target = url.path_and_query().map_or("/", PathAndQuery::as_str);
        let scheme = url.scheme_str().unwrap_or("http");
        self.write_url(scheme, authority.as_bytes(), target.as_bytes(), &mut written);
        written
    }

    /// Writes a URL as keys have it.
    pub(super) fn write_url(&self, scheme: &str, authority: &[u8], target: &[u8], key: &mut Vec<u8>) {
        key.extend_from_slice(scheme.as_bytes());
        key.extend_from_slice(b"://");
        let default: &[u8] = if scheme == "https" { b":443" } else { b":80" };
        let authority = authority.strip_suffix(default).unwrap_or(authority);
        key.extend(authority.iter().map(u8::to_ascii_lowercase));
        if !target.starts_with(b"/") {
            key.push(b'/');
        }
        let Some(mark) = target.iter().position(|&byte| byte == b'?') else {
            key.extend_from_slice(target);
            return;
        };
        let (path, query) = (&target[..mark], &target[mark + 1..]);
        key.extend_from_slice(path);
        if self.include.is_none() && self.exclude.is_empty() && !self.sort {
            key.push(b'?');
            key.extend_from_slice(query);
            return;
        }
        let mut counting: Vec<&[u8]> = query
            .split(|&byte| byte == b'&')
            .filter(|parameter| self.counts(parameter))
            .collect();
        if self.sort {
            // Stable: the order among parameters of one name means something.
            counting.sort_by_key(|parameter| name_of(parameter).to_vec());
        }
        for (index, parameter) in counting.into_iter().enumerate() {
            key.push(if index == 0 { b'?' } else { b'&' });
            key.extend_from_slice(parameter);
        }
    }

    fn counts(&self, parameter: &[u8]) -> bool {
        let name = name_of(parameter);
        let included = self
            .include
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)));
        included && !self.exclude.iter().any(|pattern| pattern.matches(name))
    }
}

/// A URL as keys have it where all of its query counts.
pub(super) fn plain_url(url: &Uri) -> Vec<u8> {
    KeyRule::default().url(url)
}

/// Scheme and authority, as the app is told them: a proxy in front that is trusted knows what the client asked for. From
/// others the fields are taken off before filters see them.
pub(crate) fn origin(exchange: &Exchange) -> (&str, &[u8]) {
    let headers = &exchange.request.headers;
    let scheme = headers.get(&X_FORWARDED_PROTO).and_then(|proto| proto.to_str().ok());
    let host = headers.get(&X_FORWARDED_HOST).or(exchange.authority.as_ref());
    (
        scheme.unwrap_or(exchange.connection.scheme),
        host.map_or(&b""[..], |value| value.as_bytes()),
    )
}

fn name_of(parameter: &[u8]) -> &[u8] {
    let end = parameter
        .iter()
        .position(|&byte| byte == b'=')
        .unwrap_or(parameter.len());
    &parameter[..end]
}

/// Writes values with their lengths, so that what is absent differs from what is empty and nothing runs into the next.
fn part<'a>(key: &mut Vec<u8>, values: impl Iterator<Item = &'a [u8]>) {
    for value in values {
        key.push(1);
        key.extend_from_slice(&(value.len() as u32).to_le_bytes());
        key.extend_from_slice(value);
    }
    key.push(0);
}

/// The value of a cookie (RFC 6265, section 5.4).
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    pairs
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Which requests the cache leaves alone.
#[derive(Debug)]
pub(super) struct BypassRule {
    headers: Vec<HeaderName>,
    cookies: Vec<String>,
    query: Vec<Pattern>,
}

impl BypassRule {
    pub(super) fn new(config: &BypassConfig, wrong: &mut Vec<Remark>) -> Self {
        Self {
            headers: names(&config.headers, "bypass.headers", wrong),
            cookies: config.cookies.clone(),
            query: patterns(&config.query),
        }
    }

    pub(super) fn matches(&self, exchange: &Exchange) -> bool {
        let headers = &exchange.request.headers;
        self.headers.iter().any(|name| headers.contains_key(name))
            || self.cookies.iter().any(|name| cookie(headers, name).is_some())
            || (!self.query.is_empty() && self.has_parameter(exchange.request.raw_path()))
    }

    fn has_parameter(&self, target: &[u8]) -> bool {
        let Some(mark) = target.iter().position(|&byte| byte == b'?') else {
            return false;
        };
        target[mark + 1..]
            .split(|&byte| byte == b'&')
            .any(|parameter| self.query.iter().any(|pattern| pattern.matches(name_of(parameter))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn rule(config: &str) -> KeyRule {
        KeyRule::new(&serde_json::from_str(config).unwrap(), false, &mut Vec::new())
    }

    fn url(config: &str, target: &str) -> String {
        let mut key = Vec::new();
        rule(config).write(&testing::exchange("GET", target), None, &mut key);
        assert_eq!(key.pop(), Some(0));
        String::from_utf8(key).unwrap()
    }

    fn key(config: &str, exchange: &Exchange) -> Vec<u8> {
        let mut key = Vec::new();
        rule(config).write(exchange, None, &mut key);
        key
    }

    #[test]
    fn a_key_is_a_url() {
        assert_eq!(url("{}", "/a?b=1&a=2"), "Ghttp://example.com/a?b=1&a=2");
        assert_eq!(url("{}", "/"), "Ghttp://example.com/");
    }

    #[test]
    fn parameters_that_do_not_count_are_left_out() {
        let exclude = r#"{"query": {"exclude": ["utm_*", "fbclid"]}}"#;
        assert_eq!(
            url(exclude, "/a?utm_source=x&b=1&fbclid=2&fbclid2"),
            "Ghttp://example.com/a?b=1&fbclid2"
        );
        assert_eq!(url(exclude, "/a?utm_source=x"), "Ghttp://example.com/a");
        let include = r#"{"query": {"include": ["page", "q"], "sort": true}}"#;
        assert_eq!(
            url(include, "/a?x=1&q=b&page=2&q=a"),
            "Ghttp://example.com/a?page=2&q=b&q=a"
        );
        assert_eq!(url(r#"{"query": {"include": []}}"#, "/a?x=1"), "Ghttp://example.com/a");
    }

    #[test]
    fn hosts_are_compared_without_case_and_default_port() {
        let with_host = |host: &'static str| {
            let mut exchange = testing::exchange("GET", "/");
            exchange.authority = Some(HeaderValue::from_static(host));
            key("{}", &exchange)
        };
        assert_eq!(with_host("Example.COM:80"), with_host("example.com"));
        assert_ne!(with_host("example.com:8080"), with_host("example.com"));
        assert_ne!(with_host("example.com:443"), with_host("example.com"));
        assert_ne!(with_host("example.org"), with_host("example.com"));
    }

    #[test]
    fn schemes_and_methods_have_their_own_keys() {
        let mut exchange = testing::exchange("GET", "/");
        let plain = key("{}", &exchange);
        exchange.connection.scheme = "https";
        assert_ne!(key("{}", &exchange), plain);
        assert_eq!(key("{}", &testing::exchange("HEAD", "/")), plain);
        assert_ne!(key("{}", &testing::exchange("POST", "/")), plain);
    }

    #[test]
    fn headers_and_cookies_count_where_they_are_named() {
        let config = r#"{"headers": ["x-tenant"], "cookies": ["lang"]}"#;
        let with = |fields: &[(&'static str, &'static str)]| {
            let mut exchange = testing::exchange("GET", "/");
            for (name, value) in fields {
                exchange.request.append_header(*name, *value).unwrap();
            }
            key(config, &exchange)
        };
        let none = with(&[]);
        assert_ne!(with(&[("x-tenant", "")]), none);
        assert_ne!(with(&[("x-tenant", "a")]), with(&[("x-tenant", "b")]));
        assert_ne!(
            with(&[("x-tenant", "ab")]),
            with(&[("x-tenant", "a"), ("x-tenant", "b")])
        );
        assert_eq!(with(&[("cookie", "theme=dark")]), none);
        assert_ne!(with(&[("cookie", "theme=dark; lang=de")]), none);
        assert_eq!(
            with(&[("cookie", "lang=de; theme=dark")]),
            with(&[("cookie", "theme=dark; lang=de")])
        );
        assert_eq!(with(&[("cookie", "xlang=de")]), none);
        assert_eq!(with(&[("x-other", "a")]), none);
    }

    #[test]
    fn an_identity_is_hashed() {
        let config = r#"{"identity": ["authorization", "x-user"]}"#;
        let with = |fields: &[(&'static str, &'static str)]| {
            let mut exchange = testing::exchange("GET", "/");
            for (name, value) in fields {
                exchange.request.append_header(*name, *value).unwrap();
            }
            key(config, &exchange)
        };
        let one = with(&[("authorization", "Bearer secret")]);
        assert!(!one.windows(6).any(|bytes| bytes == b"secret"));
        assert_ne!(one, with(&[("authorization", "Bearer other")]));
        assert_ne!(with(&[("authorization", "a")]), with(&[("x-user", "a")]));
        assert_ne!(with(&[]), one);
    }

    #[test]
    fn what_bypasses() {
        let config = r#"{"headers": ["x-fresh"], "cookies": ["preview"], "query": ["nocache"]}"#;
        let rule = BypassRule::new(&serde_json::from_str(config).unwrap(), &mut Vec::new());
        let request = |target: &str, name: &'static str, value: &'static str| {
            let mut exchange = testing::exchange("GET", target);
            exchange.request.insert_header(name, value).unwrap();
            rule.matches(&exchange)
        };
        assert!(!request("/?a", "x-other", "1"));
        assert!(request("/", "x-fresh", ""));
        assert!(request("/", "cookie", "a=1; preview=yes"));
        assert!(request("/?a=1&nocache", "x-other", "1"));
        assert!(!request("/nocache", "x-other", "1"));
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let mut wrong = Vec::new();
        let parsed = names(
            &["x tenant".to_owned(), "x-tenant".to_owned()],
            "key.headers",
            &mut wrong,
        );
        assert_eq!(parsed, ["x-tenant"]);
        assert_eq!(wrong, [Remark::new("key.headers", "`x tenant` is not a header name")]);
    }

    #[test]
    fn what_a_response_is_chosen_by_is_kept_without_the_head_it_was_received_in() {
        let received = bytes::Bytes::from(b"gzip, and much else".to_vec());
        let value = HeaderValue::from_maybe_shared(received.slice(..4)).unwrap();
        let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
        let chosen = rule("{}").chosen_by(&[header::ACCEPT_ENCODING], &headers).unwrap();
        assert_eq!(chosen[0].1, "gzip");
        drop(headers);
        assert!(received.is_unique());
    }
}
