//! Puts environment variables and the contents of files into values: `${NAME}` and `${file:/run/secrets/name}`, or
//! `${NAME:-default}` and `${file:/run/secrets/name:-default}` for what is unset, not there or empty.
//!
//! A file is named by its whole path, is text of at most 64 KiB, and loses one line end at its end: that is how secrets are
//! mounted into containers.
//!
//! Only upper-case names (`[A-Z_][A-Z0-9_]*`) are the environment's. A lower-case `${client_ip}` stays as it is: the
//! `headers` filter fills those in for each request. `$${NAME}` stands for a literal
//! `${NAME}`. A default may hold variables itself.
//!
//! A plain scalar is typed anew afterwards, so `port: ${PORT:-8080}` is a number; a quoted one stays text. The values are
//! text and never read as YAML, so none can add keys. Keys are not expanded. A variable that is unset and has no default is
//! an error, and no error shows a variable's value.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ConfigError;
use super::node::{Kind, Node, Position, Variables};
use super::open;
use super::scalar::typed;

/// What begins the name of a file between the braces.
const FILE: &str = "file:";
/// The longest file that is put into a value, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Where variables come from.
#[derive(Clone, Debug, Default)]
pub enum Environment {
    /// The process's own environment.
    #[default]
    Process,
    /// Exactly these, for tests and the demo.
    Fixed(BTreeMap<String, String>),
}

impl Environment {
    fn get(&self, name: &str) -> Option<String> {
        match self {
            // What is no UTF-8 can stand in no value; it counts as unset.
            Self::Process => std::env::var(name).ok(),
            Self::Fixed(variables) => variables.get(name).cloned(),
        }
    }
}

/// What values are taken from.
#[derive(Clone, Copy)]
pub(super) struct Outside<'e> {
    pub(super) environment: &'e Environment,
    pub(super) open: open::Open,
}

/// Expands every string of a tree in place, tells every mistake, and notes every file that is asked for.
pub(super) fn expand(node: &mut Node, outside: Outside<'_>, files: &mut Vec<PathBuf>, errors: &mut Vec<ConfigError>) {
    match &mut node.kind {
        Kind::Seq(elements) => elements
            .iter_mut()
            .for_each(|element| expand(element, outside, files, errors)),
        Kind::Map(entries) => entries
            .iter_mut()
            .for_each(|(_, value)| expand(value, outside, files, errors)),
        Kind::Str(text) if text.contains("${") => {
            let mut expansion = Expansion {
                outside,
                files,
                values: Vec::new(),
            };
            match expansion.text(text) {
                Ok(expanded) if expansion.values.is_empty() => *text = expanded,
                Ok(expanded) => {
                    node.variables = Some(Arc::new(Variables {
                        written: std::mem::take(text),
                        values: expansion.values,
                        expanded: expanded.clone(),
                    }));
                    node.kind = if node.plain {
                        typed(&expanded)
                    } else {
                        Kind::Str(expanded)
                    };
                }
                Err(fault) => errors.push(fault.at(node)),
            }
        }
        _ => {}
    }
}

/// A mistake, and how many characters into the text it begins.
struct Fault {
    offset: usize,
    message: String,
    help: &'static str,
}

impl Fault {
    fn at(self, node: &Node) -> ConfigError {
        // The text of a plain scalar on one line stands in the file as it is; others have quotes, escapes or breaks.
        let position = Position {
            column: node.pos.column + if node.plain { self.offset } else { 0 },
            ..node.pos.clone()
        };
        ConfigError::new(position, self.message).with_help(self.help)
    }
}

struct Expansion<'e> {
    outside: Outside<'e>,
    files: &'e mut Vec<PathBuf>,
    values: Vec<String>,
}

impl Expansion<'_> {
    fn text(&mut self, text: &str) -> Result<String, Fault> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            if let Some(escaped) = before.strip_suffix('$') {
                expanded.push_str(escaped);
                // A filter's own variables have the same escape, which is the filter's to undo.
                expanded.push_str(if ours(&from[2..]) { "${" } else { "$${" });
                rest = &from[2..];
                continue;
            }
            expanded.push_str(before);
            let offset = text[..text.len() - from.len()].chars().count();
            let Some(inside) = inside(from) else {
                // Whatever is not closed and not ours is text.
                if !ours(&from[2..]) {
                    expanded.push_str("${");
                    rest = &from[2..];
                    continue;
                }
                return Err(Fault {
                    offset,
                    message: "`${` is not closed".to_owned(),
                    help: "write `${NAME}`, or `$${` for the two characters themselves",
                });
            };
            if let Some(named) = inside.strip_prefix(FILE) {
                expanded.push_str(&self.file(named, offset)?);
            } else if ours(inside) {
                expanded.push_str(&self.variable(inside, offset)?);
            } else {
                expanded.push_str(&from[..inside.len() + 3]);
            }
            rest = &from[inside.len() + 3..];
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// The value of what stands between the braces.
    fn variable(&mut self, inside: &str, offset: usize) -> Result<String, Fault> {
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let (name, rest) = inside.split_at(inside.find(|c| !is_name(c)).unwrap_or(inside.len()));
        let default = rest.strip_prefix(":-");
        if default.is_none() && !rest.is_empty() {
            return Err(Fault {
                offset,
                message: format!("`${{{inside}}}` is no variable"),
                help: "write `${NAME}` or `${NAME:-default}`",
            });
        }
        let value = match (self.outside.environment.get(name), default) {
            (Some(value), None) => value,
            (Some(value), Some(_)) if !value.is_empty() => value,
            (_, Some(default)) => return self.default(default, offset + name.len() + 4),
            (None, None) => {
                return Err(Fault {
                    offset,
                    message: format!("environment variable `{name}` is not set"),
                    help: "set it, or give a default: `${NAME:-default}`",
                });
            }
        };
        self.values.push(value.clone());
        Ok(value)
    }

    /// What is in the file that stands between the braces.
    fn file(&mut self, inside: &str, offset: usize) -> Result<String, Fault> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let fault = |message, help| Fault { offset, message, help };
        let path = Path::new(name);
        if !path.is_absolute() {
            let message = format!("`{name}` does not say where the file is");
            return Err(fault(message, "write the whole path: `${file:/run/secrets/name}`"));
        }
        self.files.push(path.to_owned());
        match (read(path, self.outside.open), default) {
            (Ok(value), Some(default)) if value.is_empty() => {
                self.default(default, offset + FILE.len() + name.len() + 4)
            }
            (Ok(value), _) => {
                self.values.push(value.clone());
                Ok(value)
            }
            (Err(_), Some(default)) => self.default(default, offset + FILE.len() + name.len() + 4),
            (Err(why), None) => {
                let message = format!("cannot read `{name}`: {why}");
                Err(fault(
                    message,
                    "mend the file, or give a default: `${file:PATH:-default}`",
                ))
            }
        }
    }

    fn default(&mut self, default: &str, offset: usize) -> Result<String, Fault> {
        let before = self.values.len();
        let value = self.text(default).map_err(|fault| Fault {
            offset: fault.offset + offset,
            ..fault
        })?;
        // A default stands in the file and may be shown; it is noted so that the value is typed anew.
        if self.values.len() == before {
            self.values.push(String::new());
        }
        Ok(value)
    }
}

/// The text of a file without its last line end.
fn read(path: &Path, open: open::Open) -> Result<String, String> {
    let mut bytes = Vec::new();
    open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| open::words(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("it is larger than 64 KiB".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let line = text
        .strip_suffix('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(line.unwrap_or(&text).to_owned())
}

/// Whether what follows `${` is meant for the environment or a file: runtime variables begin with a lower-case letter.
fn ours(inside: &str) -> bool {
    inside.starts_with(FILE) || !inside.starts_with(|c: char| c.is_ascii_lowercase())
}

/// What stands between `${` and its closing brace, inner pairs included.
pub(super) fn inside(from: &str) -> Option<&str> {
    let mut depth = 0usize;
    let mut previous = ' ';
    for (index, c) in from.char_indices() {
        match c {
            '{' if previous == '$' => depth += 1,
            '}' if depth == 1 => return from.get(2..index),
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        previous = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::parse;

    fn expanded(value: &str) -> Result<Node, ConfigError> {
        let variables = [("PORT", "8080"), ("HOST", "db"), ("EMPTY", ""), ("YAML", "{a: 1}")];
        let environment = Environment::Fixed(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let mut root = parse(&format!("key: {value}\n"), &Arc::from("test.yaml")).unwrap();
        let mut errors = Vec::new();
        let outside = Outside {
            environment: &environment,
            open: open::patiently,
        };
        expand(&mut root, outside, &mut Vec::new(), &mut errors);
        match errors.pop() {
            Some(error) => Err(error),
            None => Ok(root.entry("key").unwrap().1.clone()),
        }
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        let text = |text: &str| Kind::Str(text.to_owned());
        for (written, kind) in [
            ("${PORT}", Kind::Int(8080)),
            ("\"${PORT}\"", text("8080")),
            ("${UNSET:-5}", Kind::Int(5)),
            ("${EMPTY:-5}", Kind::Int(5)),
            ("${EMPTY}", Kind::Null),
            ("${UNSET:-}", Kind::Null),
            ("${UNSET:-${HOST}}", text("db")),
            ("http://${HOST}:${PORT}/", text("http://db:8080/")),
            ("${YAML}", text("{a: 1}")),
            ("$${PORT}", text("${PORT}")),
            ("${client_ip}", text("${client_ip}")),
            ("${client_ip}-${PORT}", text("${client_ip}-8080")),
            ("${client_ip", text("${client_ip")),
            ("$PORT", text("$PORT")),
        ] {
            assert!(expanded(written).unwrap().kind == kind, "{written}");
        }
    }

    #[test]
    fn mistakes_are_told_at_their_column() {
        for (written, column, message) in [
            ("${UNSET}", 6, "environment variable `UNSET` is not set"),
            ("${PORT}-${UNSET}", 14, "environment variable `UNSET` is not set"),
            ("${A:-${UNSET}}", 11, "environment variable `UNSET` is not set"),
            ("\"x${UNSET}\"", 6, "environment variable `UNSET` is not set"),
            ("${PORT-1}", 6, "`${PORT-1}` is no variable"),
            ("${Mixed}", 6, "`${Mixed}` is no variable"),
            ("${PORT", 6, "`${` is not closed"),
        ] {
            let error = expanded(written).unwrap_err();
            assert_eq!(
                (error.position.column, error.message.as_str()),
                (column, message),
                "{written}"
            );
        }
    }

    #[test]
    fn files_are_put_in_without_their_last_line_end() {
        let folder = std::env::temp_dir().join(format!("pillion-expand-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, text: &[u8]| {
            std::fs::write(folder.join(name), text).unwrap();
            format!("${{file:{}}}", folder.join(name).display())
        };
        let text = |text: &str| Kind::Str(text.to_owned());
        assert!(expanded(&file("token", b"s3cret\n")).unwrap().kind == text("s3cret"));
        assert!(expanded(&file("windows", b"s3cret\r\n")).unwrap().kind == text("s3cret"));
        assert!(expanded(&file("number", b"8080\n")).unwrap().kind == Kind::Int(8080));
        assert!(expanded(&format!("a-{}-b", file("part", b"x"))).unwrap().kind == text("a-x-b"));
        let empty = file("empty", b"\n").replace('}', ":-5}");
        assert!(expanded(&empty).unwrap().kind == Kind::Int(5));
        let written = file("token", b"s3cret\n");
        assert_eq!(format!("{:?}", expanded(&written).unwrap()), format!("{written:?}"));
        for (written, message) in [
            (file("binary", b"\xff"), "it is not UTF-8 text"),
            (file("large", &vec![b'a'; 65_537]), "it is larger than 64 KiB"),
            (
                "${file:/nowhere/token}".to_owned(),
                "cannot read `/nowhere/token`: entity not found",
            ),
            ("${file:token}".to_owned(), "`token` does not say where the file is"),
        ] {
            let error = expanded(&written).unwrap_err();
            assert!(error.message.ends_with(message), "{error}");
        }
        assert!(expanded("${file:/nowhere/token:-5}").unwrap().kind == Kind::Int(5));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_came_from_the_environment_is_not_shown() {
        let node = expanded("http://${HOST}").unwrap();
        assert_eq!(format!("{node:?}"), "\"http://${HOST}\"");
    }
}
