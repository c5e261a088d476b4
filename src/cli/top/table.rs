//! What is shown, as lines of text.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::format::{NONE, bytes, cut, duration, millis, name, percent, rate};
use super::numbers::Rates;
use super::{Breaker, Cache, Caches, Member, Upstreams};
use crate::admin::stats::Stats;

/// Beyond these a route is marked.
const P95_TARGET: f64 = 200.0;
const ERRORS_TARGET: f64 = 0.05;
/// What the other columns of a route leave.
const NARROWEST_ROUTE: usize = 16;
const OTHER_COLUMNS: usize = 67;
/// At least so many routes are shown, whatever else there is.
const LEAST_ROUTES: usize = 5;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    /// Most requests a second.
    Rate,
    /// Largest share of errors.
    Errors,
    /// Slowest.
    P95,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Heading,
    Wrong,
    Faint,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) style: Style,
}

/// Everything at one time.
pub(super) struct Frame<'s> {
    pub(super) stats: &'s Stats,
    pub(super) upstreams: &'s Upstreams,
    pub(super) caches: &'s Caches,
    pub(super) rates: Vec<Rates>,
    /// CPU time a second.
    pub(super) cpu: Option<f64>,
    pub(super) sort: Sort,
    /// Why there is nothing newer.
    pub(super) lost: Option<&'s str>,
}

fn line(style: Style, text: impl Into<String>) -> Line {
    let text = text.into();
    Line { text, style }
}

impl Frame<'_> {
    /// All of it; for a screen, as much as fits.
    pub(super) fn lines(&self, size: Option<(usize, usize)>) -> Vec<Line> {
        let width = size.map_or(120, |(width, _)| width);
        let mut lines = self.header();
        let below = self.below();
        let room = size.map_or(usize::MAX, |(_, height)| {
            height.saturating_sub(lines.len() + below.len() + 2).max(LEAST_ROUTES)
        });
        lines.extend(self.routes(width, room));
        lines.extend(below);
        if let Some((_, height)) = size {
            lines.truncate(height.saturating_sub(1));
            lines.push(line(Style::Faint, "q leaves; sort by r rate, e errors, p p95"));
        }
        lines
    }

    fn header(&self) -> Vec<Line> {
        let stats = self.stats;
        let (standing, style) = match (stats.draining, stats.ready) {
            (true, _) => ("draining", Style::Wrong),
            (false, true) => ("ready", Style::Heading),
            (false, false) => ("NOT READY", Style::Wrong),
        };
        let text = format!(
            "{}  {standing}  up {}  configuration #{}  CPU {}  memory {}  connections {} in, {} out",
            name(&stats.service),
            duration(stats.uptime_seconds),
            stats.generation,
            percent(self.cpu),
            bytes(stats.resident_bytes),
            stats.connections.inbound,
            stats.connections.outbound,
        );
        let mut lines = vec![line(style, text)];
        let wrong = stats.checks.iter().filter(|(_, said)| *said != "ok");
        lines.extend(wrong.map(|(check, said)| line(Style::Wrong, format!("{}: {}", name(check), name(said)))));
        if let Some(why) = self.lost {
            lines.push(line(
                Style::Wrong,
                format!("no answer, what follows is old: {}", name(why)),
            ));
        }
        lines.push(line(Style::Plain, ""));
        lines
    }

    fn routes(&self, width: usize, room: usize) -> Vec<Line> {
        if self.rates.is_empty() {
            return vec![line(Style::Faint, "no request has been counted yet")];
        }
        let mut routes: Vec<&Rates> = self.rates.iter().collect();
        let by = |rates: &Rates| match self.sort {
            Sort::Rate => rates.rate,
            Sort::Errors => rates.errors,
            Sort::P95 => rates.p95,
        };
        // Stable: what is equal stays where it was.
        routes.sort_by(|a, b| by(b).partial_cmp(&by(a)).unwrap_or(Ordering::Equal));
        let longest = routes.iter().map(|route| name(&route.route).chars().count()).max();
        let column = longest
            .unwrap_or(0)
            .min(width.saturating_sub(OTHER_COLUMNS))
            .max(NARROWEST_ROUTE);
        let heading = format!(
            "    {:<column$} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>10}",
            "ROUTE", "RATE/s", "ERRORS", "P50", "P95", "P99", "ACTIVE", "BYTES/s"
        );
        let mut lines = vec![line(Style::Heading, heading)];
        let shown = if routes.len() > room {
            room.saturating_sub(1)
        } else {
            routes.len()
        };
        lines.extend(routes.iter().take(shown).map(|route| of_route(route, column)));
        if shown < routes.len() {
            lines.push(line(Style::Faint, format!("    and {} more", routes.len() - shown)));
        }
        lines
    }

    fn below(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let members = self.upstreams.upstreams.iter();
        let members = members.flat_map(|upstream| upstream.members.iter().map(move |member| (&upstream.name, member)));
        section(
            &mut lines,
            "UPSTREAM",
            members.map(|(upstream, member)| of_member(upstream, member)),
        );
        let breakers = self.upstreams.breakers.iter();
        let breakers = breakers.filter(|breaker| breaker.state != "closed" || breaker.forced);
        section(&mut lines, "BREAKER", breakers.map(of_breaker));
        section(&mut lines, "CACHE", self.caches.caches.iter().map(of_cache));
        lines
    }
}

fn section(lines: &mut Vec<Line>, heading: &str, rows: impl Iterator<Item = Line>) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        lines.push(line(Style::Plain, ""));
        lines.push(line(Style::Heading, heading));
        lines.extend(rows);
    }
}

fn of_route(route: &Rates, column: usize) -> Line {
    let failing = route.errors.is_some_and(|errors| errors > ERRORS_TARGET);
    let slow = route.p95.is_some_and(|p95| p95 > P95_TARGET);
    // Marked by a sign as well: not everybody sees colours, and a file has none.
    let marked = |text: String, is: bool| if is { text + "!" } else { text };
    let side = if route.direction == "inbound" { "in" } else { "out" };
    let text = format!(
        "{side:<3} {:<column$} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>10}",
        cut(&name(&route.route), column),
        rate(route.rate),
        marked(percent(route.errors), failing),
        millis(route.p50),
        marked(millis(route.p95), slow),
        millis(route.p99),
        route.active,
        route.bytes.map_or_else(|| NONE.to_owned(), bytes),
    );
    line(if failing || slow { Style::Wrong } else { Style::Plain }, text)
}

fn of_member(upstream: &str, member: &Member) -> Line {
    let standing = match member.ejected_for {
        Some(left) => format!("ejected for {}", duration(left.ceil())),
        None if !member.healthy => "unhealthy".to_owned(),
        None if !member.in_service => "out of service".to_owned(),
        None => "in service".to_owned(),
    };
    let text = format!(
        "    {} {}  {standing}  latency {}  active {}  good {}  failed {}",
        name(upstream),
        name(&member.address),
        millis(member.latency_ms),
        member.active,
        member.successes,
        member.failures,
    );
    line(if member.in_service { Style::Plain } else { Style::Wrong }, text)
}

fn of_breaker(breaker: &Breaker) -> Line {
    let mut text = format!(
        "    {} {}  {}",
        name(&breaker.direction),
        name(&breaker.upstream),
        name(&breaker.state)
    );
    if breaker.forced {
        text.push_str(", forced");
    } else if let Some(reason) = &breaker.reason {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {}", name(reason));
    }
    line(Style::Wrong, text)
}

fn of_cache(cache: &Cache) -> Line {
    let weighed = cache.routes.iter().filter_map(|route| {
        let asked = route.requests.values().sum::<u64>() as f64;
        Some((asked, asked * route.hit_ratio?))
    });
    let (asked, hits) = weighed.fold((0.0, 0.0), |(asked, hits), (more, of)| (asked + more, hits + of));
    let text = format!(
        "    {} {}  hits {}  {} responses  {} of {}",
        name(&cache.direction),
        name(&cache.filter),
        percent((asked > 0.0).then(|| hits / asked)),
        cache.entries,
        bytes(cache.bytes as f64),
        bytes(cache.capacity_bytes as f64),
    );
    line(Style::Plain, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str, rate: f64, errors: f64, p95: f64) -> Rates {
        Rates {
            direction: "inbound".to_owned(),
            route: name.to_owned(),
            active: 1.0,
            rate: Some(rate),
            errors: Some(errors),
            p50: Some(1.5),
            p95: Some(p95),
            p99: None,
            bytes: Some(2048.0),
        }
    }

    fn lines(rates: Vec<Rates>, sort: Sort, size: Option<(usize, usize)>) -> Vec<Line> {
        let breaker = Breaker {
            direction: "outbound".to_owned(),
            upstream: "users".to_owned(),
            state: "open".to_owned(),
            reason: Some("5 calls failed".to_owned()),
            ..Breaker::default()
        };
        let upstreams = Upstreams {
            breakers: vec![breaker],
            ..Upstreams::default()
        };
        let frame = Frame {
            stats: &Stats::default(),
            upstreams: &upstreams,
            caches: &Caches::default(),
            rates,
            cpu: None,
            sort,
            lost: None,
        };
        frame.lines(size)
    }

    #[test]
    fn the_largest_comes_first_and_what_is_beyond_target_is_marked() {
        let rates = || {
            vec![
                route("/a", 10.0, 0.06, 20.0),
                route("/b", 5.0, 0.0, 250.0),
                route("/c", 7.0, 0.0, 1.0),
            ]
        };
        for (sort, first) in [(Sort::Rate, "/a"), (Sort::Errors, "/a"), (Sort::P95, "/b")] {
            let lines = lines(rates(), sort, None);
            let heading = lines.iter().position(|line| line.text.contains("ROUTE")).unwrap();
            assert!(lines[heading + 1].text.contains(first), "{sort:?}: {lines:?}");
        }
        let lines = lines(rates(), Sort::Rate, None);
        let of = |name: &str| lines.iter().find(|line| line.text.contains(name)).unwrap();
        assert!(of("/a").text.contains("6.0%!") && of("/a").style == Style::Wrong);
        assert!(of("/b").text.contains("250ms!"));
        assert!(of("/c").style == Style::Plain && !of("/c").text.contains('!'));
        assert!(
            lines
                .iter()
                .any(|line| line.text.trim() == "outbound users  open: 5 calls failed")
        );
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let rates = (0..100)
            .map(|number| route(&format!("/{number}"), 1.0, 0.0, 1.0))
            .collect();
        let lines = lines(rates, Sort::Rate, Some((80, 24)));
        assert_eq!(lines.len(), 24);
        let left = lines.iter().filter(|line| line.text.starts_with("in ")).count();
        assert!(
            lines
                .iter()
                .any(|line| line.text.contains(&format!("and {} more", 100 - left))),
            "{lines:?}"
        );
        assert!(lines.iter().any(|line| line.text == "BREAKER"));
    }

    #[test]
    fn a_route_writes_nowhere_else() {
        let lines = lines(vec![route("/\x1b[2J\nx", 1.0, 0.0, 1.0)], Sort::Rate, None);
        assert!(
            lines.iter().all(|line| !line.text.contains(char::is_control)),
            "{lines:?}"
        );
    }
}
