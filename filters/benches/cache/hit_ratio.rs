//! Hits of the store and of plain LRU, both with room for the same share of the pages.

use crate::driver::Driver;
use crate::lru::Lru;
use crate::zipf::Zipf;

const PAGES: u32 = 100_000;
const BODY: usize = 1024;
/// To fill both, not counted.
const FIRST: u32 = 1_000_000;
const COUNTED: u32 = 1_000_000;
const SEED: u64 = 1;

pub(crate) fn run() {
    let weight = weight();
    println!("{PAGES} pages of {BODY} bytes, {COUNTED} requests after {FIRST} that are not counted\n");
    println!("| Zipf exponent | room for | best possible | store | LRU | store during a crawl | LRU during a crawl |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for exponent in [0.8, 1.0, 1.2] {
        let zipf = Zipf::new(PAGES, exponent);
        for percent in [1, 5, 10] {
            let room = PAGES as usize * percent / 100;
            let best = zipf.best(room);
            let played = play(&zipf, weight * room as u64, room);
            let ratios: Vec<String> = [best]
                .iter()
                .chain(&played)
                .map(|ratio| format!("{:.1} %", ratio * 100.0))
                .collect();
            println!("| {exponent:.1} | {percent} % | {} |", ratios.join(" | "));
        }
    }
}

/// What one page weighs, as the store sees it.
fn weight() -> u64 {
    let driver = Driver::new(1 << 20, BODY, &[]);
    driver.ask(0);
    let (entries, bytes) = driver.claimed();
    assert_eq!(entries, 1);
    bytes
}

/// The hits of both, in the long run; then while somebody crawls through all pages, one for each page that is asked for
/// otherwise.
fn play(zipf: &Zipf, size: u64, room: usize) -> [f64; 4] {
    let (store, mut lru) = (Driver::new(size, BODY, &[]), Lru::new(PAGES, room));
    let mut dice = fastrand::Rng::with_seed(SEED);
    let mut ask = |requests: u32, crawl: bool| {
        let mut hits = [0, 0];
        for number in 0..requests {
            let page = zipf.next(&mut dice);
            hits[0] += u32::from(store.ask(page));
            hits[1] += u32::from(lru.ask(page));
            if crawl {
                store.ask(number);
                lru.ask(number);
            }
        }
        hits.map(|hits| f64::from(hits) / f64::from(requests))
    };
    ask(FIRST, false);
    let usual = ask(COUNTED, false);
    let crawled = ask(PAGES, true);
    [usual[0], usual[1], crawled[0], crawled[1]]
}
