//! Entity tags of bodies that are sent in another coding than the app made them, and their way back (RFC 9110, section 8.8.3).
//!
//! A strong tag names a body byte for byte, so the compressed one must have another. It becomes weak or carries the coding;
//! what a client sends back is made again what the app has said.

use http::HeaderValue;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use pingora_http::{RequestHeader, ResponseHeader};

use super::coding::Coding;
use super::config::EtagMode;

/// Changes the tag of a response whose body is compressed.
pub(super) fn mark(head: &mut ResponseHeader, mode: EtagMode, coding: Coding) {
    let Some(tag) = head.headers.get(ETAG).map(|tag| tag.as_bytes().to_vec()) else {
        return;
    };
    // What is no tag is not passed on as one of another body.
    let marked = marked(&tag, mode, coding).and_then(|tag| HeaderValue::from_bytes(&tag).ok());
    match marked {
        Some(tag) => {
            let _ = head.insert_header(ETAG, tag);
        }
        None => {
            head.remove_header(&ETAG);
        }
    }
}

/// The tag of a compressed body; `None` for what is no tag.
pub(super) fn marked(tag: &[u8], mode: EtagMode, coding: Coding) -> Option<Vec<u8>> {
    if tag.starts_with(b"W/\"") {
        return Some(tag.to_vec());
    }
    let text = tag.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(match mode {
        EtagMode::Weak => [b"W/", tag].concat(),
        EtagMode::Suffix => [b"\"", text, b"-", coding.as_str().as_bytes(), b"\""].concat(),
    })
}

/// Makes what a client sends back what the app has said.
pub(super) fn unmark(request: &mut RequestHeader, mode: EtagMode) {
    // Not in `If-Range`: a part of the app's body is none of the compressed one.
    for name in [IF_NONE_MATCH, IF_MATCH] {
        if !request.headers.contains_key(&name) {
            continue;
        }
        // A weak tag compares weakly in `If-None-Match`, as it is; elsewhere only strong ones match.
        if mode == EtagMode::Weak && name != IF_MATCH {
            continue;
        }
        let lines: Vec<HeaderValue> = request
            .headers
            .get_all(&name)
            .iter()
            .map(|line| unmarked(line, mode))
            .collect();
        request.remove_header(&name);
        for line in lines {
            let _ = request.append_header(name.clone(), line);
        }
    }
}

fn unmarked(line: &HeaderValue, mode: EtagMode) -> HeaderValue {
    let mut text = line.as_bytes().to_vec();
    match mode {
        EtagMode::Weak => text = replaced(&text, b"W/\"", b"\""),
        EtagMode::Suffix => {
            for coding in Coding::ALL {
                let suffix = [b"-", coding.as_str().as_bytes(), b"\""].concat();
                text = replaced(&text, &suffix, b"\"");
            }
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| line.clone())
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Drops what is said of the body byte for byte.
pub(super) fn forget_bytes(head: &mut ResponseHeader) {
    for name in [
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
        "accept-ranges",
    ] {
        head.remove_header(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(tag: &'static str, mode: EtagMode) -> Option<String> {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header(ETAG, tag).unwrap();
        mark(&mut head, mode, Coding::Br);
        head.headers.get(ETAG).map(|tag| tag.to_str().unwrap().to_owned())
    }

    fn unmarked(name: &'static str, value: &'static str, mode: EtagMode) -> String {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header(name, value).unwrap();
        unmark(&mut request, mode);
        request.headers[name].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_strong_tag_is_changed() {
        assert_eq!(marked("\"a\"", EtagMode::Weak).unwrap(), "W/\"a\"");
        assert_eq!(marked("\"a\"", EtagMode::Suffix).unwrap(), "\"a-br\"");
        for mode in [EtagMode::Weak, EtagMode::Suffix] {
            assert_eq!(marked("W/\"a\"", mode).unwrap(), "W/\"a\"");
            assert_eq!(marked("a", mode), None);
        }
    }

    #[test]
    fn what_a_client_sends_back_is_the_apps_again() {
        let suffix = EtagMode::Suffix;
        assert_eq!(
            unmarked("if-none-match", "\"a-br\", \"b-gzip\"", suffix),
            "\"a\", \"b\""
        );
        assert_eq!(unmarked("if-match", "\"a-zstd\"", suffix), "\"a\"");
        assert_eq!(unmarked("if-none-match", "\"abr\", *", suffix), "\"abr\", *");
        assert_eq!(unmarked("if-none-match", "W/\"a\"", EtagMode::Weak), "W/\"a\"");
        assert_eq!(unmarked("if-match", "W/\"a\", \"b\"", EtagMode::Weak), "\"a\", \"b\"");
    }
}
