//! The effective configuration as YAML, each value with its origin.
//!
//! Defaults are written out, so the output says everything that holds. Secrets are `[redacted]`, as is a user name or password
//! in an address. What a filter's own settings mean only its plugin knows, so a value there that came from the environment is
//! shown as it is written.

use std::fmt::Write as _;

use serde_json::Value;

use super::loaded::Loaded;
use super::mask;
use super::node::{Kind, Node};
use super::yaml;

/// The longest list that is written on one line, in characters.
const LINE: usize = 100;

/// The effective configuration, defaults included; each value is followed by a comment that says where it was written.
pub fn explain(loaded: &Loaded) -> String {
    let mut writer = Writer { out: String::new() };
    // Every field of the model serializes: there is no map with keys that are no text.
    if let Ok(Value::Object(config)) = serde_json::to_value(&loaded.config) {
        for (key, value) in &config {
            let node = loaded.tree.at(&[key]);
            writer.entry(0, &yaml::text(key), &Item::of(key, value, node));
        }
    }
    writer.out
}

/// A filter's settings in the same form, indented by so many spaces.
pub(crate) fn settings(settings: &Node, indent: usize) -> String {
    let mut writer = Writer { out: String::new() };
    for (key, value) in settings.entries() {
        writer.entry(indent, &yaml::text(&key.name), &Item::Raw(value));
    }
    writer.out
}

/// A value to write.
enum Item<'v> {
    /// A value of the typed configuration, and what was written for it.
    Typed(&'v Value, Option<&'v Node>),
    /// Settings of filters, of which only their plugins know more.
    Raw(&'v Node),
}

/// A value seen from above.
enum Shape<'v> {
    Leaf(String),
    List(Vec<Item<'v>>),
    Map(Vec<(String, Item<'v>)>),
}

impl<'v> Item<'v> {
    fn of(key: &str, value: &'v Value, node: Option<&'v Node>) -> Self {
        match node {
            Some(node) if key == "filters" => Self::Raw(node),
            _ => Self::Typed(value, node),
        }
    }

    fn shape(&self) -> Shape<'v> {
        match self {
            Self::Typed(Value::Object(entries), node) => {
                let item = |(key, value): (&'v String, &'v Value)| {
                    (
                        yaml::text(key),
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
            Self::Raw(node) => raw(node),
        }
    }

    fn origin(&self) -> String {
        let node = match self {
            Self::Typed(_, node) => *node,
            Self::Raw(node) => Some(*node),
        };
        let Some(node) = node else {
            return "default".to_owned();
        };
        match &node.variables {
            Some(variables) => format!("{}, from {:?}", node.pos, mask::value(&variables.written)),
            None => node.pos.to_string(),
        }
    }
}

fn raw(node: &Node) -> Shape<'_> {
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
        Kind::Seq(elements) => Shape::List(elements.iter().map(Item::Raw).collect()),
        Kind::Map(entries) => {
            let item = |(key, value)| (yaml::text(key), Item::Raw(value));
            let entries = entries.iter().map(|(key, value)| (key.name.as_str(), value));
            Shape::Map(entries.map(item).collect())
        }
    }
}

struct Writer {
    out: String,
}

impl Writer {
    fn entry(&mut self, indent: usize, key: &str, item: &Item<'_>) {
        self.value(indent, &format!("{key}:"), item);
    }

    /// Writes an element after its dash; a mapping's first key goes on the same line.
    fn element(&mut self, indent: usize, item: &Item<'_>) {
        match item.shape() {
            Shape::Map(entries) if !entries.is_empty() => {
                let dash = self.out.len() + indent;
                for (key, value) in &entries {
                    self.entry(indent + 2, key, value);
                }
                self.out.replace_range(dash..=dash, "-");
            }
            _ => self.value(indent, "-", item),
        }
    }

    fn value(&mut self, indent: usize, lead: &str, item: &Item<'_>) {
        let space = " ".repeat(indent);
        match item.shape() {
            Shape::Leaf(leaf) => {
                let _ = writeln!(self.out, "{space}{lead} {leaf} # {}", item.origin());
            }
            Shape::Map(entries) if entries.is_empty() => {
                let _ = writeln!(self.out, "{space}{lead} {{}} # {}", item.origin());
            }
            Shape::Map(entries) => {
                let _ = writeln!(self.out, "{space}{lead}");
                for (key, value) in &entries {
                    self.entry(indent + 2, key, value);
                }
            }
            Shape::List(elements) => {
                if let Some(line) = on_one_line(&elements) {
                    let _ = writeln!(self.out, "{space}{lead} [{line}] # {}", item.origin());
                    return;
                }
                let _ = writeln!(self.out, "{space}{lead}");
                for element in &elements {
                    self.element(indent + 2, element);
                }
            }
        }
    }
}

/// A list's elements on one line, if they are scalars and few. They have one origin: lists are replaced as a whole.
fn on_one_line(elements: &[Item<'_>]) -> Option<String> {
    let leaf = |item: &Item<'_>| match item.shape() {
        Shape::Leaf(leaf) => Some(leaf),
        _ => None,
    };
    let leaves: Option<Vec<String>> = elements.iter().map(leaf).collect();
    leaves.map(|leaves| leaves.join(", ")).filter(|line| line.len() <= LINE)
}
