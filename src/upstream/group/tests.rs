//! Groups under a scripted clock.

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::upstream::member::Heard;
use crate::upstream::settings::{Algorithm, Outliers};

mod algorithms;
mod cost;
mod service;
mod shared;
mod tail;

const MS: Duration = Duration::from_millis(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn endpoint(index: usize) -> Arc<Endpoint> {
    Arc::new(Endpoint::tcp(
        crate::upstream::Protocol::Http1,
        &format!("10.0.{}.{}", index / 250, index % 250),
        8080,
    ))
}

/// A group with a clock that goes when it is told to.
struct World {
    group: Arc<Group>,
    now: Instant,
}

impl World {
    fn weighted(settings: Settings, weights: &[u32]) -> Self {
        // The same draws each time: a test that fails does so again.
        fastrand::seed(7);
        let now = Instant::now();
        let group = Group::new("orders", settings, now);
        let world = Self { group, now };
        world.set(weights.iter().copied().enumerate());
        world
    }

    fn new(settings: Settings, members: usize) -> Self {
        Self::weighted(settings, &vec![1; members])
    }

    /// Makes these the members: number and weight.
    fn set(&self, members: impl IntoIterator<Item = (usize, u32)>) {
        let endpoints = members.into_iter().map(|(index, weight)| (endpoint(index), weight));
        self.group.set_endpoints(endpoints.collect(), self.now);
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
    }

    fn member(&self, index: usize) -> Arc<Member> {
        let name = &endpoint(index).name;
        let members = self.group.members();
        let found = members.into_iter().find(|member| member.endpoint().name == *name);
        found.unwrap()
    }

    fn pick(&self) -> Option<Arc<Member>> {
        self.group.pick(None, &[], self.now)
    }

    /// A call to that member.
    fn call(&self, index: usize, result: Heard) {
        let mut call = self.member(index).begin();
        call.heard(result, 10 * MS, self.now);
    }

    fn fail(&self, index: usize, times: usize) {
        for _ in 0..times {
            self.call(index, Heard::Failure);
        }
    }

    /// How often each is chosen.
    fn chosen(&self, picks: usize) -> HashMap<Arc<str>, usize> {
        let mut chosen = HashMap::new();
        for _ in 0..picks {
            let member = self.pick().unwrap();
            *chosen.entry(Arc::clone(&member.endpoint().name)).or_default() += 1;
        }
        chosen
    }

    /// The share of the choices that go to that member.
    fn share(&self, index: usize, picks: usize) -> f64 {
        let chosen = self.chosen(picks);
        chosen.get(&endpoint(index).name).copied().unwrap_or_default() as f64 / picks as f64
    }

    fn in_service(&self, index: usize) -> bool {
        let status = self.group.status(self.now);
        let mut members = status.members.into_iter();
        let found = members.find(|member| member.address == endpoint(index).name.as_ref());
        found.unwrap().in_service
    }

    fn out(&self) -> usize {
        let status = self.group.status(self.now);
        status.members.iter().filter(|member| !member.in_service).count()
    }
}

fn settings(algorithm: Algorithm) -> Settings {
    Settings {
        algorithm,
        ..Settings::default()
    }
}

const HASHED: Algorithm = Algorithm::ConsistentHash { max_load: None };
const ALL: [Algorithm; 4] = [Algorithm::RoundRobin, Algorithm::LeastRequests, HASHED, Algorithm::Ewma];

/// Whether a share is as expected, within a part of it.
#[track_caller]
fn close(share: f64, expected: f64, within: f64) {
    assert!(
        (share - expected).abs() <= expected * within,
        "{share} is not within {within} of {expected}"
    );
}
