//! What is wrong with a configuration, where, and what to write instead.
//!
//! Whoever wrote the file sees these: at start, from `pillion check`, and from the admin API after a reload. None is worth
//! trying again with the same files. A message never holds the value of an environment variable, nor the password of an
//! address.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use super::mask;
use super::node::Position;

/// The text of every file that was read, by the name errors show.
pub type Sources = BTreeMap<Arc<str>, Arc<str>>;

/// One mistake. Displays as `file:line:column: message; help`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the mistake is written.
    pub position: Position,
    /// The same place as a path of keys, such as `routes[2].match.path`; empty for what concerns a whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead, if that can be told.
    pub help: Option<String>,
    /// Whether something is not there, rather than there and wrong.
    pub missing: bool,
}

impl ConfigError {
    /// A mistake at a place.
    pub fn new(position: Position, message: impl Into<String>) -> Self {
        Self {
            position,
            path: String::new(),
            message: line(&mask::prose(&message.into())),
            help: None,
            missing: false,
        }
    }

    /// The same with what to write instead.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(line(&mask::prose(&help.into())));
        self
    }

    /// The message without the level of a filter's settings: a mistake at one level is seen again through every level that
    /// inherits it.
    fn fact(&self) -> Vec<&str> {
        let below = |word| str::find(word, "filters.").map_or(word, |start| &word[start..]);
        self.message.split(' ').map(below).collect()
    }

    /// The same with its path of keys.
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }
}

/// One line, whatever somebody wrote: a key with an end of a line in it must not look like a line of the log.
fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position, self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Every mistake of a configuration, in the order of the files' lines. Displays one a line.
#[derive(Clone, Default)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    sources: Sources,
    files: Vec<PathBuf>,
}

impl ConfigErrors {
    /// Collects mistakes, sorted by place and each told once.
    pub fn new(mut errors: Vec<ConfigError>, sources: Sources) -> Self {
        errors.sort_by(|a, b| a.position.cmp(&b.position));
        errors.dedup_by(|a, b| a.position == b.position && a.fact() == b.fact());
        Self {
            errors,
            sources,
            files: Vec::new(),
        }
    }

    /// The same of these files.
    #[must_use]
    pub fn of_files(mut self, files: Vec<PathBuf>) -> Self {
        self.files = files;
        self
    }

    /// The files that were asked for, as far as it came: the mistake is in one of them, or that one is not there.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The mistakes.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// For a terminal: each mistake with its line of the file and a caret beneath the place.
    ///
    /// ```text
    /// error: unknown key `tll` in filters.cache
    ///   --> config/services/api.yaml:12:5
    ///    |
    /// 12 |     tll: 5m
    ///    |     ^
    ///    = help: did you mean `ttl`?
    /// ```
    pub fn render(&self) -> String {
        self.render_as("error")
    }

    fn render_as(&self, word: &str) -> String {
        let mut out = String::new();
        for error in &self.errors {
            let gutter = " ".repeat(error.position.line.to_string().len());
            let _ = writeln!(out, "{word}: {}", error.message);
            let _ = writeln!(out, "{gutter}--> {}", error.position);
            if let Some((line, caret)) = self.line(&error.position) {
                let number = error.position.line;
                let _ = writeln!(out, "{gutter} |\n{number} | {line}\n{gutter} | {caret}^");
            }
            if let Some(help) = &error.help {
                let _ = writeln!(out, "{gutter} = help: {help}");
            }
            out.push('\n');
        }
        let count = self.errors.len();
        let _ = writeln!(out, "{count} {word}{}", if count == 1 { "" } else { "s" });
        out
    }

    /// The line of a place, and what to put before the caret so that it stands under the column.
    fn line(&self, position: &Position) -> Option<(Cow<'_, str>, String)> {
        let text = self.sources.get(&position.file)?;
        let line = text.lines().nth(position.line.checked_sub(1)?)?;
        let before: String = line.chars().take(position.column.saturating_sub(1)).collect();
        let caret = mask::prose(&before)
            .chars()
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        Some((mask::prose(line), caret))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// Without the files' texts, which may hold secrets.
impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.errors).finish()
    }
}

impl std::error::Error for ConfigErrors {}

/// What is valid and may be a mistake all the same. Nothing is refused for it.
#[derive(Clone, Debug, Default)]
pub struct ConfigWarnings(ConfigErrors);

impl ConfigWarnings {
    /// Collects warnings, sorted by place and each told once.
    pub fn new(warnings: Vec<ConfigError>, sources: Sources) -> Self {
        Self(ConfigErrors::new(warnings, sources))
    }

    /// The warnings.
    pub fn warnings(&self) -> &[ConfigError] {
        self.0.errors()
    }

    /// For a terminal, as [`ConfigErrors::render`]; empty if there are none.
    pub fn render(&self) -> String {
        if self.warnings().is_empty() {
            return String::new();
        }
        self.0.render_as("warning")
    }
}

/// Help for a name that is not among the known ones: the nearest if it is near enough to be a slip, else all of them.
pub fn suggest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(written, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "no key is expected here".to_owned(),
        None => format!("expected one of {}", quoted(&known)),
    }
}

/// The nearest of the known names, unless every one is further off than a slip of the hand: about a third of the letters.
pub(super) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let plain = plain(written);
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&plain, name), name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len().max(plain.len()) / 3).max(1))
        .map(|(_, name)| name)
}

pub(super) fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// `maxConnections` and `max-connections` are `max_connections` to whoever wrote them.
fn plain(written: &str) -> String {
    let mut plain = String::with_capacity(written.len() + 2);
    let mut after_lower = false;
    for c in written.chars() {
        if c.is_uppercase() && after_lower {
            plain.push('_');
        }
        after_lower = c.is_lowercase();
        plain.extend(if c == '-' { '_' } else { c }.to_lowercase());
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line_whatever_was_written() {
        let place = Position::whole(&Arc::from("a.yaml"));
        let error = ConfigError::new(place, "unknown key `a\nERROR b\u{1b}[31m`").with_help("not `a\n`");
        assert_eq!(
            error.to_string(),
            "a.yaml: unknown key `a\\nERROR b\\u{1b}[31m`; not `a\\n`"
        );
    }

    #[test]
    fn a_slip_is_corrected_and_a_stranger_gets_the_list() {
        let known = ["ttl", "max_size", "enabled"];
        for (written, help) in [
            ("tll", "did you mean `ttl`?"),
            ("maxSize", "did you mean `max_size`?"),
            ("max-size", "did you mean `max_size`?"),
            ("enabeld", "did you mean `enabled`?"),
            ("colour", "expected one of `ttl`, `max_size`, `enabled`"),
        ] {
            assert_eq!(suggest(written, known), help, "{written}");
        }
        assert_eq!(suggest("x", []), "no key is expected here");
    }

    #[test]
    fn the_caret_stands_under_the_column() {
        let file: Arc<str> = Arc::from("a.yaml");
        let text = "service: a\nfilters:\n  cache:\n    tll: 5m\n";
        let sources = Sources::from([(Arc::clone(&file), Arc::from(text))]);
        let position = Position {
            file,
            line: 4,
            column: 5,
        };
        let error = ConfigError::new(position, "unknown key `tll` in filters.cache").with_help("did you mean `ttl`?");
        let rendered = ConfigErrors::new(vec![error], sources).render();
        let expected = "\
error: unknown key `tll` in filters.cache
 --> a.yaml:4:5
  |
4 |     tll: 5m
  |     ^
  = help: did you mean `ttl`?

1 error
";
        assert_eq!(rendered, expected);
    }
}
