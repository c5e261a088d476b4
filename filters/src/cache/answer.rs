//! A stored response as the answer to a request: whole, in part, or "not modified".

use std::time::Instant;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::conditional::{self, Outcome};
use super::entry::{Entry, head};
use super::range::{self, Ranged};
use super::status::CACHE_STATUS;
use super::syntax::parse_date;
use crate::{Body, Response};

/// How an entry answers a request with these headers, and its age. `said` is what the cache says of it in `Cache-Status`.
pub(super) fn answer(
    entry: &Entry,
    method: &Method,
    headers: &HeaderMap,
    now: Instant,
    said: Option<HeaderValue>,
) -> Response {
    // Ranges are of a 200 (RFC 9110, section 14.2).
    let (status, mut fields, body) = if is_not_modified(entry, method, headers) {
        (StatusCode::NOT_MODIFIED, entry.headers_of_not_modified(), Body::Empty)
    } else if entry.status != StatusCode::OK {
        whole(entry)
    } else {
        match asked_for(entry, method, headers) {
            Ranged::Whole => whole(entry),
            Ranged::Part { first, last } => part(entry, first, last),
            Ranged::Unsatisfiable => unsatisfiable(entry),
        }
    };
    if let Ok(age) = HeaderValue::from_str(itoa::Buffer::new().format(entry.age(now).as_secs())) {
        fields.insert(AGE, age);
    }
    if let Some(said) = said {
        fields.append(CACHE_STATUS, said);
    }
    Response {
        head: head(status, fields),
        body,
    }
}

/// Whether a client has the entry already. Conditions are of a 200 (RFC 9110, section 13.2.1).
pub(super) fn is_not_modified(entry: &Entry, method: &Method, headers: &HeaderMap) -> bool {
    let asks = headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE);
    if entry.status != StatusCode::OK || !asks {
        return false;
    }
    let (etag, last_modified) = (entry.field(&ETAG), entry.field(&LAST_MODIFIED));
    let date = entry.field(&http::header::DATE).and_then(|date| parse_date(&date));
    conditional::evaluate(headers, method, etag.as_deref(), last_modified.as_deref(), date) == Outcome::NotModified
}

fn asked_for(entry: &Entry, method: &Method, headers: &HeaderMap) -> Ranged {
    if !headers.contains_key(RANGE) {
        return Ranged::Whole;
    }
    let (etag, last_modified) = (entry.field(&ETAG), entry.field(&LAST_MODIFIED));
    let length = entry.body.len() as u64;
    range::evaluate(headers, method, length, etag.as_deref(), last_modified.as_deref())
}

type Answer = (StatusCode, HeaderMap, Body);

fn whole(entry: &Entry) -> Answer {
    (entry.status, entry.headers(), Body::Full(entry.body.clone()))
}

fn part(entry: &Entry, first: u64, last: u64) -> Answer {
    let mut fields = entry.headers();
    set_range(&mut fields, &format!("bytes {first}-{last}/{}", entry.body.len()));
    // Within the length of a body that is in memory.
    let body = entry.body.slice(first as usize..=last as usize);
    (StatusCode::PARTIAL_CONTENT, fields, Body::Full(body))
}

fn unsatisfiable(entry: &Entry) -> Answer {
    let mut fields = HeaderMap::new();
    set_range(&mut fields, &format!("bytes */{}", entry.body.len()));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(0));
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    (StatusCode::RANGE_NOT_SATISFIABLE, fields, Body::Full(Bytes::new()))
}

fn set_range(fields: &mut HeaderMap, range: &str) {
    if let Ok(range) = HeaderValue::from_str(range) {
        fields.insert(CONTENT_RANGE, range);
    }
}
