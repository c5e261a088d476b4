//! What a filter that codes bodies offers to one before it that stores them: a stored body in another coding, without
//! asking the app again.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// Makes stored bodies into what other clients are to get.
pub trait Recoder: Send + Sync {
    /// The name of the coding a client with these request fields is to get, `identity` for none: clients with the same name
    /// share what is stored.
    fn choose(&self, request: &HeaderMap) -> &'static str;

    /// All names that [`choose`](Self::choose) gives.
    fn names(&self) -> &[&'static str];

    /// Whether a client with these request fields accepts a body in that `Content-Encoding`.
    fn accepts(&self, request: &HeaderMap, content_encoding: &[u8]) -> bool;

    /// A stored response in the coding of that name; `None` where it must not or cannot be made. Takes as long as the body is
    /// large.
    fn recode(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes, to: &str) -> Option<(HeaderMap, Bytes)>;

    /// A stored body in its own coding, smaller, at whatever cost; `None` where there is nothing to gain.
    fn improve(&self, headers: &HeaderMap, body: &Bytes) -> Option<Bytes>;
}
