//! What to do with a stored response that a request matches (RFC 9111, section 4).
//!
//! | the response is | and | verdict |
//! | --- | --- | --- |
//! | marked `no-cache` | | revalidate |
//! | fresh | the request accepts its age and its time left | serve |
//! | stale | `must-revalidate` or the like | revalidate |
//! | stale | within `stale-while-revalidate` | serve, refresh behind |
//! | stale | within the request's `max-stale` | serve |
//! | stale | | revalidate |

use std::time::Duration;

use super::control::{Fields, RequestControl, ResponseControl};
use super::freshness::{Policy, Source};

/// What there is to know of a stored response to judge it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Stored {
    pub(super) lifetime: Duration,
    /// Never served without asking the origin.
    pub(super) no_cache: bool,
    /// Never served stale: `must-revalidate`, and in a shared cache `proxy-revalidate` and `s-maxage` (RFC 9111,
    /// sections 5.2.2.2, 5.2.2.8 and 5.2.2.10).
    pub(super) must_revalidate: bool,
    /// How long past its lifetime it is served while it is refreshed. `None` where it is never served stale.
    pub(super) stale_while_revalidate: Option<Duration>,
    /// How long past its lifetime it stands in for an error. `None` as above.
    pub(super) stale_if_error: Option<Duration>,
    pub(super) immutable: bool,
}

impl Stored {
    pub(super) fn of(control: &ResponseControl, lifetime: (Duration, Source), policy: &Policy) -> Self {
        let (lifetime, source) = lifetime;
        let overridden = policy.overrides(source);
        let shared = policy.shared && (control.proxy_revalidate || control.s_maxage.is_some());
        let no_cache = !overridden && control.no_cache == Fields::All;
        let must_revalidate = !overridden && (control.must_revalidate || shared);
        let may_be_stale = !no_cache && !must_revalidate;
        // A response without a lifetime was never granted to anyone; only its own word lets it be served unasked.
        let configured = policy.stale_while_revalidate.filter(|_| !lifetime.is_zero());
        Self {
            lifetime,
            no_cache,
            must_revalidate,
            stale_while_revalidate: control.stale_while_revalidate.or(configured).filter(|_| may_be_stale),
            stale_if_error: control
                .stale_if_error
                .or(policy.stale_if_error)
                .filter(|_| may_be_stale),
            immutable: control.immutable,
        }
    }
}

/// What to do with a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Serve it.
    Fresh,
    /// Serve it, and refresh it behind the answer (RFC 5861, section 3).
    StaleWhileRevalidate,
    /// Serve it: the request takes it although it is stale (`max-stale`).
    StaleAsked,
    /// Ask the origin first, for this reason.
    Revalidate(&'static str),
}

/// Judges a stored response of this age. Without `honour_request` the request's directives count for nothing.
/// `only-if-cached` is the caller's business: it changes what becomes of [`Verdict::Revalidate`].
pub(super) fn judge(stored: &Stored, age: Duration, request: &RequestControl, honour_request: bool) -> Verdict {
    let silent = RequestControl::default();
    let request = if honour_request { request } else { &silent };
    if stored.no_cache {
        return Verdict::Revalidate("no_cache");
    }
    if request.no_cache {
        return Verdict::Revalidate("request_no_cache");
    }
    let fresh = age < stored.lifetime;
    // `max-age=0` asks for validation, even of what arrived within the same second. What is immutable has not changed
    // while it is fresh; a reload that sends `max-age=0` does not ask for more, only `no-cache` does (RFC 8246, section
    // 2).
    let too_old = request.max_age.is_some_and(|max| max.is_zero() || age > max);
    if too_old && !(fresh && stored.immutable) {
        return Verdict::Revalidate("request_max_age");
    }
    if fresh {
        let ends_too_soon = |least: Duration| age.saturating_add(least) > stored.lifetime;
        return match request.min_fresh {
            Some(least) if ends_too_soon(least) => Verdict::Revalidate("request_min_fresh"),
            _ => Verdict::Fresh,
        };
    }
    let past = age.saturating_sub(stored.lifetime);
    let accepted = request.max_stale.is_some_and(|max| past <= max);
    // Who names a `max-age` takes nothing stale without `max-stale` (RFC 9111, section 5.2.1.1), nor does who wants it
    // fresh for some time yet.
    let wants_fresh = request.min_fresh.is_some() || (request.max_age.is_some() && !accepted);
    if stored.must_revalidate || wants_fresh {
        Verdict::Revalidate("stale")
    } else if stored.stale_while_revalidate.is_some_and(|window| past < window) {
        Verdict::StaleWhileRevalidate
    } else if accepted {
        Verdict::StaleAsked
    } else {
        Verdict::Revalidate("stale")
    }
}

/// Whether a stored response may stand in where the origin fails (RFC 5861, section 4; RFC 9111, section 4.2.4).
///
/// A response that is still fresh may. A request that says `no-cache` gets it only if it says `stale-if-error` too.
pub(super) fn usable_on_error(stored: &Stored, age: Duration, request: &RequestControl) -> bool {
    if stored.no_cache || stored.must_revalidate {
        return false;
    }
    let own = stored.stale_if_error.filter(|_| !request.no_cache);
    let windows = [
        own,
        request.stale_if_error,
        request.max_stale.filter(|_| !request.no_cache),
    ];
    let past = age.saturating_sub(stored.lifetime);
    (age < stored.lifetime && !request.no_cache) || windows.iter().flatten().any(|window| past <= *window)
}

/// Whether a stored response, however stale, may stand in where nothing else is to be had and the operator takes that for
/// better: not where the response or the request forbids it (RFC 9111, section 4.2.4).
pub(super) fn usable_for_want_of_better(stored: &Stored, request: &RequestControl) -> bool {
    !stored.no_cache && !stored.must_revalidate && !request.no_cache
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::head;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stored(directives: &str, policy: &Policy) -> Stored {
        let control = ResponseControl::of(&head(&[("cache-control", directives)]), &[]);
        let (time, source) = match (control.s_maxage, control.max_age) {
            (Some(time), _) if policy.shared => (time, Source::SharedMaxAge),
            (_, Some(time)) => (time, Source::MaxAge),
            _ => (Duration::ZERO, Source::None),
        };
        Stored::of(&control, (time, source), policy)
    }

    fn shared() -> Policy {
        Policy {
            shared: true,
            ..Policy::default()
        }
    }

    fn asked(directives: &str) -> RequestControl {
        RequestControl::of(&head(&[("cache-control", directives)]))
    }

    #[test]
    fn a_response_is_fresh_until_its_age_reaches_its_lifetime() {
        let stored = stored("max-age=10", &shared());
        let verdict = |age| judge(&stored, age, &RequestControl::default(), true);
        assert_eq!(verdict(Duration::ZERO), Verdict::Fresh);
        assert_eq!(verdict(Duration::from_nanos(9_999_999_999)), Verdict::Fresh);
        assert_eq!(verdict(secs(10)), Verdict::Revalidate("stale"));
        assert_eq!(verdict(Duration::MAX), Verdict::Revalidate("stale"));
    }

    #[test]
    fn the_request_can_ask_for_more_or_less() {
        use Verdict::{Fresh, Revalidate, StaleAsked, StaleWhileRevalidate};
        for (response, age, request, expected) in [
            ("max-age=10, no-cache", 0, "", Revalidate("no_cache")),
            ("max-age=10, no-cache=\"a\"", 0, "", Fresh),
            ("max-age=10", 0, "no-cache", Revalidate("request_no_cache")),
            ("max-age=10, immutable", 0, "no-cache", Revalidate("request_no_cache")),
            ("max-age=10", 0, "no-store", Fresh),
            ("max-age=10", 0, "max-age=0", Revalidate("request_max_age")),
            ("max-age=10", 5, "max-age=5", Fresh),
            ("max-age=10", 5, "max-age=4", Revalidate("request_max_age")),
            ("max-age=10", 5, "max-age=4, max-stale", Revalidate("request_max_age")),
            ("max-age=10, immutable", 5, "max-age=0", Fresh),
            ("max-age=10, immutable", 10, "max-age=0", Revalidate("request_max_age")),
            ("max-age=10, immutable", 10, "", Revalidate("stale")),
            ("max-age=10", 5, "min-fresh=5", Fresh),
            ("max-age=10", 5, "min-fresh=6", Revalidate("request_min_fresh")),
            (
                "max-age=10, immutable",
                5,
                "min-fresh=6",
                Revalidate("request_min_fresh"),
            ),
            ("max-age=10", 15, "max-stale=5", StaleAsked),
            ("max-age=10", 16, "max-stale=5", Revalidate("stale")),
            ("max-age=10", 99_999, "max-stale", StaleAsked),
            ("max-age=10", 15, "max-stale=5, max-age=20", StaleAsked),
            ("max-age=10", 15, "max-stale=5, min-fresh=0", Revalidate("stale")),
            ("max-age=10, must-revalidate", 5, "", Fresh),
            ("max-age=10, must-revalidate", 15, "max-stale=5", Revalidate("stale")),
            ("max-age=10, proxy-revalidate", 15, "max-stale=5", Revalidate("stale")),
            ("s-maxage=10", 15, "max-stale=5", Revalidate("stale")),
            ("max-age=10, stale-while-revalidate=5", 10, "", StaleWhileRevalidate),
            (
                "max-age=10, stale-while-revalidate=5",
                14,
                "max-stale",
                StaleWhileRevalidate,
            ),
            ("max-age=10, stale-while-revalidate=5", 15, "", Revalidate("stale")),
            ("max-age=10, stale-while-revalidate=5", 15, "max-stale", StaleAsked),
            (
                "max-age=10, stale-while-revalidate=5",
                12,
                "max-age=60",
                Revalidate("stale"),
            ),
            (
                "max-age=10, stale-while-revalidate=5",
                12,
                "min-fresh=1",
                Revalidate("stale"),
            ),
            ("max-age=0, stale-while-revalidate=5", 0, "", StaleWhileRevalidate),
            ("max-age=10, stale-while-revalidate=x", 10, "", Revalidate("stale")),
            (
                "max-age=10, stale-while-revalidate=5, must-revalidate",
                12,
                "",
                Revalidate("stale"),
            ),
            ("s-maxage=10, stale-while-revalidate=5", 12, "", Revalidate("stale")),
        ] {
            let verdict = judge(&stored(response, &shared()), secs(age), &asked(request), true);
            assert_eq!(verdict, expected, "{response} at {age} asked {request}");
        }
    }

    #[test]
    fn the_operator_may_not_listen_to_requests() {
        let stored = stored("max-age=10", &shared());
        for request in ["no-cache", "max-age=0", "min-fresh=100"] {
            assert_eq!(
                judge(&stored, secs(5), &asked(request), false),
                Verdict::Fresh,
                "{request}"
            );
        }
        let verdict = judge(&stored, secs(15), &asked("max-stale"), false);
        assert_eq!(verdict, Verdict::Revalidate("stale"));
    }

    #[test]
    fn only_a_shared_cache_obeys_what_is_for_shared_ones() {
        for directives in ["max-age=10, proxy-revalidate", "max-age=10, s-maxage=20"] {
            assert!(stored(directives, &shared()).must_revalidate, "{directives}");
            assert!(!stored(directives, &Policy::default()).must_revalidate, "{directives}");
        }
    }

    #[test]
    fn configured_windows_are_for_responses_that_do_not_say() {
        let policy = Policy {
            stale_while_revalidate: Some(secs(30)),
            stale_if_error: Some(secs(60)),
            ..shared()
        };
        let windows = |directives: &str| {
            let stored = stored(directives, &policy);
            let secs = |window: Option<Duration>| window.map(|window| window.as_secs());
            (secs(stored.stale_while_revalidate), secs(stored.stale_if_error))
        };
        assert_eq!(windows("max-age=1"), (Some(30), Some(60)));
        assert_eq!(
            windows("max-age=1, stale-while-revalidate=0, stale-if-error=5"),
            (Some(0), Some(5))
        );
        for never in ["no-cache", "must-revalidate", "proxy-revalidate", "s-maxage=1"] {
            assert_eq!(windows(&format!("max-age=1, {never}")), (None, None), "{never}");
        }
        // Never fresh, so nobody may have it unasked.
        assert_eq!(windows("max-age=0"), (None, Some(60)));
        assert_eq!(windows(""), (None, Some(60)));
    }

    #[test]
    fn an_override_beats_revalidation_only_where_it_applies() {
        let policy = Policy {
            override_response: true,
            ..shared()
        };
        let control = ResponseControl::of(
            &head(&[("cache-control", "no-cache, must-revalidate, s-maxage=1")]),
            &[],
        );
        let strict = |source| {
            let stored = Stored::of(&control, (secs(10), source), &policy);
            (stored.no_cache, stored.must_revalidate)
        };
        assert_eq!(strict(Source::Configured), (false, false));
        assert_eq!(strict(Source::SharedMaxAge), (true, true));
    }

    #[test]
    fn a_stale_response_stands_in_for_an_error_within_its_window() {
        for (response, age, request, expected) in [
            ("max-age=10", 5, "", true),
            ("max-age=10", 5, "max-age=0", true),
            ("max-age=10", 10, "", false),
            ("max-age=10, stale-if-error=5", 15, "", true),
            ("max-age=10, stale-if-error=5", 16, "", false),
            ("max-age=10", 15, "stale-if-error=5", true),
            ("max-age=10, stale-if-error=60", 15, "stale-if-error=1", true),
            ("max-age=10", 15, "max-stale=5", true),
            ("max-age=10", 16, "max-stale=5", false),
            // The client wants it validated, unless it says otherwise itself.
            ("max-age=10, stale-if-error=60", 5, "no-cache", false),
            ("max-age=10, stale-if-error=60", 15, "no-cache, max-stale", false),
            ("max-age=10", 15, "no-cache, stale-if-error=5", true),
            (
                "max-age=10, must-revalidate, stale-if-error=60",
                15,
                "stale-if-error=60",
                false,
            ),
            (
                "max-age=10, proxy-revalidate, stale-if-error=60",
                15,
                "stale-if-error=60",
                false,
            ),
            (
                "max-age=10, s-maxage=10, stale-if-error=60",
                15,
                "stale-if-error=60",
                false,
            ),
            ("max-age=10, no-cache, stale-if-error=60", 5, "stale-if-error=60", false),
        ] {
            let usable = usable_on_error(&stored(response, &shared()), secs(age), &asked(request));
            assert_eq!(usable, expected, "{response} at {age} asked {request}");
        }
    }

    #[test]
    fn for_want_of_better_anything_stands_in_that_is_not_forbidden() {
        for (response, request, expected) in [
            ("max-age=10", "", true),
            ("max-age=0", "", true),
            ("max-age=10, stale-if-error=0", "max-age=0", true),
            ("max-age=10", "no-cache", false),
            ("max-age=10, must-revalidate", "", false),
            ("max-age=10, proxy-revalidate", "", false),
            ("s-maxage=10", "", false),
            ("max-age=10, no-cache", "", false),
        ] {
            let usable = usable_for_want_of_better(&stored(response, &shared()), &asked(request));
            assert_eq!(usable, expected, "{response} asked {request}");
        }
    }
}
