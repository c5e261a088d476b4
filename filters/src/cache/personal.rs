//! Whether a route looks as if its responses were one caller's, while its settings give them to all.
//!
//! Warned of is what makes the cache keep responses that do not say themselves that they may be kept: `ttl`, `class`, and
//! most of all `override`. An app that tells its callers apart by a cookie, and says nothing of caching, would have the page of
//! the one sent to the other. Nothing is warned of where `key.identity` tells callers apart, and where `shared: true` says that
//! somebody has thought of it; only a `class` of personal data that is `shared` is a contradiction even so.

use http::{HeaderName, Method, header};

use super::config::{Class, Config, Method as Stored};
use crate::{Matches, Remark};

/// Words in a path that speak of one caller's data.
const WORDS: [&str; 28] = [
    "account", "accounts", "auth", "basket", "cart", "carts", "checkout", "inbox", "login", "logout", "me", "my",
    "oauth", "order", "orders", "password", "profile", "profiles", "session", "sessions", "settings", "signin",
    "signup", "token", "tokens", "user", "users", "wallet",
];

/// Those that mean something else as part of a longer name: `about-me`, `my-town`.
const ALONE: [&str; 2] = ["me", "my"];

/// Headers that say who asks.
const CREDENTIALS: [HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];

/// What to warn of, if there is anything.
pub(super) fn warning(config: &Config, matches: &Matches) -> Option<Remark> {
    let personal_class = config.class.is_some_and(Class::is_personal);
    let by_caller = !config.key.identity.is_empty() || !config.shared.unwrap_or(!personal_class);
    let (key, kept) = if config.overrides {
        ("override", "whatever they say of their lifetime")
    } else if config.ttl.is_some() {
        ("ttl", "that say nothing of their lifetime")
    } else if config.class.is_some() {
        ("class", "that say nothing of their lifetime")
    } else {
        return None;
    };
    if by_caller || !stores(config, matches) {
        return None;
    }
    let (why, way_out) = if personal_class {
        ("by `class`".to_owned(), "take `shared: true` away")
    } else if config.shared.is_none() {
        let way_out = "say `shared: true` if they are the same for everybody";
        (looks_personal(matches)?, way_out)
    } else {
        return None;
    };
    let message = format!(
        "one caller may get another's response: this looks personal ({why}), `key.identity` is empty, and responses are \
         kept {kept}"
    );
    let help =
        format!("name what tells callers apart, such as `identity: [Authorization]` or `[Cookie]`; or {way_out}");
    Some(Remark::new(key, message).with_help(help))
}

/// Whether any response of the route may be stored at all.
fn stores(config: &Config, matches: &Matches) -> bool {
    let stored = |method: &Method| match *method {
        Method::GET | Method::HEAD => config.methods.contains(&Stored::Get),
        Method::POST => config.methods.contains(&Stored::Post),
        _ => false,
    };
    matches.methods.is_empty() || matches.methods.iter().any(stored)
}

/// What makes a route look personal.
fn looks_personal(matches: &Matches) -> Option<String> {
    if let Some(header) = CREDENTIALS.iter().find(|&name| matches.headers.contains(name)) {
        let name = if *header == header::COOKIE {
            "Cookie"
        } else {
            "Authorization"
        };
        return Some(format!("requests with `{name}`"));
    }
    let path = matches.path.as_deref()?.to_ascii_lowercase();
    let word = path.split('/').find_map(word_in)?;
    Some(format!("`{word}` in the path"))
}

/// The word in a segment, or in the name of the parameter it is.
fn word_in(segment: &str) -> Option<&'static str> {
    let known = |text: &str| WORDS.iter().find(|&word| *word == text).copied();
    let segment = segment.trim_matches(['{', '}']);
    let mut parts = segment.split(|c: char| !c.is_ascii_alphanumeric());
    known(segment).or_else(|| parts.find_map(|part| known(part).filter(|word| !ALONE.contains(word))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(config: &str, matches: &Matches) -> Option<&'static str> {
        warning(&serde_json::from_str(config).unwrap(), matches).map(|remark| remark.key)
    }

    fn at(path: &str) -> Matches {
        Matches {
            path: Some(path.to_owned()),
            ..Matches::default()
        }
    }

    #[test]
    fn paths_that_look_personal() {
        for path in [
            "/me",
            "/api/users/{id}",
            "/Account",
            "/user-settings/*",
            "/shopping_cart",
            "/shops/{shop}/orders",
            "/v1/{user_id}/posts",
            "/auth/token",
        ] {
            assert!(looks_personal(&at(path)).is_some(), "{path}");
        }
        for path in [
            "/",
            "/*",
            "/products/{id}",
            "/about-me",
            "/media",
            "/ordering",
            "/my-town",
            "/authors",
            "/userland",
        ] {
            assert_eq!(looks_personal(&at(path)), None, "{path}");
        }
        assert_eq!(looks_personal(&Matches::default()), None);
    }

    #[test]
    fn a_route_for_credentials_is_personal() {
        let matches = Matches {
            headers: vec![header::ACCEPT, header::COOKIE],
            ..at("/products")
        };
        let why = looks_personal(&matches);
        assert_eq!(why.as_deref(), Some("requests with `Cookie`"));
    }

    #[test]
    fn what_is_warned_of_and_what_is_not() {
        for (config, expected) in [
            (r"{}", None),
            (r#"{"ttl": "5m", "override": true}"#, Some("override")),
            (r#"{"ttl": "5m"}"#, Some("ttl")),
            (r#"{"class": "api"}"#, Some("class")),
            (r#"{"class": "user_profile"}"#, None),
            (r#"{"class": "user_profile", "override": true}"#, None),
            (
                r#"{"class": "user_profile", "override": true, "shared": true}"#,
                Some("override"),
            ),
            (r#"{"ttl": "5m", "override": true, "shared": true}"#, None),
            (
                r#"{"ttl": "5m", "override": true, "key": {"identity": ["authorization"]}}"#,
                None,
            ),
            (r#"{"ttl": "5m", "methods": ["POST"]}"#, Some("ttl")),
        ] {
            assert_eq!(warned(config, &at("/me")), expected, "{config}");
        }
        assert_eq!(warned(r#"{"ttl": "5m", "override": true}"#, &at("/products")), None);
    }

    #[test]
    fn a_route_whose_responses_are_not_stored_is_no_danger() {
        let with = |methods: &[Method]| Matches {
            methods: methods.to_vec(),
            ..at("/login")
        };
        let config = r#"{"ttl": "5m"}"#;
        assert_eq!(warned(config, &with(&[Method::POST, Method::DELETE])), None);
        assert_eq!(warned(config, &with(&[Method::POST, Method::GET])), Some("ttl"));
    }
}
