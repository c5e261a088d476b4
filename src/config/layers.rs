//! Reads files and stacks them: built-in defaults, then what a file includes, then the file, then the files after it.
//!
//! `include` at the top level names a file or a list of files, relative to the including one; each is a layer, the first
//! lowest, and the including file lies on top of them. A file that includes itself, directly or not, is refused with the
//! chain that leads there, as is a chain of more than 8 files and a configuration of more than 64 files in all.

use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::{ConfigError, Sources};
use super::expand::{Outside, expand};
use super::merge::merge;
use super::node::{Kind, Node, Position};
use super::open;
use super::source::{MAX_BYTES, parse};

/// The name of the layer beneath all others, in place of a file's.
pub const BUILT_IN: &str = "(built-in defaults)";

const DEFAULTS: &str = include_str!("../../config/defaults.yaml");
const MAX_DEPTH: usize = 8;
const MAX_FILES: usize = 64;

/// Stacks layers and keeps their texts.
pub(super) struct Layers<'e> {
    outside: Outside<'e>,
    tree: Node,
    sources: Sources,
    errors: Vec<ConfigError>,
    /// Every file that was asked for.
    files: Vec<PathBuf>,
}

/// All layers as one.
pub(super) struct Stack {
    pub(super) tree: Node,
    pub(super) sources: Sources,
    /// Every file that was asked for, those that could not be read too, and those whose contents are values.
    pub(super) files: Vec<PathBuf>,
    /// What kept a layer from being read.
    pub(super) errors: Vec<ConfigError>,
    /// What could not be expanded.
    pub(super) unexpanded: Vec<ConfigError>,
}

/// A file on the way from the command line to the one being read.
struct Opened {
    shown: Arc<str>,
    path: PathBuf,
    identity: PathBuf,
}

impl<'e> Layers<'e> {
    /// The built-in defaults alone.
    pub(super) fn new(outside: Outside<'e>) -> Self {
        let file: Arc<str> = Arc::from(BUILT_IN);
        let mut layers = Self {
            outside,
            tree: Node::new(Kind::Map(Vec::new()), Position::whole(&file)),
            sources: Sources::new(),
            errors: Vec::new(),
            files: Vec::new(),
        };
        layers.text(DEFAULTS, &file);
        layers
    }

    /// Lays a file over what is there, its includes first.
    pub(super) fn file(&mut self, path: &Path) {
        self.open(path, None, &mut Vec::new());
    }

    /// Lays a text over what is there. It can include nothing, having no folder.
    pub(super) fn text(&mut self, text: &str, file: &Arc<str>) {
        self.layer(text, file, &mut Vec::new());
    }

    fn layer(&mut self, text: &str, file: &Arc<str>, chain: &mut Vec<Opened>) {
        self.sources.insert(Arc::clone(file), Arc::from(text));
        let mut node = match parse(text, file) {
            Ok(node) => node,
            Err(error) => return self.errors.push(error),
        };
        if let Some(mut include) = take(&mut node, "include") {
            expand(&mut include, self.outside, &mut self.files, &mut self.errors);
            self.include(&include, chain);
        }
        let placeholder = Node::new(Kind::Null, node.pos.clone());
        let lower = std::mem::replace(&mut self.tree, placeholder);
        self.tree = merge(lower, node);
    }

    /// Makes one tree of the stack and expands variables in it. Only values that are in effect are expanded, so a layer may
    /// replace one whose variable is not set.
    pub(super) fn finish(mut self) -> Stack {
        let mut unexpanded = Vec::new();
        expand(&mut self.tree, self.outside, &mut self.files, &mut unexpanded);
        Stack {
            files: self.files,
            tree: self.tree,
            sources: self.sources,
            errors: self.errors,
            unexpanded,
        }
    }

    fn open(&mut self, path: &Path, from: Option<&Position>, chain: &mut Vec<Opened>) {
        // Only shown so: where a folder is a symbolic link, the tidy path may be another file.
        let shown: Arc<str> = Arc::from(tidy(path).to_string_lossy());
        self.files.push(path.to_owned());
        match self.read(path, &shown, chain) {
            Ok((text, identity)) => {
                chain.push(Opened {
                    shown: Arc::clone(&shown),
                    path: path.to_owned(),
                    identity,
                });
                self.layer(&text, &shown, chain);
                chain.pop();
            }
            Err(message) => self.errors.push(match from {
                Some(position) => ConfigError::new(position.clone(), message).with_path("include"),
                None => ConfigError::new(Position::whole(&shown), message),
            }),
        }
    }

    fn read(&self, path: &Path, shown: &Arc<str>, chain: &[Opened]) -> Result<(String, PathBuf), String> {
        let verb = if chain.is_empty() { "read" } else { "include" };
        let unreadable = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => format!("cannot {verb} `{shown}`: no such file"),
            _ => format!("cannot {verb} `{shown}`: {}", open::words(&error)),
        };
        let identity = path.canonicalize().map_err(unreadable)?;
        if chain.iter().any(|opened| opened.identity == identity) {
            return Err(format!("include cycle: {}", trail(chain, shown)));
        }
        if chain.len() >= MAX_DEPTH {
            return Err(format!("includes are more than 8 files deep: {}", trail(chain, shown)));
        }
        if self.files.len() > MAX_FILES {
            return Err("a configuration has at most 64 files".to_owned());
        }
        let mut bytes = Vec::new();
        let file = (self.outside.open)(path).map_err(unreadable)?;
        // One byte more than may be, so that the parser sees it is too long.
        file.take(MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| format!("`{shown}` is not UTF-8 text"))?;
        Ok((text, identity))
    }

    fn include(&mut self, include: &Node, chain: &mut Vec<Opened>) {
        let names = match &include.kind {
            Kind::Null => return,
            Kind::Seq(names) => names.as_slice(),
            _ => std::slice::from_ref(include),
        };
        for name in names {
            match (name.as_str(), chain.last()) {
                (Some(included), Some(including)) => {
                    let path = including.path.with_file_name("").join(included);
                    self.open(&path, Some(&name.pos), chain);
                }
                (None, _) => self.errors.push(
                    ConfigError::new(
                        name.pos.clone(),
                        "include: expected a file name or a list of file names",
                    )
                    .with_path("include"),
                ),
                (_, None) => self.errors.push(
                    ConfigError::new(name.pos.clone(), "include: only a file can include others").with_path("include"),
                ),
            }
        }
    }
}

fn take(node: &mut Node, name: &str) -> Option<Node> {
    let Kind::Map(entries) = &mut node.kind else {
        return None;
    };
    let index = entries.iter().position(|(key, _)| key.name == name)?;
    Some(entries.remove(index).1)
}

fn trail(chain: &[Opened], last: &str) -> String {
    let mut names: Vec<&str> = chain.iter().map(|opened| &*opened.shown).collect();
    names.push(last);
    names.join(" -> ")
}

/// `config/services/../defaults.yaml` as a person would write it.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        let removable = matches!(tidy.components().next_back(), Some(Component::Normal(_)));
        match component {
            Component::ParentDir if removable => {
                tidy.pop();
            }
            Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_as_a_person_would_write_them() {
        for (path, shown) in [
            ("config/services/../defaults.yaml", "config/defaults.yaml"),
            ("./a/./b.yaml", "a/b.yaml"),
            ("../a.yaml", "../a.yaml"),
            ("a/../../b.yaml", "../b.yaml"),
            ("/etc/../a.yaml", "/a.yaml"),
        ] {
            assert_eq!(tidy(Path::new(path)), Path::new(shown));
        }
    }
}
