//! Any sequence of requests, responses, purges and time steps: the cache never serves what the RFC forbids.
//!
//! A simulated world asks a chain with the cache alone; for each answer that is not the origin's an [`oracle`] looks
//! through all that the origin ever said for a response that justifies it. It knows nothing of how the plugin works.
//!
//! `CACHE_SEED` runs the sequence of that seed alone, with all that happens in it. `CACHE_SEQUENCES` says how many to run,
//! `CACHE_STEPS` how long they are at most.

use std::str::FromStr;

use fastrand::Rng;

mod alphabet;
mod clients;
mod history;
mod live;
mod oracle;
mod origin;
mod policy;
mod rfc;
mod world;
use world::World;

/// Sequences in an ordinary run, from a fixed seed and from a random one each.
const SEQUENCES: u64 = 1000;
const STEPS: usize = 60;

fn setting<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// How many steps there were, and how often the cache did what.
type Done = (usize, Vec<(&'static str, u64)>);

/// Runs the sequence of a seed; what is wrong, and what happened before it.
fn run(seed: u64) -> Result<Done, (String, Vec<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut rng = Rng::with_seed(seed);
    let steps = rng.usize(2..setting("CACHE_STEPS").unwrap_or(STEPS).max(3));
    runtime.block_on(tokio::task::unconstrained(async move {
        let mut world = World::new(rng);
        for _ in 0..steps {
            if let Err(wrong) = world.step().await {
                return Err((wrong, world.log));
            }
        }
        match world.end().await {
            Ok(()) => Ok((steps, world.results())),
            Err(wrong) => Err((wrong, world.log)),
        }
    }))
}

fn run_from(first: u64, count: u64) {
    for seed in first..first + count {
        if let Err((wrong, log)) = run(seed) {
            panic!("CACHE_SEED={seed}: {wrong}\n\n{}", log.join("\n"));
        }
    }
}

#[test]
fn no_sequence_makes_it_serve_what_is_forbidden() {
    if let Some(seed) = setting("CACHE_SEED") {
        return run_from(seed, 1);
    }
    let count = setting("CACHE_SEQUENCES").unwrap_or(SEQUENCES);
    run_from(1, count);
    let fresh = fastrand::u64(..1 << 48);
    println!("and from {fresh} on");
    run_from(fresh, count);
}

/// The rule alone, without the numbers in it.
fn kind(wrong: &str) -> String {
    let first = wrong.lines().next().unwrap_or_default();
    let without: String = first.chars().filter(|character| !character.is_ascii_digit()).collect();
    without.split(['(', '{', ':']).next().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "a tool: tells how often each rule is broken, with the shortest example of each"]
fn rules_broken() {
    let mut found = std::collections::BTreeMap::<String, (usize, usize, u64)>::new();
    let first = setting("CACHE_FIRST").unwrap_or(1);
    let began = std::time::Instant::now();
    let (mut steps, mut did) = (0, std::collections::BTreeMap::new());
    for seed in first..first + setting("CACHE_SEQUENCES").unwrap_or(SEQUENCES) {
        match run(seed) {
            Ok((count, results)) => {
                steps += count;
                for (result, times) in results {
                    *did.entry(result).or_insert(0) += times;
                }
            }
            Err((wrong, log)) => {
                let rule = found.entry(kind(&wrong)).or_insert((0, usize::MAX, 0));
                rule.0 += 1;
                if log.len() < rule.1 {
                    (rule.1, rule.2) = (log.len(), seed);
                }
            }
        }
    }
    for (rule, (times, shortest, seed)) in &found {
        println!("{times} times, {shortest} lines with seed {seed}: {rule}");
    }
    println!("{steps} steps, {:?}, {did:?}", began.elapsed());
}
