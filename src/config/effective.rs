//! The effective configuration, seen from above: each value as it may be shown, and where it was written.
//!
//! Defaults are values too, so what is seen says everything that holds. Secrets are `[redacted]`, as is a user name or
//! password in an address, and among filters' own settings whatever stands under a name such as `token`. What those mean
//! only their plugin knows, so a value there that came from a variable is shown as it is written.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::loaded::Loaded;
use super::mask;
use super::model::REDACTED;
use super::node::{Kind, Node};
use super::yaml;

/// The longest list that is shown on one line, in characters.
const LINE: usize = 100;

/// The whole configuration, by its top-level keys.
pub(super) struct Effective(Value);

impl Effective {
    pub(super) fn of(loaded: &Loaded) -> Self {
        // Every field of the model serializes: there is no map with keys that are no text.
        Self(serde_json::to_value(&loaded.config).unwrap_or_default())
    }

    /// The top-level keys and what they hold.
    pub(super) fn entries<'e>(&'e self, loaded: &'e Loaded) -> impl Iterator<Item = (&'e String, Item<'e>)> {
        let entries = self.0.as_object().into_iter().flatten();
        entries.map(|(key, value)| (key, Item::of(key, value, loaded.tree.at(&[key]))))
    }
}

/// A value to show.
pub(super) enum Item<'v> {
    /// A value of the typed configuration, and what was written for it.
    Typed(&'v Value, Option<&'v Node>),
    /// Settings of filters, of which only their plugins know more.
    Raw(&'v Node),
    /// The same, under a name that secrets have.
    Hidden(&'v Node),
}

/// A value seen from above.
pub(super) enum Shape<'v> {
    Leaf(String),
    List(Vec<Item<'v>>),
    Map(Vec<(&'v str, Item<'v>)>),
}

impl<'v> Item<'v> {
    fn of(key: &str, value: &'v Value, node: Option<&'v Node>) -> Self {
        match node {
            Some(node) if key == "filters" => Self::Raw(node),
            // Conditions of routes name header fields.
            Some(node) if mask::names_a_secret_header(key) && value != REDACTED => Self::Hidden(node),
            _ => Self::Typed(value, node),
        }
    }

    /// What was written for it; `None` for a default.
    pub(super) fn node(&self) -> Option<&'v Node> {
        match self {
            Self::Typed(_, node) => *node,
            Self::Raw(node) | Self::Hidden(node) => Some(node),
        }
    }

    pub(super) fn shape(&self) -> Shape<'v> {
        match self {
            Self::Typed(Value::Object(entries), node) => {
                let item = |(key, value): (&'v String, &'v Value)| {
                    (
                        key.as_str(),
                        Item::of(key, value, node.and_then(|node| node.at(&[key]))),
                    )
                };
                Shape::Map(entries.iter().map(item).collect())
            }
            Self::Typed(Value::Array(elements), node) => {
                let nodes = node.map(Node::elements).unwrap_or_default();
                let item = |(index, value): (usize, &'v Value)| Item::Typed(value, nodes.get(index));
                Shape::List(elements.iter().enumerate().map(item).collect())
            }
            Self::Typed(Value::String(text), _) => Shape::Leaf(yaml::text(&mask::value(text))),
            Self::Typed(other, _) => Shape::Leaf(other.to_string()),
            Self::Raw(node) => raw(node, Item::Raw),
            Self::Hidden(node) => match (raw(node, Item::Hidden), &node.variables) {
                (Shape::Leaf(_), Some(variables)) => Shape::Leaf(yaml::text(&mask::written(&variables.written))),
                (Shape::Leaf(_), None) if !matches!(node.kind, Kind::Null | Kind::Bool(_)) => {
                    Shape::Leaf(yaml::text(REDACTED))
                }
                (shape, _) => shape,
            },
        }
    }

    /// Whether it is not to be seen, its default neither.
    fn is_secret(&self) -> bool {
        match self {
            Self::Typed(value, _) => *value == REDACTED,
            Self::Raw(_) => false,
            Self::Hidden(_) => true,
        }
    }

    /// Where it was written, in words.
    pub(super) fn origin(&self) -> String {
        let Some(node) = self.node() else {
            return "default".to_owned();
        };
        match &node.variables {
            Some(variables) if self.is_secret() => {
                format!("{}, from {:?}", node.pos, mask::written(&variables.written))
            }
            Some(variables) => format!("{}, from {:?}", node.pos, mask::value(&variables.written)),
            None => node.pos.to_string(),
        }
    }

    /// A list's elements on one line, if they are scalars. They have one origin: lists are replaced as a whole.
    pub(super) fn line(elements: &[Item<'_>]) -> Option<String> {
        let leaf = |item: &Item<'_>| match item.shape() {
            Shape::Leaf(leaf) => Some(leaf),
            _ => None,
        };
        let leaves: Option<Vec<String>> = elements.iter().map(leaf).collect();
        leaves.map(|leaves| leaves.join(", "))
    }

    /// The same, if they are few.
    pub(super) fn short_line(elements: &[Item<'_>]) -> Option<String> {
        Self::line(elements).filter(|line| line.len() <= LINE)
    }
}

fn raw<'v>(node: &'v Node, inner: fn(&'v Node) -> Item<'v>) -> Shape<'v> {
    if let Some(variables) = &node.variables {
        return Shape::Leaf(yaml::text(&mask::value(&variables.written)));
    }
    match &node.kind {
        Kind::Null => Shape::Leaf("null".to_owned()),
        Kind::Bool(value) => Shape::Leaf(value.to_string()),
        Kind::Int(value) => Shape::Leaf(value.to_string()),
        Kind::Float(value) if value.is_finite() => Shape::Leaf(format!("{value:?}")),
        Kind::Float(value) if value.is_nan() => Shape::Leaf(".nan".to_owned()),
        Kind::Float(value) => Shape::Leaf(if *value > 0.0 { ".inf" } else { "-.inf" }.to_owned()),
        Kind::Str(text) => Shape::Leaf(yaml::text(&mask::value(text))),
        Kind::Seq(elements) => Shape::List(elements.iter().map(inner).collect()),
        Kind::Map(entries) => {
            let item = |(key, value): &'v (super::node::Key, Node)| {
                let is_secret = mask::names_a_secret(&key.name) && !matches!(value.kind, Kind::Map(_));
                let item = if is_secret { Item::Hidden(value) } else { inner(value) };
                (key.name.as_str(), item)
            };
            Shape::Map(entries.iter().map(item).collect())
        }
    }
}

/// One value of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its path of keys. Routes have their names in it, as they do in metrics: `routes[/users/{id}].filters.cache.ttl`.
    pub key: String,
    /// The value as it may be shown.
    pub value: String,
    /// Where it was written: `config/app.yaml:12:10`, or `default`.
    pub origin: String,
    /// Tells values apart that are shown alike, such as secrets.
    meaning: Option<u64>,
}

impl Leaf {
    /// Whether the other is the same value, wherever either was written.
    pub fn is_same_value(&self, other: &Self) -> bool {
        self.value == other.value && self.meaning == other.meaning
    }
}

/// Every value of the effective configuration, in the order of the model.
pub fn values(loaded: &Loaded) -> Vec<Leaf> {
    let effective = Effective::of(loaded);
    let mut leaves = Vec::new();
    for (key, item) in effective.entries(loaded) {
        walk(key, &item, loaded, &mut leaves);
    }
    leaves
}

/// Every setting of a filter, by its path of keys.
pub fn settings(filter: &Node, loaded: &Loaded) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    if let Shape::Map(entries) = Item::Raw(filter).shape() {
        for (key, item) in &entries {
            walk(key, item, loaded, &mut leaves);
        }
    }
    leaves
}

fn walk(key: &str, item: &Item<'_>, loaded: &Loaded, leaves: &mut Vec<Leaf>) {
    let value = match item.shape() {
        Shape::Leaf(value) => value,
        Shape::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Shape::Map(entries) => {
            for (inner, item) in &entries {
                walk(&format!("{key}.{inner}"), item, loaded, leaves);
            }
            return;
        }
        Shape::List(elements) => {
            if let Some(line) = Item::line(&elements) {
                format!("[{line}]")
            } else {
                if key == "routes" {
                    leaves.push(order(item, elements.len(), loaded));
                }
                for (index, item) in elements.iter().enumerate() {
                    let name = if key == "routes" {
                        loaded.route_name(index)
                    } else {
                        index.to_string()
                    };
                    walk(&format!("{key}[{name}]"), item, loaded, leaves);
                }
                return;
            }
        }
    };
    leaves.push(Leaf {
        key: key.to_owned(),
        value,
        origin: item.origin(),
        meaning: item.node().map(meaning),
    });
}

/// The names of the routes, whose order decides.
fn order(routes: &Item<'_>, count: usize, loaded: &Loaded) -> Leaf {
    let names: Vec<String> = (0..count).map(|index| yaml::text(&loaded.route_name(index))).collect();
    Leaf {
        key: "routes".to_owned(),
        value: format!("[{}]", names.join(", ")),
        origin: routes.origin(),
        meaning: None,
    }
}

/// A number by which a value is known again, wherever it stands.
fn meaning(node: &Node) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash(node, &mut hasher);
    hasher.finish()
}

fn hash(node: &Node, hasher: &mut DefaultHasher) {
    std::mem::discriminant(&node.kind).hash(hasher);
    match &node.kind {
        Kind::Null => {}
        Kind::Bool(value) => value.hash(hasher),
        Kind::Int(value) => value.hash(hasher),
        Kind::Float(value) => value.to_bits().hash(hasher),
        Kind::Str(text) => text.hash(hasher),
        Kind::Seq(elements) => elements.iter().for_each(|element| hash(element, hasher)),
        Kind::Map(entries) => entries.iter().for_each(|(key, value)| {
            key.name.hash(hasher);
            hash(value, hasher);
        }),
    }
}
