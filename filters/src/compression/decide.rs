//! What becomes of a response: a pure decision.

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use super::accept::{Accepted, Choice};
use super::coding::Coding;

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing, for that reason. Another client would get the same.
    Leave(&'static str),
    /// Nothing for this client, though others may get it otherwise.
    Keep(&'static str),
    /// Compressed.
    Encode(Coding),
    /// Decompressed.
    Decode(Coded),
    /// Refused: nothing acceptable can be made.
    Refuse,
}

/// A coding the app made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coded {
    Known(Coding),
    Deflate,
}

/// Which content types are compressed.
#[derive(Debug)]
pub(super) struct Types(Vec<Kind>);

#[derive(Debug)]
enum Kind {
    Whole(String),
    /// `text/`.
    Family(String),
    /// `+json`.
    Suffix(String),
}

impl Types {
    pub(super) fn new(types: &[String]) -> Result<Self, String> {
        let kinds = types.iter().map(|kind| {
            let lower = kind.to_ascii_lowercase();
            if let Some(suffix) = lower.strip_prefix('*').filter(|suffix| suffix.starts_with('+')) {
                Ok(Kind::Suffix(suffix.to_owned()))
            } else if let Some(family) = lower
                .strip_suffix('*')
                .filter(|rest| rest.ends_with('/') && !rest.contains('*'))
            {
                Ok(Kind::Family(family.to_owned()))
            } else if lower.contains('/') && !lower.contains('*') {
                Ok(Kind::Whole(lower))
            } else {
                Err(format!(
                    "`{kind}` is no content type, nor one like `text/*` or `*+json`"
                ))
            }
        });
        kinds.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a `Content-Type` is one of them.
    pub(super) fn contains(&self, content_type: &[u8]) -> bool {
        let end = content_type
            .iter()
            .position(|&byte| byte == b';')
            .unwrap_or(content_type.len());
        let kind = content_type[..end].trim_ascii();
        let ends = |text: &str| {
            let start = kind.len().checked_sub(text.len());
            start.is_some_and(|start| kind[start..].eq_ignore_ascii_case(text.as_bytes()))
        };
        let begins = |text: &str| {
            kind.get(..text.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
        };
        self.0.iter().any(|known| match known {
            Kind::Whole(whole) => kind.eq_ignore_ascii_case(whole.as_bytes()),
            Kind::Family(family) => begins(family),
            Kind::Suffix(suffix) => ends(suffix),
        })
    }
}

/// What a route compresses.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) codings: Vec<Coding>,
    pub(super) types: Types,
    pub(super) min_size: u64,
    pub(super) strict: bool,
    pub(super) decode: bool,
}

impl Wanted {
    /// What becomes of a response to a client that accepts this.
    pub(super) fn decide(&self, status: StatusCode, headers: &HeaderMap, accepted: Option<&Accepted>) -> Action {
        if let Some(reason) = untouchable(status, headers) {
            return Action::Leave(reason);
        }
        if let Some(coded) = coded(headers) {
            return self.coded(coded, accepted);
        }
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        if !self.types.contains(kind) {
            return Action::Leave("content_type");
        }
        let choice = accepted.map_or(Choice::Identity, |accepted| accepted.choose(&self.codings));
        match choice {
            Choice::Coded(_) if length(headers).is_some_and(|length| length < self.min_size) => Action::Keep("small"),
            Choice::Coded(coding) => Action::Encode(coding),
            Choice::Nothing if self.strict => Action::Refuse,
            Choice::Identity | Choice::Nothing => Action::Keep("not_accepted"),
        }
    }

    /// Whether a stored response may be sent in other codings, too.
    pub(super) fn may_recode(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        let codable = coded(headers).is_none_or(|coded| Coding::of(coded).is_some() && self.decode);
        untouchable(status, headers).is_none() && self.types.contains(kind) && codable
    }

    /// Whether the response that a 304 stands for may differ by `Accept-Encoding`. It seldom tells its type; one that does not
    /// is taken for one that gains: to a cache a field too many costs less than one too few.
    pub(super) fn may_vary(&self, headers: &HeaderMap) -> bool {
        let kind = headers.get(CONTENT_TYPE);
        untouchable(StatusCode::OK, headers).is_none() && kind.is_none_or(|kind| self.types.contains(kind.as_bytes()))
    }

    /// The app has compressed it.
    fn coded(&self, coded: &[u8], accepted: Option<&Accepted>) -> Action {
        let acceptable = accepted.is_none_or(|accepted| accepted.accepts(coded));
        if !self.decode {
            return Action::Leave("encoded_already");
        }
        if acceptable {
            // Who does not accept it gets it otherwise.
            return Action::Keep("encoded_already");
        }
        if coded.eq_ignore_ascii_case(b"deflate") {
            return Action::Decode(Coded::Deflate);
        }
        match Coding::of(coded) {
            Some(coding) => Action::Decode(Coded::Known(coding)),
            None => Action::Keep("unknown_coding"),
        }
    }
}

/// Responses that are left as they are, whatever they hold.
fn untouchable(status: StatusCode, headers: &HeaderMap) -> Option<&'static str> {
    match status.as_u16() {
        100..=199 | 204 | 205 | 304 => return Some("no_body"),
        206 => return Some("partial"),
        _ => {}
    }
    if headers.contains_key(CONTENT_RANGE) {
        return Some("partial");
    }
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    if directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform")) {
        return Some("no_transform");
    }
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let is_grpc = kind
        .get(..16)
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"));
    is_grpc.then_some("grpc")
}

/// What `Content-Encoding` says, unless it says nothing.
pub(super) fn coded(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|line| line.as_bytes().trim_ascii());
    let first = lines.next()?;
    if lines.next().is_some() {
        // Several lines are several codings, which are not undone one by one.
        return Some(b"several");
    }
    (!first.is_empty() && !first.eq_ignore_ascii_case(b"identity")).then_some(first)
}

/// How long the body is, if that is said.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::compression::config::Config;

    fn wanted() -> Wanted {
        let config = Config::default();
        Wanted {
            codings: config.codings,
            types: Types::new(&config.types).unwrap(),
            min_size: config.min_size.0,
            strict: config.strict,
            decode: config.decode_responses,
        }
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        lines.collect()
    }

    fn decide(status: u16, lines: &[(&'static str, &'static str)], accept: Option<&'static str>) -> Action {
        let accepted = accept.and_then(|accept| Accepted::of(&headers(&[("accept-encoding", accept)])));
        let status = StatusCode::from_u16(status).unwrap();
        wanted().decide(status, &headers(lines), accepted.as_ref())
    }

    #[test]
    fn what_gains_is_compressed() {
        for kind in [
            "text/html; charset=utf-8",
            "application/json",
            "Application/JSON",
            "application/problem+json",
            "image/svg+xml",
            "text/event-stream",
            "application/x-ndjson",
        ] {
            assert_eq!(
                decide(200, &[("content-type", kind)], Some("gzip")),
                Action::Encode(Coding::Gzip),
                "{kind}"
            );
        }
        for kind in [
            "image/png",
            "video/mp4",
            "application/zip",
            "font/woff2",
            "",
            "text",
            "application/octet-stream",
        ] {
            assert_eq!(
                decide(200, &[("content-type", kind)], Some("gzip")),
                Action::Leave("content_type"),
                "{kind}"
            );
        }
    }

    #[test]
    fn what_must_not_be_touched() {
        let json = ("content-type", "application/json");
        for (status, line, reason) in [
            (204, ("x", ""), "no_body"),
            (304, ("x", ""), "no_body"),
            (206, ("x", ""), "partial"),
            (200, ("content-range", "bytes 0-1/2"), "partial"),
            (200, ("cache-control", "max-age=1, No-Transform"), "no_transform"),
        ] {
            assert_eq!(decide(status, &[json, line], Some("gzip")), Action::Leave(reason));
        }
        assert_eq!(
            decide(200, &[("content-type", "application/grpc-web+json")], Some("gzip")),
            Action::Leave("grpc")
        );
    }

    #[test]
    fn others_may_get_it_otherwise() {
        let json = ("content-type", "application/json");
        assert_eq!(decide(200, &[json], None), Action::Keep("not_accepted"));
        assert_eq!(decide(200, &[json], Some("")), Action::Keep("not_accepted"));
        assert_eq!(
            decide(200, &[json, ("content-length", "1023")], Some("br")),
            Action::Keep("small")
        );
        assert_eq!(
            decide(200, &[json, ("content-length", "1024")], Some("br")),
            Action::Encode(Coding::Br)
        );
    }

    #[test]
    fn what_a_client_cannot_read_is_decoded() {
        for (coding, action) in [
            ("gzip", Action::Decode(Coded::Known(Coding::Gzip))),
            ("BR", Action::Decode(Coded::Known(Coding::Br))),
            ("deflate", Action::Decode(Coded::Deflate)),
            ("compress", Action::Keep("unknown_coding")),
            ("gzip, br", Action::Keep("unknown_coding")),
        ] {
            assert_eq!(
                decide(200, &[("content-encoding", coding)], Some("zstd")),
                action,
                "{coding}"
            );
            assert_eq!(
                decide(200, &[("content-encoding", coding)], None),
                Action::Keep("encoded_already"),
                "{coding}"
            );
        }
    }

    #[test]
    fn nothing_acceptable_is_refused_only_if_that_is_said() {
        let json = headers(&[("content-type", "application/json")]);
        let accepted = Accepted::of(&headers(&[("accept-encoding", "identity;q=0")]));
        let decide = |strict| Wanted { strict, ..wanted() }.decide(StatusCode::OK, &json, accepted.as_ref());
        assert_eq!(decide(false), Action::Keep("not_accepted"));
        assert_eq!(decide(true), Action::Refuse);
    }

    #[test]
    fn a_type_that_is_none_is_refused() {
        for wrong in ["json", "*/*", "*json", "te*t/html"] {
            assert!(Types::new(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
