//! What entries take up, by the pages of the process that are in memory, and what they claim.

use std::process::Command;

use crate::driver::Driver;

const ENTRIES: u32 = 100_000;
const PAGE: u64 = 4096;

/// What is stored: its name, the size of its body, its fields beside the usual ones.
struct Case(&'static str, usize, &'static [(&'static str, &'static str)]);

const CASES: [Case; 8] = [
    Case("what is not stored", 0, &[("Cache-Control", "no-store")]),
    Case("no body", 0, &[]),
    Case("100 bytes", 100, &[]),
    Case("1 KiB", 1024, &[]),
    Case("10 KiB", 10_240, &[]),
    Case("1 KiB, a tag of its own", 1024, &[("Cache-Tag", OWN)]),
    Case("1 KiB, varies", 1024, &[("Vary", "Accept-Encoding")]),
    Case(
        "1 KiB, 16 common tags",
        1024,
        &[("Cache-Tag", "a b c d e f g h i j k l m n o p")],
    ),
];

/// Stands for the number of the page.
pub(crate) const OWN: &str = "page";

/// Each case in a process of its own: what one frees, the next would use again.
pub(crate) fn run() {
    println!("| {ENTRIES} entries of | bytes claimed | bytes taken | claimed / taken |");
    println!("| --- | ---: | ---: | ---: |");
    let myself = std::env::current_exe().expect("a path");
    for Case(name, ..) in &CASES {
        let status = Command::new(&myself).args(["memory", name]).status();
        assert!(status.expect("a process").success(), "{name}");
    }
}

pub(crate) fn measure(name: &str) {
    let Case(_, body, fields) = CASES.iter().find(|case| case.0 == name).expect("a case of that name");
    let one = Driver::new(1 << 20, *body, fields);
    one.ask(0);
    // Three quarters full: moka counts how often pages are asked for from half full on.
    let room = one.claimed().1 * u64::from(ENTRIES) / 3 * 4;
    let driver = Driver::new(room, *body, fields);
    for _ in 0..1000 {
        driver.ask(ENTRIES);
    }
    let before = resident();
    for page in 0..ENTRIES {
        assert!(!driver.ask(page));
    }
    let taken = (resident() - before) as f64 / f64::from(ENTRIES);
    let (entries, bytes) = driver.claimed();
    assert!(entries > u64::from(ENTRIES), "only {entries} entries");
    let claimed = bytes as f64 / f64::from(ENTRIES);
    println!("| {name} | {claimed:.0} | {taken:.0} | {:.2} |", claimed / taken);
}

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    resident.expect("a number") * PAGE
}
