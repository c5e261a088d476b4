//! Who stands out among members that did the same work at the same time. Each is held against the others taken together, without
//! itself: in a small group one bad member would otherwise pull the mean towards it, and hide.

use super::member::Totals;
use super::settings::{Beyond, Outliers};

/// Those that stand out, with the reason; the worst first.
pub(super) fn outliers(heard: &[Totals], rules: &Outliers) -> Vec<(usize, &'static str)> {
    let all = heard.iter().fold(Totals::default(), |sum, one| Totals {
        successes: sum.successes + one.successes,
        failures: sum.failures + one.failures,
        busy: sum.busy + one.busy,
    });
    let mut found: Vec<(f64, usize, &'static str)> = Vec::new();
    for (index, own) in heard.iter().enumerate() {
        let others = Totals {
            successes: all.successes - own.successes,
            failures: all.failures - own.failures,
            busy: all.busy.saturating_sub(own.busy),
        };
        let beyond = |rule: Option<Beyond>, of: fn(&Totals, &Totals) -> Option<f64>, calls: fn(&Totals) -> u64| {
            let rule = rule.filter(|rule| calls(own).min(calls(&others)) >= rule.min_requests.max(1))?;
            let excess = of(own, &others)? / rule.limit;
            (excess > 1.0).then_some(excess)
        };
        let by_failures = beyond(rules.failure_share, more_failures, calls);
        let by_latency = beyond(rules.latency, times_slower, |totals| totals.successes);
        found.extend(by_failures.map(|excess| (excess, index, "failure_share")));
        if by_failures.is_none() {
            found.extend(by_latency.map(|excess| (excess, index, "latency")));
        }
    }
    found.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
    found.into_iter().map(|(_, index, why)| (index, why)).collect()
}

fn calls(totals: &Totals) -> u64 {
    totals.successes + totals.failures
}

fn more_failures(own: &Totals, others: &Totals) -> Option<f64> {
    let share = |totals: &Totals| totals.failures as f64 / calls(totals) as f64;
    Some(share(own) - share(others))
}

fn times_slower(own: &Totals, others: &Totals) -> Option<f64> {
    let mean = |totals: &Totals| totals.busy.as_secs_f64() / totals.successes as f64;
    (mean(others) > 0.0).then(|| mean(own) / mean(others))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rules() -> Outliers {
        Outliers {
            failure_share: Some(Beyond {
                limit: 0.2,
                min_requests: 50,
            }),
            latency: Some(Beyond {
                limit: 5.0,
                min_requests: 50,
            }),
            ..Outliers::default()
        }
    }

    fn heard(successes: u64, failures: u64, millis: u64) -> Totals {
        Totals {
            successes,
            failures,
            busy: Duration::from_millis(millis * successes),
        }
    }

    #[test]
    fn one_of_three_that_fails_stands_out() {
        // Among three, a bad one is never more than 1.16 standard deviations from the mean of all: by that it would hide.
        let found = outliers(&[heard(100, 0, 10), heard(50, 50, 10), heard(99, 1, 10)], &rules());
        assert_eq!(found, [(1, "failure_share")]);
    }

    #[test]
    fn the_worst_comes_first() {
        let found = outliers(
            &[
                heard(50, 50, 10),
                heard(100, 0, 10),
                heard(0, 100, 10),
                heard(500, 0, 10),
            ],
            &rules(),
        );
        assert_eq!(found, [(2, "failure_share"), (0, "failure_share")]);
    }

    #[test]
    fn a_slow_member_stands_out() {
        let found = outliers(&[heard(100, 0, 10), heard(100, 0, 100), heard(100, 0, 12)], &rules());
        assert_eq!(found, [(1, "latency")]);
    }

    #[test]
    fn too_few_calls_tell_nothing() {
        assert!(outliers(&[heard(100, 0, 10), heard(0, 49, 10)], &rules()).is_empty());
        assert!(outliers(&[heard(0, 100, 10), heard(20, 0, 10)], &rules()).is_empty());
        assert!(outliers(&[heard(0, 100, 10)], &rules()).is_empty());
        assert!(outliers(&[], &rules()).is_empty());
    }

    #[test]
    fn where_all_are_bad_nobody_stands_out() {
        assert!(outliers(&[heard(10, 90, 10), heard(15, 85, 10), heard(12, 88, 11)], &rules()).is_empty());
    }
}
