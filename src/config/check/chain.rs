//! The chain and the filters' settings must name plugins there are, and each other.

use std::collections::HashMap;

use super::Report;
use crate::config::BUILT_IN;
use crate::config::error::suggest;
use crate::config::node::{Key, Kind, Node};

pub(super) fn check(report: &mut Report<'_>, known: &[&str]) {
    let tree = report.tree;
    let chain = tree.at(&["chain"]);
    let filters = tree.at(&["filters"]).map(Node::entries).unwrap_or_default();
    let names = Names {
        chain: chain
            .map(Node::elements)
            .unwrap_or_default()
            .iter()
            .filter_map(Node::as_str)
            .collect(),
        filters,
        known,
    };
    for (key, settings) in set(filters) {
        names.configured(report, key, settings);
    }
    names.chain(report, chain);
    for direction in ["inbound", "outbound"] {
        if let Some(overlays) = tree.at(&[direction, "filters"]) {
            names.overlays(report, overlays, &format!("{direction}.filters"));
        }
    }
    let routes = tree.at(&["routes"]).map(Node::elements).unwrap_or_default();
    for (index, route) in routes.iter().enumerate() {
        if let Some(overlays) = route.at(&["filters"]) {
            names.overlays(report, overlays, &format!("routes[{index}].filters"));
        }
    }
}

/// A null takes a filter's settings away.
fn set(entries: &[(Key, Node)]) -> impl Iterator<Item = &(Key, Node)> {
    entries.iter().filter(|(_, settings)| settings.kind != Kind::Null)
}

struct Names<'t> {
    chain: Vec<&'t str>,
    filters: &'t [(Key, Node)],
    known: &'t [&'t str],
}

impl<'t> Names<'t> {
    fn plugin(&self, name: &'t str) -> &'t str {
        let settings = self.filters.iter().find(|(key, _)| key.name == name);
        let plugin = settings.and_then(|(_, settings)| settings.at(&["plugin"])?.as_str());
        plugin.unwrap_or(name)
    }

    fn is_known(&self, name: &'t str) -> bool {
        self.known.contains(&self.plugin(name))
    }

    /// Names that may stand in the chain.
    fn all(&self) -> impl Iterator<Item = &'t str> {
        let named = self.filters.iter().map(|(key, _)| key.name.as_str());
        let own = named.filter(|name| !self.known.contains(name) && self.is_known(name));
        self.known.iter().copied().chain(own)
    }

    fn configured(&self, report: &mut Report<'_>, key: &'t Key, settings: &'t Node) {
        let name = key.name.as_str();
        let path = format!("filters.{name}");
        if let Some(plugin) = settings.at(&["plugin"]) {
            let unknown = plugin.as_str().filter(|plugin| !self.known.contains(plugin));
            if let Some(unknown) = unknown {
                let message = format!("unknown plugin `{}` in {path}", plugin.shown());
                let help = suggest(unknown, self.known.iter().copied());
                return report.tell(&plugin.pos, format!("{path}.plugin"), message, help);
            }
        } else if !self.is_known(name) {
            if *key.pos.file == *BUILT_IN {
                // What the defaults say of a plugin that this build leaves out.
                return;
            }
            let message = format!("unknown filter `{name}` in filters");
            return report.tell(&key.pos, path, message, suggest(name, self.all()));
        }
        let disabled = settings
            .at(&["enabled"])
            .is_some_and(|node| node.kind == Kind::Bool(false));
        if !self.chain.contains(&name) && !disabled {
            let message = format!("`{name}` is configured but not in `chain`");
            report.tell(&key.pos, path, message, "add it there, or write `enabled: false`");
        }
    }

    fn chain(&self, report: &mut Report<'_>, chain: Option<&'t Node>) {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (index, node) in chain.map(Node::elements).unwrap_or_default().iter().enumerate() {
            let Some(name) = node.as_str() else { continue };
            let (path, shown) = (format!("chain[{index}]"), node.shown());
            let configured = self.filters.iter().any(|(key, _)| key.name == name);
            if let Some(first) = seen.insert(name, node.pos.line) {
                let message = format!("`{shown}` is in `chain` already, on line {first}");
                let help = format!("give the second one its own name and, in `filters`, `plugin: {shown}`");
                report.tell(&node.pos, path, message, help);
            } else if !self.is_known(name) && !configured {
                // A configured one of an unknown kind was told where it is configured.
                let message = format!("unknown filter `{shown}` in chain");
                report.tell(&node.pos, path, message, suggest(name, self.all()));
            }
        }
    }

    fn overlays(&self, report: &mut Report<'_>, overlays: &'t Node, path: &str) {
        for (key, settings) in set(overlays.entries()) {
            let name = key.name.as_str();
            let at = format!("{path}.{name}");
            if self.chain.contains(&name) {
                if let Some((plugin, _)) = settings.entry("plugin") {
                    let message = format!("{at}: the plugin of a filter is the same everywhere");
                    let help = "set it in `filters` at the top level";
                    report.tell(&plugin.pos, format!("{at}.plugin"), message, help);
                }
            } else if self.is_known(name) {
                let message = format!("`{name}` is configured in {path} but not in `chain`");
                report.tell(&key.pos, at, message, "add it there");
            } else {
                let message = format!("unknown filter `{name}` in {path}");
                report.tell(&key.pos, at, message, suggest(name, self.chain.iter().copied()));
            }
        }
    }
}
