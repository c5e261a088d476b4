//! Whether a response may be stored, and without which of its fields (RFC 9111, section 3).
//!
//! Checked in this order; the first that forbids gives the reason:
//!
//! | reason | refused is |
//! | --- | --- |
//! | `method` | what answers another method than GET |
//! | `request_no_store` | what answers a request with `no-store` |
//! | `partial` | a 206 |
//! | `not_modified` | a 304 |
//! | `content_range` | a 416, and a `Content-Range` on a status that may mean something by it |
//! | `status` | what is not final, or for one request only; what is not understood but must be, or is not allowed for |
//! | `no_store` | `no-store`, but for `must-understand` on a status that is understood |
//! | `private` | `private`, where callers mix |
//! | `authorization` | what answers `Authorization`, where callers mix, unless the response allows it |
//! | `set_cookie` | `Set-Cookie`, where callers mix, unless the response says what to do with it |
//! | `vary_any` | what no later request can match |
//! | `no_freshness` | what may not be stored without a lifetime, or is of no use |
//!
//! A configured override beats the response's lifetime and its demands to revalidate, nothing else.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};

use super::control::{Fields, ResponseControl};
use super::freshness::{Policy, Source};
use super::reuse::Stored;
use super::statuses::{heuristically_cacheable, never_stored, understood};
use super::vary::Vary;

mod fields;
pub(super) use fields::fields_to_drop;

/// What matters of the request.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) authorization: bool,
    pub(super) no_store: bool,
}

/// Whether a response may be stored; if not, why.
pub(super) fn may_store(
    asked: &Asked<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    control: &ResponseControl,
    lifetime: (Duration, Source),
    policy: &Policy,
) -> Result<(), &'static str> {
    let understood = understood(status);
    let refusals = [
        ("method", *asked.method != Method::GET),
        ("request_no_store", asked.no_store),
        ("partial", status == StatusCode::PARTIAL_CONTENT),
        ("not_modified", status == StatusCode::NOT_MODIFIED),
        (
            "content_range",
            status == StatusCode::RANGE_NOT_SATISFIABLE || (!understood && headers.contains_key(header::CONTENT_RANGE)),
        ),
        (
            "status",
            never_stored(status) || (control.must_understand && !understood),
        ),
        ("no_store", control.no_store && !(control.must_understand && understood)),
        ("private", policy.mixes_callers() && control.private == Fields::All),
        (
            "authorization",
            policy.mixes_callers() && asked.authorization && !allows_authorization(control, policy, lifetime.1),
        ),
        (
            "set_cookie",
            policy.mixes_callers() && headers.contains_key(header::SET_COOKIE) && !settles_cookies(control),
        ),
        ("vary_any", matches!(Vary::of(headers), Vary::Any)),
    ];
    if let Some((reason, _)) = refusals.iter().find(|(_, refused)| *refused) {
        return Err(reason);
    }
    if !permitted(status, headers, control, lifetime.1, policy) {
        return Err(if understood { "no_freshness" } else { "status" });
    }
    if useful(headers, control, lifetime, policy) {
        Ok(())
    } else {
        Err("no_freshness")
    }
}

/// RFC 9111, section 3.5. `must-revalidate` and `s-maxage` allow it at the price of being obeyed, so not where they are
/// overridden.
fn allows_authorization(control: &ResponseControl, policy: &Policy, source: Source) -> bool {
    let obeyed = !policy.overrides(source);
    control.public || (obeyed && (control.must_revalidate || control.s_maxage.is_some()))
}

/// The response says that its `Set-Cookie` is not to be stored, or that it is meant for all in spite of it.
fn settles_cookies(control: &ResponseControl) -> bool {
    let cookie = &header::SET_COOKIE;
    control.private.name(cookie) || control.no_cache.name(cookie) || control.public || control.s_maxage.is_some()
}

/// The last condition of RFC 9111, section 3: something says that it may be stored.
fn permitted(
    status: StatusCode,
    headers: &HeaderMap,
    control: &ResponseControl,
    source: Source,
    policy: &Policy,
) -> bool {
    control.public
        || (!policy.mixes_callers() && control.private != Fields::None)
        || control.max_age.is_some()
        || (policy.shared && control.s_maxage.is_some())
        || (!control.targeted && headers.contains_key(header::EXPIRES))
        || heuristically_cacheable(status)
        || matches!(source, Source::Configured | Source::Negative)
}

/// Whether there is anything to gain: the response can be served, now or stale, or at least revalidated. A configured
/// `stale-if-error` alone is no gain; it would keep all that an app ever said.
fn useful(headers: &HeaderMap, control: &ResponseControl, lifetime: (Duration, Source), policy: &Policy) -> bool {
    let stored = Stored::of(control, lifetime, policy);
    let fresh = !stored.lifetime.is_zero() && !stored.no_cache;
    let window = |window: Option<Duration>| window.is_some_and(|window| !window.is_zero());
    let error = stored.stale_if_error.filter(|_| control.stale_if_error.is_some());
    fresh
        || headers.contains_key(header::ETAG)
        || headers.contains_key(header::LAST_MODIFIED)
        || window(stored.stale_while_revalidate)
        || window(error)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderName;

    use super::*;
    use crate::cache::freshness::lifetime;
    use crate::cache::syntax::head;

    const GET: Asked<'_> = Asked {
        method: &Method::GET,
        authorization: false,
        no_store: false,
    };

    fn shared() -> Policy {
        Policy {
            shared: true,
            ..Policy::default()
        }
    }

    fn for_one() -> Policy {
        Policy {
            identity: true,
            ..shared()
        }
    }

    fn overriding() -> Policy {
        Policy {
            ttl: Some(Duration::from_secs(60)),
            override_response: true,
            ..shared()
        }
    }

    fn refused(
        asked: &Asked<'_>,
        status: u16,
        lines: &[(&'static str, &str)],
        policy: &Policy,
    ) -> Option<&'static str> {
        let headers = head(lines);
        let control = ResponseControl::of(&headers, &[HeaderName::from_static("cdn-cache-control")]);
        let status = StatusCode::from_u16(status).unwrap();
        let lifetime = lifetime(status, &headers, &control, policy, SystemTime::UNIX_EPOCH);
        may_store(asked, status, &headers, &control, lifetime, policy).err()
    }

    #[test]
    fn the_request_must_be_a_get_that_may_be_stored() {
        let fresh = [("cache-control", "max-age=5")];
        assert_eq!(refused(&GET, 200, &fresh, &shared()), None);
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let asked = Asked { method: &method, ..GET };
            assert_eq!(refused(&asked, 200, &fresh, &shared()), Some("method"), "{method}");
        }
        let asked = Asked { no_store: true, ..GET };
        assert_eq!(refused(&asked, 200, &fresh, &for_one()), Some("request_no_store"));
    }

    #[test]
    fn statuses_with_explicit_freshness() {
        let lines = [("cache-control", "max-age=5"), ("date", "x")];
        for status in [
            200, 201, 202, 203, 204, 226, 299, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 418, 422,
            451, 499, 500, 501, 502, 503, 504, 599,
        ] {
            assert_eq!(refused(&GET, status, &lines, &shared()), None, "{status}");
        }
        for (status, reason) in [
            (100, "status"),
            (103, "status"),
            (600, "status"),
            (999, "status"),
            (206, "partial"),
            (304, "not_modified"),
            (416, "content_range"),
            (401, "status"),
            (412, "status"),
            (429, "status"),
            (511, "status"),
        ] {
            assert_eq!(refused(&GET, status, &lines, &shared()), Some(reason), "{status}");
            assert_eq!(refused(&GET, status, &lines, &overriding()), Some(reason), "{status}");
        }
    }

    #[test]
    fn statuses_without_explicit_freshness() {
        let modified = [("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
        let public = [modified[0], ("cache-control", "public")];
        let expires = [("expires", "0"), ("etag", "\"a\"")];
        for (status, plain) in [
            (200, None),
            (203, None),
            (301, None),
            (404, None),
            (501, None),
            (201, Some("no_freshness")),
            (302, Some("no_freshness")),
            (403, Some("no_freshness")),
            (502, Some("no_freshness")),
            (299, Some("status")),
            (599, Some("status")),
        ] {
            assert_eq!(refused(&GET, status, &modified, &shared()), plain, "{status}");
            assert_eq!(refused(&GET, status, &public, &shared()), None, "{status}");
            assert_eq!(refused(&GET, status, &expires, &shared()), None, "{status}");
        }
        // What a targeted field does not say counts for nothing.
        let targeted = [expires[0], expires[1], ("cdn-cache-control", "foo")];
        assert_eq!(refused(&GET, 302, &targeted, &shared()), Some("no_freshness"));
        // The word of the operator counts as one.
        let negative = Policy {
            negative: vec![(StatusCode::BAD_GATEWAY, Duration::from_secs(1))],
            ..shared()
        };
        assert_eq!(refused(&GET, 502, &[], &negative), None);
        assert_eq!(refused(&GET, 502, &[], &overriding()), Some("no_freshness"));
    }

    #[test]
    fn a_content_range_means_something_only_on_some_statuses() {
        let lines = [("cache-control", "max-age=5"), ("content-range", "bytes 0-1/2")];
        for (status, expected) in [(200, None), (206, Some("partial")), (299, Some("content_range"))] {
            assert_eq!(refused(&GET, status, &lines, &shared()), expected, "{status}");
        }
    }

    #[test]
    fn what_the_response_forbids() {
        let all = [&shared(), &for_one(), &overriding(), &Policy::default()];
        // In a shared cache, with identity, overriding, and in a private cache.
        for (status, lines, expected) in [
            (200, &[("cache-control", "No-StOrE")][..], [Some("no_store"); 4]),
            (200, &[("cache-control", "max-age=5, no-store")], [Some("no_store"); 4]),
            (
                200,
                &[("cache-control", "max-age=5, no-store, must-understand")],
                [None; 4],
            ),
            (
                599,
                &[("cache-control", "max-age=5, no-store, must-understand")],
                [Some("status"); 4],
            ),
            (
                599,
                &[("cache-control", "max-age=5, must-understand")],
                [Some("status"); 4],
            ),
            (
                200,
                &[("cdn-cache-control", "max-age=5"), ("cache-control", "no-store")],
                [None; 4],
            ),
            (
                200,
                &[("cdn-cache-control", "no-store"), ("cache-control", "max-age=5")],
                [Some("no_store"); 4],
            ),
            (
                200,
                &[("cache-control", "max-age=5"), ("vary", "*")],
                [Some("vary_any"); 4],
            ),
            (
                200,
                &[("cache-control", "max-age=5, private")],
                [Some("private"), None, Some("private"), None],
            ),
            (
                200,
                &[("cache-control", "max-age=5, private, public")],
                [Some("private"), None, Some("private"), None],
            ),
            (200, &[("cache-control", "max-age=5, private=\"a\"")], [None; 4]),
            (
                302,
                &[("cache-control", "private"), ("etag", "x")],
                [Some("private"), None, Some("private"), None],
            ),
        ] {
            let found = all.map(|policy| refused(&GET, status, lines, policy));
            assert_eq!(found, expected, "{status} {lines:?}");
        }
    }

    #[test]
    fn an_answer_to_authorization_is_stored_only_if_it_says_so() {
        let asked = Asked {
            authorization: true,
            ..GET
        };
        let yes = Some("authorization");
        for (directives, when_shared, overridden) in [
            ("max-age=5", yes, yes),
            ("max-age=5, proxy-revalidate", yes, yes),
            ("max-age=5, public", None, None),
            // Allowed at a price that an override does not pay.
            ("max-age=5, must-revalidate", None, yes),
            ("max-age=5, s-maxage=5", None, yes),
        ] {
            let lines = [("cache-control", directives)];
            assert_eq!(refused(&asked, 200, &lines, &shared()), when_shared, "{directives}");
            assert_eq!(refused(&asked, 200, &lines, &overriding()), overridden, "{directives}");
            assert_eq!(refused(&asked, 200, &lines, &for_one()), None, "{directives}");
            assert_eq!(refused(&asked, 200, &lines, &Policy::default()), None, "{directives}");
        }
    }

    #[test]
    fn cookies_are_never_stored_where_callers_mix() {
        for (directives, expected) in [
            ("max-age=5", Some("set_cookie")),
            ("max-age=5, private=\"a\"", Some("set_cookie")),
            ("max-age=5, private=\"Set-Cookie\"", None),
            ("max-age=5, no-cache=\"Set-Cookie\"", None),
            ("max-age=5, public", None),
            ("s-maxage=5", None),
        ] {
            let lines = [("cache-control", directives), ("set-cookie", "a=b")];
            for policy in [&shared(), &overriding()] {
                assert_eq!(refused(&GET, 200, &lines, policy), expected, "{directives}");
                let control = ResponseControl::of(&head(&lines), &[]);
                assert_eq!(fields_to_drop(&control, policy, &head(&lines)), [header::SET_COOKIE]);
            }
            assert_eq!(refused(&GET, 200, &lines, &for_one()), None, "{directives}");
        }
    }

    #[test]
    fn what_is_of_no_use_is_not_stored() {
        let configured = Policy {
            stale_while_revalidate: Some(Duration::from_secs(60)),
            stale_if_error: Some(Duration::from_secs(60)),
            ..shared()
        };
        let no = Some("no_freshness");
        for (directives, without_validator) in [
            ("", no),
            ("max-age=0", no),
            ("max-age=5", None),
            ("max-age=5, no-cache", no),
            ("max-age=5, no-cache=\"a\"", None),
            ("max-age=5, must-revalidate", None),
            ("max-age=0, stale-while-revalidate=5", None),
            ("max-age=0, stale-if-error=5", None),
            ("max-age=0, stale-if-error=0", no),
            ("max-age=0, stale-if-error=5, must-revalidate", no),
        ] {
            let lines = [("cache-control", directives)];
            for policy in [&shared(), &configured] {
                assert_eq!(refused(&GET, 200, &lines, policy), without_validator, "{directives}");
                for validator in [("etag", "\"a\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")] {
                    assert_eq!(refused(&GET, 200, &[lines[0], validator], policy), None, "{directives}");
                }
            }
            assert_eq!(refused(&GET, 200, &lines, &overriding()), None, "{directives}");
        }
    }
}
