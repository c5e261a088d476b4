//! One breaker: what all threads count in and look at, around the states.
//!
//! As long as it is closed, a request costs one load. Transitions are made under a lock, and what requests have to know of
//! the state they came to is published in atomics: that it is not closed, and until when everybody is refused.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::machine::{Admission, End, Force, Machine, Probed, State, Transition};
use super::meters::{Labels, Meters};
use super::reason::Reason;
use super::settings::Settings;
use super::window::{Sum, Window};
use crate::Fact;

/// A breaker as requests see it.
const CLOSED: u8 = 0;
/// Ask the machine.
const ASK: u8 = 1;
/// Nobody is let through before `until`.
const REFUSES: u8 = 2;

/// Half-open, and all probes are out: nobody is let through before `until`.
const FULL: u8 = 3;

/// When to come again while probes are out: they are soon back.
const SOON: Duration = Duration::from_secs(1);
/// Lengths of windows that are kept, those of snapshots before this one included.
const MOST_WINDOWS: usize = 8;
/// No end is known.
const NEVER: u64 = u64::MAX;

/// See the module.
pub(super) struct Breaker {
    pub(super) labels: Labels,
    meters: Meters,
    /// All times are counted from here.
    base: Instant,
    code: AtomicU8,
    until: AtomicU64,
    /// When the state began, for calls that were begun before it.
    since: AtomicU64,
    /// Why it began, for those that are refused.
    why: AtomicU8,
    numbers: AtomicU64,
    /// Calls that failed one after another: by their head or without one, and after it.
    failed: AtomicU32,
    cut: AtomicU32,
    /// Whether it was in use lately, for those that are dropped when there are too many.
    touched: AtomicBool,
    machine: Mutex<Machine>,
    windows: ArcSwap<Vec<Arc<Window>>>,
}

/// How a call went, as far as its response head tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) began: Instant,
    pub(super) now: Instant,
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// Where a request is let through to.
#[derive(Debug)]
pub(super) enum Admitted {
    /// Like any other.
    Pass,
    /// As a probe.
    Probe(Permit),
    /// Nowhere; worth trying again after so long.
    Refused(End<Duration>),
}

impl Breaker {
    pub(super) fn new(labels: Labels, meters: Meters, now: Instant) -> Self {
        Self {
            labels,
            meters,
            base: now,
            code: AtomicU8::new(CLOSED),
            until: AtomicU64::new(0),
            since: AtomicU64::new(0),
            why: AtomicU8::new(0),
            numbers: AtomicU64::new(0),
            failed: AtomicU32::new(0),
            cut: AtomicU32::new(0),
            touched: AtomicBool::new(false),
            machine: Mutex::new(Machine::new(now)),
            windows: ArcSwap::default(),
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The window of that length. Routes with the same one count together.
    pub(super) fn window(&self, length: Duration) -> Arc<Window> {
        let known = |windows: &[Arc<Window>]| windows.iter().find(|window| window.length == length).cloned();
        if let Some(window) = known(&self.windows.load()) {
            return window;
        }
        let new = Arc::new(Window::new(self.base, length));
        self.windows.rcu(|windows| {
            if known(windows).is_some() {
                return Vec::clone(windows);
            }
            let skipped = (windows.len() + 1).saturating_sub(MOST_WINDOWS);
            let kept = windows.iter().skip(skipped).cloned();
            kept.chain([new.clone()]).collect()
        });
        known(&self.windows.load()).unwrap_or(new)
    }

    /// Takes note that it is in use.
    pub(super) fn touch(&self) {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was in use since this was asked last.
    pub(super) fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.code.load(Ordering::Relaxed) == CLOSED
    }

    /// Whether a request may go on. Asks for the time only where it matters.
    pub(super) fn admit(self: &Arc<Self>, clock: impl FnOnce() -> Instant, settings: &Settings) -> Admitted {
        if self.is_closed() {
            return Admitted::Pass;
        }
        let now = clock();
        if let Some(left) = self.refuses(now) {
            self.meters.rejected();
            return Admitted::Refused(left);
        }
        match self.change(|machine| machine.admit(now, settings)) {
            Admission::Pass => Admitted::Pass,
            Admission::Probe(number) => Admitted::Probe(Permit {
                breaker: Some(self.clone()),
                number,
            }),
            Admission::Refused => {
                self.meters.rejected();
                Admitted::Refused(self.refuses(now).unwrap_or(End::Known(SOON)))
            }
        }
    }

    /// Why a request of an exchange that began then is refused. What is read between two transitions may be of either, which
    /// nobody minds in words.
    pub(super) fn why(&self, began: Instant) -> Fact {
        if self.code.load(Ordering::Acquire) == FULL {
            return Fact::Text("half-open, and all probes are under way");
        }
        let since = self.since.load(Ordering::Relaxed);
        let numbers = self.numbers.load(Ordering::Relaxed);
        Fact::Event {
            ago: Duration::from_nanos(self.nanos(began).saturating_sub(since)),
            text: Reason::told(self.why.load(Ordering::Relaxed)),
            numbers: [(numbers >> 32) as u32, numbers as u32],
        }
    }

    /// Whether everybody is refused now, and for how long.
    fn refuses(&self, now: Instant) -> Option<End<Duration>> {
        let code = self.code.load(Ordering::Acquire);
        let (until, now) = (self.until.load(Ordering::Relaxed), self.nanos(now));
        match code {
            REFUSES if until == NEVER => Some(End::Unknown),
            REFUSES if until > now => Some(End::Known(Duration::from_nanos(until - now))),
            FULL if until > now => Some(End::Known(SOON)),
            _ => None,
        }
    }

    /// A response head is there, or none will be.
    pub(super) fn called(&self, window: &Window, settings: &Settings, call: Call) {
        if !self.counts(call.began) {
            return;
        }
        let more = Sum {
            calls: 1,
            failed: u32::from(call.failed),
            slow: u32::from(call.slow),
        };
        window.add(call.now, more);
        let run = in_a_row(&self.failed, call.failed);
        if call.failed || call.slow {
            self.weigh(run, window, settings, call.began, call.now);
        }
    }

    /// What came after a good response head is there to its end, or failed. Asks for the time only where it matters.
    pub(super) fn ended(
        &self,
        window: &Window,
        settings: &Settings,
        began: Instant,
        clock: impl FnOnce() -> Instant,
        failed: bool,
    ) {
        if !self.counts(began) {
            return;
        }
        let run = in_a_row(&self.cut, failed);
        if failed {
            let now = clock();
            // A call that has left the window is no part of what is in it.
            if began + window.length > now {
                let more = Sum {
                    failed: 1,
                    ..Sum::default()
                };
                window.add(now, more);
            }
            self.weigh(run, window, settings, began, now);
        }
    }

    /// Whether a call begun then says something of the state now.
    fn counts(&self, began: Instant) -> bool {
        self.is_closed() && self.nanos(began) >= self.since.load(Ordering::Relaxed)
    }

    fn weigh(&self, run: u32, window: &Window, settings: &Settings, began: Instant, now: Instant) {
        if let Some(reason) = settings.too_many(run, || window.sum(now)) {
            self.change(|machine| {
                let transition = machine.trip(reason, began, now, &settings.open, draw(settings));
                ((), transition)
            });
        }
    }

    /// Lets the machine change, and publishes what it came to.
    fn change<T>(&self, with: impl FnOnce(&mut Machine) -> (T, Option<Transition>)) -> T {
        let mut machine = self.machine();
        let (result, transition) = with(&mut machine);
        if let Some(transition) = &transition {
            if transition.to == State::Closed {
                self.failed.store(0, Ordering::Relaxed);
                self.cut.store(0, Ordering::Relaxed);
                self.windows.load().iter().for_each(|window| window.clear());
            }
            self.since.store(self.nanos(machine.since()), Ordering::Relaxed);
            let (why, [first, second]) = transition.reason.published();
            self.why.store(why, Ordering::Relaxed);
            let numbers = u64::from(first) << 32 | u64::from(second);
            self.numbers.store(numbers, Ordering::Relaxed);
            self.meters.changed(transition);
        }
        let refuses = machine.refuses_until();
        let until = match refuses {
            Some(End::Known(until)) => self.nanos(until),
            Some(End::Unknown) => NEVER,
            None => 0,
        };
        self.until.store(until, Ordering::Relaxed);
        let code = match (machine.state(), refuses) {
            (State::Closed, _) => CLOSED,
            (State::HalfOpen, Some(_)) => FULL,
            (_, Some(_)) => REFUSES,
            _ => ASK,
        };
        // With what was stored before it.
        self.code.store(code, Ordering::Release);
        drop(machine);
        if let Some(transition) = transition {
            self.tell(&transition);
        }
        result
    }

    fn tell(&self, transition: &Transition) {
        let Labels {
            direction,
            upstream,
            route,
            ..
        } = &self.labels;
        let (direction, route, reason) = (direction.as_str(), route.as_deref(), transition.reason);
        match transition.to {
            State::Open => {
                let lasts = transition.lasts.map(|lasts| lasts.as_secs_f64());
                tracing::warn!(target: "circuit_breaker", direction, %upstream, route, seconds = lasts, "open: {reason}");
            }
            State::HalfOpen => {
                tracing::info!(target: "circuit_breaker", direction, %upstream, route, "half-open: {reason}");
            }
            State::Closed => {
                tracing::info!(target: "circuit_breaker", direction, %upstream, route, "closed: {reason}");
            }
        }
    }

    pub(super) fn force(&self, force: Force, now: Instant) {
        self.change(|machine| ((), machine.force(force, now)));
    }

    /// What the windows have, and what the machine is in.
    pub(super) fn look<T>(&self, now: Instant, with: impl FnOnce(&Machine, Sum, u32) -> T) -> T {
        let windows = self.windows.load();
        let sums = windows.iter().map(|window| window.sum(now));
        let most = sums.max_by_key(|sum| sum.calls).unwrap_or_default();
        let run = [&self.failed, &self.cut].map(|run| run.load(Ordering::Relaxed));
        with(&self.machine(), most, run[0].max(run[1]))
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        self.meters.forget();
    }
}

/// How many failed one after another, with this one.
fn in_a_row(run: &AtomicU32, failed: bool) -> u32 {
    if failed {
        return run.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    }
    // Mostly there is nothing to write, and then no other core has to read it anew.
    if run.load(Ordering::Relaxed) != 0 {
        run.store(0, Ordering::Relaxed);
    }
    0
}

fn draw(settings: &Settings) -> f64 {
    if settings.open.jitter > 0.0 {
        fastrand::f64()
    } else {
        0.0
    }
}

/// The leave to be a probe. Given back when it is dropped, so that it cannot leak however an exchange ends.
pub(super) struct Permit {
    /// `None` once it has been told how the probe went.
    breaker: Option<Arc<Breaker>>,
    number: u64,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Permit {
    /// The answer began well.
    pub(super) fn answering(&self, now: Instant) {
        if let Some(breaker) = &self.breaker {
            breaker.change(|machine| {
                machine.answering(self.number, now);
                ((), None)
            });
        }
    }

    /// The probe went well or badly.
    pub(super) fn settle(mut self, well: bool, now: Instant, settings: &Settings) {
        let went = if well { Probed::Well } else { Probed::Badly };
        if let Some(breaker) = self.breaker.take() {
            breaker.meters.probed(went);
            breaker.change(|machine| ((), machine.probed(self.number, went, now, settings, draw(settings))));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.take() {
            breaker.meters.probed(Probed::Unknown);
            breaker.change(|machine| {
                machine.give_back(self.number);
                ((), None)
            });
        }
    }
}
