//! A first answer, as it is kept and given again.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, DATE, TRAILER, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use crate::failure::empty_head;
use crate::{Body, Response, via};

/// Says that an answer is a first one given again, as Stripe's API does, whose clients know the name.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What a field takes up beside its text: name and value (72 bytes), what they need once they are shared (32 each), and what the
/// allocator rounds up to.
const FIELD: usize = 160;
/// The same of the answer.
const OWN: usize = 192;

/// A first answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    fields: Box<[(HeaderName, HeaderValue)]>,
    pub(super) body: Bytes,
}

impl Answer {
    /// The head of an answer; the body is still to come.
    pub(super) fn of(head: &ResponseHeader) -> Self {
        let mut fields = Vec::with_capacity(head.headers.len() + 2);
        for (name, value) in &head.headers {
            // The length is that of the body that is kept, and trailers are not. A copy: the value that was received keeps all of
            // the response's head in memory.
            if *name != CONTENT_LENGTH
                && *name != TRAILER
                // What was explained to one caller.
                && *name != "x-pillion-explain"
                && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
            {
                fields.push((name.clone(), value));
            }
        }
        // What is kept says itself that it has passed the sidecar, and when it was made (RFC 9110, sections 7.6.3 and 6.6.1).
        fields.push((VIA, HeaderValue::from_static(via(head.version))));
        if !head.headers.contains_key(DATE)
            && let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(std::time::SystemTime::now()))
        {
            fields.push((DATE, date));
        }
        Self {
            status: head.status,
            fields: fields.into(),
            body: Bytes::new(),
        }
    }

    pub(super) fn with_body(self, body: Bytes) -> Self {
        Self { body, ..self }
    }

    /// Bytes it takes up.
    pub(super) fn weight(&self) -> u64 {
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| FIELD + name.as_str().len() + value.len());
        (OWN + fields.sum::<usize>() + self.body.len()) as u64
    }

    /// The coding of its body.
    pub(super) fn coding(&self) -> Option<&HeaderValue> {
        let mut fields = self.fields.iter();
        fields
            .find(|(name, _)| *name == CONTENT_ENCODING)
            .map(|(_, value)| value)
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.fields.len() + 1);
        for (name, value) in &self.fields {
            headers.append(name.clone(), value.clone());
        }
        headers
    }

    /// The answer to a repeat; with another body and its headers, if it was recoded.
    pub(super) fn replay(&self, recoded: Option<(HeaderMap, Bytes)>) -> Response {
        let (headers, body) = recoded.unwrap_or_else(|| (self.headers(), self.body.clone()));
        let mut head = Box::new(empty_head(self.status));
        // Appending fails only on more header fields than a map can hold, which the first answer had not.
        for (name, value) in &headers {
            let _ = head.append_header(name.clone(), value.clone());
        }
        let _ = head.insert_header(REPLAYED, HeaderValue::from_static("true"));
        Response {
            head,
            body: if body.is_empty() { Body::Empty } else { Body::Full(body) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(201, None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn it_is_given_again_as_it_was() {
        let sent = [
            ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("location", "/orders/7"),
            ("content-length", "4"),
            ("trailer", "x-checksum"),
        ];
        let response = Answer::of(&head(&sent))
            .with_body(Bytes::from_static(b"body"))
            .replay(None);
        assert_eq!(response.head.status, 201);
        let headers = &response.head.headers;
        let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(headers["location"], "/orders/7");
        assert_eq!(headers["date"], "Tue, 15 Nov 1994 08:12:31 GMT");
        assert_eq!(headers["idempotent-replayed"], "true");
        assert_eq!(headers["via"], "1.1 pillion");
        assert!(!headers.contains_key("trailer"));
        assert!(matches!(response.body, Body::Full(body) if body == "body"));
    }

    #[test]
    fn one_without_a_date_gets_that_of_its_arrival() {
        let response = Answer::of(&head(&[])).replay(None);
        assert!(httpdate::parse_http_date(response.head.headers["date"].to_str().unwrap()).is_ok());
        assert!(matches!(response.body, Body::Empty));
    }

    #[test]
    fn its_weight_is_no_less_than_its_text() {
        let answer = Answer::of(&head(&[("x-a", "0123456789")])).with_body(Bytes::from(vec![0; 1000]));
        assert!(answer.weight() > 1013);
    }
}
