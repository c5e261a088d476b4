//! What a cache owes its clients: a table of cases derived from the standards, section by section.
//!
//! The table is in `cache/table/`, its language in `parse`. Each case has a path of its own and takes its time, so all are
//! played side by side, before one app.

mod bounds;
mod case;
mod operating;
mod origin;
mod parse;
mod run;
mod scene;
mod seen;
mod sharing;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use self::case::Case;
use self::origin::Origin;
use crate::support::{Process, Setup};

/// How many cases are played at once. Most of their time they wait.
const PLAYERS: usize = 128;

/// A sidecar with a cache, and without one below `/off`.
///
/// Two workers, since an answer that one of them has stored is an answer for the clients of all.
fn sidecar(origin: &Origin, more: &str) -> Process {
    let setup = Setup::before(origin.url()).filters("cache: { enabled: true }");
    let setup = setup.with("routes: [{ match: { path: '/off/*' }, filters: { cache: { enabled: false } } }]");
    Process::run(&setup.with(more).yaml().replace("workers: 1", "workers: 2"))
}

/// Plays all cases before a sidecar with these lines of configuration besides; tells all that failed.
fn assert_hold(cases: &[Case], more: &str) {
    let origin = Origin::start();
    let mut sidecar = sidecar(&origin, more);
    let inbound = sidecar.inbound();
    let next = AtomicUsize::new(0);
    let player = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        let cases = numbers.map_while(|number| Some((number, cases.get(number)?)));
        let results = cases.map(|(number, case)| (number, run::play(case, number, inbound, &origin)));
        let faults = results.filter_map(|(number, result)| Some((number, result.err()?)));
        faults.collect::<Vec<(usize, String)>>()
    };
    let mut faults: Vec<(usize, String)> = thread::scope(|scope| {
        let players: Vec<_> = (0..PLAYERS.min(cases.len())).map(|_| scope.spawn(player)).collect();
        players.into_iter().flat_map(|player| player.join().unwrap()).collect()
    });
    faults.sort();
    let (count, all) = (faults.len(), cases.len());
    let faults: Vec<String> = faults.into_iter().map(|(_, fault)| fault).collect();
    assert!(
        faults.is_empty(),
        "{count} of {all} cases failed\n\n{}",
        faults.join("\n")
    );
}

macro_rules! table {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_str!(concat!("cache/table/", $file)))),*]
    };
}

fn table() -> Vec<Case> {
    let files = table![
        "rfc9111_3.txt",
        "rfc9111_3_1.txt",
        "rfc9111_3_3.txt",
        "rfc9111_3_5.txt",
        "rfc9111_4_1.txt",
        "rfc9111_4_2_1.txt",
        "rfc9111_4_2_2.txt",
        "rfc9111_4_2_4.txt",
        "rfc9111_4_3.txt",
        "rfc9111_4_3_2.txt",
        "rfc9111_4_4.txt",
        "rfc9111_5_1.txt",
        "rfc9111_5_2_1.txt",
        "rfc9111_5_2_2.txt",
        "rfc9111_5_3.txt",
        "rfc9110_conditional.txt",
        "rfc9110_methods.txt",
        "rfc9110_ranges.txt",
        "rfc5861.txt",
        "rfc8246.txt",
        "rfc9211.txt",
        "rfc9213.txt",
        "collapsing.txt",
        "poisoning.txt",
        "cookies.txt",
        "broken_bodies.txt",
        "odd_fields.txt",
    ];
    files.iter().flat_map(|(file, text)| parse::parse(file, text)).collect()
}

#[test]
fn the_table_holds() {
    let cases = table();
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    assert_hold(&cases, "");
}
