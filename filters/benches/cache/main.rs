//! What the store of the `cache` plugin is worth, and what it takes.
//!
//! ```text
//! cargo bench --package pillion-filters --bench cache -- hit-ratio   beside plain LRU, on a Zipf workload
//! cargo bench --package pillion-filters --bench cache -- memory      beside what the entries claim to take up
//! ```
//!
//! Both drive the filter as the engine does, so that what is stored is what a sidecar would store.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "for who runs it, who is told at once"
)]

mod driver;
mod hit_ratio;
mod lru;
mod memory;
mod zipf;

/// The allocator of the sidecar, or what an entry takes would be another's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["hit-ratio"] => hit_ratio::run(),
        ["memory"] => memory::run(),
        ["memory", case] => memory::measure(case),
        _ => println!("say what: hit-ratio or memory"),
    }
}
