//! Rates and percentiles from two samples of counters, as Prometheus makes them.

use std::time::Duration;

use crate::admin::stats::{RouteStats, Stats};

/// How a route did between two samples.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) direction: String,
    pub(super) route: String,
    pub(super) active: f64,
    /// Requests a second; `None` before there are two samples.
    pub(super) rate: Option<f64>,
    /// The share of 5xx; `None` without requests.
    pub(super) errors: Option<f64>,
    /// Percentiles in milliseconds; `None` without requests.
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
    /// Bytes of bodies a second, both ways.
    pub(super) bytes: Option<f64>,
}

/// Each route's, in the order of the sample. Without time between the samples there are no rates.
pub(super) fn rates(before: &Stats, now: &Stats, span: Duration) -> Vec<Rates> {
    let of = |route: &RouteStats| {
        let same = |old: &&RouteStats| old.direction == route.direction && old.route == route.route;
        let nothing = RouteStats::default();
        let old = before.routes.iter().find(same).unwrap_or(&nothing);
        between(old, route, &now.buckets, span)
    };
    now.routes.iter().map(of).collect()
}

fn between(old: &RouteStats, now: &RouteStats, bounds: &[f64], span: Duration) -> Rates {
    let a_second = |now: u64, old: u64| (!span.is_zero()).then(|| now.saturating_sub(old) as f64 / span.as_secs_f64());
    let requests = if span.is_zero() {
        0
    } else {
        now.requests.saturating_sub(old.requests)
    };
    let was = old.buckets.iter().copied().chain(std::iter::repeat(0));
    let counts: Vec<u64> = now
        .buckets
        .iter()
        .zip(was)
        .map(|(now, was)| now.saturating_sub(was))
        .collect();
    let percentile = |share| {
        let seconds = (requests > 0).then(|| quantile(share, bounds, &counts)).flatten();
        seconds.map(|seconds| seconds * 1000.0)
    };
    Rates {
        direction: now.direction.clone(),
        route: now.route.clone(),
        active: now.active,
        rate: a_second(now.requests, old.requests),
        errors: (requests > 0).then(|| now.server_errors.saturating_sub(old.server_errors) as f64 / requests as f64),
        p50: percentile(0.5),
        p95: percentile(0.95),
        p99: percentile(0.99),
        bytes: a_second(
            now.request_bytes + now.response_bytes,
            old.request_bytes + old.response_bytes,
        ),
    }
}

/// The value below which that share of the observations lies, interpolated within its bucket. Of what is beyond the last bound
/// nothing is known but that bound.
fn quantile(share: f64, bounds: &[f64], counts: &[u64]) -> Option<f64> {
    let all = *counts.last().filter(|all| **all > 0)?;
    let rank = share * all as f64;
    let at = counts.iter().position(|count| *count as f64 >= rank)?;
    let Some(&upper) = bounds.get(at) else {
        return bounds.last().copied();
    };
    let (lower, below) = match at.checked_sub(1) {
        Some(before) => (bounds[before], counts[before]),
        None => (0.0, 0),
    };
    let inside = counts[at].saturating_sub(below);
    if inside == 0 {
        return Some(upper);
    }
    Some(lower + (upper - lower) * (rank - below as f64) / inside as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(requests: u64, errors: u64, buckets: [u64; 3]) -> Stats {
        Stats {
            buckets: vec![0.1, 0.2],
            routes: vec![RouteStats {
                direction: "inbound".to_owned(),
                route: "/a".to_owned(),
                requests,
                server_errors: errors,
                buckets: buckets.to_vec(),
                response_bytes: requests * 10,
                ..RouteStats::default()
            }],
            ..Stats::default()
        }
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let (before, now) = (stats(100, 50, [100, 100, 100]), stats(120, 55, [110, 120, 120]));
        let [route] = &rates(&before, &now, Duration::from_secs(2))[..] else {
            panic!()
        };
        assert_eq!(
            (route.rate, route.errors, route.bytes),
            (Some(10.0), Some(0.25), Some(100.0))
        );
        let near = |value: Option<f64>, expected: f64| assert!((value.unwrap() - expected).abs() < 1e-9, "{value:?}");
        near(route.p50, 100.0);
        near(route.p95, 190.0);
        near(route.p99, 198.0);
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        let now = stats(120, 55, [110, 120, 120]);
        let idle = &rates(&now, &now, Duration::from_secs(1))[0];
        assert_eq!((idle.rate, idle.errors, idle.p95), (Some(0.0), None, None));
        let first = &rates(&Stats::default(), &now, Duration::ZERO)[0];
        assert_eq!(
            (first.rate, first.errors, first.p95, first.bytes),
            (None, None, None, None)
        );
    }

    #[test]
    fn beyond_the_last_bound_there_is_only_that_bound() {
        assert_eq!(quantile(0.5, &[0.1, 0.2], &[0, 0, 4]), Some(0.2));
        assert_eq!(quantile(0.5, &[], &[]), None);
        assert_eq!(quantile(0.5, &[0.1], &[0, 0]), None);
        // A sample that lies: fewer counts than bounds.
        assert_eq!(quantile(1.0, &[0.1, 0.2, 0.3], &[1]), Some(0.1));
    }
}
