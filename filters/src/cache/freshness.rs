//! How long a response stays fresh (RFC 9111, section 4.2), and what the operator says about that.
//!
//! The lifetime is the first that there is of:
//!
//! | source | where |
//! | --- | --- |
//! | `s-maxage` | in a shared cache |
//! | `max-age` | |
//! | `Expires` minus `Date` | unless a targeted field speaks |
//! | configured for the status | `negative` |
//! | configured | `ttl`, for statuses cacheable by default |
//! | a fraction of the time since `Last-Modified` | for statuses cacheable by default, and with `public` |
//!
//! With `override_response` what is configured comes first. A time that is there but invalid is zero: the response is
//! stale, and nothing further down is asked.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::control::ResponseControl;
use super::statuses::heuristically_cacheable;
use super::syntax::parse_date;

mod age;
pub(super) use age::initial_age;

/// What the operator says about storing and lifetimes.
#[derive(Debug, Default, Clone)]
pub(super) struct Policy {
    /// The cache answers more than one caller.
    pub(super) shared: bool,
    /// For responses that say nothing.
    pub(super) ttl: Option<Duration>,
    /// What is configured beats what the response says of its freshness and revalidation.
    pub(super) override_response: bool,
    /// For error statuses that say nothing.
    pub(super) negative: Vec<(StatusCode, Duration)>,
    pub(super) heuristic: Option<Heuristic>,
    /// For responses that were fresh once and do not say themselves.
    pub(super) stale_while_revalidate: Option<Duration>,
    /// For responses that do not say themselves.
    pub(super) stale_if_error: Option<Duration>,
    /// The key is bound to one caller, so what is meant for that caller alone may be stored.
    pub(super) identity: bool,
}

impl Policy {
    /// Whether one caller may be sent what was meant for another.
    pub(super) fn mixes_callers(&self) -> bool {
        self.shared && !self.identity
    }

    /// Whether a lifetime from this source was configured against the response's own word.
    pub(super) fn overrides(&self, source: Source) -> bool {
        self.override_response && matches!(source, Source::Configured | Source::Negative)
    }

    fn configured(&self, status: StatusCode) -> Option<(Duration, Source)> {
        let negative = self.negative.iter().find(|(of, _)| *of == status);
        let ttl = self.ttl.filter(|_| heuristically_cacheable(status));
        negative
            .map(|(_, lifetime)| (*lifetime, Source::Negative))
            .or(ttl.map(|ttl| (ttl, Source::Configured)))
    }
}

/// A guess from `Last-Modified` (RFC 9111, section 4.2.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Heuristic {
    /// Of the time between `Last-Modified` and `Date`.
    pub(super) fraction: f64,
    pub(super) max: Duration,
}

/// Where a lifetime comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    SharedMaxAge,
    MaxAge,
    Expires,
    Configured,
    Negative,
    Heuristic,
    /// There is none; the lifetime is zero.
    None,
}

/// How long a response stays fresh, counted from its generation, and by whose word.
pub(super) fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    control: &ResponseControl,
    policy: &Policy,
    received: SystemTime,
) -> (Duration, Source) {
    let own = || explicit(headers, control, policy, received);
    let configured = || policy.configured(status);
    let found = if policy.override_response {
        configured().or_else(own)
    } else {
        own().or_else(configured)
    };
    let guess = || {
        let allowed = control.public || heuristically_cacheable(status);
        let lifetime = guess(headers, policy.heuristic.filter(|_| allowed)?, received)?;
        Some((lifetime, Source::Heuristic))
    };
    found.or_else(guess).unwrap_or((Duration::ZERO, Source::None))
}

/// What the response itself says (RFC 9111, section 4.2.1).
fn explicit(
    headers: &HeaderMap,
    control: &ResponseControl,
    policy: &Policy,
    received: SystemTime,
) -> Option<(Duration, Source)> {
    if let Some(time) = control.s_maxage.filter(|_| policy.shared) {
        return Some((time, Source::SharedMaxAge));
    }
    if let Some(time) = control.max_age {
        return Some((time, Source::MaxAge));
    }
    if control.targeted {
        return None;
    }
    let mut lines = headers.get_all(header::EXPIRES).iter();
    let first = lines.next()?;
    // Of several it is unclear which is meant: stale.
    let expires = lines.next().is_none().then(|| parse_date(first.as_bytes())).flatten();
    let date = date(headers).unwrap_or(received);
    let time = expires.map_or(Duration::ZERO, |expires| since(date, expires));
    Some((time, Source::Expires))
}

fn guess(headers: &HeaderMap, heuristic: Heuristic, received: SystemTime) -> Option<Duration> {
    let modified = parse(headers, &header::LAST_MODIFIED)?;
    let unchanged = since(modified, date(headers).unwrap_or(received));
    let seconds = unchanged.as_secs_f64() * heuristic.fraction;
    // Too much to be a duration is also more than the most; below zero and not a number are nothing.
    let guess =
        Duration::try_from_secs_f64(seconds).unwrap_or(if seconds > 0.0 { Duration::MAX } else { Duration::ZERO });
    Some(guess.min(heuristic.max)).filter(|guess| !guess.is_zero())
}

/// `Date`; `None` where it is missing or invalid, for which the time of arrival stands in (RFC 9110, section 6.6.1).
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    parse(headers, &header::DATE)
}

fn parse(headers: &HeaderMap, field: &HeaderName) -> Option<SystemTime> {
    parse_date(headers.get(field)?.as_bytes())
}

/// The time from `earlier` to `later`; none if they are the other way round.
fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::head;

    const HOUR: Duration = Duration::from_secs(3600);
    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

    /// A round time: Sun, 09 Sep 2001 01:46:40 GMT.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
    }

    /// The date so many seconds after now.
    fn at(seconds: i64) -> String {
        let time = Duration::from_secs(1_000_000_000_u64.saturating_add_signed(seconds));
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + time)
    }

    fn shared() -> Policy {
        Policy {
            shared: true,
            ..Policy::default()
        }
    }

    fn found(status: u16, lines: &[(&'static str, &str)], policy: &Policy) -> (u64, Source) {
        let headers = head(lines);
        let control = ResponseControl::of(&headers, &[CDN]);
        let status = StatusCode::from_u16(status).unwrap();
        let (time, source) = lifetime(status, &headers, &control, policy, now());
        (time.as_secs(), source)
    }

    #[test]
    fn the_response_says_how_long() {
        let private = Policy::default();
        let (soon, past) = (at(3600), at(-10));
        for (lines, policy, expected) in [
            (&[][..], &shared(), (0, Source::None)),
            (&[("cache-control", "max-age=5")], &shared(), (5, Source::MaxAge)),
            (
                &[("cache-control", "max-age=5, s-maxage=7")],
                &shared(),
                (7, Source::SharedMaxAge),
            ),
            (
                &[("cache-control", "max-age=5, s-maxage=7")],
                &private,
                (5, Source::MaxAge),
            ),
            (&[("cache-control", "s-maxage=7")], &private, (0, Source::None)),
            (
                &[("cache-control", "s-maxage=x, max-age=5")],
                &shared(),
                (0, Source::SharedMaxAge),
            ),
            (
                &[("cache-control", "max-age=5"), ("expires", &past)],
                &shared(),
                (5, Source::MaxAge),
            ),
            (
                &[("cache-control", "max-age=5"), ("expires", "0")],
                &shared(),
                (5, Source::MaxAge),
            ),
            (
                &[("cache-control", "max-age=0"), ("expires", &soon)],
                &shared(),
                (0, Source::MaxAge),
            ),
            (
                &[("cache-control", "max-age=0, s-maxage=9"), ("expires", &past)],
                &shared(),
                (9, Source::SharedMaxAge),
            ),
            (
                &[("cdn-cache-control", "max-age=3"), ("cache-control", "max-age=5")],
                &shared(),
                (3, Source::MaxAge),
            ),
            (
                &[("cdn-cache-control", "foo"), ("expires", &soon)],
                &shared(),
                (0, Source::None),
            ),
            (
                &[("cdn-cache-control", "&"), ("expires", &soon)],
                &shared(),
                (3600, Source::Expires),
            ),
            (
                &[("expires", &soon), ("pragma", "no-cache")],
                &shared(),
                (3600, Source::Expires),
            ),
        ] {
            assert_eq!(found(200, lines, policy), expected, "{lines:?}");
        }
    }

    #[test]
    fn expires_counts_from_date_and_is_past_where_it_is_invalid() {
        let expires = |lines: &[(&'static str, &str)]| found(200, lines, &shared());
        let (date, past, soon, later) = (at(-10), at(-30), at(10), at(400));
        for (lines, expected) in [
            (&[("expires", soon.as_str()), ("date", &date)][..], 20),
            (&[("expires", &soon)], 10),
            (&[("expires", &soon), ("date", "foo")], 10),
            (&[("expires", &date), ("date", &date)], 0),
            (&[("expires", &past), ("date", &date)], 0),
            (&[("expires", &soon), ("date", &later)], 0),
            (&[("expires", "0"), ("date", &date)], 0),
            (&[("expires", ""), ("date", &date)], 0),
            (&[("expires", &soon), ("expires", &soon)], 0),
            (&[("expires", "Sunday, 09-Sep-01 01:46:45 GMT")], 5),
            (&[("expires", "Sun Sep  9 01:46:45 2001")], 5),
            (&[("expires", "SUN, 09 SEP 2001 01:46:45 gmt")], 5),
            (&[("expires", "Sun, 09 Sep 2001 01:46:45 UTC")], 0),
        ] {
            assert_eq!(expires(lines), (expected, Source::Expires), "{lines:?}");
        }
    }

    #[test]
    fn what_is_configured_fills_the_gaps_or_overrides() {
        let fills = Policy {
            ttl: Some(HOUR),
            negative: vec![
                (StatusCode::NOT_FOUND, HOUR / 60),
                (StatusCode::BAD_GATEWAY, HOUR / 3600),
            ],
            ..shared()
        };
        let overrides = Policy {
            override_response: true,
            ..fills.clone()
        };
        let says = &[("cache-control", "max-age=5")][..];
        for (status, lines, filled, overridden) in [
            (200, &[][..], (3600, Source::Configured), (3600, Source::Configured)),
            (200, says, (5, Source::MaxAge), (3600, Source::Configured)),
            (
                200,
                &[("expires", "0")],
                (0, Source::Expires),
                (3600, Source::Configured),
            ),
            (404, &[], (60, Source::Negative), (60, Source::Negative)),
            (404, says, (5, Source::MaxAge), (60, Source::Negative)),
            (502, &[], (1, Source::Negative), (1, Source::Negative)),
            (502, says, (5, Source::MaxAge), (1, Source::Negative)),
            // Not cacheable by default, so the configured lifetime is not for it.
            (302, &[], (0, Source::None), (0, Source::None)),
            (302, says, (5, Source::MaxAge), (5, Source::MaxAge)),
            (
                302,
                &[("cache-control", "public")],
                (0, Source::None),
                (0, Source::None),
            ),
        ] {
            assert_eq!(found(status, lines, &fills), filled, "{status} {lines:?}");
            assert_eq!(found(status, lines, &overrides), overridden, "{status} {lines:?}");
        }
        assert!(overrides.overrides(Source::Configured) && !overrides.overrides(Source::MaxAge));
        assert!(!fills.overrides(Source::Configured));
    }

    #[test]
    fn a_guess_is_made_where_it_is_allowed() {
        let day_ago = at(-86_400);
        let guess = |status, control, heuristic| {
            let lines = [("last-modified", day_ago.as_str()), ("cache-control", control)];
            found(status, &lines, &Policy { heuristic, ..shared() })
        };
        let tenth = Some(Heuristic {
            fraction: 0.1,
            max: HOUR * 24,
        });
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert_eq!(guess(status, "", tenth), (8640, Source::Heuristic), "{status}");
            assert_eq!(guess(status, "", None), (0, Source::None), "{status}");
        }
        for status in [201, 202, 302, 303, 307, 403, 500, 502, 503, 504, 599] {
            assert_eq!(guess(status, "", tenth), (0, Source::None), "{status}");
            assert_eq!(guess(status, "public", tenth), (8640, Source::Heuristic), "{status}");
        }
    }

    #[test]
    fn a_guess_has_its_bounds() {
        let (day_ago, tomorrow, noon) = (at(-86_400), at(86_400), at(-43_200));
        let guess = |fraction, lines: &[(&'static str, &str)]| {
            let heuristic = Some(Heuristic {
                fraction,
                max: HOUR * 3,
            });
            found(200, lines, &Policy { heuristic, ..shared() })
        };
        let unchanged = [("last-modified", day_ago.as_str())];
        assert_eq!(guess(0.1, &unchanged), (8640, Source::Heuristic));
        assert_eq!(guess(0.1, &[unchanged[0], ("date", &noon)]), (4320, Source::Heuristic));
        for fraction in [0.5, 1e300, f64::INFINITY] {
            assert_eq!(guess(fraction, &unchanged), (3 * 3600, Source::Heuristic), "{fraction}");
        }
        for fraction in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(guess(fraction, &unchanged), (0, Source::None), "{fraction}");
        }
        assert_eq!(guess(0.1, &[("last-modified", &tomorrow)]), (0, Source::None));
        assert_eq!(guess(0.1, &[("last-modified", "yesterday")]), (0, Source::None));
        // An explicit expiration leaves nothing to guess, also an invalid one.
        assert_eq!(guess(0.1, &[unchanged[0], ("expires", "0")]), (0, Source::Expires));
    }
}
