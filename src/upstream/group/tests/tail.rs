//! How each algorithm copes with one slow or failing endpoint of ten: a simulation of events, with the group itself choosing. Run by
//! hand; prints the tables of docs/upstreams.md and draws docs/balance.svg:
//! `cargo test --profile quick --lib how_slow_the_slowest_are -- --ignored --nocapture`

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;

use super::*;
use crate::upstream::settings::Beyond;
use crate::upstream::{Call, hash};

const ENDPOINTS: usize = 10;
/// How many requests an endpoint works on at a time; further ones wait.
const AT_A_TIME: usize = 8;
const RATE: f64 = 600.0;
const SECONDS: f64 = 600.0;
/// Until the algorithms know their endpoints.
const WARM_UP: f64 = 30.0;

/// What is wrong with the first endpoint.
#[derive(Clone, Copy, PartialEq)]
enum Bad {
    /// It takes ten times as long.
    Slow,
    /// It fails at once.
    Failing,
}

#[derive(Default)]
struct Result {
    /// Seconds, in order.
    latencies: Vec<f64>,
    to_bad: usize,
}

impl Result {
    fn percentile(&self, part: f64) -> f64 {
        let last = self.latencies.len() - 1;
        1000.0 * self.latencies[(last as f64 * part) as usize]
    }

    fn share(&self) -> f64 {
        100.0 * self.to_bad as f64 / self.latencies.len() as f64
    }
}

/// Exponentially distributed, with that mean.
fn exponential(random: &mut fastrand::Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

/// A request at an endpoint.
struct Request {
    arrived: f64,
    call: Call,
}

fn simulate(settings: Settings, bad: Bad) -> Result {
    fastrand::seed(7);
    let mut random = fastrand::Rng::with_seed(7);
    let world = World::new(settings, ENDPOINTS);
    let at = |seconds: f64| world.now + Duration::from_secs_f64(seconds);
    let mut waiting: Vec<VecDeque<Request>> = (0..ENDPOINTS).map(|_| VecDeque::new()).collect();
    let mut working: Vec<HashMap<u64, Request>> = (0..ENDPOINTS).map(|_| HashMap::new()).collect();
    // Ends of work, in nanoseconds: when, where, which.
    let mut ends: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let (mut result, mut number, mut next) = (Result::default(), 0_u64, 0.0);
    let mut begin = |endpoint: usize, now: f64, request, working: &mut Vec<HashMap<_, _>>, ends: &mut BinaryHeap<_>| {
        let mean = match (endpoint, bad) {
            (0, Bad::Slow) => 0.1,
            (0, Bad::Failing) => 0.0002,
            _ => 0.01,
        };
        number += 1;
        let end = now + exponential(&mut random, mean);
        working[endpoint].insert(number, request);
        ends.push(Reverse(((end * 1e9) as u64, endpoint, number)));
        exponential(&mut random, 1.0 / RATE)
    };
    let mut arrivals = fastrand::Rng::with_seed(11);
    while next < SECONDS || !ends.is_empty() {
        let end = ends.peek().map(|Reverse((end, ..))| *end as f64 / 1e9);
        if next < SECONDS && end.is_none_or(|end| next <= end) {
            let key = hash(&arrivals.u16(..10_000).to_be_bytes());
            let member = world.group.pick(Some(key), &[], at(next)).unwrap();
            let endpoint = (0..ENDPOINTS).find(|index| world.member(*index).endpoint().name == member.endpoint().name);
            let endpoint = endpoint.unwrap();
            let request = Request {
                arrived: next,
                call: member.begin(),
            };
            if next > WARM_UP && endpoint == 0 {
                result.to_bad += 1;
            }
            if working[endpoint].len() < AT_A_TIME {
                begin(endpoint, next, request, &mut working, &mut ends);
            } else {
                waiting[endpoint].push_back(request);
            }
            next += exponential(&mut arrivals, 1.0 / RATE);
            continue;
        }
        let Some(Reverse((end, endpoint, number))) = ends.pop() else {
            break;
        };
        let now = end as f64 / 1e9;
        let mut done = working[endpoint].remove(&number).unwrap();
        let took = (now - done.arrived).max(0.0);
        let is_bad = bad == Bad::Failing && endpoint == 0;
        let heard = if is_bad { Heard::Failure } else { Heard::Success };
        done.call.heard(heard, Duration::from_secs_f64(took), at(now));
        if done.arrived > WARM_UP {
            result.latencies.push(took);
        }
        drop(done);
        if let Some(request) = waiting[endpoint].pop_front() {
            begin(endpoint, now, request, &mut working, &mut ends);
        }
    }
    result.latencies.sort_unstable_by(f64::total_cmp);
    result
}

/// What is compared: its name, its colour, its settings.
fn contenders() -> Vec<(&'static str, &'static str, Settings)> {
    let with_latency = Settings {
        outliers: Some(Outliers {
            latency: Some(Beyond {
                limit: 5.0,
                min_requests: 50,
            }),
            ..Outliers::default()
        }),
        ..settings(Algorithm::RoundRobin)
    };
    let bounded = Algorithm::ConsistentHash { max_load: Some(1.25) };
    vec![
        ("round_robin", "#c0392b", settings(Algorithm::RoundRobin)),
        ("consistent_hash", "#8e44ad", settings(HASHED)),
        ("consistent_hash, max_load 1.25", "#d35400", settings(bounded)),
        ("round_robin, outliers by latency", "#7f8c8d", with_latency),
        ("least_requests", "#2980b9", settings(Algorithm::LeastRequests)),
        ("ewma", "#27ae60", settings(Algorithm::Ewma)),
    ]
}

const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

#[test]
#[ignore = "a simulation of an hour, which draws docs/balance.svg"]
fn how_slow_the_slowest_are() {
    let mut drawn = Vec::new();
    println!("| balance | to the slow one | p50 | p90 | p99 | p99.9 |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, colour, settings) in contenders() {
        let result = simulate(settings, Bad::Slow);
        let shown = PERCENTILES[..4]
            .iter()
            .map(|(_, part)| format!("{:.0} ms", result.percentile(*part)));
        println!(
            "| {name} | {:.1} % | {} |",
            result.share(),
            shown.collect::<Vec<_>>().join(" | ")
        );
        drawn.push((name, colour, result));
    }
    println!("\n| balance | failed, without ejection | with |");
    println!("| --- | --- | --- |");
    for (name, _, settings) in contenders().into_iter().filter(|(name, ..)| !name.contains("outliers")) {
        let with = simulate(settings.clone(), Bad::Failing);
        let without = Settings {
            outliers: None,
            ..settings
        };
        let without = simulate(without, Bad::Failing);
        println!("| {name} | {:.2} % | {:.2} % |", without.share(), with.share());
    }
    std::fs::write("docs/balance.svg", svg(&drawn)).unwrap();
}

/// Latency over percentile, both by their logarithms.
fn svg(drawn: &[(&str, &str, Result)]) -> String {
    let (width, height, left, top) = (760.0, 420.0, 70.0, 50.0);
    let (right, bottom) = (width - 30.0, height - 60.0);
    let x = |part: f64| left + (right - left) * ((1.0 / (1.0 - part)).log10() - 2_f64.log10()) / (4.0 - 2_f64.log10());
    let y = |millis: f64| bottom - (bottom - top) * (millis.max(1.0).log10()) / 4.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"24\" font-size=\"15\">Latency, one endpoint of ten being ten times as slow (simulated, 600 requests a second)</text>\n"
    );
    for (name, part) in PERCENTILES {
        let at = x(part);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{name}</text>",
            bottom + 18.0
        );
    }
    for (name, millis) in [
        ("1 ms", 1.0),
        ("10 ms", 10.0),
        ("100 ms", 100.0),
        ("1 s", 1000.0),
        ("10 s", 10_000.0),
    ] {
        let at = y(millis);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for (place, (name, colour, result)) in drawn.iter().enumerate() {
        let points = (0..=74).map(|step| 1.0 - 0.5 * 10_f64.powf(-f64::from(step) / 20.0));
        let line = points.map(|part| format!("{:.1},{:.1}", x(part), y(result.percentile(part))));
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.collect::<Vec<_>>().join(" ")
        );
        let at = top + 16.0 + 16.0 * place as f64;
        let _ = writeln!(
            svg,
            "<path d=\"M{} {at}h20\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"{}\" y=\"{}\">{name}</text>",
            left + 12.0,
            left + 38.0,
            at + 4.0
        );
    }
    svg + "</svg>\n"
}
