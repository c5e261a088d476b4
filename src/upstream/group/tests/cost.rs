//! What a choice costs. Run by hand; prints the table of docs/upstreams.md:
//! `cargo test --profile quick --lib what_a_choice_costs -- --ignored --nocapture`

use std::fmt::Write as _;
use std::hint::black_box;

use super::*;
use crate::upstream::hash;

const ROUNDS: u32 = 300_000;

/// Nanoseconds for one of these: the least of seven rounds, as noise only adds.
fn nanos(mut what: impl FnMut(u64)) -> f64 {
    let round = |what: &mut dyn FnMut(u64)| {
        let began = Instant::now();
        (0..u64::from(ROUNDS)).for_each(|turn| what(black_box(turn)));
        began.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
    };
    (0..7).map(|_| round(&mut what)).fold(f64::INFINITY, f64::min)
}

fn heard_of(settings: Settings, weights: &[u32]) -> World {
    let mut world = World::weighted(settings, weights);
    for member in world.group.members() {
        world.after(Duration::from_micros(100));
        let took = Duration::from_micros(fastrand::u64(9000..11_000));
        member.begin().heard(Heard::Success, took, world.now);
    }
    world
}

fn whole_call(world: &World, turn: u64) {
    let member = world.group.pick(Some(hash(&turn.to_be_bytes())), &[], world.now);
    let mut call = member.unwrap().begin();
    call.heard(Heard::Success, 10 * MS, world.now + Duration::from_micros(turn));
}

#[test]
#[ignore = "a measurement: needs an optimised build and a quiet machine"]
fn what_a_choice_costs() {
    println!("| algorithm | 1 | 10 | 100 | 1,000 | 1,000 of many weights |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let bounded = Algorithm::ConsistentHash { max_load: Some(1.25) };
    let mut calls = Vec::new();
    let named = [
        ("`round_robin`", Algorithm::RoundRobin),
        ("`least_requests`", Algorithm::LeastRequests),
        ("`ewma`", Algorithm::Ewma),
        ("`consistent_hash`", HASHED),
        ("`consistent_hash` with `max_load`", bounded),
    ];
    for (name, algorithm) in named {
        let equal = [1, 10, 100, 1000].map(|members| vec![1; members]);
        let many: Vec<u32> = (1..=1000).collect();
        let mut row = format!("| {name} |");
        for weights in equal.iter().chain([&many]) {
            let world = heard_of(settings(algorithm), weights);
            let took = nanos(|turn| {
                black_box(world.group.pick(Some(hash(&turn.to_be_bytes())), &[], world.now));
            });
            let _ = write!(row, " {took:.0} |");
        }
        println!("{row}");
        let world = heard_of(settings(algorithm), &[1; 1000]);
        let whole = nanos(|turn| whole_call(&world, turn));
        calls.push(format!("{name} {whole:.0}"));
    }
    println!("with the call counted and heard of, ns at 1,000: {}", calls.join(", "));
    let mut shared = Vec::new();
    for (name, algorithm) in named {
        let world = heard_of(settings(algorithm), &[1; 10]);
        let took = std::thread::scope(|scope| {
            let other = scope.spawn(|| nanos(|turn| whole_call(&world, turn)));
            nanos(|turn| whole_call(&world, turn)).max(other.join().unwrap())
        });
        shared.push(format!("{name} {took:.0}"));
    }
    println!("the same by two threads at once, ns at 10: {}", shared.join(", "));
    for (name, algorithm) in [("equal", Algorithm::RoundRobin), ("hashed", HASHED)] {
        for weights in [vec![1; 1000], (1..=1000).collect()] {
            let checked = Settings {
                checked: true,
                ..settings(algorithm)
            };
            let world = heard_of(checked, &weights);
            let member = world.member(0);
            let mut healthy = true;
            let began = Instant::now();
            for _ in 0..100 {
                healthy = !healthy;
                world.group.set_healthy(&member, healthy, world.now);
            }
            let change = began.elapsed() / 100;
            let began = Instant::now();
            (0..20).for_each(|_| world.set(weights.iter().copied().enumerate()));
            let members = began.elapsed() / 20;
            println!(
                "{name}, weights to {}: a change of health {change:?}, of members {members:?}",
                weights[999]
            );
        }
    }
}
