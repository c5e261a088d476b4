//! The states of a breaker, and what leads from one to another: plain values, with the time handed in.
//!
//! ```text
//!            too many calls failed or were slow
//!   closed -------------------------------------> open
//!     ^  \                                       ^  |
//!     |   \                       a probe failed |  | the interval is over, and somebody asks
//!     |    \                                     |  v
//!     +----------------------------------------- half-open
//!            enough probes went well
//! ```
//!
//! A call belongs to the state it was begun in: what a call begun before a transition comes to says nothing of the time
//! after. For calls that is told by their beginning, for probes by their number.

use std::time::{Duration, Instant};

use super::reason::Reason;
use super::settings::{Interval, Settings};

/// A probe whose answer has begun, and goes on after so long, went well: otherwise a stream without end would keep the
/// breaker half-open.
pub(super) const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// The three states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All calls are let through.
    Closed,
    /// A few are, to see how they go.
    HalfOpen,
    /// None is.
    Open,
}

impl State {
    /// The word used in metrics, log and admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// Its number in metrics.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// What an operator wants of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Open until something else is said.
    Open,
    /// Closed until something else is said.
    Closed,
    /// As the calls go.
    Auto,
}

/// From one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) to: State,
    pub(super) reason: Reason,
    /// How long it is going to be open.
    pub(super) lasts: Option<Duration>,
}

/// What became of a request to be let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is.
    Pass,
    /// It is, as the probe of this number.
    Probe(u64),
    /// It is not.
    Refused,
}

/// When something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End<T> {
    Known(T),
    Unknown,
}

/// How a probe went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    Well,
    Badly,
    /// Nobody knows: the client went away, or it was never sent.
    Unknown,
}

#[derive(Debug)]
struct Probe {
    number: u64,
    /// When its answer began, if it has and is to be waited for.
    answering: Option<Instant>,
}

#[derive(Debug)]
enum Inner {
    Closed,
    HalfOpen {
        probes: Vec<Probe>,
        most: usize,
        succeeded: u32,
    },
    Open {
        until: Instant,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    inner: Inner,
    since: Instant,
    reason: Option<Reason>,
    forced: Option<State>,
    /// How often the interval has grown, and how long it was.
    grown: u32,
    lasted: Duration,
    next_probe: u64,
}

impl Machine {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            inner: Inner::Closed,
            since: now,
            reason: None,
            forced: None,
            grown: 0,
            lasted: Duration::ZERO,
            next_probe: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        if let Some(forced) = self.forced {
            return forced;
        }
        match self.inner {
            Inner::Closed => State::Closed,
            Inner::HalfOpen { .. } => State::HalfOpen,
            Inner::Open { .. } => State::Open,
        }
    }

    /// When it came into this state.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.reason
    }

    pub(super) fn is_forced(&self) -> bool {
        self.forced.is_some()
    }

    /// Until when everybody is refused, as far as that is certain.
    pub(super) fn refuses_until(&self) -> Option<End<Instant>> {
        match (self.forced, &self.inner) {
            (Some(State::Open), _) => Some(End::Unknown),
            (None, Inner::Open { until }) => Some(End::Known(*until)),
            (None, Inner::HalfOpen { probes, most, .. }) if probes.len() >= *most => {
                let earliest = probes.iter().filter_map(|probe| probe.answering).min();
                Some(earliest.map_or(End::Unknown, |answering| End::Known(answering + LONG_ENOUGH)))
            }
            _ => None,
        }
    }

    /// When it is going to be half-open.
    pub(super) fn until(&self) -> Option<Instant> {
        match (self.forced, &self.inner) {
            (None, Inner::Open { until }) => Some(*until),
            _ => None,
        }
    }

    fn become_(&mut self, inner: Inner, reason: Reason, now: Instant) -> Transition {
        let lasts = match &inner {
            Inner::Open { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        };
        self.inner = inner;
        self.since = now;
        self.reason = Some(reason);
        Transition {
            to: self.state(),
            reason,
            lasts,
        }
    }

    fn open(&mut self, reason: Reason, now: Instant, interval: &Interval, draw: f64) -> Transition {
        self.lasted = interval.grown(self.grown, draw);
        let until = now + self.lasted;
        self.become_(Inner::Open { until }, reason, now)
    }

    fn half_open(&mut self, reason: Reason, now: Instant, most: u32) -> Transition {
        let inner = Inner::HalfOpen {
            probes: Vec::new(),
            most: most as usize,
            succeeded: 0,
        };
        self.become_(inner, reason, now)
    }

    /// Too many calls went badly, the last of which began at that time.
    pub(super) fn trip(
        &mut self,
        reason: Reason,
        began: Instant,
        now: Instant,
        interval: &Interval,
        draw: f64,
    ) -> Option<Transition> {
        if self.forced.is_some() || !matches!(self.inner, Inner::Closed) || began < self.since {
            return None;
        }
        // One that opens again before it has been closed for as long as it was open has closed too soon.
        self.grown = if now.saturating_duration_since(self.since) < self.lasted {
            self.grown.saturating_add(1)
        } else {
            0
        };
        Some(self.open(reason, now, interval, draw))
    }

    /// A call wants to be let through.
    pub(super) fn admit(&mut self, now: Instant, settings: &Settings) -> (Admission, Option<Transition>) {
        match self.forced {
            Some(State::Open) => return (Admission::Refused, None),
            Some(_) => return (Admission::Pass, None),
            None => {}
        }
        let mut transition = None;
        if let Inner::Open { until } = self.inner {
            if now < until {
                return (Admission::Refused, None);
            }
            let lasted = now.saturating_duration_since(self.since);
            transition = Some(self.half_open(Reason::Waited { lasted }, now, settings.probes));
        }
        let Inner::HalfOpen {
            probes,
            most,
            succeeded,
        } = &mut self.inner
        else {
            return (Admission::Pass, None);
        };
        *most = settings.probes as usize;
        let goes_on = |probe: &Probe| probe.answering.is_some_and(|answering| answering + LONG_ENOUGH <= now);
        let before = probes.len();
        probes.retain(|probe| !goes_on(probe));
        *succeeded += (before - probes.len()) as u32;
        if *succeeded >= settings.successes {
            let reason = Reason::ProbesSucceeded { probes: *succeeded };
            return (Admission::Pass, Some(self.become_(Inner::Closed, reason, now)));
        }
        if probes.len() >= *most {
            return (Admission::Refused, transition);
        }
        let number = self.next_probe;
        self.next_probe += 1;
        probes.push(Probe {
            number,
            answering: None,
        });
        (Admission::Probe(number), transition)
    }

    /// The answer to a probe began well; what is still to come of it is waited for, but not for ever.
    pub(super) fn answering(&mut self, number: u64, now: Instant) {
        if let Inner::HalfOpen { probes, .. } = &mut self.inner
            && let Some(probe) = probes.iter_mut().find(|probe| probe.number == number)
        {
            probe.answering.get_or_insert(now);
        }
    }

    /// A probe has ended. One from before the last transition tells nothing.
    pub(super) fn probed(
        &mut self,
        number: u64,
        went: Probed,
        now: Instant,
        settings: &Settings,
        draw: f64,
    ) -> Option<Transition> {
        if !self.give_back(number) || self.forced.is_some() {
            return None;
        }
        let Inner::HalfOpen { succeeded, .. } = &mut self.inner else {
            return None;
        };
        match went {
            Probed::Unknown => None,
            Probed::Badly => {
                self.grown = self.grown.saturating_add(1);
                Some(self.open(Reason::ProbeFailed, now, &settings.open, draw))
            }
            Probed::Well => {
                *succeeded += 1;
                let reason = Reason::ProbesSucceeded { probes: *succeeded };
                (*succeeded >= settings.successes).then(|| self.become_(Inner::Closed, reason, now))
            }
        }
    }

    /// Frees the place of a probe. Whether it had one.
    pub(super) fn give_back(&mut self, number: u64) -> bool {
        let Inner::HalfOpen { probes, .. } = &mut self.inner else {
            return false;
        };
        let place = probes.iter().position(|probe| probe.number == number);
        place.map(|place| probes.swap_remove(place)).is_some()
    }

    /// An operator decides. After that, one that was forced open is half-open, one that was forced closed closed.
    pub(super) fn force(&mut self, force: Force, now: Instant) -> Option<Transition> {
        let before = (self.state(), self.forced);
        match force {
            Force::Open => self.forced = Some(State::Open),
            Force::Closed => self.forced = Some(State::Closed),
            Force::Auto => match self.forced.take()? {
                State::Open => return Some(self.half_open(Reason::Forced, now, 1)),
                _ => self.inner = Inner::Closed,
            },
        }
        (before != (self.state(), self.forced)).then(|| {
            self.since = now;
            self.reason = Some(Reason::Forced);
            Transition {
                to: self.state(),
                reason: Reason::Forced,
                lasts: None,
            }
        })
    }
}
