//! A stored response as the answer to a request: whole, in part, or "not modified".

use std::time::Instant;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora_http::ResponseHeader;

use super::conditional::{self, Outcome};
use super::entry::Entry;
use super::range::{self, Ranged};
use super::syntax::parse_date;
use crate::{Body, Response};

/// How an entry answers a request with these headers, and its age. `Age` is set, what the cache did is the caller's to say.
pub(super) fn answer(entry: &Entry, method: &Method, headers: &HeaderMap, now: Instant) -> Response {
    let (etag, last_modified) = (entry.field(&ETAG), entry.field(&LAST_MODIFIED));
    let (etag, last_modified) = (etag.as_deref(), last_modified.as_deref());
    // Ranges are of a 200 (RFC 9110, section 14.2).
    let mut response = if is_not_modified(entry, method, headers) {
        Response {
            head: entry.not_modified(),
            body: Body::Empty,
        }
    } else if entry.status != StatusCode::OK {
        whole(entry)
    } else {
        match range::evaluate(headers, method, entry.body.len() as u64, etag, last_modified) {
            Ranged::Whole => whole(entry),
            Ranged::Part { first, last } => part(entry, first, last),
            Ranged::Unsatisfiable => unsatisfiable(entry),
        }
    };
    let age = entry.age(now).as_secs();
    let _ = response.head.insert_header(AGE, HeaderValue::from(age));
    response
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

fn whole(entry: &Entry) -> Response {
    Response {
        head: entry.head(),
        body: Body::Full(entry.body.clone()),
    }
}

fn part(entry: &Entry, first: u64, last: u64) -> Response {
    let mut head = entry.head();
    let _ = head.set_status(StatusCode::PARTIAL_CONTENT);
    set_range(&mut head, &format!("bytes {first}-{last}/{}", entry.body.len()));
    // Within the length of a body that is in memory.
    let body = entry.body.slice(first as usize..=last as usize);
    Response {
        head,
        body: Body::Full(body),
    }
}

fn unsatisfiable(entry: &Entry) -> Response {
    let mut head = Box::new(crate::failure::empty_head(StatusCode::RANGE_NOT_SATISFIABLE));
    set_range(&mut head, &format!("bytes */{}", entry.body.len()));
    let _ = head.insert_header(CONTENT_LENGTH, HeaderValue::from(0));
    let _ = head.insert_header(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Response {
        head,
        body: Body::Full(Bytes::new()),
    }
}

fn set_range(head: &mut ResponseHeader, range: &str) {
    if let Ok(range) = HeaderValue::from_str(range) {
        let _ = head.insert_header(CONTENT_RANGE, range);
    }
}
