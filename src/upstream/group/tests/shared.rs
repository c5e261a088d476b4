//! Many threads at once, and long random walks.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::upstream::Call;

#[test]
fn threads_that_do_everything_at_once_leave_nothing_behind() {
    let bounded = Algorithm::ConsistentHash { max_load: Some(1.5) };
    for algorithm in [
        Algorithm::RoundRobin,
        Algorithm::LeastRequests,
        bounded,
        Algorithm::Ewma,
    ] {
        let settings = Settings {
            slow_start: Some(30 * MS),
            outliers: Some(Outliers {
                consecutive_failures: Some(3),
                ejection: 5 * MS,
                ..Outliers::default()
            }),
            checked: true,
            ..settings(algorithm)
        };
        let world = World::new(settings, 8);
        let (group, start) = (&world.group, world.now);
        // Members that go are kept here, to see that their calls end too.
        let seen = Mutex::new(group.members());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || calls(group, start, thread));
            }
            let seen = &seen;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(99);
                for step in 0..100 {
                    let now = start + step * 5 * MS;
                    let first = random.usize(..8);
                    let range = first..=first + random.usize(..8);
                    group.set_endpoints(range.map(|index| (endpoint(index), random.u32(1..5))).collect(), now);
                    let members = group.members();
                    for member in &members {
                        group.set_healthy(member, random.u8(..8) > 0, now);
                    }
                    assert_eq!(group.status(now).members.len(), members.len());
                    seen.lock().unwrap().extend(members);
                }
            });
        });
        assert!(group.totals().ejections > 0);
        for member in seen.into_inner().unwrap() {
            assert_eq!(member.active(), 0, "{algorithm:?}");
        }
        assert_eq!(group.all_active.load(Ordering::Relaxed), 0);
    }
}

/// What a worker does: up to twenty calls at a time, of which a third fail and some are given up.
fn calls(group: &Group, start: Instant, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut open: VecDeque<Call> = VecDeque::new();
    for step in 0..5000 {
        let now = start + step * MS / 10;
        let member = group.pick(Some(random.u64(..)), &[], now);
        open.push_back(member.expect("there are always members").begin());
        if open.len() > random.usize(..20) {
            let mut call = open.pop_front().unwrap();
            match random.u8(..10) {
                0..4 => call.heard(Heard::GatewayFailure, MS, now),
                4 => {}
                _ => call.heard(Heard::Success, MS * random.u32(..100), now),
            }
        }
    }
}

#[test]
fn the_rules_hold_on_a_long_random_walk() {
    for seed in 0..24 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (max_ejected, panic_threshold) = (random.f64(), random.f64());
        let settings = Settings {
            algorithm: ALL[random.usize(..4)],
            slow_start: random.bool().then_some(seconds(20)),
            outliers: Some(Outliers {
                max_ejected,
                ..Outliers::default()
            }),
            panic_threshold,
            checked: true,
            ..Settings::default()
        };
        let members = random.usize(1..12);
        Walk {
            world: World::new(settings, members),
            random,
            healthy: std::array::from_fn(|index| index < members),
            open: Vec::new(),
            max_ejected,
            panic_threshold,
        }
        .go();
    }
}

struct Walk {
    world: World,
    random: fastrand::Rng,
    /// What checks said of each.
    healthy: [bool; 16],
    open: Vec<Call>,
    max_ejected: f64,
    panic_threshold: f64,
}

impl Walk {
    fn go(mut self) {
        let mut ejected = 0;
        for _ in 0..1000 {
            self.world.after(MS * self.random.u32(..2000));
            ejected = self.step(ejected);
        }
        self.open.clear();
        let members = self.world.group.members();
        assert!(members.iter().all(|member| member.active() == 0));
    }

    fn step(&mut self, before: usize) -> usize {
        let members = self.world.group.members();
        let any = Arc::clone(&members[self.random.usize(..members.len())]);
        match self.random.u8(..100) {
            0 => self.change(),
            1..5 => {
                let is_healthy = self.random.bool();
                self.healthy[number(&any.endpoint().name)] = is_healthy;
                self.world.group.set_healthy(&any, is_healthy, self.world.now);
            }
            5..30 if !self.open.is_empty() => {
                let mut call = self.open.swap_remove(self.random.usize(..self.open.len()));
                let results = [Heard::Failure, Heard::Success];
                call.heard(results[self.random.usize(..2)], MS, self.world.now);
            }
            30..35 => (0..5).for_each(|_| any.begin().heard(Heard::GatewayFailure, MS, self.world.now)),
            _ => self.pick(),
        }
        self.check(before)
    }

    fn change(&mut self) {
        let first = self.random.usize(..4);
        let range = first..first + self.random.usize(1..12);
        let weighted: Vec<(usize, u32)> = range.clone().map(|index| (index, self.random.u32(1..=1000))).collect();
        self.world.set(weighted);
        for index in (0..16).filter(|index| !range.contains(index)) {
            // Whoever comes back is a newcomer, which waits for its first good check.
            self.healthy[index] = false;
        }
    }

    fn pick(&mut self) {
        let hash = self.random.bool().then(|| self.random.u64(..));
        let status = self.world.group.status(self.world.now);
        match self.world.group.pick(hash, &[], self.world.now) {
            Some(member) => {
                let name = member.endpoint().name.as_ref();
                let chosen = status.members.iter().find(|member| member.address == name);
                assert!(status.panicking || chosen.unwrap().in_service, "{chosen:?}");
                self.open.push(member.begin());
            }
            None => assert!(!status.panicking && status.members.iter().all(|member| !member.in_service)),
        }
    }

    /// What must hold at all times. Gives how many are ejected.
    fn check(&self, before: usize) -> usize {
        let status = self.world.group.status(self.world.now);
        let count = |is: fn(&crate::upstream::MemberStatus) -> bool| {
            let members = status.members.iter();
            members.filter(|member| is(member)).count()
        };
        for member in &status.members {
            assert_eq!(member.healthy, self.healthy[number(&member.address)]);
            assert_eq!(member.in_service, member.healthy && member.ejected_for.is_none());
            let left = member.ejected_for.unwrap_or(1.0);
            assert!(left > 0.0 && left <= 300.0, "{member:?}");
            assert!((0.1..=1.0).contains(&member.slow_start_share), "{member:?}");
        }
        let (all, in_service) = (status.members.len(), count(|member| member.in_service));
        let threshold = self.panic_threshold * all as f64;
        assert_eq!(status.panicking, (in_service as f64) < threshold);
        // Where others go, more may be left out than could be ejected now; but no more are.
        let ejected = count(|member| member.ejected_for.is_some());
        let cap = crate::upstream::ejection::cap(all, self.max_ejected);
        assert!(ejected <= cap.max(before), "{ejected} of {all}, {cap} may be");
        ejected
    }
}

fn number(name: &str) -> usize {
    let found = (0..16).find(|index| endpoint(*index).name.as_ref() == name);
    found.unwrap()
}
