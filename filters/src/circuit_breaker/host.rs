//! Which host a request names.

use std::borrow::Cow;

use crate::Exchange;

/// No name of DNS is longer; with a port.
const LONGEST: usize = 253 + 6;

/// The host a request names, the same for all ways to write it: in lower case, without `http`'s own port. `None` for what is
/// no name.
pub(super) fn of(exchange: &Exchange) -> Option<Cow<'_, str>> {
    let host = exchange.authority.as_ref()?.to_str().ok()?;
    let host = host.strip_suffix(":80").unwrap_or(host);
    if host.is_empty() || host.len() > LONGEST {
        return None;
    }
    Some(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_host_has_one_name() {
        let mut exchange = testing::exchange("GET", "/");
        let long = "a".repeat(300);
        for (authority, host) in [
            ("users.example", Some("users.example")),
            ("Users.Example:80", Some("users.example")),
            ("users.example:8080", Some("users.example:8080")),
            ("[::1]:80", Some("[::1]")),
            ("", None),
            (long.as_str(), None),
        ] {
            exchange.authority = Some(http::HeaderValue::from_str(authority).unwrap());
            assert_eq!(of(&exchange).as_deref(), host, "{authority}");
        }
        exchange.authority = None;
        assert_eq!(of(&exchange), None);
    }
}
