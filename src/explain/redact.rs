//! Takes secrets out of what is remembered of a request, before it is.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Explain;

const REDACTED: &str = "[redacted]";
/// The longest target that is kept whole, in bytes.
pub(super) const TARGET: usize = 1024;
/// The longest header value that is kept whole, in bytes.
pub(super) const VALUE: usize = 128;
/// A shorter secret is known where it is all of a value.
const PART: usize = 8;
/// More header fields are not kept.
const FIELDS: usize = 32;
/// A request target: what the query and the parameters of its path are set to is redacted, unless it may be shown.
pub(super) fn target(raw: &str, explain: &Explain) -> String {
    let (path, query) = match raw.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    };
    let mut shown = String::with_capacity(raw.len().min(TARGET) + 16);
    without_user(path, &mut shown);
    if let Some(query) = query {
        shown.push('?');
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        for (index, pair) in query.split('&').enumerate() {
            if index > 0 {
                shown.push('&');
            }
            match pair.split_once('=') {
                Some((name, _)) if explain.show_query.iter().any(|known| known == name) => shown.push_str(pair),
                Some((name, _)) => {
                    shown.push_str(name);
                    shown.push('=');
                    shown.push_str(REDACTED);
                }
                // What stands for itself may be a secret.
                None if pair.is_empty() || explain.show_query.iter().any(|known| known == pair) => shown.push_str(pair),
                None => shown.push_str(REDACTED),
            }
        }
    }
    cut(shown, TARGET)
}

/// A path, or a URL up to its query, without user name and password, and without what `;name=value` is set to.
fn without_user(path: &str, shown: &mut String) {
    let path = match path.split_once("://") {
        Some((scheme, rest)) => {
            shown.push_str(scheme);
            shown.push_str("://");
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            shown.push_str(host(authority));
            path
        }
        None => path,
    };
    for part in path.split_inclusive('/') {
        let mut parameters = part.split(';');
        shown.push_str(parameters.next().unwrap_or_default());
        for parameter in parameters {
            shown.push(';');
            match parameter.split_once('=') {
                Some((name, value)) => {
                    shown.push_str(name);
                    shown.push('=');
                    shown.push_str(REDACTED);
                    if value.ends_with('/') {
                        shown.push('/');
                    }
                }
                None => shown.push_str(parameter),
            }
        }
    }
}

/// An authority without user name and password.
pub(super) fn host(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Header fields as lines, each `name: value`; no value has an end of a line in it.
pub(super) fn headers(headers: &HeaderMap, explain: &Explain) -> Box<str> {
    // Room for what most have, so that it seldom moves.
    let mut lines = String::with_capacity(headers.len().min(FIELDS) * 48);
    for (name, value) in headers.iter().take(FIELDS) {
        lines.push_str(name.as_str());
        lines.push_str(": ");
        header(name, value, explain, &mut lines);
        lines.push('\n');
    }
    lines.into_boxed_str()
}

fn header(name: &HeaderName, value: &HeaderValue, explain: &Explain, lines: &mut String) {
    let is_shown = explain.show_headers.contains(name);
    let value_tells = || is_put_in(value.as_bytes(), explain);
    if !is_shown && (value.is_sensitive() || tells_of_a_secret(name.as_str()) || value_tells()) {
        lines.push_str(REDACTED);
    } else if !is_shown && is_url(value.as_bytes()) {
        // As in `Referer`: it has secrets where a target has them.
        let url = String::from_utf8_lossy(value.as_bytes());
        lines.push_str(&cut(target(&url, explain), VALUE));
    } else if let Some(text) = value.to_str().ok().filter(|text| text.len() <= VALUE) {
        lines.push_str(text);
    } else {
        let text = String::from_utf8_lossy(value.as_bytes());
        lines.push_str(&cut(text.into_owned(), VALUE));
    }
}

/// Whether the name of a header, in lower case, holds a word for secrets. By their first letters, because this is asked for every header
/// of what is kept.
fn tells_of_a_secret(name: &str) -> bool {
    let name = name.as_bytes();
    let begins = |rest: &[u8]| {
        let words: &[&str] = match rest.first() {
            Some(b'a') => &["auth"],
            Some(b'c') => &["cookie", "credential", "csrf", "cert"],
            Some(b'j') => &["jwt"],
            Some(b'k') => &["key"],
            Some(b'o') => &["otp"],
            Some(b'p') => &["passw"],
            Some(b's') => &["secret", "session", "signature"],
            Some(b't') => &["token"],
            Some(b'x') => &["xsrf"],
            _ => return false,
        };
        words.iter().any(|word| rest.starts_with(word.as_bytes()))
    };
    (0..name.len()).any(|start| name.get(start..).is_some_and(begins))
}

/// Whether a value is a URL, or a path with a query, or holds one.
fn is_url(value: &[u8]) -> bool {
    let has_scheme = |at: usize| value.get(at..).is_some_and(|rest| rest.starts_with(b"://"));
    memchr::memchr_iter(b':', value).any(has_scheme) || (value.first() == Some(&b'/') && value.contains(&b'?'))
}

/// Whether it is what a variable or a secret file put into a filter's settings, or has it in it.
fn is_put_in(value: &[u8], explain: &Explain) -> bool {
    explain
        .put_in
        .iter()
        .map(|secret| secret.expose().as_bytes())
        .any(|secret| value == secret || secret.len() >= PART && memchr::memmem::find(value, secret).is_some())
}

/// So many bytes at most, and a sign that there was more.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('\u{2026}');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn explain() -> Explain {
        Explain::from(&config::Explain {
            show_query: vec!["page".to_owned()],
            show_headers: vec!["idempotency-key".to_owned()],
            ..config::Explain::default()
        })
    }

    #[test]
    fn a_target_keeps_its_names_and_loses_its_values() {
        for (raw, shown) in [
            ("/a/b", "/a/b"),
            ("/a?", "/a?"),
            ("/a?page=2&q=secret", "/a?page=2&q=[redacted]"),
            ("/a?secret", "/a?[redacted]"),
            ("/a?page", "/a?page"),
            ("/a?q=1=2&&x=", "/a?q=[redacted]&&x=[redacted]"),
            ("/a;jsessionid=77/b;v", "/a;jsessionid=[redacted]/b;v"),
            ("http://me:secret@host/a?q=1", "http://host/a?q=[redacted]"),
            ("http://me:secret@host", "http://host"),
            ("*", "*"),
        ] {
            assert_eq!(target(raw, &explain()), shown, "{raw}");
        }
        let long = target(&format!("/{}", "ä".repeat(2 * TARGET)), &explain());
        assert!(long.len() <= TARGET + 3 && long.ends_with('…'), "{}", long.len());
    }

    #[test]
    fn headers_that_tell_of_a_secret_are_redacted() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("accept", "*/*"),
            ("authorization", "Bearer secret"),
            ("proxy-authorization", "Basic secret"),
            ("cookie", "a=secret"),
            ("set-cookie", "a=secret"),
            ("x-api-key", "secret"),
            ("x-amz-security-token", "secret"),
            ("x-client-secret", "secret"),
            ("x-password", "secret"),
            ("x-passwd", "secret"),
            ("x-session-id", "secret"),
            ("x-hub-signature", "secret"),
            ("x-credentials", "secret"),
            ("x-auth", "secret"),
            ("x-csrf", "secret"),
            ("x-xsrf", "secret"),
            ("x-jwt-assertion", "secret"),
            ("x-otp", "secret"),
            ("x-client-cert", "secret"),
            ("idempotency-key", "shown"),
            ("referer", "https://me:secret@host/a?token=secret"),
            ("x-original-url", "/a?token=secret"),
        ] {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let told = headers(&fields, &explain());
        assert!(
            !told.contains("secret\n") && !told.contains("=secret") && !told.contains("secret@"),
            "{told}"
        );
        for line in [
            "accept: */*\n",
            "authorization: [redacted]\n",
            "idempotency-key: shown\n",
        ] {
            assert!(told.contains(line), "{line:?} is not in {told}");
        }
        assert!(told.contains("referer: https://host/a?token=[redacted]\n"), "{told}");
    }

    #[test]
    fn what_is_kept_of_headers_is_bounded() {
        let mut fields = HeaderMap::new();
        for number in 0..100 {
            let name: HeaderName = format!("x-{number}").parse().unwrap();
            fields.append(name, HeaderValue::from_str(&"v".repeat(4096)).unwrap());
        }
        let told = headers(&fields, &explain());
        assert_eq!(told.lines().count(), FIELDS);
        assert!(told.len() <= FIELDS * (VALUE + 3 + 8), "{}", told.len());
    }
}
