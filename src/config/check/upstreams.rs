//! Upstreams must be somewhere, routes must name one there is, and shares must be shares.

use std::collections::HashMap;

use pillion_filters::units::HumanDuration;

use super::Report;
use crate::config::error::suggest;
use crate::config::model::{AppAddress, BalanceAlgorithm, Config, HashKey, HealthProbe, Upstream};
use crate::config::node::Node;

/// The upstream that `inbound.app` is.
const APP: &str = "app";

pub(super) fn check(report: &mut Report<'_>, config: &Config) {
    for (name, upstream) in &config.upstreams {
        let of = Of { name, upstream };
        of.name(report);
        of.whereabouts(report);
        of.balance(report);
        of.health(report);
        of.outliers(report);
        of.durations(report);
        of.share(report, &["panic_threshold"], upstream.panic_threshold);
    }
    hosts(report, config);
    routes(report, config);
}

/// An upstream, and what it is called.
struct Of<'c> {
    name: &'c str,
    upstream: &'c Upstream,
}

impl Of<'_> {
    fn path<'p>(&'p self, keys: &[&'p str]) -> Vec<&'p str> {
        [&["upstreams", self.name], keys].concat()
    }

    fn has(&self, report: &Report<'_>, keys: &[&str]) -> bool {
        report.tree.at(&self.path(keys)).is_some()
    }

    fn add(&self, report: &mut Report<'_>, keys: &[&str], message: &str) {
        report.add(&self.path(keys), message);
    }

    fn name(&self, report: &mut Report<'_>) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.len() > 63 || !self.name.chars().all(allowed) {
            self.add(
                report,
                &[],
                "an upstream's name is of letters, digits, `.`, `_` and `-`, at most 63",
            );
        }
    }

    /// Where its endpoints come from. What was left out as wrong is there all the same.
    fn whereabouts(&self, report: &mut Report<'_>) {
        let (endpoints, dns) = (self.has(report, &["endpoints"]), self.has(report, &["dns"]));
        if self.name == APP {
            for key in ["endpoints", "dns", "hosts"] {
                if self.has(report, &[key]) {
                    self.add(
                        report,
                        &[key],
                        "`app` is where `inbound.app` says: give other endpoints another name",
                    );
                }
            }
            if report.tree.at(&["inbound"]).is_none() {
                self.add(report, &[], "`app` is what `inbound.app` is, but there is no `inbound`");
            }
        } else if endpoints && dns {
            self.add(report, &["dns"], "write either `endpoints` or `dns`");
        } else if !endpoints && !dns {
            self.add(report, &[], "needs `endpoints` or `dns`: where is it?");
        }
        self.endpoints(report);
        if let Some(dns) = &self.upstream.dns {
            self.looked_up(report, &dns.address);
        }
    }

    fn looked_up(&self, report: &mut Report<'_>, address: &AppAddress) {
        match address {
            AppAddress::Unix(_) => self.add(
                report,
                &["dns", "address"],
                "a Unix socket has no name to look up: use `endpoints`",
            ),
            AppAddress::Http1 { host, .. } | AppAddress::Http2 { host, .. } | AppAddress::Auto { host, .. } => {
                if host.parse::<std::net::IpAddr>().is_ok() {
                    let message = "an IP address is no name to look up: use `endpoints`";
                    self.add(report, &["dns", "address"], message);
                }
            }
        }
    }

    fn endpoints(&self, report: &mut Report<'_>) {
        let path = self.path(&["endpoints"]);
        let Some(list) = report.tree.at(&path) else { return };
        let nodes = list.elements();
        if nodes.is_empty() {
            self.add(report, &["endpoints"], "needs at least one address");
        }
        // One that could not be read was left out, and the rest would be told at the wrong places.
        if nodes.len() != self.upstream.endpoints.len() {
            return;
        }
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (index, (endpoint, node)) in self.upstream.endpoints.iter().zip(nodes).enumerate() {
            let path = format!("{}[{index}]", path.join("."));
            if !(1..=1000).contains(&endpoint.weight) {
                let weight = node.at(&["weight"]).unwrap_or(node);
                let message = format!("expected a whole number from 1 to 1000, found {}", weight.shown());
                report.at(weight, &format!("{path}.weight"), &message);
            }
            let address = node.at(&["address"]).unwrap_or(node);
            if let Some(first) = seen.insert(endpoint.address.to_string(), address.pos.line) {
                let message = format!(
                    "`{}` is in the list already, on line {first}: give it a weight",
                    address.shown()
                );
                report.at(address, &path, &message);
            }
        }
    }

    fn balance(&self, report: &mut Report<'_>) {
        let balance = &self.upstream.balance;
        let is_hash = balance.algorithm == BalanceAlgorithm::ConsistentHash;
        // An algorithm that could not be read may have been that one.
        let is_other = !is_hash && (balance.algorithm != BalanceAlgorithm::default() || self.is_read(report));
        if is_hash && !self.has(report, &["balance", "hash"]) {
            let message = "`consistent_hash` needs `hash`: `{ header: NAME }`, `{ cookie: NAME }` or `client`";
            self.add(report, &["balance", "hash"], message);
        }
        for key in ["hash", "max_load"] {
            if is_other && self.has(report, &["balance", key]) {
                self.add(report, &["balance", key], "is only for `algorithm: consistent_hash`");
            }
        }
        if balance.max_load.is_some_and(|bound| !bound.is_finite() || bound <= 1.0) {
            self.add(
                report,
                &["balance", "max_load"],
                "must be more than 1, which is the fair share",
            );
        }
        match &balance.hash {
            Some(HashKey::Header(name)) if http::HeaderName::from_bytes(name.as_bytes()).is_err() => {
                self.add(report, &["balance", "hash", "header"], "this is no header name");
            }
            Some(HashKey::Cookie(name)) if !is_token(name) => {
                self.add(report, &["balance", "hash", "cookie"], "this is no cookie name");
            }
            _ => {}
        }
    }

    /// Whether the algorithm is the default because nothing else was written.
    fn is_read(&self, report: &Report<'_>) -> bool {
        let written = report.tree.at(&self.path(&["balance", "algorithm"]));
        written.is_none_or(|node| node.as_str() == Some("least_requests"))
    }

    fn health(&self, report: &mut Report<'_>) {
        let Some(health) = &self.upstream.health else { return };
        self.share(report, &["health", "jitter"], health.jitter);
        if let HealthProbe::Http(check) = &health.check {
            let at = |key| ["health", "check", "http", key];
            let path = check.path.parse::<http::uri::PathAndQuery>();
            if !check.path.starts_with('/') || path.is_err() {
                self.add(report, &at("path"), "must be a path such as `/healthz`");
            }
            if check.status.iter().any(|status| !(100..=599).contains(status)) {
                self.add(
                    report,
                    &at("status"),
                    "has a number that is no status: they go from 100 to 599",
                );
            }
            let is_host = |host: &String| host.parse::<http::uri::Authority>().is_ok();
            if check.host.as_ref().is_some_and(|host| !is_host(host)) {
                self.add(report, &at("host"), "this is no host");
            }
        }
        if health.timeout > health.interval {
            let message = "is longer than the interval, so checks would overlap";
            self.add(report, &["health", "timeout"], message);
        }
    }

    fn outliers(&self, report: &mut Report<'_>) {
        let outliers = &self.upstream.outliers;
        self.share(report, &["outliers", "max_ejected"], outliers.max_ejected);
        if let Some(failures) = &outliers.failure_share {
            self.share(
                report,
                &["outliers", "failure_share", "above_others"],
                failures.above_others,
            );
        }
        let is_below_one = |times: f64| !times.is_finite() || times <= 1.0;
        if outliers
            .latency
            .is_some_and(|latency| is_below_one(latency.times_others))
        {
            self.add(report, &["outliers", "latency", "times_others"], "must be more than 1");
        }
        if outliers.max_ejection < outliers.ejection {
            let message = "is shorter than `ejection`, the first one";
            self.add(report, &["outliers", "max_ejection"], message);
        }
    }

    fn durations(&self, report: &mut Report<'_>) {
        let upstream = self.upstream;
        let outliers = &upstream.outliers;
        let mut positive = |keys: &[&str], duration: HumanDuration| {
            if duration.is_zero() {
                self.add(report, keys, "must be longer than 0s");
            }
        };
        positive(&["balance", "decay"], upstream.balance.decay);
        positive(&["outliers", "interval"], outliers.interval);
        positive(&["outliers", "ejection"], outliers.ejection);
        if let Some(window) = upstream.slow_start.0 {
            positive(&["slow_start"], window);
        }
        if let Some(dns) = &upstream.dns {
            positive(&["dns", "refresh"], dns.refresh);
        }
        if let Some(health) = &upstream.health {
            positive(&["health", "interval"], health.interval);
            positive(&["health", "timeout"], health.timeout);
        }
    }

    fn share(&self, report: &mut Report<'_>, keys: &[&str], share: f64) {
        if !(0.0..=1.0).contains(&share) {
            let shown = report.shown(&self.path(keys), &share);
            self.add(report, keys, &format!("expected a share from 0 to 1, found {shown}"));
        }
    }
}

/// A cookie's name is a token (RFC 6265, section 4.1.1), as a method is.
fn is_token(name: &str) -> bool {
    http::Method::from_bytes(name.as_bytes()).is_ok()
}

/// A host stands for one upstream.
fn hosts(report: &mut Report<'_>, config: &Config) {
    let mut seen = HashMap::new();
    for (name, upstream) in &config.upstreams {
        let path = ["upstreams", name, "hosts"];
        let nodes = report.tree.at(&path).map(Node::elements).unwrap_or_default();
        if nodes.len() != upstream.hosts.len() {
            continue;
        }
        for (index, (host, node)) in upstream.hosts.iter().zip(nodes).enumerate() {
            if let Some(other) = seen.insert(host, name) {
                let message = format!("`{}` stands for `{other}` already", node.shown());
                report.at(node, &format!("{}[{index}]", path.join(".")), &message);
            }
        }
    }
}

fn routes(report: &mut Report<'_>, config: &Config) {
    let nodes = report.tree.at(&["routes"]).map(Node::elements).unwrap_or_default();
    // An upstream that could not be read is there all the same.
    let written = report.tree.at(&["upstreams"]).map(Node::entries).unwrap_or_default();
    let mut known: Vec<&str> = written.iter().map(|(key, _)| key.name.as_str()).collect();
    if report.tree.at(&["inbound"]).is_some() && !known.contains(&APP) {
        known.push(APP);
    }
    if nodes.len() != config.routes.len() {
        return;
    }
    for (index, node) in nodes.iter().enumerate() {
        let Some(upstream) = node.at(&["upstream"]) else {
            continue;
        };
        let Some(name) = upstream.as_str().filter(|name| !known.contains(name)) else {
            continue;
        };
        let path = format!("routes[{index}].upstream");
        let message = format!("{path}: there is no upstream `{}`", upstream.shown());
        let help = if known.is_empty() {
            "name it in `upstreams` at the top level".to_owned()
        } else {
            suggest(name, known.iter().copied())
        };
        report.tell(&upstream.pos, path, message, help);
    }
}
