//! The fields that are not stored with a response.

use http::{HeaderMap, HeaderName, header};

use crate::cache::control::ResponseControl;
use crate::cache::freshness::Policy;
use crate::cache::syntax::{Quotes, members};

/// The fields, of those the response has, that are not stored with it (RFC 9111, section 3.1): those of the connection
/// and of proxies, and those that `no-cache` or `private` name.
pub(in crate::cache) fn fields_to_drop(
    control: &ResponseControl,
    policy: &Policy,
    headers: &HeaderMap,
) -> Vec<HeaderName> {
    // Whatever `Connection` names; these also if it does not (RFC 9110, section 7.6.1).
    const ALWAYS: [HeaderName; 10] = [
        header::CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        HeaderName::from_static("proxy-authentication-info"),
        header::PROXY_AUTHORIZATION,
        // What one sidecar explained to one caller.
        HeaderName::from_static("x-pillion-explain"),
    ];
    let options = headers.get_all(header::CONNECTION).into_iter();
    let options: Vec<_> = options
        .flat_map(|line| members(line.as_bytes(), Quotes::String))
        .collect();
    let dropped = |field: &HeaderName| {
        ALWAYS.contains(field)
            || options
                .iter()
                .any(|option| option.eq_ignore_ascii_case(field.as_str().as_bytes()))
            || control.no_cache.name(field)
            || (policy.mixes_callers() && (control.private.name(field) || *field == header::SET_COOKIE))
    };
    headers.keys().filter(|field| dropped(field)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::head;

    fn policy(shared: bool, identity: bool) -> Policy {
        Policy {
            shared,
            identity,
            ..Policy::default()
        }
    }

    #[test]
    fn fields_of_the_connection_and_those_named_are_dropped() {
        let lines = [
            ("connection", "A, close"),
            ("connection", "b"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d", "4"),
            ("e", "5"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("set-cookie", "a=b"),
            ("cache-control", "no-cache=\"c\", private=\"d, f\""),
            ("cdn-cache-control", "max-age=5"),
            ("trailer", "x"),
        ];
        let headers = head(&lines);
        let control = ResponseControl::of(&headers, &[]);
        let kept = |policy: &Policy| {
            let dropped = fields_to_drop(&control, policy, &headers);
            let kept = headers.keys().filter(|field| !dropped.contains(field));
            let mut kept: Vec<_> = kept.map(HeaderName::as_str).collect();
            kept.sort_unstable();
            kept
        };
        assert_eq!(
            kept(&policy(true, false)),
            ["cache-control", "cdn-cache-control", "e", "trailer"]
        );
        let own = ["cache-control", "cdn-cache-control", "d", "e", "set-cookie", "trailer"];
        assert_eq!(kept(&policy(true, true)), own);
        assert_eq!(kept(&policy(false, false)), own);
    }
}
