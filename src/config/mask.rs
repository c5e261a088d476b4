//! Takes passwords out of addresses before they are shown.
//!
//! An address may hold a user name and password before an `@`, although no key here takes such. Whoever reads a log or the
//! admin API is to see the rest. What only looks like one is masked too.

use std::borrow::Cow;

use super::model::REDACTED;

/// Ends a word, and begins the next.
const QUOTES: [char; 3] = ['"', '\'', '`'];

/// A value as it may be shown. One that begins like an address is one from end to end, whatever its password is made of.
pub(super) fn value(text: &str) -> Cow<'_, str> {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return prose(text);
    }
    match secret(text) {
        Some((before, after)) => Cow::Owned(format!("{before}{REDACTED}{after}")),
        None => Cow::Borrowed(text),
    }
}

/// A sentence or a line of a file as it may be shown: each of its words, which end at a space or a quote.
pub(super) fn prose(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| c.is_whitespace() || QUOTES.contains(&c)) {
        match secret(piece) {
            Some((before, after)) => masked.extend([before, REDACTED, after]),
            None => masked.push_str(piece),
        }
    }
    Cow::Owned(masked)
}

/// Parts of names whose values are secrets.
const SECRETS: [&str; 9] = [
    "token",
    "secret",
    "password",
    "passwd",
    "authorization",
    "api-key",
    "api_key",
    "apikey",
    "credential",
];

/// The same in the names of header fields, which have hyphens. Settings do not, and among those `key` may be a cache's.
const SECRETS_OF_HEADERS: [&str; 9] = [
    "auth",
    "key",
    "passw",
    "session",
    "signature",
    "csrf",
    "xsrf",
    "jwt",
    "otp",
];

/// Whether what stands under a key is likely a secret: `x-api-key`, `token`, `cookie`. A list of names, as `cookies` is, is none.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.ends_with("cookie") || SECRETS.iter().any(|part| key.contains(part)) || names_a_secret_header(&key)
}

/// Whether a key is a header field's, and what that says likely a secret.
pub(super) fn names_a_secret_header(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let mut parts = SECRETS.iter().chain(&SECRETS_OF_HEADERS);
    key.contains('-') && parts.any(|part| key.contains(part))
}

/// A secret as it was written, of which only the names of variables and files may be shown: `${TOKEN:-[redacted]}`.
pub(super) fn written(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        let Some(inside) = super::expand::inside(from) else {
            break;
        };
        if !before.is_empty() {
            shown.push_str(REDACTED);
        }
        match inside.split_once(":-") {
            Some((name, "")) => shown.extend(["${", name, ":-}"]),
            Some((name, default)) => shown.extend(["${", name, ":-", &written(default), "}"]),
            None => shown.extend(["${", inside, "}"]),
        }
        rest = &from[inside.len() + 3..];
    }
    if !rest.is_empty() {
        shown.push_str(REDACTED);
    }
    shown
}

/// What stands before and after a user name and password.
fn secret(word: &str) -> Option<(&str, &str)> {
    // The last one: a password may have an `@` of its own.
    let (before, _) = word.rsplit_once('@')?;
    let start = before.find("://").map_or(0, |scheme| scheme + "://".len());
    let (scheme, userinfo) = before.split_at(start);
    // After a slash it is a path's, unless the slash is a password's.
    let is_user = start > 0 && !userinfo.contains(['/', '?', '#']);
    (is_user || userinfo.contains(':')).then(|| (scheme, &word[before.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_and_passwords_are_taken_out() {
        for (text, shown) in [
            ("http://user:pass@host:4318/x", "http://[redacted]@host:4318/x"),
            ("http://token@host", "http://[redacted]@host"),
            ("http://user:p@ss@host", "http://[redacted]@host"),
            ("http://user:p/s?s@host", "http://[redacted]@host"),
            ("http://user:p \"s@host", "http://[redacted]@host"),
            ("user:pass@tcp(db:3306)/x", "[redacted]@tcp(db:3306)/x"),
            ("${URL:-redis://user:pass@host}", "${URL:-redis://[redacted]@host}"),
        ] {
            assert_eq!(value(text), shown);
        }
    }

    #[test]
    fn what_holds_none_stays() {
        for text in [
            "",
            "http://host:80/x",
            "http://host/@me",
            "/users/@me",
            "ops@example.com",
            "a: b",
        ] {
            assert_eq!(value(text), text);
            assert_eq!(prose(text), text);
        }
    }

    #[test]
    fn of_a_secret_only_the_names_of_variables_are_shown() {
        for (text, shown) in [
            ("${TOKEN}", "${TOKEN}"),
            ("${file:/run/secrets/token}", "${file:/run/secrets/token}"),
            ("${TOKEN:-hunter2}", "${TOKEN:-[redacted]}"),
            ("${TOKEN:-}", "${TOKEN:-}"),
            ("${A:-${B:-hunter2}}", "${A:-${B:-[redacted]}}"),
            ("Bearer hunter2-${PART}", "[redacted]${PART}"),
            ("${PART}hunter2", "${PART}[redacted]"),
            ("${A}${B}", "${A}${B}"),
            ("hunter2${", "[redacted]"),
        ] {
            assert_eq!(written(text), shown);
        }
    }

    #[test]
    fn names_of_header_fields_tell_of_more_secrets_than_settings() {
        for name in [
            "x-auth",
            "x-shared-key",
            "X-Session-Id",
            "x-hub-signature",
            "x-jwt",
            "token",
            "api_key",
        ] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in ["key", "key_headers", "sessions", "authority", "x-plain", "retry_after"] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn a_sentence_is_read_by_words() {
        let told = "endpoint: `http://u:p@h` is not `a@b`, nor \"redis://u:p@h/1\" of x:y";
        let shown = "endpoint: `http://[redacted]@h` is not `a@b`, nor \"redis://[redacted]@h/1\" of x:y";
        assert_eq!(prose(told), shown);
    }
}
