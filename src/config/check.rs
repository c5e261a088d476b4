//! Whether a configuration makes sense: what no type can say, because it is about several keys or their values.
//!
//! Works on what could be read, so that these mistakes are told together with those of shape. Whether a key is there is
//! asked of the tree: what was left out as wrong is there all the same.

mod chain;
mod peers;
mod routes;
mod upstreams;

use std::fmt;

use pillion_filters::units::HumanDuration;

use super::error::ConfigError;
use super::model::{AppAddress, Config, Explain, ListenAddress, Telemetry, Timeouts};
use super::node::{Kind, Node, Position};

/// Everything that does not make sense.
pub(super) fn check(tree: &Node, config: Option<&Config>, known: &[&str]) -> Vec<ConfigError> {
    let mut report = Report {
        tree,
        errors: Vec::new(),
    };
    if tree.at(&["inbound"]).is_none() && tree.at(&["outbound"]).is_none() {
        report.add(&[], "nothing to do: name `inbound` or `outbound`");
    }
    chain::check(&mut report, known);
    if let Some(config) = config {
        workers(&mut report, config);
        listeners(&mut report, config);
        open_proxy(&mut report, config);
        admin(&mut report, config);
        peers::check(&mut report, &config.admin.peers);
        telemetry(&mut report, &config.telemetry);
        explain(&mut report, &config.explain);
        durations(&mut report, config);
        routes::check(&mut report, config);
        upstreams::check(&mut report, config);
    }
    report.errors
}

/// Collects mistakes, each at the place of a path of keys.
struct Report<'t> {
    tree: &'t Node,
    errors: Vec<ConfigError>,
}

impl<'t> Report<'t> {
    /// Tells a mistake of the value at a path; of the nearest mapping around it if it has no value, being a default.
    fn add(&mut self, path: &[&str], message: &str) {
        let node = (0..=path.len())
            .rev()
            .find_map(|length| self.tree.at(path.get(..length)?))
            .unwrap_or(self.tree);
        self.at(node, &path.join("."), message);
    }

    /// Tells a mistake in words of its own, with what to write instead.
    fn tell(&mut self, position: &Position, path: String, message: String, help: impl Into<String>) {
        let error = ConfigError::new(position.clone(), message);
        self.errors.push(error.with_help(help).with_path(path));
    }

    /// A value of the typed configuration as it may be shown: as it was written where variables took part.
    fn shown(&self, path: &[&str], value: &dyn fmt::Display) -> String {
        let from_environment = self.tree.at(path).filter(|node| node.variables.is_some());
        from_environment.map_or_else(|| value.to_string(), Node::shown)
    }

    /// Tells a mistake of a value that was found already.
    fn at(&mut self, node: &'t Node, path: &str, message: &str) {
        let separator = if path.is_empty() { "" } else { ": " };
        self.errors
            .push(ConfigError::new(node.pos.clone(), format!("{path}{separator}{message}")).with_path(path));
    }
}

fn workers(report: &mut Report<'_>, config: &Config) {
    if let Some(workers) = config.workers.filter(|workers| !(1..=256).contains(workers)) {
        let workers = report.shown(&["workers"], &workers);
        let message = format!("expected a whole number from 1 to 256, found {workers}");
        report.add(&["workers"], &message);
    }
}

fn listeners(report: &mut Report<'_>, config: &Config) {
    let inbound = config.inbound.as_ref();
    let listeners: Vec<(&str, &ListenAddress)> = [
        inbound.map(|inbound| ("inbound", &inbound.listen)),
        config.outbound.as_ref().map(|outbound| ("outbound", &outbound.listen)),
        config.admin.enabled.then_some(("admin", &config.admin.listen)),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (index, (name, listen)) in listeners.iter().enumerate() {
        for (earlier, other) in &listeners[..index] {
            if listen.clashes_with(other) {
                // One of them may be a default; then the other is what somebody wrote.
                let is_written = report.tree.at(&[name, "listen"]).is_some();
                let pair = [(name, listen), (earlier, other)];
                let [(name, listen), (earlier, other)] = if is_written { pair } else { [pair[1], pair[0]] };
                let listen = report.shown(&[name, "listen"], listen);
                let other = report.shown(&[earlier, "listen"], other);
                let message = format!("`{listen}` is taken: {earlier}.listen is `{other}`");
                report.add(&[name, "listen"], &message);
            }
        }
    }
    let app = inbound.map(|inbound| &inbound.app);
    if let Some(AppAddress::Http1 { host, port } | AppAddress::Http2 { host, port }) = app {
        for (name, listen) in listeners {
            if listen.receives(host, *port) {
                let listen = report.shown(&[name, "listen"], listen);
                let message = format!("this is the sidecar itself, not the app: {name}.listen is `{listen}`");
                report.add(&["inbound", "app"], &message);
            }
        }
    }
}

/// Outbound serves whoever connects: away from loopback, only who asks for that gets an open proxy.
fn open_proxy(report: &mut Report<'_>, config: &Config) {
    let Some(outbound) = &config.outbound else { return };
    let tree = report.tree;
    let allowed = tree.at(&["outbound", "allow_remote"]).map(|node| &node.kind);
    // What is neither true nor false is told as such, and may have been meant as either.
    let is_wrong = allowed.is_some_and(|kind| !matches!(kind, Kind::Bool(_) | Kind::Null));
    let Some(node) = tree.at(&["outbound", "listen"]) else {
        return;
    };
    if !outbound.listen.is_loopback() && !outbound.allow_remote && !is_wrong {
        let listen = report.shown(&["outbound", "listen"], &outbound.listen);
        let message = format!("outbound.listen: `{listen}` lets other machines use the sidecar as their proxy");
        let help = "listen on `127.0.0.1`, or set `outbound.allow_remote: true` where only the app can connect";
        report.tell(&node.pos, "outbound.listen".to_owned(), message, help);
    }
}

fn admin(report: &mut Report<'_>, config: &Config) {
    let admin = &config.admin;
    // A token that could not be read is there all the same.
    let has_token = report.tree.at(&["admin", "token"]).is_some();
    if admin.enabled && !admin.listen.is_loopback() && !has_token {
        let listen = report.shown(&["admin", "listen"], &admin.listen);
        let message = format!("`{listen}` can be reached from other machines, so `admin.token` is required");
        report.add(&["admin", "listen"], &message);
    }
    if admin
        .token
        .as_ref()
        .is_some_and(|token| token.expose().trim().is_empty())
    {
        report.add(&["admin", "token"], "is empty");
    }
}

fn telemetry(report: &mut Report<'_>, telemetry: &Telemetry) {
    for (name, value) in &telemetry.otlp.headers {
        let path = ["telemetry", "otlp", "headers", name];
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            report.add(&path, "this is no header name");
        }
        if http::HeaderValue::from_str(value.expose()).is_err() {
            report.add(&path, "the value has characters that no header may have");
        }
    }
    if telemetry.otlp.batch_size > telemetry.otlp.queue_size {
        report.add(
            &["telemetry", "otlp", "batch_size"],
            "is more than queue_size, so no batch would ever be full",
        );
    }
    let path = ["telemetry", "histogram_buckets"];
    let buckets = &telemetry.histogram_buckets;
    let elements = report.tree.at(&path).map(Node::elements).unwrap_or_default();
    if buckets.is_empty() {
        report.add(&path, "expected at least one bound");
    }
    // A bound that is no number was left out, and the rest would be told at the wrong places.
    if buckets.len() != elements.len() {
        return;
    }
    for (index, node) in elements.iter().enumerate() {
        let before = index.checked_sub(1).map_or(0.0, |before| buckets[before]);
        let bound = buckets[index];
        if !bound.is_finite() || bound <= before {
            let after = index
                .checked_sub(1)
                .map_or("0".to_owned(), |before| elements[before].shown());
            let message = format!(
                "bounds must be above 0 and ascend, but {} comes after {after}",
                node.shown()
            );
            report.at(node, &format!("telemetry.histogram_buckets[{index}]"), &message);
            return;
        }
    }
}

/// Less would not hold one exchange of each kind with all its headers.
const LEAST_REMEMBERED: u64 = 64 * 1024;

fn explain(report: &mut Report<'_>, explain: &Explain) {
    let path = ["explain", "memory"];
    if explain.memory.0 < LEAST_REMEMBERED {
        let found = report.shown(&path, &explain.memory);
        let message = format!("expected at least 64KiB, found {found}; `explain.enabled: false` remembers nothing");
        report.add(&path, &message);
    }
    let path = ["explain", "show_headers"];
    for name in &explain.show_headers {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let message = format!("`{name}` is no header name");
            report.add(&path, &message);
        }
    }
}

fn durations(report: &mut Report<'_>, config: &Config) {
    let mut positive = |path: &[&str], duration: HumanDuration| {
        if duration.is_zero() {
            report.add(path, "must be longer than 0s");
        }
    };
    let Timeouts {
        connect,
        first_byte,
        idle,
        tunnel,
        exchange,
    } = config.timeouts;
    positive(&["timeouts", "connect"], connect);
    positive(&["timeouts", "first_byte"], first_byte);
    positive(&["timeouts", "idle"], idle);
    positive(&["timeouts", "tunnel"], tunnel);
    if let Some(exchange) = exchange.0 {
        positive(&["timeouts", "exchange"], exchange);
    }
    positive(&["pool", "idle_timeout"], config.pool.idle_timeout);
    positive(&["explain", "slow"], config.explain.slow);
    let inbound = config.inbound.as_ref().map(|inbound| ("inbound", &inbound.connections));
    let outbound = config
        .outbound
        .as_ref()
        .map(|outbound| ("outbound", &outbound.connections));
    for (name, limits) in inbound.into_iter().chain(outbound) {
        positive(&[name, "connections", "header_timeout"], limits.header_timeout);
        positive(&[name, "connections", "idle_timeout"], limits.idle_timeout);
    }
    positive(&["telemetry", "otlp", "timeout"], config.telemetry.otlp.timeout);
    positive(&["telemetry", "otlp", "interval"], config.telemetry.otlp.interval);
}
