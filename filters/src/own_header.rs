//! A header that a plugin is configured to write.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::{BuildError, headers};

/// The name of a header that a plugin writes by itself, checked when the filter is built.
pub(crate) struct OwnHeader {
    /// To look it up.
    pub(crate) name: HeaderName,
    /// The name in the case it was configured in, as HTTP/1 sends it.
    written: Bytes,
}

impl OwnHeader {
    /// Refuses what is no header name, and headers that already have a meaning; `what` says what it shall hold.
    pub(crate) fn new(text: String, what: &str) -> Result<Self, BuildError> {
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            return Err(BuildError::Meaning(format!("`{text}` is not a header name")));
        };
        if headers::is_reserved(&name) {
            let problem = format!("`{name}` has a meaning of its own and cannot hold {what}");
            return Err(BuildError::Meaning(problem));
        }
        Ok(Self {
            name,
            written: Bytes::from(text),
        })
    }

    // Writing fails only on more header fields than a map can hold (32768); then the header is left out.

    /// Writes it to a request, in place of any that is there.
    pub(crate) fn write_request(&self, head: &mut RequestHeader, value: HeaderValue) {
        let _ = head.insert_header(self.written.clone(), value);
    }

    /// Writes it to a response, in place of any that is there.
    pub(crate) fn write_response(&self, head: &mut ResponseHeader, value: HeaderValue) {
        let _ = head.insert_header(self.written.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_refused() {
        for name in ["", "x request", "x-id:", "Content-Length", "host", "Keep-Alive"] {
            let Err(error) = OwnHeader::new(name.to_owned(), "the request id") else {
                panic!("`{name}` is accepted");
            };
            assert!(error.to_string().contains(&name.to_lowercase()), "{error}");
        }
    }

    #[test]
    fn it_replaces_and_keeps_the_case_it_was_configured_in() {
        let header = OwnHeader::new("X-Trace-ID".to_owned(), "the trace id").ok().unwrap();
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("x-trace-id", "the app's own").unwrap();
        header.write_response(&mut head, HeaderValue::from_static("1"));
        let sent: Vec<_> = head.headers.get_all(&header.name).iter().collect();
        assert_eq!(sent, ["1"]);
        let mut written = Vec::new();
        head.header_to_h1_wire(&mut written);
        assert!(String::from_utf8(written).unwrap().contains("X-Trace-ID: 1\r\n"));
    }
}
