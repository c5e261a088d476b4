//! Makes typed values of a [`Node`] tree, and tells every mistake at once.
//!
//! serde stops at the first error. So on each error the offending key or element is left out and the tree is read again,
//! until it is read or nothing more can be left out. Errors that only follow from something left out are not told: a key
//! that is missing because its value was wrong, or a check across keys one of which was.
//!
//! An error belongs to the innermost value being read when it was made. serde carries no position, and
//! `erased_serde`, which plugins are read through, keeps nothing of an error but its text; so the last error is noted on the
//! side and recognised by that text on its way out.

mod access;
mod fault;
#[cfg(test)]
mod tests;
mod variant;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::DeserializeOwned;

use self::access::NodeDeserializer;
use self::fault::{Fault, Place};
use super::error::{ConfigError, nearest};
use super::model::COMMON_KEYS;
use super::node::{Key, Node};

/// How many mistakes are told at most: each costs one more reading of the whole.
const MAX_ERRORS: usize = 100;

/// Reads a value. `path` is what error messages call the node, such as `filters.cache`; empty for the top level.
pub fn deserialize<T: DeserializeOwned>(node: &Node, path: &str) -> Result<T, Vec<ConfigError>> {
    let (value, errors) = deserialize_partly(node, path);
    match value {
        Some(value) if errors.is_empty() => Ok(value),
        _ => Err(errors),
    }
}

/// Reads what can be read: the value without its wrong parts, if it can do without them, and every mistake.
pub(super) fn deserialize_partly<T: DeserializeOwned>(node: &Node, path: &str) -> (Option<T>, Vec<ConfigError>) {
    run(node, path, &[], |deserializer| T::deserialize(deserializer))
}

/// Reads a filter's settings through an object-safe deserializer, as the registry of plugins does. The keys that every
/// filter takes were taken out before, and are offered to who misspelt one. `read` is called again after each error, so it
/// should do nothing but deserialize.
pub fn deserialize_erased<R>(
    node: &Node,
    path: &str,
    read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<R, erased_serde::Error>,
) -> Result<R, Vec<ConfigError>> {
    let (value, errors) = run(node, path, &COMMON_KEYS, |deserializer| {
        let mut erased = <dyn erased_serde::Deserializer<'_>>::erase(deserializer);
        read(&mut erased).map_err(|error| Fault::other(error.to_string()))
    });
    match value {
        Some(value) if errors.is_empty() => Ok(value),
        _ => Err(errors),
    }
}

/// `common` are keys that the root takes besides those it is read by.
fn run<'n, R>(
    node: &'n Node,
    path: &str,
    common: &[&str],
    mut read: impl FnMut(NodeDeserializer<'n, '_>) -> Result<R, Fault>,
) -> (Option<R>, Vec<ConfigError>) {
    let path = Path {
        parent: None,
        step: Step::Root(path),
    };
    let shared = Shared::default();
    let mut errors = Vec::new();
    let mut left_out: HashMap<usize, Vec<String>> = HashMap::new();
    loop {
        shared.last.take();
        let root = At::root(node, &path);
        let fault = match read(NodeDeserializer {
            at: root,
            shared: &shared,
        }) {
            Ok(value) => return (Some(value), errors),
            Err(fault) => shared.locate(fault, &root),
        };
        let Some(place) = &fault.place else {
            // `locate` always gives a place.
            return (None, errors);
        };
        if !fault.follows_from(left_out.get(&place.node).map(Vec::as_slice)) {
            let common = if place.parent == address(node) { common } else { &[] };
            errors.extend(fault.report(common));
        }
        if errors.len() >= MAX_ERRORS {
            return (None, errors);
        }
        if place.node == address(node) || !shared.skipped.borrow_mut().insert(place.node) {
            return (None, errors);
        }
        let names = left_out.entry(place.parent).or_default();
        names.push(place.step.clone());
        // A misspelt key stands for the one that was meant: that one is not missing too.
        if let Some((written, allowed)) = fault.unknown_key() {
            names.extend(nearest(written, allowed.iter().copied()).map(str::to_owned));
        }
    }
}

/// What one reading shares between its deserializers.
#[derive(Default)]
struct Shared {
    /// Addresses of the nodes that are left out. They stand in a tree that does not move meanwhile.
    skipped: RefCell<HashSet<usize>>,
    /// The last error that got a place.
    last: RefCell<Option<Fault>>,
}

impl Shared {
    fn is_skipped(&self, node: &Node) -> bool {
        self.skipped.borrow().contains(&address(node))
    }

    /// Gives an error its place, unless it has one or is recognised as the last that got one.
    fn locate(&self, fault: Fault, at: &At<'_, '_>) -> Fault {
        if fault.place.is_some() {
            return fault;
        }
        let text = fault.to_string();
        let is_inside = |place: &Place| place.path.starts_with(&at.path.to_string());
        if let Some(last) = self.last.borrow().as_ref()
            && last.to_string() == text
            && last.place.as_deref().is_some_and(is_inside)
        {
            return last.clone();
        }
        let located = fault.at(at);
        *self.last.borrow_mut() = Some(located.clone());
        located
    }
}

/// A node being read, and how it was come by.
#[derive(Clone, Copy)]
struct At<'n, 'p> {
    node: &'n Node,
    /// The key it is the value of.
    key: Option<&'n Key>,
    /// Whether it is the key that is being read.
    is_key: bool,
    parent: usize,
    path: &'p Path<'p>,
}

impl<'n, 'p> At<'n, 'p> {
    fn root(node: &'n Node, path: &'p Path<'p>) -> Self {
        Self {
            node,
            key: None,
            is_key: false,
            parent: 0,
            path,
        }
    }

    fn place(&self) -> Place {
        let key = self.key.map_or(&self.node.pos, |key| &key.pos);
        let value = if self.is_key { key } else { &self.node.pos };
        Place {
            path: self.path.to_string(),
            inside: self.path.parent.map(Path::to_string).unwrap_or_default(),
            value: value.clone(),
            key: key.clone(),
            node: address(self.node),
            parent: self.parent,
            step: self.key.map(|key| key.name.clone()).unwrap_or_default(),
        }
    }
}

fn address(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

/// The way from the root to a node, kept on the stack.
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

enum Step<'p> {
    Root(&'p str),
    Key(&'p str),
    Index(usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match (&self.step, self.parent) {
            (Step::Root(root), _) => f.write_str(root),
            (Step::Index(index), _) => write!(f, "[{index}]"),
            (Step::Key(key), Some(parent)) if !parent.is_empty() => write!(f, ".{key}"),
            (Step::Key(key), _) => f.write_str(key),
        }
    }
}

impl Path<'_> {
    fn is_empty(&self) -> bool {
        matches!(self.step, Step::Root(""))
    }
}
