//! Routes must differ, have conditions, and belong to traffic there is.

use std::collections::HashMap;

use super::Report;
use crate::config::model::{Config, Route, RouteDirection};
use crate::config::node::Node;

pub(super) fn check(report: &mut Report<'_>, config: &Config) {
    let nodes = report.tree.at(&["routes"]).map(Node::elements).unwrap_or_default();
    // A route that could not be read was left out, and the rest would be told at the wrong places.
    if nodes.len() != config.routes.len() {
        return;
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (index, (route, node)) in config.routes.iter().zip(nodes).enumerate() {
        let path = format!("routes[{index}]");
        if let Some(name) = route.name.as_deref() {
            let value = node.at(&["name"]).unwrap_or(node);
            if name.trim().is_empty() {
                report.at(value, &format!("{path}.name"), "is empty");
            }
            if let Some(first) = names.insert(name, value.pos.line) {
                let message = format!("`{}` is another route's name already, on line {first}", value.shown());
                report.at(value, &format!("{path}.name"), &message);
            }
        }
        direction(report, route, node, &path);
        conditions(report, route, node, &path);
        timeouts(report, route, node, &path);
    }
}

fn direction<'t>(report: &mut Report<'t>, route: &Route, node: &'t Node, path: &str) {
    let direction = match route.direction {
        RouteDirection::Inbound => "inbound",
        RouteDirection::Outbound => "outbound",
    };
    let any = report.tree.at(&["inbound"]).is_some() || report.tree.at(&["outbound"]).is_some();
    if any && report.tree.at(&[direction]).is_none() {
        let message = format!("this route is for {direction} traffic, but there is no `{direction}`");
        report.at(node.at(&["direction"]).unwrap_or(node), path, &message);
    }
}

fn conditions<'t>(report: &mut Report<'t>, route: &Route, node: &'t Node, path: &str) {
    let Some(conditions) = node.at(&["match"]) else { return };
    let path = format!("{path}.match");
    if conditions.entries().is_empty() {
        report.at(
            conditions,
            &path,
            "needs a condition; `path: \"/*\"` is for every request",
        );
    }
    if let (Some(methods), Some(_)) = (conditions.at(&["methods"]), conditions.at(&["method"])) {
        report.at(
            methods,
            &format!("{path}.methods"),
            "write either `method` or `methods`",
        );
    }
    for name in route.matches.headers.keys() {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let header = conditions.at(&["headers", name]).unwrap_or(conditions);
            report.at(header, &format!("{path}.headers.{name}"), "this is no header name");
        }
    }
}

fn timeouts<'t>(report: &mut Report<'t>, route: &Route, node: &'t Node, path: &str) {
    let timeouts = &route.timeouts;
    for (name, duration) in [
        ("connect", timeouts.connect),
        ("first_byte", timeouts.first_byte),
        ("idle", timeouts.idle),
        ("exchange", timeouts.exchange.and_then(|limit| limit.0)),
    ] {
        if duration.is_some_and(|duration| duration.is_zero()) {
            let value = node.at(&["timeouts", name]).unwrap_or(node);
            report.at(value, &format!("{path}.timeouts.{name}"), "must be longer than 0s");
        }
    }
}
