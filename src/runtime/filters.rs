//! The filters as the admin API shows them: where each is on, with which settings, and who said so.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use pillion_filters::{Direction, Registry};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::history::text;
use super::overrides::{Active, Overrides};
use crate::config::{self, Loaded, Node};

/// The filters of a configuration, in the order of the chain; those that are not in it last.
pub(super) fn all(loaded: &Loaded, overrides: &Overrides, registry: &Registry) -> Vec<Value> {
    let chain = &loaded.config.chain;
    let beside = loaded.config.filters.keys().filter(|name| !chain.contains(name));
    let names = chain.iter().chain(beside);
    names.map(|name| one(loaded, overrides, registry, name)).collect()
}

/// One of them, if there is one of that name.
pub(super) fn named(loaded: &Loaded, overrides: &Overrides, registry: &Registry, name: &str) -> Option<Value> {
    let is_known = loaded.config.chain.iter().any(|known| known == name) || loaded.config.filters.contains_key(name);
    is_known.then(|| one(loaded, overrides, registry, name))
}

fn one(loaded: &Loaded, overrides: &Overrides, registry: &Registry, name: &str) -> Value {
    let in_chain = loaded.config.chain.iter().any(|known| known == name);
    let plugin = loaded.plugin(name);
    let places: Vec<(Direction, Option<usize>)> = places(loaded, name);
    let is_on =
        |&(direction, route): &(Direction, Option<usize>)| in_chain && loaded.is_enabled(direction, route, name);
    let own: Vec<&Active> = overrides
        .all()
        .iter()
        .filter(|active| active.change.filter == name)
        .collect();
    let defaults = defaults(registry).get(plugin).map(Vec::as_slice).unwrap_or_default();
    let shown = places.iter().map(|place| {
        let &(direction, route) = place;
        json!({
            "direction": direction.as_str(), "route": route.map(|index| loaded.route_name(index)),
            "enabled": is_on(place), "settings": settings(&loaded.filter(direction, route, name), loaded, defaults),
        })
    });
    json!({
        "name": name, "plugin": plugin, "in_chain": in_chain, "enabled": places.iter().any(is_on),
        "overridden": !own.is_empty(), "places": shown.collect::<Vec<_>>(),
        "overrides": own.into_iter().map(|active| shown_override(active, loaded)).collect::<Vec<_>>(),
    })
}

/// Each direction, and each of its routes that says something of its own.
fn places(loaded: &Loaded, name: &str) -> Vec<(Direction, Option<usize>)> {
    let has_side = |direction: &Direction| loaded.tree.at(&[direction.as_str()]).is_some();
    let sides = [Direction::Inbound, Direction::Outbound].into_iter().filter(has_side);
    let routes = loaded.tree.at(&["routes"]).map(Node::elements).unwrap_or_default();
    sides
        .flat_map(|side| {
            let configured = loaded.config.routes.iter().zip(routes).enumerate();
            let own = configured.filter(move |(_, (route, node))| {
                Direction::from(route.direction) == side && node.at(&["filters", name]).is_some()
            });
            std::iter::once((side, None)).chain(own.map(move |(index, _)| (side, Some(index))))
        })
        .collect()
}

fn settings(written: &Node, loaded: &Loaded, defaults: &[(String, String)]) -> Vec<Value> {
    let leaves = config::settings(written, loaded);
    let written = leaves
        .iter()
        .map(|leaf| json!({ "key": leaf.key, "value": leaf.value, "origin": leaf.origin }));
    let begins = |key: &str, name: &str| {
        key.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let unset = defaults
        .iter()
        .filter(|(name, _)| !leaves.iter().any(|leaf| begins(&leaf.key, name)));
    let unset = unset.map(|(key, value)| json!({ "key": key, "value": value, "origin": "default" }));
    written.chain(unset).collect()
}

fn shown_override(active: &Active, loaded: &Loaded) -> Value {
    let change = &active.change;
    // Shown as all settings are, so that a secret in it is not.
    let settings = change.settings.as_ref().map(|_| {
        let leaves = config::settings(&change.node(), loaded);
        leaves
            .into_iter()
            .map(|leaf| (leaf.key, Value::String(leaf.value)))
            .collect::<Map<_, _>>()
    });
    json!({
        "direction": change.direction.map(Direction::as_str), "route": change.route, "enabled": change.enabled,
        "settings": settings, "by": active.author.by, "reason": active.author.reason, "since": text(active.since),
        "until": active.until.map(|(_, until)| text(until)), "applies": change.applies(loaded),
    })
}

type Defaults = BTreeMap<&'static str, Vec<(String, String)>>;

/// How deep settings are looked into for what nobody set.
const DEPTH: usize = 4;

/// What each plugin's settings are when nobody says anything, as its schema has it.
fn defaults(registry: &Registry) -> &'static Defaults {
    static DEFAULTS: OnceLock<Defaults> = OnceLock::new();
    DEFAULTS.get_or_init(|| {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let plugins: Vec<_> = registry
            .entries()
            .iter()
            .map(|entry| (entry.name, entry.schema(&mut generator).to_value()))
            .collect();
        let definitions = generator.take_definitions(true);
        let of = |schema: &Value| {
            let mut found = Vec::new();
            find_defaults(schema, &definitions, "", DEPTH, &mut found);
            found
        };
        plugins.iter().map(|(name, schema)| (*name, of(schema))).collect()
    })
}

fn find_defaults(
    schema: &Value,
    definitions: &Map<String, Value>,
    path: &str,
    depth: usize,
    found: &mut Vec<(String, String)>,
) {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let definition = reference.and_then(|path| definitions.get(path.strip_prefix("#/$defs/")?));
    let properties = definition
        .unwrap_or(schema)
        .get("properties")
        .and_then(Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match property.get("default") {
            Some(value) => found.push((path, shown_default(value))),
            None if depth > 1 => find_defaults(property, definitions, &path, depth - 1, found),
            None => {}
        }
    }
}

fn shown_default(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(shown_default).collect();
            format!("[{}]", elements.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_found_in_the_schema() {
        let registry = Registry::builtin();
        let found = defaults(&registry);
        let of = |plugin: &str, key: &str| {
            let known = found.get(plugin)?.iter().find(|(name, _)| name == key)?;
            Some(known.1.clone())
        };
        assert_eq!(of("limits", "uri_length").as_deref(), Some("8KiB"));
        assert_eq!(of("cache", "ttl").as_deref(), Some("none"));
        assert_eq!(of("cache", "targeted").as_deref(), Some("[CDN-Cache-Control]"));
        assert!(
            of("retry", "budget.share").or(of("cache", "collapse.wait")).is_some(),
            "{found:?}"
        );
    }

    #[test]
    fn a_filter_tells_where_it_is_on_and_who_said_so() {
        let text = "
service: a
inbound: { listen: '127.0.0.1:0', app: 'http://127.0.0.1:1' }
chain: [headers, cache]
filters: { cache: { enabled: false, ttl: 1m }, headers: { request: { set: { x-token: hunter2 } } } }
routes: [{ match: { path: /a }, filters: { cache: { enabled: true } } }, { match: { path: /b } }]
";
        let loaded = config::load_str("a.yaml", text, &["headers", "cache"]).unwrap();
        let registry = Registry::builtin();
        let all = all(&loaded, &Overrides::default(), &registry);
        let names: Vec<&str> = all.iter().filter_map(|filter| filter["name"].as_str()).collect();
        assert_eq!(&names[..2], ["headers", "cache"]);
        let cache = &all[1];
        assert_eq!((&cache["enabled"], &cache["overridden"]), (&json!(true), &json!(false)));
        let places = cache["places"].as_array().unwrap();
        let told: Vec<(&Value, &Value)> = places
            .iter()
            .map(|place| (&place["route"], &place["enabled"]))
            .collect();
        assert_eq!(told, [(&Value::Null, &json!(false)), (&json!("/a"), &json!(true))]);
        let ttl = json!({ "key": "ttl", "value": "1m", "origin": "a.yaml:5:42" });
        assert!(places[1]["settings"].as_array().unwrap().contains(&ttl), "{cache:#}");
        assert!(!all[0].to_string().contains("hunter2"), "{:#}", all[0]);
        assert!(named(&loaded, &Overrides::default(), &registry, "nothing").is_none());
    }
}
