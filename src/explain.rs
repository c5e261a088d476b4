//! Explains exchanges: remembers some of them, and puts what happened into words when somebody asks.
//!
//! | kept | how many |
//! | --- | --- |
//! | what failed: a status from 500 on, a gRPC status that is an error of the server's, a response cut short, a client that stalled | all, in half of the memory |
//! | what took `explain.slow` or longer | all, in a quarter |
//! | a share of the rest | `explain.sample`, in a quarter |
//!
//! Each kind has a ring of its own, so that none pushes another out; the newest stay. An exchange that is not kept costs a few
//! comparisons and a random number: no lock, no look at the clock, no memory. One that is kept is written down as it is ([`Record`]):
//! times, shared names, ledger entries; words and JSON are made for who reads. Secrets are taken out before ([`redact`]).
//!
//! The same words go into the response header `X-Pillion-Explain`, for who may ask for it ([`header`]).

pub(crate) mod header;
pub(crate) mod json;
mod phases;
mod record;
mod recorder;
mod redact;
#[cfg(test)]
mod tests;
mod told;

use std::time::Duration;

use http::HeaderName;
use pillion_filters::{End, Exchange, Outcome};

pub(crate) use self::record::{Record, Story};
pub use self::recorder::Recorder;
use crate::config::{self, Cidr};
use crate::engine::CLIENT_STALLED;

/// Why an exchange is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It failed.
    Error,
    /// It took long.
    Slow,
    /// By chance.
    Sample,
}

impl Why {
    /// The word for it in the admin API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Slow => "slow",
            Self::Sample => "sample",
        }
    }
}

/// What is remembered, compiled.
#[derive(Debug)]
pub(crate) struct Explain {
    enabled: bool,
    slow: Duration,
    /// Of 2^32.
    sample: u64,
    /// Bytes.
    pub(crate) memory: usize,
    /// Who may ask for the response header.
    pub(crate) allow: Vec<Cidr>,
    show_query: Vec<String>,
    show_headers: Vec<HeaderName>,
}

impl From<&config::Explain> for Explain {
    fn from(config: &config::Explain) -> Self {
        let most = u64::from(u32::MAX) + 1;
        let headers = config.show_headers.iter();
        Self {
            enabled: config.enabled,
            slow: config.slow.0,
            sample: (config.sample.0 * most as f64) as u64,
            memory: if config.enabled {
                usize::try_from(config.memory.0).unwrap_or(usize::MAX)
            } else {
                0
            },
            allow: config.header.allow.clone(),
            show_query: config.show_query.clone(),
            show_headers: headers.filter_map(|name| name.parse().ok()).collect(),
        }
    }
}

impl Explain {
    /// Whether an exchange is remembered, and why. `streams` says that its response lasts as long as the app has something to say.
    pub(crate) fn keeps(&self, exchange: &Exchange, outcome: &Outcome, streams: bool) -> Option<Why> {
        if !self.enabled {
            return None;
        }
        if outcome.is_server_error() {
            return Some(Why::Error);
        }
        if outcome.end == End::ClientAborted && exchange.ledger.has("engine", CLIENT_STALLED) {
            return Some(Why::Error);
        }
        if outcome.duration >= self.slow && !streams && !outcome.is_tunnel(&exchange.request.method) {
            return Some(Why::Slow);
        }
        (self.sample > 0 && u64::from(fastrand::u32(..)) < self.sample).then_some(Why::Sample)
    }

    /// After how long an exchange is slow.
    pub(crate) fn slow(&self) -> Duration {
        self.slow
    }
}
