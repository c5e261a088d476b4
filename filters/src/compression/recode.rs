//! Stored bodies in other codings.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use super::accept::{Accepted, Choice};
use super::coding::{Coding, Decoder, Encoder};
use super::config::{EtagMode, Levels};
use super::decide::{self, Wanted};
use super::etag;
use crate::Recoder;

const IDENTITY: &str = "identity";

/// How stored bodies are recoded.
pub(super) struct Recodes {
    pub(super) wanted: Wanted,
    pub(super) levels: Levels,
    pub(super) etag: EtagMode,
    /// The level of bodies that are much asked for; `None` to leave them.
    pub(super) improved: Option<u32>,
    names: Vec<&'static str>,
}

/// What a decoded body may come to, beside what it was.
const MOST_PLAIN: usize = 64 * 1024 * 1024;

impl Recodes {
    pub(super) fn new(wanted: Wanted, levels: Levels, etag: EtagMode, improved: Option<u32>) -> Self {
        let names = wanted.codings.iter().map(|coding| coding.as_str());
        Self {
            names: std::iter::once(IDENTITY).chain(names).collect(),
            wanted,
            levels,
            etag,
            improved,
        }
    }

    fn plain(headers: &HeaderMap, body: &Bytes) -> Option<Bytes> {
        match decide::coded(headers) {
            None => Some(body.clone()),
            Some(name) => {
                let mut decoder = Decoder::new(Coding::of(name)?, MOST_PLAIN).ok()?;
                let mut plain = decoder.push(body).ok()?;
                plain.extend(decoder.finish().ok()?);
                Some(Bytes::from(plain))
            }
        }
    }
}

fn coded(coding: Coding, level: u32, plain: &Bytes) -> Option<Bytes> {
    let mut encoder = Encoder::new(coding, level, Some(plain.len() as u64)).ok()?;
    let mut body = encoder.push(plain, false).ok()?;
    body.extend(encoder.finish().ok()?);
    body.shrink_to_fit();
    Some(Bytes::from(body))
}

impl Recoder for Recodes {
    fn choose(&self, request: &HeaderMap) -> &'static str {
        match Accepted::of(request).map(|accepted| accepted.choose(&self.wanted.codings)) {
            Some(Choice::Coded(coding)) => coding.as_str(),
            Some(Choice::Identity | Choice::Nothing) | None => IDENTITY,
        }
    }

    fn names(&self) -> &[&'static str] {
        &self.names
    }

    fn accepts(&self, request: &HeaderMap, content_encoding: &[u8]) -> bool {
        Accepted::of(request).is_none_or(|accepted| accepted.accepts(content_encoding))
    }

    fn recode(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes, to: &str) -> Option<(HeaderMap, Bytes)> {
        let mut head = ResponseHeader::build_no_case(status, Some(headers.len())).ok()?;
        for (name, value) in headers {
            head.append_header(name.clone(), value.clone()).ok()?;
        }
        head.remove_header(&CONTENT_ENCODING);
        if !self.wanted.may_recode(status, headers) {
            return None;
        }
        if let Some(from) = decide::coded(headers) {
            self.unmark(&mut head, Coding::of(from)?);
        }
        let plain = Self::plain(headers, body)?;
        head.remove_header(&CONTENT_LENGTH);
        etag::forget_bytes(&mut head);
        let Some(coding) = Coding::of(to.as_bytes()) else {
            return Some((head.headers.clone(), plain));
        };
        if (plain.len() as u64) < self.wanted.min_size {
            return Some((head.headers.clone(), plain));
        }
        let body = coded(coding, self.levels.of(coding), &plain)?;
        head.insert_header(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()))
            .ok()?;
        etag::mark(&mut head, self.etag, coding);
        Some((head.headers.clone(), body))
    }

    fn improve(&self, headers: &HeaderMap, body: &Bytes) -> Option<Bytes> {
        // A strong tag names the bytes that are.
        let level = self.improved.filter(|_| self.etag == EtagMode::Weak)?;
        let coding = Coding::of(decide::coded(headers)?).filter(|coding| *coding == Coding::Br)?;
        let better = coded(coding, level, &Self::plain(headers, body)?)?;
        (better.len() < body.len()).then_some(better)
    }
}

impl Recodes {
    /// Makes the tag of a compressed body that of the body itself again.
    fn unmark(&self, head: &mut ResponseHeader, from: Coding) {
        if self.etag != EtagMode::Suffix {
            return;
        }
        let suffix = format!("-{}\"", from.as_str());
        let tag = head.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        let plain = tag
            .and_then(|tag| tag.strip_suffix(&suffix))
            .map(|tag| format!("{tag}\""));
        if let Some(plain) = plain.and_then(|tag| HeaderValue::try_from(tag).ok()) {
            let _ = head.insert_header(ETAG, plain);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::compression::config::Config;
    use crate::compression::decide::Types;

    fn recodes(etag: EtagMode) -> Recodes {
        let config = Config::default();
        let wanted = Wanted {
            codings: config.codings,
            types: Types::new(&config.types).unwrap(),
            min_size: config.min_size.0,
            strict: false,
            decode: true,
        };
        Recodes::new(wanted, config.levels, etag, Some(9))
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        lines.collect()
    }

    const HTML: (&str, &str) = ("content-type", "text/html");

    #[test]
    fn every_coding_can_be_made_of_every_other() {
        let recodes = recodes(EtagMode::Suffix);
        let plain = Bytes::from("<p>hello</p>".repeat(1000));
        let head = headers(&[HTML, ("etag", "\"a\""), ("content-md5", "x")]);
        for from in recodes.names() {
            let (first, body) = recodes.recode(StatusCode::OK, &head, &plain, from).unwrap();
            for to in recodes.names() {
                let (second, body) = recodes.recode(StatusCode::OK, &first, &body, to).unwrap();
                let coding = second
                    .get(CONTENT_ENCODING)
                    .map_or(IDENTITY, |name| name.to_str().unwrap());
                assert_eq!(coding, *to);
                assert_eq!(Recodes::plain(&second, &body).unwrap(), plain);
                let tag = if *to == IDENTITY {
                    "\"a\"".to_owned()
                } else {
                    format!("\"a-{to}\"")
                };
                assert_eq!(second[ETAG], tag.as_str(), "from {from} to {to}");
                assert!(!second.contains_key("content-md5"));
            }
        }
    }

    #[test]
    fn what_must_stay_as_it_is_does() {
        let recodes = recodes(EtagMode::Weak);
        let plain = Bytes::from("x".repeat(5000));
        for lines in [
            &[HTML, ("cache-control", "no-transform")][..],
            &[("content-type", "image/png")],
            &[HTML, ("content-encoding", "compress")],
        ] {
            assert!(
                recodes.recode(StatusCode::OK, &headers(lines), &plain, "br").is_none(),
                "{lines:?}"
            );
        }
        let small = Bytes::from_static(b"small");
        let (head, body) = recodes.recode(StatusCode::OK, &headers(&[HTML]), &small, "br").unwrap();
        assert!(!head.contains_key(CONTENT_ENCODING));
        assert_eq!(body, small);
    }

    #[test]
    fn clients_that_get_the_same_share_a_name() {
        let recodes = recodes(EtagMode::Weak);
        let choose = |accept| recodes.choose(&headers(&[("accept-encoding", accept)]));
        assert_eq!(choose("gzip, deflate, br"), "br");
        assert_eq!(choose("br;q=1.0, gzip;q=0.8, *;q=0.1"), "br");
        assert_eq!(choose("identity"), "identity");
        assert_eq!(recodes.choose(&HeaderMap::new()), "identity");
    }

    #[test]
    fn a_higher_level_is_kept_only_if_it_gains() {
        let recodes = recodes(EtagMode::Weak);
        let items: Vec<String> = (0..3000)
            .map(|number| format!("<li id={}>{}</li>", number * 7, number % 13))
            .collect();
        let plain = items.concat();
        let head = headers(&[HTML]);
        let (head, body) = recodes
            .recode(StatusCode::OK, &head, &Bytes::from(plain), "br")
            .unwrap();
        let better = recodes.improve(&head, &body).unwrap();
        assert!(better.len() < body.len());
        assert_eq!(Recodes::plain(&head, &better), Recodes::plain(&head, &body));
        assert!(recodes.improve(&head, &better).is_none());
    }
}
