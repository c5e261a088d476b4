//! A configuration without mistakes, and what each filter gets of it.
//!
//! A filter's settings are laid over each other as layers are: `filters` at the top level, then those of the
//! direction (`inbound.filters`), then those of the route.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use pillion_filters::Direction;

use super::error::{ConfigError, Sources};
use super::merge::merge;
use super::model::Config;
use super::node::{Key, Kind, Node, Position};
use super::overlay::Override;

/// A configuration that was read and makes sense.
#[derive(Clone)]
pub struct Loaded {
    /// Its typed part.
    pub config: Config,
    /// The whole of it as one tree, filters' settings included; each value knows where it was written.
    pub tree: Node,
    /// The texts it was read from.
    pub sources: Sources,
    /// The files it was read from, those whose contents are values too.
    pub files: Vec<PathBuf>,
    /// The tree without what lies over it; `None` where nothing does.
    pub(super) base: Option<Node>,
    /// What lies over the files.
    pub(super) overrides: Vec<Override>,
}

/// A filter of a chain.
#[derive(Clone, Debug)]
pub struct ConfiguredFilter {
    /// Its name: in `chain`, in `filters`, in metrics and logs.
    pub name: String,
    /// The plugin it is an instance of; the same as its name unless `plugin` says otherwise.
    pub plugin: String,
    /// What errors call its settings, such as `routes[2].filters.cache`.
    pub path: String,
    /// Its settings, all layers laid over each other, without the keys that every filter has.
    pub settings: Node,
}

/// Only the typed part, which knows what is secret; the tree and the files' texts do not.
impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    /// What the files alone say.
    pub(super) fn base(&self) -> &Node {
        self.base.as_ref().unwrap_or(&self.tree)
    }

    /// What lies over the files, the later over the earlier.
    pub fn overrides(&self) -> &[Override] {
        &self.overrides
    }

    /// Whether the files say the same, in the same places.
    pub fn is_same_text(&self, other: &Self) -> bool {
        self.base() == other.base()
    }

    /// The filters that take part, in order, for a direction and the route at that place in `routes`.
    pub fn chain(&self, direction: Direction, route: Option<usize>) -> Vec<ConfiguredFilter> {
        let names = self.config.chain.iter();
        let enabled = names.filter(|name| self.is_enabled(direction, route, name));
        enabled.map(|name| self.configured(direction, route, name)).collect()
    }

    /// The filters that have settings there but take no part, in no order that means something.
    pub fn off(&self, direction: Direction, route: Option<usize>) -> Vec<ConfiguredFilter> {
        let chain = &self.config.chain;
        let names = chain
            .iter()
            .chain(self.config.filters.keys().filter(|name| !chain.contains(name)));
        let off = names.filter(|name| !chain.contains(name) || !self.is_enabled(direction, route, name));
        let configured = off.map(|name| self.configured(direction, route, name));
        configured
            .filter(|filter| !filter.settings.entries().is_empty())
            .collect()
    }

    fn configured(&self, direction: Direction, route: Option<usize>, name: &str) -> ConfiguredFilter {
        ConfiguredFilter {
            name: name.to_owned(),
            plugin: self.plugin(name).to_owned(),
            path: self.path(direction, route, name),
            settings: self.filter(direction, route, name),
        }
    }

    /// A filter's settings for a direction and a route, without the keys that every filter has. Empty if it has none.
    pub fn filter(&self, direction: Direction, route: Option<usize>, name: &str) -> Node {
        let layers = self.layers(direction, route, name).into_iter().flatten().cloned();
        let mut settings = layers
            .reduce(merge)
            .unwrap_or_else(|| Node::new(Kind::Map(Vec::new()), self.place_in_chain(name)));
        if let Kind::Map(entries) = &mut settings.kind {
            entries.retain(|(key, _)| key.name != "enabled" && key.name != "plugin");
        }
        settings
    }

    /// The name of the route at that place in `routes`: given, or its template, or its place.
    pub fn route_name(&self, index: usize) -> String {
        let route = self.config.routes.get(index);
        let named = route.and_then(|route| {
            let template = route.matches.path.as_ref().map(|path| path.as_str().to_owned());
            route.name.clone().or(template)
        });
        named.unwrap_or_else(|| format!("route-{index}"))
    }

    /// Whether a filter takes part for a direction and a route, given that it is in the chain.
    pub fn is_enabled(&self, direction: Direction, route: Option<usize>, name: &str) -> bool {
        let layers = self.layers(direction, route, name);
        let said = |node: &Node| match node.at(&["enabled"])?.kind {
            Kind::Bool(enabled) => Some(enabled),
            _ => None,
        };
        layers.into_iter().flatten().rev().find_map(said).unwrap_or(true)
    }

    /// The plugin a filter is an instance of.
    pub fn plugin<'l>(&'l self, name: &'l str) -> &'l str {
        let plugin = self
            .config
            .filters
            .get(name)
            .and_then(|filter| filter.plugin.as_deref());
        plugin.unwrap_or(name)
    }

    /// Warns of filters that somebody wrote settings for and that are on nowhere, not by anybody's word but by the built-in
    /// default.
    pub fn forgotten(&self) -> Vec<ConfigError> {
        let sides = [
            (Direction::Inbound, self.config.inbound.is_some()),
            (Direction::Outbound, self.config.outbound.is_some()),
        ];
        let sides = sides
            .into_iter()
            .filter_map(|(side, is_there)| is_there.then_some(side));
        let places: Vec<(Direction, Option<usize>)> = sides
            .flat_map(|side| {
                let routes = self.config.routes.iter().enumerate();
                let routes = routes.filter(move |(_, route)| Direction::from(route.direction) == side);
                std::iter::once((side, None)).chain(routes.map(move |(index, _)| (side, Some(index))))
            })
            .collect();
        let forgotten = |name: &String| {
            let is_on = |&(side, route): &(Direction, Option<usize>)| self.is_enabled(side, route, name);
            let layers = places.iter().flat_map(|&(side, route)| {
                let path = self.path(side, route, name);
                let layers = self.layers(side, route, name).into_iter().flatten();
                layers.map(move |layer| (path.clone(), layer))
            });
            let written: Vec<(String, &Key)> = layers
                .flat_map(|(path, layer)| layer.entries().iter().map(move |(key, _)| (path.clone(), key)))
                .filter(|(_, key)| &*key.pos.file != super::BUILT_IN)
                .collect();
            let is_said = written.iter().any(|(_, key)| key.name == "enabled");
            let (path, key) = written.first().filter(|_| !is_said && !places.iter().any(is_on))?;
            let message = format!("{path}: has settings, but is off, as it is unless a service turns it on");
            let warning = ConfigError::new(key.pos.clone(), message).with_path(path.clone());
            Some(warning.with_help("add `enabled: true`, or `enabled: false` if that is meant"))
        };
        self.config.chain.iter().filter_map(forgotten).collect()
    }

    /// The settings of a filter at each level, the lowest first.
    fn layers(&self, direction: Direction, route: Option<usize>, name: &str) -> [Option<&Node>; 3] {
        let route = route.and_then(|index| self.tree.at(&["routes"])?.elements().get(index));
        [
            self.tree.at(&["filters", name]),
            self.tree.at(&[direction.as_str(), "filters", name]),
            route.and_then(|route| route.at(&["filters", name])),
        ]
    }

    /// The path of the highest level that has settings: that is where most mistakes are.
    fn path(&self, direction: Direction, route: Option<usize>, name: &str) -> String {
        match (self.layers(direction, route, name), route) {
            ([_, _, Some(_)], Some(index)) => format!("routes[{index}].filters.{name}"),
            ([_, Some(_), _], _) => format!("{}.filters.{name}", direction.as_str()),
            _ => format!("filters.{name}"),
        }
    }

    fn place_in_chain(&self, name: &str) -> Position {
        let chain = self.tree.at(&["chain"]);
        let named = chain.and_then(|chain| chain.elements().iter().find(|element| element.as_str() == Some(name)));
        named.map_or_else(
            || Position::whole(&Arc::from(super::BUILT_IN)),
            |element| element.pos.clone(),
        )
    }
}
