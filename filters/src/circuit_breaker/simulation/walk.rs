//! A random walk, in which the oracle has to agree after each step.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Bench, oracle};
use crate::circuit_breaker::breaker::{Admitted, Permit};
use crate::circuit_breaker::machine::Force;
use crate::circuit_breaker::reason::Reason;

/// What led it from state to state.
fn walk(seed: u64) -> BTreeSet<&'static str> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let config = serde_json::json!({
        "failures": {
            "consecutive": rng.u32(2..6), "ratio": 0.5, "min_calls": rng.u32(4..12), "window": "2s",
        },
        "slow": { "after": "1s", "ratio": 0.8 },
        "open": { "for": "3s", "growth": 2, "max": "10s", "jitter": 0 },
        "half_open": { "probes": rng.u32(1..4), "successes": rng.u32(1..4) },
    });
    let mut bench = Bench::new(&config.to_string());
    let mut oracle = oracle::Oracle::new(&config, bench.now);
    let failing = rng.u32(5..80);
    let mut calls: Vec<Instant> = Vec::new();
    let mut probes: Vec<(Permit, u64)> = Vec::new();
    let mut reasons = BTreeSet::new();
    for step in 0..400 {
        bench.pass([0, 1, 40, 150, 700, 2500][rng.usize(..6)]);
        let (failed, slow) = (rng.u32(..100) < failing, rng.u32(..5) == 0);
        match rng.u32(..100) {
            0..=44 => match (bench.admit(), oracle.admit(bench.now)) {
                (Admitted::Pass, oracle::Said::Pass) => calls.push(bench.now),
                (Admitted::Probe(permit), oracle::Said::Probe(number)) => probes.push((permit, number)),
                (Admitted::Refused(_), oracle::Said::Refused) => {}
                (ours, theirs) => panic!("seed {seed} step {step}: {ours:?}, but {theirs:?}"),
            },
            45..=84 if !calls.is_empty() => {
                let began = calls.swap_remove(rng.usize(..calls.len()));
                bench.call_from(began, failed, slow);
                oracle.called(bench.now, began, failed, slow);
            }
            85..=95 if !probes.is_empty() => {
                let (permit, number) = probes.swap_remove(rng.usize(..probes.len()));
                if rng.u32(..6) == 0 {
                    drop(permit);
                    oracle.given_back(number);
                } else {
                    bench.settle(permit, !failed);
                    oracle.probed(bench.now, number, !failed);
                }
            }
            96 => {
                let force = [Force::Open, Force::Closed, Force::Auto][rng.usize(..3)];
                bench.breaker.force(force, bench.now);
                oracle.force(bench.now, force);
            }
            _ => {}
        }
        assert_eq!(bench.state(), oracle.state(), "seed {seed} step {step}");
        let reason = bench.breaker.look(bench.now, |machine, _, _| machine.reason());
        reasons.extend(reason.map(Reason::as_str));
    }
    reasons
}

#[test]
fn a_random_walk_goes_where_the_oracle_goes() {
    let seen: BTreeSet<_> = (0..2000).flat_map(walk).collect();
    assert_eq!(seen, BTreeSet::from(Reason::NAMES), "it goes every way there is");
    let fresh = fastrand::u64(..1 << 48);
    println!("and from {fresh} on");
    for seed in fresh..fresh + 500 {
        walk(seed);
    }
}
