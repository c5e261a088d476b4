//! A breaker written a second time, as plainly as can be: it keeps every call and looks through all of them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::circuit_breaker::machine::{Force, State};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Pass,
    Probe(u64),
    Refused,
}

struct Heard {
    at: Instant,
    failed: bool,
    slow: bool,
}

pub(super) struct Oracle {
    consecutive: usize,
    min_calls: usize,
    probes: usize,
    successes: u32,
    start: Instant,
    state: State,
    forced: Option<State>,
    since: Instant,
    until: Instant,
    times: u32,
    lasted: Duration,
    heard: Vec<Heard>,
    out: Vec<u64>,
    good: u32,
    number: u64,
}

impl Oracle {
    pub(super) fn new(config: &Value, now: Instant) -> Self {
        let number = |group: &str, key: &str| config[group][key].as_u64().unwrap();
        Self {
            consecutive: number("failures", "consecutive") as usize,
            min_calls: number("failures", "min_calls") as usize,
            probes: number("half_open", "probes") as usize,
            successes: number("half_open", "successes") as u32,
            start: now,
            state: State::Closed,
            forced: None,
            since: now,
            until: now,
            times: 0,
            lasted: Duration::ZERO,
            heard: Vec::new(),
            out: Vec::new(),
            good: 0,
            number: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        self.forced.unwrap_or(self.state)
    }

    fn go(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
        self.out.clear();
        self.good = 0;
        if state == State::Closed {
            self.heard.clear();
        }
        if state == State::Open {
            let seconds = [3, 6, 10][self.times.min(2) as usize];
            self.lasted = Duration::from_secs(seconds);
            self.until = now + self.lasted;
        }
    }

    pub(super) fn admit(&mut self, now: Instant) -> Said {
        match self.state() {
            State::Closed => return Said::Pass,
            State::Open if self.forced.is_some() || now < self.until => return Said::Refused,
            State::Open => self.go(State::HalfOpen, now),
            State::HalfOpen => {}
        }
        if self.out.len() == self.probes {
            return Said::Refused;
        }
        self.number += 1;
        self.out.push(self.number);
        Said::Probe(self.number)
    }

    /// The tenth of the window's two seconds that a time is in.
    fn tenth(&self, at: Instant) -> u128 {
        (at - self.start).as_millis() / 200
    }

    pub(super) fn called(&mut self, now: Instant, began: Instant, failed: bool, slow: bool) {
        if self.state() != State::Closed || began < self.since {
            return;
        }
        self.heard.push(Heard { at: now, failed, slow });
        if self.forced.is_some() || !(failed || slow) {
            return;
        }
        let row = self.heard.iter().rev().take_while(|call| call.failed).count();
        let lately: Vec<&Heard> = self
            .heard
            .iter()
            .filter(|call| self.tenth(call.at) + 10 > self.tenth(now))
            .collect();
        let failures = lately.iter().filter(|call| call.failed).count();
        let slow = lately.iter().filter(|call| call.slow).count();
        let enough = lately.len() >= self.min_calls;
        let by_share = enough && failures * 2 >= lately.len();
        let by_speed = enough && slow * 5 >= lately.len() * 4;
        if row >= self.consecutive || by_share || by_speed {
            self.times = if now - self.since < self.lasted {
                self.times + 1
            } else {
                0
            };
            self.go(State::Open, now);
        }
    }

    pub(super) fn given_back(&mut self, number: u64) {
        self.out.retain(|out| *out != number);
    }

    pub(super) fn probed(&mut self, now: Instant, number: u64, well: bool) {
        if !self.out.contains(&number) {
            return;
        }
        self.given_back(number);
        if self.forced.is_some() {
            return;
        }
        if !well {
            self.times += 1;
            self.go(State::Open, now);
            return;
        }
        self.good += 1;
        if self.good >= self.successes {
            self.go(State::Closed, now);
        }
    }

    pub(super) fn force(&mut self, now: Instant, force: Force) {
        let before = self.forced;
        match force {
            Force::Open => self.forced = Some(State::Open),
            Force::Closed => self.forced = Some(State::Closed),
            Force::Auto => match self.forced.take() {
                None => return,
                Some(State::Open) => return self.go(State::HalfOpen, now),
                Some(_) => return self.go(State::Closed, now),
            },
        }
        if self.forced != before {
            self.since = now;
            if force == Force::Closed {
                self.heard.clear();
            }
        }
    }
}
