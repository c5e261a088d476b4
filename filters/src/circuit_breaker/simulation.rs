//! The states of a breaker by a scripted clock: each way from one to another, and a random walk beside an oracle.

mod oracle;
mod walk;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::{Admitted, Breaker, Call, Permit};
use super::machine::{Admission, End, Force, LONG_ENOUGH, Machine, State};
use super::meters::{Families, Labels, Meters};
use super::reason::Reason;
use super::settings::Settings;
use super::window::Window;
use crate::{Direction, Telemetry, testing};

const PLAIN: &str = r#"{"open": {"for": "5s", "growth": 2, "max": "60s", "jitter": 0}}"#;

/// A breaker, and a clock that goes when it is told to.
struct Bench {
    breaker: Arc<Breaker>,
    settings: Settings,
    window: Arc<Window>,
    now: Instant,
}

impl Bench {
    fn new(config: &str) -> Self {
        let settings = Settings::of(&serde_json::from_str(config).unwrap()).unwrap();
        let labels = Labels {
            service: Arc::from("test"),
            direction: Direction::Inbound,
            upstream: Arc::from("app"),
            route: None,
        };
        let families = testing::with_context("circuit_breaker", &Telemetry::default(), Families::of).unwrap();
        let now = Instant::now();
        let breaker = Arc::new(Breaker::new(labels.clone(), Meters::new(families, labels, true), now));
        let window = breaker.window(settings.window);
        Self {
            breaker,
            settings,
            window,
            now,
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn state(&self) -> State {
        self.breaker.look(self.now, |machine, _, _| machine.state())
    }

    fn reason(&self) -> String {
        let told = self.breaker.look(self.now, |machine, _, _| machine.reason());
        told.map(|reason| reason.to_string()).unwrap_or_default()
    }

    /// How long it is going to be open.
    fn left(&self) -> Option<Duration> {
        let until = self.breaker.look(self.now, |machine, _, _| machine.until());
        until.map(|until| until - self.now)
    }

    fn admit(&self) -> Admitted {
        self.breaker.admit(|| self.now, &self.settings)
    }

    fn probe(&self) -> Permit {
        match self.admit() {
            Admitted::Probe(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self) -> bool {
        matches!(self.admit(), Admitted::Refused(_))
    }

    /// A call that was begun then.
    fn call_from(&self, began: Instant, failed: bool, slow: bool) {
        let call = Call {
            began,
            now: self.now,
            failed,
            slow,
        };
        self.breaker.called(&self.window, &self.settings, call);
    }

    fn fails(&self) {
        self.call_from(self.now, true, false);
    }

    fn works(&self) {
        self.call_from(self.now, false, false);
    }

    fn ends(&self, began: Instant, failed: bool) {
        self.breaker
            .ended(&self.window, &self.settings, began, || self.now, failed);
    }

    fn settle(&self, permit: Permit, well: bool) {
        permit.settle(well, self.now, &self.settings);
    }

    /// Opens it by failures in a row.
    fn open(&self) {
        for _ in 0..5 {
            self.fails();
        }
        assert_eq!(self.state(), State::Open);
    }

    fn half_open(&mut self) -> Permit {
        self.open();
        self.pass(5000);
        self.probe()
    }
}

#[test]
fn it_opens_on_failures_in_a_row_and_not_on_one_less() {
    let bench = Bench::new(PLAIN);
    for _ in 0..4 {
        bench.fails();
    }
    bench.works();
    for _ in 0..4 {
        bench.fails();
    }
    assert_eq!(bench.state(), State::Closed);
    assert!(matches!(bench.admit(), Admitted::Pass));
    bench.fails();
    assert_eq!(
        (bench.state(), &*bench.reason()),
        (State::Open, "5 calls failed one after another")
    );
}

#[test]
fn it_opens_on_a_share_of_enough_calls() {
    let mut bench = Bench::new(PLAIN);
    for number in 0..19 {
        if number % 2 == 0 {
            bench.fails();
        } else {
            bench.works();
        }
        bench.pass(100);
    }
    assert_eq!(bench.state(), State::Closed, "too few calls to tell");
    bench.fails();
    assert_eq!(
        (bench.state(), &*bench.reason()),
        (State::Open, "11 of 20 calls failed in 10s")
    );
}

#[test]
fn what_left_the_window_counts_no_more() {
    let mut bench = Bench::new(PLAIN);
    for number in 0..18 {
        if number % 2 == 0 { bench.fails() } else { bench.works() }
    }
    bench.pass(10_000);
    for _ in 0..15 {
        bench.works();
    }
    for _ in 0..4 {
        bench.fails();
        bench.works();
    }
    assert_eq!(bench.state(), State::Closed, "4 of 23, and 9 that are too old");
}

#[test]
fn it_opens_on_a_share_of_slow_calls_although_none_failed() {
    let config = r#"{"slow": {"after": "1s", "ratio": 0.8}, "failures": {"min_calls": 10}}"#;
    let bench = Bench::new(config);
    for number in 0..9 {
        bench.call_from(bench.now, false, number > 1);
    }
    assert_eq!(bench.state(), State::Closed);
    bench.call_from(bench.now, false, true);
    assert_eq!(
        (bench.state(), &*bench.reason()),
        (State::Open, "8 of 10 calls were slow in 10s")
    );
}

#[test]
fn it_opens_on_bodies_that_are_cut_although_their_heads_were_good() {
    let bench = Bench::new(r#"{"failures": {"ratio": "none"}}"#);
    for _ in 0..5 {
        assert_eq!(bench.state(), State::Closed);
        bench.works();
        bench.ends(bench.now, true);
    }
    assert_eq!(bench.state(), State::Open);
    let bench = Bench::new(r#"{"failures": {"consecutive": "none"}}"#);
    for number in 0..20 {
        bench.works();
        bench.ends(bench.now, number % 2 == 1);
    }
    assert_eq!(&*bench.reason(), "10 of 20 calls failed in 10s");
}

#[test]
fn open_it_refuses_all_until_the_interval_is_over() {
    let mut bench = Bench::new(PLAIN);
    bench.open();
    assert_eq!(bench.left(), Some(Duration::from_secs(5)));
    bench.pass(4999);
    match bench.admit() {
        Admitted::Refused(End::Known(left)) => assert_eq!(left, Duration::from_millis(1)),
        other => panic!("{other:?}"),
    }
    bench.pass(1);
    let permit = bench.probe();
    assert_eq!((bench.state(), &*bench.reason()), (State::HalfOpen, "was open for 5s"));
    drop(permit);
}

#[test]
fn half_open_lets_only_so_many_through_at_once() {
    let mut bench = Bench::new(PLAIN);
    let first = bench.half_open();
    let others = [bench.probe(), bench.probe()];
    assert!(bench.refused());
    bench.settle(first, true);
    let again = bench.probe();
    assert!(bench.refused(), "as many as before are out");
    drop(others);
    drop(again);
    let three = [bench.probe(), bench.probe(), bench.probe()];
    assert!(bench.refused());
    drop(three);
    assert_eq!(bench.state(), State::HalfOpen, "of those nobody knows how they went");
}

/// Those who ask at once may all find that there is room; who is let through is decided under the lock.
#[test]
fn the_machine_itself_lets_only_so_many_through() {
    let bench = Bench::new(PLAIN);
    bench.open();
    let later = bench.now + Duration::from_secs(5);
    let mut machine = Machine::new(bench.now);
    let reason = Reason::Consecutive { failed: 5 };
    machine
        .trip(reason, bench.now, bench.now, &bench.settings.open, 0.0)
        .unwrap();
    let admitted: Vec<Admission> = (0..5).map(|_| machine.admit(later, &bench.settings).0).collect();
    let probes = (0..3).map(Admission::Probe);
    assert_eq!(admitted, probes.chain([Admission::Refused; 2]).collect::<Vec<_>>());
}

#[test]
fn threads_that_ask_at_once_get_no_more_probes_than_there_are() {
    let mut bench = Bench::new(PLAIN);
    bench.open();
    bench.pass(5000);
    let bench = &bench;
    for _ in 0..50 {
        let out: Vec<Admitted> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| bench.admit())).collect();
            asking.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let probes = out.iter().filter(|admitted| matches!(admitted, Admitted::Probe(_)));
        assert_eq!(probes.count(), 3, "{out:?}");
    }
}

#[test]
fn enough_good_probes_close_it_and_forget_the_past() {
    let mut bench = Bench::new(PLAIN);
    let first = bench.half_open();
    bench.settle(first, true);
    for _ in 0..2 {
        assert_eq!(bench.state(), State::HalfOpen);
        bench.settle(bench.probe(), true);
    }
    assert_eq!((bench.state(), &*bench.reason()), (State::Closed, "3 probes went well"));
    for _ in 0..4 {
        bench.fails();
    }
    assert_eq!(bench.state(), State::Closed, "failures from before do not count");
}

#[test]
fn a_bad_probe_opens_it_again_for_longer_each_time_up_to_the_most() {
    let mut bench = Bench::new(PLAIN);
    let mut permit = bench.half_open();
    for seconds in [10, 20, 40, 60, 60] {
        bench.settle(permit, false);
        assert_eq!((bench.state(), &*bench.reason()), (State::Open, "a probe failed"));
        assert_eq!(bench.left(), Some(Duration::from_secs(seconds)));
        bench.pass(seconds * 1000 - 1);
        assert!(bench.refused());
        bench.pass(1);
        permit = bench.probe();
    }
}

#[test]
fn one_bad_probe_outweighs_good_ones_and_those_still_out_say_nothing() {
    let mut bench = Bench::new(PLAIN);
    let first = bench.half_open();
    let (second, third) = (bench.probe(), bench.probe());
    bench.settle(first, true);
    bench.settle(second, false);
    assert_eq!(bench.state(), State::Open);
    let until = bench.left();
    bench.settle(third, true);
    assert_eq!((bench.state(), bench.left()), (State::Open, until));
    bench.pass(10_000);
    let fresh = bench.probe();
    bench.settle(fresh, true);
    assert_eq!(bench.state(), State::HalfOpen, "one of three");
}

#[test]
fn one_that_has_closed_too_soon_goes_on_growing() {
    let mut bench = Bench::new(PLAIN);
    let close = |bench: &Bench, first: Permit| {
        bench.settle(first, true);
        (0..2).for_each(|_| bench.settle(bench.probe(), true));
        assert_eq!(bench.state(), State::Closed);
    };
    let first = bench.half_open();
    close(&bench, first);
    bench.pass(4999);
    bench.open();
    assert_eq!(bench.left(), Some(Duration::from_secs(10)), "closed for less than 5s");
    bench.pass(10_000);
    close(&bench, bench.probe());
    bench.pass(10_000);
    bench.open();
    assert_eq!(bench.left(), Some(Duration::from_secs(5)), "closed for long enough");
}

#[test]
fn jitter_makes_intervals_longer_within_its_bounds_and_differ() {
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let bench = Bench::new(r#"{"open": {"for": "10s", "jitter": 0.2}}"#);
        bench.open();
        let left = bench.left().unwrap();
        assert!(
            (Duration::from_secs(10)..Duration::from_secs(12)).contains(&left),
            "{left:?}"
        );
        seen.insert(left);
    }
    assert!(seen.len() > 100, "only {} intervals", seen.len());
}

#[test]
fn calls_begun_before_a_transition_say_nothing_of_the_time_after() {
    let mut bench = Bench::new(PLAIN);
    let before = bench.now;
    bench.pass(100);
    let first = bench.half_open();
    for _ in 0..10 {
        bench.call_from(before, true, false);
    }
    assert_eq!(bench.state(), State::HalfOpen, "no probes of this time");
    bench.settle(first, true);
    (0..2).for_each(|_| bench.settle(bench.probe(), true));
    bench.pass(1);
    for _ in 0..10 {
        bench.call_from(before, true, false);
        bench.ends(before, true);
    }
    assert_eq!(bench.state(), State::Closed);
    bench.open();
}

#[test]
fn a_probe_that_never_ends_went_well_after_a_while() {
    let mut bench = Bench::new(PLAIN);
    let streams = [bench.half_open(), bench.probe(), bench.probe()];
    let silent_until = bench.now + LONG_ENOUGH;
    bench.pass(60_000);
    assert!(bench.refused(), "no answer has begun");
    assert!(bench.now > silent_until);
    for stream in &streams {
        stream.answering(bench.now);
    }
    bench.pass(4999);
    assert!(bench.refused());
    bench.pass(1);
    assert!(matches!(bench.admit(), Admitted::Pass));
    assert_eq!(bench.state(), State::Closed);
    for stream in streams {
        bench.settle(stream, false);
    }
    assert_eq!(bench.state(), State::Closed, "they were judged");
}

#[test]
fn it_can_be_forced() {
    let mut bench = Bench::new(PLAIN);
    bench.breaker.force(Force::Open, bench.now);
    assert_eq!(bench.state(), State::Open);
    bench.pass(1_000_000);
    assert!(matches!(bench.admit(), Admitted::Refused(End::Unknown)));
    bench.breaker.force(Force::Closed, bench.now);
    for _ in 0..50 {
        assert!(matches!(bench.admit(), Admitted::Pass));
        bench.fails();
    }
    assert_eq!(bench.state(), State::Closed);
    bench.breaker.force(Force::Auto, bench.now);
    assert_eq!(bench.state(), State::Closed);
    bench.open();
    bench.breaker.force(Force::Open, bench.now);
    bench.breaker.force(Force::Auto, bench.now);
    assert_eq!(
        bench.state(),
        State::HalfOpen,
        "whether it is well is found out by probes"
    );
    let probes = [bench.probe(), bench.probe(), bench.probe()];
    assert!(bench.refused());
    // What a probe says while it is forced does not count, nor afterwards.
    bench.breaker.force(Force::Open, bench.now);
    for probe in probes {
        bench.settle(probe, true);
    }
    assert_eq!(bench.state(), State::Open);
}
