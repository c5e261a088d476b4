//! Why a breaker went from one state to another, in a word for metrics and in numbers for people.

use std::fmt;
use std::time::Duration;

use crate::units::HumanDuration;

/// Why it went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Consecutive { failed: u32 },
    Ratio { failed: u32, calls: u32, window: Duration },
    Slow { slow: u32, calls: u32, window: Duration },
    Waited { lasted: Duration },
    ProbeFailed,
    ProbesSucceeded { probes: u32 },
    Forced,
}

impl Reason {
    /// Their words in metrics.
    pub(super) const NAMES: [&str; 7] = [
        "consecutive_failures",
        "failure_ratio",
        "slow_ratio",
        "interval_over",
        "probe_failed",
        "probes_succeeded",
        "forced",
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive { .. } => "consecutive_failures",
            Self::Ratio { .. } => "failure_ratio",
            Self::Slow { .. } => "slow_ratio",
            Self::Waited { .. } => "interval_over",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesSucceeded { .. } => "probes_succeeded",
            Self::Forced => "forced",
        }
    }
}

/// In the ledger, by number.
const TOLD: [&str; 7] = [
    "{} calls failed one after another",
    "{} of {} calls failed",
    "{} of {} calls were slow",
    "its interval is over",
    "a probe failed",
    "its probes went well",
    "forced by the admin API",
];

impl Reason {
    /// What atomics can hold: a number for [`told`](Self::told), and the numbers in it.
    pub(super) fn published(self) -> (u8, [u32; 2]) {
        match self {
            Self::Consecutive { failed } => (0, [failed, 0]),
            Self::Ratio { failed, calls, .. } => (1, [failed, calls]),
            Self::Slow { slow, calls, .. } => (2, [slow, calls]),
            Self::Waited { .. } => (3, [0, 0]),
            Self::ProbeFailed => (4, [0, 0]),
            Self::ProbesSucceeded { .. } => (5, [0, 0]),
            Self::Forced => (6, [0, 0]),
        }
    }

    /// The words of a reason, with `{}` for its numbers.
    pub(super) fn told(number: u8) -> &'static str {
        TOLD.get(usize::from(number)).copied().unwrap_or(TOLD[0])
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a duration that jitter made, nobody wants to know the nanoseconds.
        let human = |duration: &Duration| HumanDuration(Duration::from_millis(duration.as_millis() as u64));
        match self {
            Self::Consecutive { failed } => write!(f, "{failed} calls failed one after another"),
            Self::Ratio { failed, calls, window } => {
                write!(f, "{failed} of {calls} calls failed in {}", human(window))
            }
            Self::Slow { slow, calls, window } => {
                write!(f, "{slow} of {calls} calls were slow in {}", human(window))
            }
            Self::Waited { lasted } => write!(f, "was open for {}", human(lasted)),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbesSucceeded { probes } => write!(f, "{probes} probes went well"),
            Self::Forced => f.write_str("forced by the admin API"),
        }
    }
}
