//! Whether there is another try, and when: decisions on plain values.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName};

/// What is known of a try that failed in a way that is tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    /// How many tries there were, this one included.
    pub(super) tries: u32,
    /// The request may reach an upstream twice, or has reached none.
    pub(super) repeatable: bool,
    /// All that was sent can be sent again.
    pub(super) whole: bool,
    /// What the upstream says of when to come again.
    pub(super) said: Said,
    /// How much time the exchange has left.
    pub(super) left: Option<Duration>,
}

/// What an upstream says of when to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    After(Duration),
    Never,
}

/// The settings that decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) attempts: u32,
    pub(super) base: Duration,
    pub(super) max: Duration,
}

/// How long to wait before another try, or why there is none. `jitter` is from 0 to 1.
pub(super) fn decide(limits: Limits, failed: Failed, jitter: f64) -> Result<Duration, &'static str> {
    if failed.tries >= limits.attempts {
        return Err("attempts_exhausted");
    }
    if !failed.repeatable {
        return Err("not_repeatable");
    }
    if !failed.whole {
        return Err("body_too_large");
    }
    let asked = match failed.said {
        Said::Never => return Err("not_wanted_by_upstream"),
        Said::After(asked) if asked > limits.max => return Err("retry_after_too_long"),
        Said::After(asked) => asked,
        Said::Nothing => Duration::ZERO,
    };
    let doubled = 1u32.checked_shl(failed.tries.saturating_sub(1)).unwrap_or(u32::MAX);
    let longest = limits.base.saturating_mul(doubled).min(limits.max);
    // Full jitter: anywhere from nothing on. What the upstream asks for is the least.
    let wait = asked + longest.mul_f64(jitter);
    if failed.left.is_some_and(|left| wait >= left) {
        return Err("no_time_left");
    }
    Ok(wait)
}

/// Reads `Retry-After` (RFC 9110, section 10.2.3) and gRPC's `grpc-retry-pushback-ms`.
pub(super) fn said(headers: &HeaderMap, now: SystemTime) -> Said {
    const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
    if let Some(pushback) = headers.get(PUSHBACK) {
        // A negative one, or one that is no number, is a no (gRFC A6).
        let millis = pushback.to_str().ok().and_then(|text| text.parse().ok());
        return millis.map_or(Said::Never, |millis| Said::After(Duration::from_millis(millis)));
    }
    let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return Said::Nothing;
    };
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Said::After(Duration::from_secs(seconds));
    }
    match httpdate::parse_http_date(text) {
        Ok(date) => Said::After(date.duration_since(now).unwrap_or_default()),
        Err(_) => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        attempts: 4,
        base: Duration::from_millis(100),
        max: Duration::from_millis(300),
    };
    const FAILED: Failed = Failed {
        tries: 1,
        repeatable: true,
        whole: true,
        said: Said::Nothing,
        left: None,
    };
    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_wait_doubles_up_to_its_end_and_starts_at_nothing() {
        for (tries, longest) in [(1, ms(100)), (2, ms(200)), (3, ms(300))] {
            let failed = Failed { tries, ..FAILED };
            assert_eq!(decide(LIMITS, failed, 1.0), Ok(longest));
            assert_eq!(decide(LIMITS, failed, 0.0), Ok(Duration::ZERO));
        }
        let many = Limits {
            attempts: 100,
            ..LIMITS
        };
        assert_eq!(decide(many, Failed { tries: 90, ..FAILED }, 1.0), Ok(ms(300)));
    }

    #[test]
    fn each_reason_not_to_try_again_has_its_name() {
        for (failed, reason) in [
            (Failed { tries: 4, ..FAILED }, "attempts_exhausted"),
            (
                Failed {
                    repeatable: false,
                    ..FAILED
                },
                "not_repeatable",
            ),
            (Failed { whole: false, ..FAILED }, "body_too_large"),
            (
                Failed {
                    said: Said::After(ms(301)),
                    ..FAILED
                },
                "retry_after_too_long",
            ),
            (
                Failed {
                    said: Said::Never,
                    ..FAILED
                },
                "not_wanted_by_upstream",
            ),
            (
                Failed {
                    left: Some(ms(100)),
                    ..FAILED
                },
                "no_time_left",
            ),
        ] {
            assert_eq!(decide(LIMITS, failed, 1.0), Err(reason));
        }
    }

    #[test]
    fn the_upstream_says_when_to_come_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            said(&headers, now)
        };
        assert_eq!(said(&HeaderMap::new(), now), Said::Nothing);
        assert_eq!(read("retry-after", "2"), Said::After(ms(2000)));
        assert_eq!(
            read("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT"),
            Said::After(ms(3000))
        );
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT"), Said::After(ms(0)));
        assert_eq!(read("retry-after", "soon"), Said::Nothing);
        assert_eq!(read("grpc-retry-pushback-ms", "250"), Said::After(ms(250)));
        assert_eq!(read("grpc-retry-pushback-ms", "-1"), Said::Never);
        let failed = Failed {
            said: Said::After(ms(200)),
            ..FAILED
        };
        assert_eq!(decide(LIMITS, failed, 1.0), Ok(ms(300)));
    }
}
