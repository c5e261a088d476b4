//! Settings, compiled and checked; and how many failed or slow calls are too many.

use std::time::Duration;

use super::config::{Config, Fallback};
use super::reason::Reason;
use super::window::Sum;
use crate::Remark;
use crate::conditions::Conditions;

/// The largest `min_calls`: more calls are not told apart in a bucket of the window.
const MOST_MIN_CALLS: u32 = 5_000;
/// The shortest window and interval. Less is a mistake in the unit.
const SHORTEST: Duration = Duration::from_millis(100);
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// What a route's breakers go by.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) counts: Conditions,
    pub(super) consecutive: Option<u32>,
    pub(super) ratio: Option<f64>,
    pub(super) min_calls: u32,
    pub(super) window: Duration,
    pub(super) slow_after: Option<Duration>,
    pub(super) slow_ratio: f64,
    pub(super) open: Interval,
    pub(super) probes: u32,
    pub(super) successes: u32,
}

/// How long a breaker is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) first: Duration,
    pub(super) growth: f64,
    pub(super) max: Duration,
    pub(super) jitter: f64,
}

impl Interval {
    /// The interval that was grown so many times, longer by the drawn part, from 0 to 1, of the jitter.
    pub(super) fn grown(&self, times: u32, draw: f64) -> Duration {
        let times = i32::try_from(times).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.growth.powi(times);
        let seconds = seconds.min(self.max.as_secs_f64());
        Duration::from_secs_f64(seconds * (1.0 + self.jitter * draw))
    }
}

impl Settings {
    pub(super) fn of(config: &Config) -> Result<Self, Vec<Remark>> {
        let wrong = mistakes(config);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            counts: Conditions::new(&config.counts),
            consecutive: config.failures.consecutive.0,
            ratio: config.failures.ratio.0.map(|share| share.0),
            min_calls: config.failures.min_calls,
            window: config.failures.window.0,
            slow_after: config.slow.after.0.map(|after| after.0),
            slow_ratio: config.slow.ratio.0,
            open: Interval {
                first: config.open.lasts.0,
                growth: config.open.growth,
                max: config.open.max.0,
                jitter: config.open.jitter.0,
            },
            probes: config.half_open.probes,
            successes: config.half_open.successes,
        })
    }

    /// Why it is time to open, if it is: after so many failures one after another, and with these calls in the window.
    pub(super) fn too_many(&self, failed_in_a_row: u32, sum: impl FnOnce() -> Sum) -> Option<Reason> {
        if self.consecutive.is_some_and(|most| failed_in_a_row >= most) {
            return Some(Reason::Consecutive {
                failed: failed_in_a_row,
            });
        }
        if self.ratio.is_none() && self.slow_after.is_none() {
            return None;
        }
        let sum = sum();
        if sum.calls == 0 || sum.calls < self.min_calls {
            return None;
        }
        let reaches = |part: u32, ratio: f64| part > 0 && f64::from(part) >= ratio * f64::from(sum.calls);
        if self.ratio.is_some_and(|ratio| reaches(sum.failed, ratio)) {
            return Some(Reason::Ratio {
                failed: sum.failed,
                calls: sum.calls,
                window: self.window,
            });
        }
        if self.slow_after.is_some() && reaches(sum.slow, self.slow_ratio) {
            return Some(Reason::Slow {
                slow: sum.slow,
                calls: sum.calls,
                window: self.window,
            });
        }
        None
    }
}

/// What is wrong with single settings, as far as their types do not tell.
fn mistakes(config: &Config) -> Vec<Remark> {
    let mut wrong = Vec::new();
    let failures = &config.failures;
    if failures.consecutive.0 == Some(0) {
        let remark = Remark::new("failures.consecutive", "0 failures would open it before any call");
        wrong.push(remark.with_help("`none` lifts the limit"));
    }
    for (key, share) in [
        ("failures.ratio", failures.ratio.0),
        ("slow.ratio", Some(config.slow.ratio)),
    ] {
        if share.is_some_and(|share| share.0 <= 0.0) {
            let remark = Remark::new(key, "a share of 0 is reached by the first call that fails or is slow");
            wrong.push(remark.with_help("such as 0.5, for half of all calls"));
        }
    }
    if !(1..=MOST_MIN_CALLS).contains(&failures.min_calls) {
        let message = format!("expected a whole number, from 1 to {MOST_MIN_CALLS}");
        wrong.push(Remark::new("failures.min_calls", message));
    }
    if failures.window.0 < SHORTEST_WINDOW {
        wrong.push(Remark::new("failures.window", "expected at least 1s"));
    }
    if config.slow.after.0.is_some_and(|after| after.0.is_zero()) {
        let remark = Remark::new("slow.after", "every call takes longer than 0s");
        wrong.push(remark.with_help("`none` to look at no call's duration"));
    }
    if config.open.lasts.0 < SHORTEST {
        wrong.push(Remark::new("open.for", "expected at least 100ms"));
    }
    if config.open.max < config.open.lasts {
        let remark = Remark::new("open.max", "is shorter than `for`");
        wrong.push(remark.with_help("raise `max`, which is 1m unless it is set, or lower `for`"));
    }
    if !(1.0..=100.0).contains(&config.open.growth) {
        let remark = Remark::new("open.growth", "expected a factor, from 1 to 100");
        wrong.push(remark.with_help("`1` if it is not to last longer each time"));
    }
    for (key, number) in [
        ("half_open.probes", config.half_open.probes),
        ("half_open.successes", config.half_open.successes),
    ] {
        if !(1..=1000).contains(&number) {
            wrong.push(Remark::new(key, "expected a whole number, from 1 to 1000"));
        }
    }
    if config.counts.is_empty() {
        let remark = Remark::new("counts", "no call would ever fail");
        wrong.push(remark.with_help("leave it out for what counts by default, or turn the filter off"));
    }
    if failures.consecutive.0.is_none() && failures.ratio.0.is_none() && config.slow.after.0.is_none() {
        let remark = Remark::new("failures", "nothing would ever open it: each limit is `none`");
        wrong.push(remark.with_help("set `consecutive`, `ratio` or `slow.after`, or turn the filter off"));
    }
    if let Some(Fallback::Upstream(name)) = &config.fallback
        && name.is_empty()
    {
        wrong.push(Remark::new("fallback.upstream", "expected the name of an upstream"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Settings {
        Settings::of(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn sum(calls: u32, failed: u32, slow: u32) -> Sum {
        Sum { calls, failed, slow }
    }

    #[test]
    fn each_limit_opens_when_it_is_reached_and_not_before() {
        let by_count = settings(r#"{"failures": {"consecutive": 3, "ratio": "none"}}"#);
        let by_ratio = settings(r#"{"failures": {"consecutive": "none", "ratio": 0.5, "min_calls": 10}}"#);
        let by_slow = settings(
            r#"{"failures": {"consecutive": "none", "ratio": "none", "min_calls": 10}, "slow": {"after": "1s", "ratio": 0.8}}"#,
        );
        for (settings, run, sum, opens) in [
            (&by_count, 2, sum(100, 100, 100), false),
            (&by_count, 3, sum(3, 3, 0), true),
            (&by_ratio, 100, sum(9, 9, 9), false),
            (&by_ratio, 1, sum(10, 4, 10), false),
            (&by_ratio, 1, sum(10, 5, 0), true),
            (&by_slow, 100, sum(10, 10, 7), false),
            (&by_slow, 0, sum(10, 0, 8), true),
            (&by_slow, 0, sum(9, 0, 9), false),
        ] {
            assert_eq!(settings.too_many(run, || sum).is_some(), opens, "{run} {sum:?}");
        }
    }

    #[test]
    fn an_interval_grows_up_to_its_most_and_jitter_only_adds() {
        let open = settings(r#"{"open": {"for": "5s", "growth": 2, "max": "60s", "jitter": 0.2}}"#).open;
        let seconds = |times, draw| open.grown(times, draw).as_secs_f64();
        let plain: Vec<f64> = (0..6).map(|times| seconds(times, 0.0)).collect();
        assert_eq!(plain, [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]);
        assert!((seconds(u32::MAX, 0.0) - 60.0).abs() < 1e-9);
        for times in 0..6 {
            for draw in [0.0, 0.3, 0.999] {
                let (least, lasts) = (seconds(times, 0.0), seconds(times, draw));
                assert!(lasts >= least && lasts < least * 1.2, "{times} {draw}: {lasts}");
            }
        }
        let steady = settings(r#"{"open": {"growth": 1, "jitter": 0}}"#).open;
        assert_eq!(steady.grown(9, 0.7), Duration::from_secs(5));
    }
}
