//! The few words that requests and responses are made of, few so that they often meet.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::policy::rare;

pub(super) const X_ID: HeaderName = HeaderName::from_static("x-id");
pub(super) const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
pub(super) const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Scheme and host, and what follows them.
pub(super) const URLS: [(&str, &str); 3] = [("a.test", "/x"), ("a.test", "/x?q=1"), ("b.test", "/x")];
pub(super) const TAGS: [&str; 2] = ["t1", "t2"];
const ETAGS: [&str; 3] = ["\"a\"", "\"b\"", "W/\"a\""];
const REQUEST_CONTROL: [&str; 12] = [
    "no-store",
    "no-cache",
    "max-age=0",
    "max-age=2",
    "max-age=60",
    "max-stale",
    "max-stale=3",
    "min-fresh=2",
    "only-if-cached",
    "max-stale=3, max-age=5",
    "stale-if-error=10",
    "no-cache, stale-if-error=10",
];
/// Directives of responses, of which a few are joined.
const CONTROL: [&str; 28] = [
    "max-age=0",
    "max-age=1",
    "max-age=2",
    "max-age=5",
    "max-age=5",
    "max-age=60",
    "max-age=60",
    "s-maxage=5",
    "s-maxage=0",
    "no-cache",
    "no-cache=\"x-a\"",
    "no-store",
    "private",
    "private=\"x-a, set-cookie\"",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "must-understand, max-age=5",
    "must-understand, no-store, max-age=5",
    "immutable",
    "stale-while-revalidate=3",
    "stale-if-error=5",
    "max-age=x",
    "max-age=\"5\"",
    "max-age=-1",
    "extension=\"a, no-store\"",
    "max-age",
];
/// What most responses say.
const PLAIN: [&str; 8] = [
    "max-age=1",
    "max-age=2",
    "max-age=5",
    "max-age=5",
    "max-age=60",
    "max-age=2, must-revalidate",
    "max-age=2, stale-while-revalidate=3",
    "max-age=0, no-cache",
];
const TARGETED: [&str; 8] = [
    "max-age=3",
    "max-age=3, must-revalidate",
    "no-store",
    "private",
    "no-cache",
    "stale-while-revalidate=5, max-age=1",
    "max-age=\"3\"",
    "&&",
];

/// One of them.
pub(super) fn one<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

pub(super) fn set(headers: &mut HeaderMap, name: impl http::header::IntoHeaderName, value: &str) {
    headers.append(name, HeaderValue::from_str(value).unwrap());
}

pub(super) fn date(at: SystemTime) -> String {
    httpdate::fmt_http_date(at)
}

/// A date that many responses have, so that they are told to be of one version.
fn version(rng: &mut Rng, epoch: SystemTime) -> SystemTime {
    epoch - Duration::from_secs(one(rng, &[100, 20]))
}

pub(super) fn method(rng: &mut Rng) -> Method {
    match rng.u8(..40) {
        0 => Method::POST,
        1 => Method::PUT,
        2 => Method::DELETE,
        3 => Method::OPTIONS,
        4..=6 => Method::HEAD,
        _ => Method::GET,
    }
}

/// The fields of a request that a cache looks at; the odder, the smaller the odds.
pub(super) fn request_fields(rng: &mut Rng, odds: u32, epoch: SystemTime) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if rare(rng, 3 * odds) {
        set(&mut headers, "cache-control", one(rng, &REQUEST_CONTROL));
    }
    if rare(rng, 20 * odds) {
        set(&mut headers, "pragma", "no-cache");
    }
    if rare(rng, 6 * odds) {
        set(&mut headers, "authorization", one(rng, &["A", "B"]));
    }
    if rare(rng, 6 * odds) {
        set(&mut headers, "cookie", one(rng, &["u=A", "u=B"]));
    }
    if rare(rng, 10 * odds) {
        set(
            &mut headers,
            "range",
            one(rng, &["bytes=0-3", "bytes=2-", "bytes=-4", "bytes=90-"]),
        );
        if rare(rng, 3) {
            set(&mut headers, "if-range", one(rng, &ETAGS));
        }
    }
    if rare(rng, 8 * odds) {
        let tags = ["\"a\"", "\"b\"", "W/\"a\"", "*", "\"c\", \"a\""];
        set(&mut headers, "if-none-match", one(rng, &tags));
    }
    if rare(rng, 10 * odds) {
        let since = version(rng, epoch) + Duration::from_secs(one(rng, &[0, 0, 30]));
        set(&mut headers, "if-modified-since", &date(since));
    }
    for (name, values) in [
        ("accept-language", ["en, de;q=0.5", "de"]),
        ("accept-encoding", ["gzip", "br"]),
        ("x-a", ["1", "2"]),
    ] {
        if rare(rng, 3 * odds) {
            set(&mut headers, name, one(rng, &values));
        }
    }
    headers
}

/// What an origin answers, without what depends on the request.
pub(super) fn response_fields(rng: &mut Rng, odds: u32, id: usize, wall: SystemTime, epoch: SystemTime) -> HeaderMap {
    let mut headers = HeaderMap::new();
    set(&mut headers, X_ID, &id.to_string());
    if !rare(rng, 2 * odds) {
        set(&mut headers, "cache-control", one(rng, &PLAIN));
    } else if !rare(rng, 4) {
        let count = one(rng, &[1, 1, 1, 2, 2, 3, 4]);
        let directives: Vec<_> = (0..count).map(|_| one(rng, &CONTROL)).collect();
        let (first, second) = directives.split_at(if rare(rng, 4) { count / 2 } else { count });
        for line in [first, second].into_iter().filter(|line| !line.is_empty()) {
            set(&mut headers, "cache-control", &line.join(", "));
        }
    }
    if rare(rng, 12 * odds) {
        set(&mut headers, CDN, one(rng, &TARGETED));
    }
    if rare(rng, 4 * odds) {
        let expires = match rng.u8(..6) {
            0 => "0".to_owned(),
            1 => date(wall - Duration::from_secs(5)),
            _ => date(wall + Duration::from_secs(one(rng, &[1, 5, 60]))),
        };
        set(&mut headers, "expires", &expires);
    }
    match rng.u32(..5 + odds) {
        0 | 1 => {}
        2 => set(
            &mut headers,
            "date",
            &date(wall - Duration::from_secs(one(rng, &[1, 3, 100]))),
        ),
        3 => set(
            &mut headers,
            "date",
            &date(wall + Duration::from_secs(one(rng, &[1, 3, 100]))),
        ),
        _ => set(&mut headers, "date", &date(wall)),
    }
    if rare(rng, 8 * odds) {
        set(&mut headers, "age", one(rng, &["0", "1", "4", "100", "x"]));
    }
    if rare(rng, 3 * odds) {
        set(&mut headers, "last-modified", &date(version(rng, epoch)));
    }
    if rng.bool() {
        set(&mut headers, "etag", one(rng, &ETAGS));
    }
    if rare(rng, 3 * odds) {
        let names = [
            "X-A",
            "x-a",
            "Accept-Language",
            "accept-language, X-A",
            "Accept-Encoding",
            "*",
        ];
        set(&mut headers, "vary", one(rng, &names));
    }
    if rare(rng, 10 * odds) {
        set(&mut headers, "set-cookie", &format!("u={id}"));
    }
    if rare(rng, 8 * odds) {
        set(&mut headers, "x-a", &id.to_string());
    }
    if rare(rng, 10 * odds) {
        set(&mut headers, "connection", "x-hop");
        set(&mut headers, "x-hop", &id.to_string());
    }
    if rare(rng, 4 * odds) {
        set(&mut headers, CACHE_TAG, one(rng, &["t1", "t2", "t1, t2"]));
    }
    headers
}

/// A status for a request with these fields.
pub(super) fn status(rng: &mut Rng, odds: u32, method: &Method, sent: &HeaderMap) -> StatusCode {
    let conditional = sent.contains_key("if-none-match") || sent.contains_key("if-modified-since");
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let code = if conditional && reads && rng.bool() {
        304
    } else if sent.contains_key("range") && *method == Method::GET && rng.bool() {
        206
    } else if rare(rng, 4 * odds) {
        one(
            rng,
            &[203, 204, 301, 302, 400, 404, 410, 500, 500, 503, 503, 599, 599, 206],
        )
    } else {
        200
    };
    StatusCode::from_u16(code).unwrap()
}

/// A body that no other response has, of one of two lengths.
pub(super) fn body(rng: &mut Rng, id: usize) -> Bytes {
    let length = one(rng, &[10, 20]);
    Bytes::from(format!("{id:.<length$}"))
}
