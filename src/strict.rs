//! What an HTTP/1 head must be before anything parses it.
//!
//! Requests are smuggled where two parsers read the same bytes differently. pingora-core repairs or passes what RFC 9112 forbids:
//! it takes a bare LF for a line's end, rewrites a request line with spaces, drops a `Content-Length` beside a
//! `Transfer-Encoding`, and reads an app's folded lines. A [`Scanner`] looks at the bytes as they come and lets nothing by that a
//! parser behind could read in another way.

mod chunks;
mod fields;
mod start;

pub(crate) use self::chunks::Chunks;
use self::fields::Framing;

/// Bytes of a head, start line included. The `limits` filter has a lower limit for requests.
const MAX_BYTES: usize = 128 * 1024;
/// Fields of a head; the parsers behind know no more.
const MAX_FIELDS: usize = 256;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not valid, or more than one thing at once; in words, for the log.
    Malformed(&'static str),
    /// It is too large.
    TooLarge,
    /// It has too many fields.
    TooMany,
}

/// Whose head it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request's.
    Request,
    /// A response's; interim ones are heads of their own.
    Response,
}

/// Checks a head that comes in pieces.
#[derive(Debug)]
pub(crate) struct Scanner {
    kind: Kind,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// Bytes seen.
    bytes: usize,
    returns: usize,
    feeds: usize,
    lines: usize,
    /// What the start line says.
    start: start::Start,
    framing: Framing,
}

impl Scanner {
    /// Nothing seen yet.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            partial: Vec::new(),
            bytes: 0,
            returns: 0,
            feeds: 0,
            lines: 0,
            start: start::Start::default(),
            framing: Framing::default(),
        }
    }

    /// Looks at what came next. Where the head ends in it, the number of bytes that belong to the head.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<usize>, Flaw> {
        let begins = self.lines == 0 && self.partial.is_empty();
        // Who speaks TLS, or anything else, is told so rather than waited for.
        if begins
            && bytes
                .first()
                .is_some_and(|first| !first.is_ascii_graphic() && *first != b'\r')
        {
            return Err(Flaw::Malformed("no start line"));
        }
        let (mut from, mut ended) = (0, false);
        for at in memchr::memchr_iter(b'\n', bytes) {
            let line = bytes.get(from..at).unwrap_or_default();
            from = at + 1;
            ended = if self.partial.is_empty() {
                self.line(line)?
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole)?
            };
            if ended {
                break;
            }
        }
        let (head, rest) = bytes.split_at(if ended { from } else { bytes.len() });
        let ends = fields::count_ends(head);
        let (returns, feeds) = ends.ok_or(Flaw::Malformed("a control character"))?;
        self.returns += returns;
        self.feeds += feeds;
        // Each LF has a CR before it: any other CR is one too many, but that whose LF is still to come.
        if self.returns > self.feeds + usize::from(head.ends_with(b"\r")) {
            return Err(Flaw::Malformed("a CR that ends no line"));
        }
        self.bytes += head.len();
        if self.bytes > MAX_BYTES {
            return Err(Flaw::TooLarge);
        }
        if ended {
            self.framing.settle(self.start.is_http_1_0)?;
            return Ok(Some(bytes.len() - rest.len()));
        }
        self.partial.extend_from_slice(bytes.get(from..).unwrap_or_default());
        Ok(None)
    }

    /// Whether nothing but a 1xx other than 101 was seen, so that another head follows.
    pub(crate) fn is_interim(&self) -> bool {
        matches!(self.start.status, 100 | 102..=199)
    }

    /// Whether a chunked body follows, of a message that can have one.
    pub(crate) fn is_chunked(&self) -> bool {
        self.framing.is_chunked() && !matches!(self.start.status, 100..=199 | 204 | 304)
    }

    /// One line without its LF. True for the empty one that ends the head. That it has no control character is seen to with
    /// all of the head at once, which is much cheaper.
    fn line(&mut self, line: &[u8]) -> Result<bool, Flaw> {
        let Some((b'\r', line)) = line.split_last() else {
            return Err(Flaw::Malformed("a line that ends with LF alone"));
        };
        if self.lines == 0 {
            self.start = match self.kind {
                Kind::Request => start::request(line)?,
                Kind::Response => start::response(line)?,
            };
        } else if line.is_empty() {
            return Ok(true);
        } else {
            if self.lines > MAX_FIELDS {
                return Err(Flaw::TooMany);
            }
            let (name, value) = fields::split_loosely(line)?;
            self.framing.note(name, value)?;
        }
        self.lines += 1;
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
