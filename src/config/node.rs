//! The tree a configuration is read into: plain values, each with the place it was written at.
//!
//! Layers are merged and variables expanded on this tree, so a value keeps its origin until it is deserialized. Nothing
//! here prints a value that came from the environment: those may be secrets.

use std::fmt;
use std::sync::Arc;

/// A place in a configuration file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The file as a person would name it: as given on the command line, or relative to the including file.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 where the error is the whole file's.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
}

impl Position {
    /// A file as a whole, for errors that have no line.
    pub fn whole(file: &Arc<str>) -> Self {
        Self {
            file: Arc::clone(file),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key itself; never expanded.
    pub name: String,
    /// Where it was written.
    pub pos: Position,
}

/// What a node holds, after the core schema of YAML 1.2. Not `Debug`: it does not know whether it may be shown.
#[derive(Clone, PartialEq)]
pub enum Kind {
    /// Nothing: `null`, `~`, or no value at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number. Wide enough that `u64` and `i64` both fit.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order written.
    Map(Vec<(Key, Node)>),
}

/// A value and where it was written.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub kind: Kind,
    /// Where it was written.
    pub pos: Position,
    /// Whether a scalar was written without quotes, so that it is typed by what it looks like.
    pub plain: bool,
    /// Set when the value was made from environment variables.
    pub variables: Option<Arc<Variables>>,
}

/// The environment variables a value was made from.
#[derive(Clone, PartialEq, Eq)]
pub struct Variables {
    /// The text as written, which may be shown.
    pub written: String,
    /// The values that were put in, which may not.
    pub(super) values: Vec<String>,
    /// The text with the values in it, for where text is wanted although it looks like a number.
    pub(super) expanded: String,
}

impl Variables {
    /// Whether a text shows something of the values: four characters in a row of a longer one, or a whole short one.
    pub(super) fn leak_in(&self, text: &str) -> bool {
        let is_word = |word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|part| part == word);
        self.values.iter().any(|value| {
            let characters: Vec<char> = value.chars().collect();
            match characters.len() {
                0 => false,
                1..4 if value.chars().all(char::is_alphanumeric) => is_word(value),
                1..4 => text.contains(value.as_str()),
                _ => characters
                    .windows(4)
                    .any(|window| text.contains(&window.iter().collect::<String>())),
            }
        })
    }
}

impl Node {
    /// A node that no environment variable took part in.
    pub fn new(kind: Kind, pos: Position) -> Self {
        Self {
            kind,
            pos,
            plain: false,
            variables: None,
        }
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; none for anything else.
    pub fn elements(&self) -> &[Node] {
        match &self.kind {
            Kind::Seq(elements) => elements,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A scalar as it may be shown: as it was written where variables took part; empty for a list or mapping.
    pub fn shown(&self) -> String {
        match (&self.variables, &self.kind) {
            (Some(variables), _) => variables.written.clone(),
            (_, Kind::Str(text)) => text.clone(),
            (_, Kind::Seq(_) | Kind::Map(_)) => String::new(),
            _ => format!("{self:?}"),
        }
    }

    /// A text that may show it, or what is in it, without what came from the environment.
    pub fn without_variables(&self, text: String) -> String {
        let leaking = self.leaking(&text).map(|variables| variables.written.clone());
        leaking.map_or(text, |written| format!("the value of `{written}` is not accepted here"))
    }

    fn leaking(&self, text: &str) -> Option<&Variables> {
        let own = self.variables.as_deref().filter(|variables| variables.leak_in(text));
        own.or_else(|| self.elements().iter().find_map(|node| node.leaking(text)))
            .or_else(|| self.entries().iter().find_map(|(_, node)| node.leaking(text)))
    }

    /// A key of a mapping and its value.
    pub fn entry(&self, name: &str) -> Option<&(Key, Node)> {
        self.entries().iter().find(|(key, _)| key.name == name)
    }

    /// The value at a path of keys. A null counts as absent, as it does for the typed configuration.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        let found = path
            .iter()
            .try_fold(self, |node, name| node.entry(name).map(|(_, value)| value))?;
        (found.kind != Kind::Null).then_some(found)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(variables) = &self.variables {
            return write!(f, "{:?}", variables.written);
        }
        match &self.kind {
            Kind::Null => f.write_str("null"),
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Int(value) => write!(f, "{value}"),
            Kind::Float(value) => write!(f, "{value:?}"),
            Kind::Str(text) => write!(f, "{text:?}"),
            Kind::Seq(elements) => f.debug_list().entries(elements).finish(),
            Kind::Map(entries) => f
                .debug_map()
                .entries(entries.iter().map(|(key, value)| (&key.name, value)))
                .finish(),
        }
    }
}
