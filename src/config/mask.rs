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

/// Whether what stands under a key is likely a secret: `x-api-key`, `token`, `cookie`. A list of names, as `cookies` is, is none.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.ends_with("cookie") || SECRETS.iter().any(|part| key.contains(part))
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
    fn a_sentence_is_read_by_words() {
        let told = "endpoint: `http://u:p@h` is not `a@b`, nor \"redis://u:p@h/1\" of x:y";
        let shown = "endpoint: `http://[redacted]@h` is not `a@b`, nor \"redis://[redacted]@h/1\" of x:y";
        assert_eq!(prose(told), shown);
    }
}
