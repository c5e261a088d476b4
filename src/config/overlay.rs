//! What an operator changes by the admin API, laid over what the files say.
//!
//! It stands where the same lines in a file would stand, with two differences. To turn a filter off turns it off wherever
//! it is on: that is what is meant in trouble. And nothing in it is expanded: whoever may use the API is not to read the
//! environment through it.

use std::collections::HashSet;
use std::sync::Arc;

use pillion_filters::Direction;
use serde_json::Value;

use super::loaded::Loaded;
use super::merge::merge;
use super::node::{Key, Kind, Node, Position};

/// The name of the layer on top of all others, in place of a file's.
pub const ADMIN_API: &str = "(admin API)";

/// A change of one filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The filter's name.
    pub filter: String,
    /// For which direction; both if there is none.
    pub direction: Option<Direction>,
    /// For the routes of that name; all if there is none.
    pub route: Option<String>,
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// Its other settings.
    pub settings: Option<serde_json::Map<String, Value>>,
}

impl Override {
    /// Whether the other is for the same requests.
    pub fn is_at(&self, other: &Self) -> bool {
        (&self.filter, self.direction, &self.route) == (&other.filter, other.direction, &other.route)
    }

    /// Whether whatever the other sets is set by this one, too.
    pub fn covers(&self, other: &Self) -> bool {
        let keys = |of: &Self| {
            let mut keys = Vec::new();
            leaf_keys(&Value::Object(of.settings.clone().unwrap_or_default()), "", &mut keys);
            keys
        };
        let own: HashSet<String> = keys(self).into_iter().collect();
        self.is_at(other)
            && (self.enabled.is_some() || other.enabled.is_none())
            && keys(other).iter().all(|key| own.contains(key))
    }

    /// Its settings as a configuration has them.
    pub fn node(&self) -> Node {
        node(&Value::Object(self.settings.clone().unwrap_or_default()))
    }

    /// The places in `routes` that it is for.
    fn routes<'l>(&'l self, loaded: &'l Loaded) -> impl Iterator<Item = usize> + 'l {
        let routes = loaded.config.routes.iter().enumerate();
        let of_direction = move |direction: Direction| self.direction.is_none_or(|wanted| wanted == direction);
        routes
            .filter(move |(_, route)| of_direction(route.direction.into()))
            .map(|(index, _)| index)
            .filter(|&index| self.route.as_ref().is_none_or(|name| loaded.route_name(index) == *name))
    }

    /// Whether there is anything that it is for.
    pub fn applies(&self, loaded: &Loaded) -> bool {
        let has_side = |direction: Direction| loaded.tree.at(&[direction.as_str()]).is_some();
        let is_known = loaded.config.chain.contains(&self.filter) && self.direction.is_none_or(has_side);
        is_known && (self.route.is_none() || self.routes(loaded).next().is_some())
    }

    /// Lays it over a tree that reads as `loaded`.
    fn lay_over(&self, tree: &mut Node, loaded: &Loaded) {
        let mut settings = Value::Object(self.settings.clone().unwrap_or_default());
        if let (Value::Object(settings), Some(enabled)) = (&mut settings, self.enabled) {
            settings.insert("enabled".to_owned(), Value::Bool(enabled));
        }
        let settings = node(&settings);
        let routes: Vec<usize> = self.routes(loaded).collect();
        if self.route.is_some() {
            for index in routes {
                if let Some(route) = route(tree, index) {
                    lay(route, &["filters", &self.filter], &settings);
                }
            }
            return;
        }
        match self.direction {
            None => lay(tree, &["filters", &self.filter], &settings),
            Some(direction) => lay(tree, &[direction.as_str(), "filters", &self.filter], &settings),
        }
        if self.enabled != Some(false) {
            return;
        }
        let off = node(&serde_json::json!({ "enabled": false }));
        let says = |node: &Node, path: &[&str]| node.at(path).is_some();
        if self.direction.is_none() {
            for side in [Direction::Inbound, Direction::Outbound].map(Direction::as_str) {
                if says(tree, &[side, "filters", &self.filter, "enabled"]) {
                    lay(tree, &[side, "filters", &self.filter], &off);
                }
            }
        }
        for index in routes {
            let route = route(tree, index);
            if let Some(route) = route.filter(|route| says(route, &["filters", &self.filter, "enabled"])) {
                lay(route, &["filters", &self.filter], &off);
            }
        }
    }

    /// The settings that it does not reach, because a direction or a route says something of its own:
    /// `routes[2].filters.cache.ttl`.
    pub fn shadowed(&self, loaded: &Loaded) -> Vec<String> {
        if self.route.is_some() {
            return Vec::new();
        }
        let mut keys = Vec::new();
        leaf_keys(&Value::Object(self.settings.clone().unwrap_or_default()), "", &mut keys);
        if self.enabled == Some(true) {
            keys.push("enabled".to_owned());
        }
        let sides = [Direction::Inbound, Direction::Outbound].map(Direction::as_str);
        let sides = sides.into_iter().filter(|_| self.direction.is_none()).map(|side| {
            let node = loaded.tree.at(&[side, "filters", &self.filter]);
            (format!("{side}.filters.{}", self.filter), node)
        });
        let routes = self.routes(loaded).map(|index| {
            let route = loaded
                .tree
                .at(&["routes"])
                .and_then(|routes| routes.elements().get(index));
            let node = route.and_then(|route| route.at(&["filters", &self.filter]));
            (format!("routes[{index}].filters.{}", self.filter), node)
        });
        let places: Vec<(String, Option<&Node>)> = sides.chain(routes).collect();
        let of_place = |(path, node): &(String, Option<&Node>)| -> Vec<String> {
            let Some(node) = node else { return Vec::new() };
            let said = keys.iter().filter(|key| {
                // A null is a word of its own, too.
                let mut path = key.split('.');
                path.try_fold(*node, |node, name| node.entry(name).map(|(_, value)| value))
                    .is_some()
            });
            said.map(|key| format!("{path}.{key}")).collect()
        };
        places.iter().flat_map(of_place).collect()
    }
}

/// A tree with changes laid over it, the later over the earlier. What is for nothing that is there changes nothing.
pub(super) fn overlaid(loaded: &Loaded, overrides: &[Override]) -> Node {
    let mut tree = loaded.base().clone();
    for change in overrides.iter().filter(|change| change.applies(loaded)) {
        change.lay_over(&mut tree, loaded);
    }
    tree
}

/// Lays settings over the value at a path, whose keys are made where there are none.
fn lay(tree: &mut Node, path: &[&str], settings: &Node) {
    let Some((name, rest)) = path.split_first() else {
        let placeholder = Node::new(Kind::Null, tree.pos.clone());
        let lower = std::mem::replace(tree, placeholder);
        *tree = merge(lower, settings.clone());
        return;
    };
    if !matches!(tree.kind, Kind::Map(_)) {
        // A key without a value.
        *tree = Node::new(Kind::Map(Vec::new()), place());
    }
    let Kind::Map(entries) = &mut tree.kind else { return };
    let known = entries.iter_mut().find(|(key, _)| key.name == *name);
    if let Some((_, value)) = known {
        return lay(value, rest, settings);
    }
    let mut value = Node::new(Kind::Map(Vec::new()), place());
    lay(&mut value, rest, settings);
    let (name, pos) = ((*name).to_owned(), place());
    entries.push((Key { name, pos }, value));
}

fn route(tree: &mut Node, index: usize) -> Option<&mut Node> {
    let Kind::Map(entries) = &mut tree.kind else {
        return None;
    };
    let (_, routes) = entries.iter_mut().find(|(key, _)| key.name == "routes")?;
    match &mut routes.kind {
        Kind::Seq(elements) => elements.get_mut(index),
        _ => None,
    }
}

fn place() -> Position {
    Position::whole(&Arc::from(ADMIN_API))
}

fn node(value: &Value) -> Node {
    let kind = match value {
        Value::Null => Kind::Null,
        Value::Bool(value) => Kind::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Kind::Int(number.into()),
            (_, Some(number)) => Kind::Int(number.into()),
            _ => Kind::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Kind::Str(text.clone()),
        Value::Array(elements) => Kind::Seq(elements.iter().map(node).collect()),
        Value::Object(entries) => {
            let key = |name: &String| Key {
                name: name.clone(),
                pos: place(),
            };
            Kind::Map(entries.iter().map(|(name, value)| (key(name), node(value))).collect())
        }
    };
    Node::new(kind, place())
}

fn leaf_keys(value: &Value, path: &str, keys: &mut Vec<String>) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (name, value) in entries {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaf_keys(value, &path, keys);
            }
        }
        _ if path.is_empty() => {}
        _ => keys.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Loader, load_str};

    const YAML: &str = "
service: a
inbound: { listen: '127.0.0.1:0', app: 'http://127.0.0.1:1', filters: { cache: { ttl: 2m } } }
chain: [headers, cache]
filters: { cache: { enabled: false, ttl: 1m } }
routes:
  - { match: { path: /on }, filters: { cache: { enabled: true } } }
  - { match: { path: /own }, filters: { cache: { enabled: true, ttl: 3m } } }
  - { match: { path: /off }, filters: { cache: { enabled: false } } }
";
    const KNOWN: [&str; 2] = ["headers", "cache"];

    fn loaded() -> Loaded {
        load_str("a.yaml", YAML, &KNOWN).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn change(value: &Value) -> Override {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Override {
            filter: text("filter").unwrap_or("cache".to_owned()),
            direction: text("direction").map(|_| Direction::Inbound),
            route: text("route"),
            enabled: value.get("enabled").and_then(Value::as_bool),
            settings: value.get("settings").and_then(Value::as_object).cloned(),
        }
    }

    fn with(changes: &[Value]) -> Loaded {
        let changes: Vec<Override> = changes.iter().map(change).collect();
        let with = Loader::new(&KNOWN).overlay(&loaded(), changes);
        with.unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Whether the cache is on: for what no route matches, and for each route.
    fn is_on(loaded: &Loaded) -> [bool; 4] {
        [None, Some(0), Some(1), Some(2)].map(|route| loaded.is_enabled(Direction::Inbound, route, "cache"))
    }

    fn ttl(loaded: &Loaded, route: Option<usize>) -> String {
        let settings = loaded.filter(Direction::Inbound, route, "cache");
        settings.at(&["ttl"]).unwrap().shown()
    }

    #[test]
    fn off_is_off_wherever_it_was_on() {
        assert_eq!(is_on(&loaded()), [false, true, true, false]);
        assert_eq!(is_on(&with(&[json!({ "enabled": false })])), [false; 4]);
        let of_side = json!({ "enabled": false, "direction": "inbound" });
        assert_eq!(is_on(&with(&[of_side])), [false; 4]);
        let of_route = json!({ "enabled": false, "route": "/on" });
        assert_eq!(is_on(&with(&[of_route])), [false, false, true, false]);
    }

    #[test]
    fn on_leaves_alone_who_says_no() {
        let on = json!({ "enabled": true });
        assert_eq!(is_on(&with(std::slice::from_ref(&on))), [true, true, true, false]);
        assert!(
            change(&on)
                .shadowed(&loaded())
                .contains(&"routes[2].filters.cache.enabled".to_owned())
        );
        let here = json!({ "enabled": true, "route": "/off" });
        assert_eq!(is_on(&with(&[here])), [false, true, true, true]);
    }

    #[test]
    fn settings_stand_where_a_file_would_have_them() {
        let tuned = json!({ "settings": { "ttl": "9m" } });
        let both = with(std::slice::from_ref(&tuned));
        assert_eq!(
            (ttl(&both, None), ttl(&both, Some(1))),
            ("2m".to_owned(), "3m".to_owned())
        );
        let shadowed = change(&tuned).shadowed(&loaded());
        assert_eq!(shadowed, ["inbound.filters.cache.ttl", "routes[1].filters.cache.ttl"]);
        let side = with(&[json!({ "direction": "inbound", "settings": { "ttl": "9m" } })]);
        assert_eq!(
            (ttl(&side, None), ttl(&side, Some(1))),
            ("9m".to_owned(), "3m".to_owned())
        );
        let route = with(&[json!({ "route": "/own", "settings": { "ttl": "9m" } })]);
        assert_eq!(
            (ttl(&route, None), ttl(&route, Some(1))),
            ("2m".to_owned(), "9m".to_owned())
        );
        let place = route
            .filter(Direction::Inbound, Some(1), "cache")
            .at(&["ttl"])
            .unwrap()
            .pos
            .to_string();
        assert_eq!(place, ADMIN_API);
    }

    #[test]
    fn the_later_lies_over_the_earlier_and_all_can_be_taken_back() {
        let off_and_on = with(&[json!({ "enabled": false }), json!({ "enabled": true, "route": "/on" })]);
        assert_eq!(is_on(&off_and_on), [false, true, false, false]);
        let back = Loader::new(&KNOWN).overlay(&off_and_on, Vec::new()).unwrap();
        assert_eq!(is_on(&back), is_on(&loaded()));
        assert!(back.tree == loaded().tree);
    }

    #[test]
    fn nothing_in_it_is_expanded() {
        let text = "${PATH} ${file:/etc/hostname}";
        let with = with(&[json!({ "filter": "headers", "settings": { "request": { "set": { "x-a": text } } } })]);
        let settings = with.filter(Direction::Inbound, None, "headers");
        assert_eq!(settings.at(&["request", "set", "x-a"]).unwrap().as_str(), Some(text));
    }

    #[test]
    fn what_is_for_nothing_that_is_there_changes_nothing() {
        for nothing in [
            json!({ "filter": "retry", "enabled": false }),
            json!({ "route": "/no", "enabled": false }),
        ] {
            assert!(!change(&nothing).applies(&loaded()));
            assert!(with(&[nothing]).tree == loaded().tree);
        }
    }

    #[test]
    fn a_change_that_sets_all_of_another_covers_it() {
        let covers = |new: &Value, old: &Value| change(new).covers(&change(old));
        assert!(covers(&json!({ "enabled": true }), &json!({ "enabled": false })));
        assert!(covers(
            &json!({ "settings": { "a": { "b": 1 }, "c": 2 } }),
            &json!({ "settings": { "a": { "b": 2 } } })
        ));
        assert!(!covers(
            &json!({ "settings": { "a": { "b": 1 } } }),
            &json!({ "settings": { "a": { "c": 2 } } })
        ));
        assert!(!covers(
            &json!({ "enabled": true }),
            &json!({ "enabled": false, "settings": { "a": 1 } })
        ));
        assert!(!covers(
            &json!({ "enabled": true, "route": "/a" }),
            &json!({ "enabled": false })
        ));
    }
}
