//! How old a response is when it arrives (RFC 9111, section 4.2.3).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

use super::{date, since};
use crate::cache::syntax::{Quotes, delta_seconds, members};

/// The age of a response on arrival: the `corrected_initial_age`.
///
/// Both times are of the same wall clock, which may have been set back between them. What lies in the future counts as
/// now. The time since `Date` counts in whole seconds, as `Date` has no finer ones.
pub(in crate::cache) fn initial_age(headers: &HeaderMap, requested: SystemTime, received: SystemTime) -> Duration {
    let apparent = date(headers).map_or(0, |date| since(date, received).as_secs());
    let corrected = age(headers).saturating_add(since(requested, received));
    corrected.max(Duration::from_secs(apparent))
}

/// `Age`: of several the first, and nothing if that is invalid (RFC 9111, section 5.1).
fn age(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(header::AGE).iter();
    let mut members = lines.flat_map(|line| members(line.as_bytes(), Quotes::String));
    let first = members.next().and_then(|age| delta_seconds(age.iter().copied()));
    first.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::syntax::{LONGEST, head};

    /// Sun, 09 Sep 2001 01:46:40 GMT.
    const NOW: Duration = Duration::from_secs(1_000_000_000);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + NOW
    }

    /// The date so many seconds after now.
    fn at(seconds: i64) -> String {
        let time = Duration::from_secs(NOW.as_secs().saturating_add_signed(seconds));
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + time)
    }

    #[test]
    fn the_first_age_counts_if_it_is_valid() {
        for (ages, expected) in [
            (&[][..], 0),
            (&["7200"], 7200),
            (&["0"], 0),
            (&["abc"], 0),
            (&["-7200"], 0),
            (&["7200.0"], 0),
            (&["7200;foo=bar"], 0),
            (&["7200, 0"], 7200),
            (&["0, 7200"], 0),
            (&["7200", "0"], 7200),
            (&["0", "7200"], 0),
            (&["abc, 7200"], 0),
            (&[", 7200"], 7200),
            (&["2147483647"], 2_147_483_647),
            (&["2147483649"], LONGEST.as_secs()),
            (&["99999999999999999999999999"], LONGEST.as_secs()),
        ] {
            let lines: Vec<_> = ages.iter().map(|age| ("age", *age)).collect();
            let age = initial_age(&head(&lines), now(), now());
            assert_eq!(age.as_secs(), expected, "{ages:?}");
        }
    }

    #[test]
    fn the_initial_age_is_the_larger_of_two() {
        let age = |date: &str, age: &str, took: i64| {
            let headers = head(&[("date", date), ("age", age)]);
            let took_for = Duration::from_secs(took.unsigned_abs());
            let requested = if took < 0 { now() + took_for } else { now() - took_for };
            initial_age(&headers, requested, now() + Duration::from_millis(900)).as_secs_f64()
        };
        for (date, given, took, expected) in [
            // A fraction of a second that `Date` cannot express is no age.
            (at(0), "0", 1, 1.9),
            (at(0), "30", 2, 32.9),
            (at(-7200), "30", 2, 7200.0),
            (at(-20), "30", 0, 30.9),
            (at(7200), "30", 0, 30.9),
            ("foo".to_owned(), "30", 0, 30.9),
            // The clock was set back meanwhile.
            (at(0), "30", -100, 30.0),
        ] {
            assert!(
                (age(&date, given, took) - expected).abs() < 1e-6,
                "{date} {given} {took}"
            );
        }
        let extreme = initial_age(&head(&[("age", "9999999999")]), SystemTime::UNIX_EPOCH, now());
        assert_eq!(extreme, LONGEST + Duration::from_secs(1_000_000_000));
    }
}
