//! The effective configuration as YAML, each value with its origin.

use std::fmt::Write as _;

use super::effective::{Effective, Item, Shape};
use super::loaded::Loaded;
use super::node::Node;
use super::yaml;

/// The effective configuration, defaults included; each value is followed by a comment that says where it was written.
pub fn explain(loaded: &Loaded) -> String {
    let mut writer = Writer { out: String::new() };
    let effective = Effective::of(loaded);
    for (key, item) in effective.entries(loaded) {
        writer.entry(0, &yaml::text(key), &item);
    }
    writer.out
}

/// A filter's settings in the same form, indented by so many spaces.
pub(crate) fn explain_settings(settings: &Node, indent: usize) -> String {
    let mut writer = Writer { out: String::new() };
    if let Shape::Map(entries) = Item::Raw(settings).shape() {
        for (key, item) in &entries {
            writer.entry(indent, &yaml::text(key), item);
        }
    }
    writer.out
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
                    self.entry(indent + 2, &yaml::text(key), value);
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
                    self.entry(indent + 2, &yaml::text(key), value);
                }
            }
            Shape::List(elements) => {
                if let Some(line) = Item::short_line(&elements) {
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
