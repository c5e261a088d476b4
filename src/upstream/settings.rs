//! How a group chooses among its members and what it makes of what they do: the settings as the state machines read them.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::{self, BalanceAlgorithm};

/// How a group behaves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// How a member is chosen.
    pub(crate) algorithm: Algorithm,
    /// How fast what was heard of a member is forgotten: after this long, a latency counts for 37 % (1/e).
    pub(crate) decay: Duration,
    /// When a member is taken out for what it answers; `None` for never.
    pub(crate) outliers: Option<Outliers>,
    /// Over how long a newcomer's share grows to the whole; `None` for at once.
    pub(crate) slow_start: Option<Duration>,
    /// The share of members in service below which all are used, 0 for never.
    pub(crate) panic_threshold: f64,
    /// Whether members are asked how they are. A newcomer to a running group then waits for its first good answer.
    pub(crate) checked: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::LeastRequests,
            decay: Duration::from_secs(10),
            outliers: Some(Outliers::default()),
            slow_start: None,
            panic_threshold: 0.5,
            checked: false,
        }
    }
}

/// How a member is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Algorithm {
    /// One after the other, by weight.
    RoundRobin,
    /// The one of two at random with fewer calls for its weight.
    LeastRequests,
    /// By a hash of the request, so that the same key meets the same member.
    ConsistentHash {
        /// How much more than its fair share of calls a member may have before its keys go to the next; `None` for any.
        max_load: Option<f64>,
    },
    /// The one of two at random that is likely to answer sooner.
    Ewma,
}

impl Algorithm {
    /// The word used in configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequests => "least_requests",
            Self::ConsistentHash { .. } => "consistent_hash",
            Self::Ewma => "ewma",
        }
    }
}

/// When a member is taken out for what it answers, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outliers {
    /// After so many failures in a row.
    pub(crate) consecutive_failures: Option<u32>,
    /// After so many in a row of those where nothing came, or a 502, 503 or 504.
    pub(crate) consecutive_gateway_failures: Option<u32>,
    /// If its share of failures in an interval is higher than that of the others by more than this.
    pub(crate) failure_share: Option<Beyond>,
    /// If its mean latency in an interval is more than so many times that of the others.
    pub(crate) latency: Option<Beyond>,
    /// How often members are compared.
    pub(crate) interval: Duration,
    /// How long the first ejection lasts; the n-th in short order lasts n times as long.
    pub(crate) ejection: Duration,
    /// The longest that one lasts.
    pub(crate) max_ejection: Duration,
    /// The share of members that may be out at the same time.
    pub(crate) max_ejected: f64,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            consecutive_gateway_failures: None,
            failure_share: None,
            latency: None,
            interval: Duration::from_secs(10),
            ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejected: 0.5,
        }
    }
}

impl Outliers {
    /// Whether members are held against each other.
    pub(super) fn compares(&self) -> bool {
        self.failure_share.is_some() || self.latency.is_some()
    }
}

/// How far a member may be from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beyond {
    /// By how much, or how many times.
    pub(crate) limit: f64,
    /// How many calls it, and the others together, must have had in the interval.
    pub(crate) min_requests: u64,
}

impl From<&config::Upstream> for Settings {
    fn from(upstream: &config::Upstream) -> Self {
        let balance = &upstream.balance;
        Self {
            algorithm: match balance.algorithm {
                BalanceAlgorithm::RoundRobin => Algorithm::RoundRobin,
                BalanceAlgorithm::LeastRequests => Algorithm::LeastRequests,
                BalanceAlgorithm::ConsistentHash => Algorithm::ConsistentHash {
                    max_load: balance.max_load,
                },
                BalanceAlgorithm::Ewma => Algorithm::Ewma,
            },
            decay: balance.decay.0,
            outliers: upstream.outliers.enabled.then(|| (&upstream.outliers).into()),
            slow_start: upstream.slow_start.0.map(|window| window.0),
            panic_threshold: upstream.panic_threshold,
            checked: upstream.health.is_some(),
        }
    }
}

impl From<&config::Outliers> for Outliers {
    fn from(outliers: &config::Outliers) -> Self {
        let failure_share = outliers.failure_share.map(|rule| Beyond {
            limit: rule.above_others,
            min_requests: rule.min_requests.get().into(),
        });
        let latency = outliers.latency.map(|rule| Beyond {
            limit: rule.times_others,
            min_requests: rule.min_requests.get().into(),
        });
        Self {
            consecutive_failures: outliers.consecutive_failures.0.map(NonZeroU32::get),
            consecutive_gateway_failures: outliers.consecutive_gateway_failures.0.map(NonZeroU32::get),
            failure_share,
            latency,
            interval: outliers.interval.0,
            ejection: outliers.ejection.0,
            max_ejection: outliers.max_ejection.0,
            max_ejected: outliers.max_ejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_code() {
        assert_eq!(Settings::from(&config::Upstream::default()), Settings::default());
    }
}
