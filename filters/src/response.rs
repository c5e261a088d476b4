//! An answer that does not come from the upstream: a refusal, an error, a stored response.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use pingora_http::ResponseHeader;

use crate::failure::Failure;

/// A body that arrives piece by piece, e.g. one still being read for somebody else.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// The body of a [`Response`].
pub enum Body {
    /// No bytes.
    Empty,
    /// All of it.
    Full(Bytes),
    /// Piece by piece.
    Stream(BodyStream),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// Status and headers. The engine sets the framing headers.
    pub head: Box<ResponseHeader>,
    /// The body.
    pub body: Body,
}
