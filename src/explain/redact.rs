//! Takes secrets out of what is remembered of a request, before it is.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Explain;

const REDACTED: &str = "[redacted]";
/// The longest target that is kept whole, in bytes.
pub(super) const TARGET: usize = 1024;
/// The longest header value that is kept whole, in bytes.
pub(super) const VALUE: usize = 128;
/// More header fields are not kept.
const FIELDS: usize = 32;
/// What tells of a secret in the name of a header.
const SECRET: [&str; 14] = [
    "auth",
    "cookie",
    "token",
    "secret",
    "passw",
    "key",
    "session",
    "signature",
    "credential",
    "csrf",
    "xsrf",
    "jwt",
    "otp",
    "cert",
];

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
    let mut lines = String::new();
    for (name, value) in headers.iter().take(FIELDS) {
        lines.push_str(name.as_str());
        lines.push_str(": ");
        lines.push_str(&header(name, value, explain));
        lines.push('\n');
    }
    lines.into_boxed_str()
}

fn header(name: &HeaderName, value: &HeaderValue, explain: &Explain) -> String {
    let is_shown = explain.show_headers.contains(name);
    if !is_shown && (value.is_sensitive() || SECRET.iter().any(|word| name.as_str().contains(word))) {
        return REDACTED.to_owned();
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    let text = if !is_shown && (text.contains("://") || text.starts_with('/') && text.contains('?')) {
        // A URL, as in `Referer`, has secrets where a target has them.
        target(&text, explain)
    } else {
        text.replace('\n', " ")
    };
    cut(text, VALUE)
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
