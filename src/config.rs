//! The configuration: YAML files, layered, checked as a whole, every mistake with its place.
//!
//! ```text
//! files -> source -> layers, merge -> expand -> de -> check -> Loaded
//!          places    include, nulls   ${VAR}    types  sense
//! ```
//!
//! - [`load`] reads files from left to right, each over the one before, over the built-in `config/defaults.yaml`.
//! - Whatever is wrong is told at once, as `file:line:column: what is wrong; what to write instead`.
//! - Nothing is half accepted: there is a [`Loaded`] without any mistake, or [`ConfigErrors`].
//! - Filters' own settings stay a [`Node`]; [`Loaded::chain`] lays out what each filter of a chain gets, and its plugin reads
//!   it through [`deserialize_erased`], with the same quality of errors.

mod check;
mod de;
mod difference;
mod effective;
mod error;
mod expand;
mod explain;
mod layers;
mod loaded;
mod mask;
mod merge;
mod model;
mod node;
mod open;
mod overlay;
mod scalar;
mod schema;
mod source;
mod yaml;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::de::{deserialize, deserialize_erased};
pub use self::difference::{Difference, differences};
pub use self::effective::{Leaf, settings, values};
pub use self::error::{ConfigError, ConfigErrors, ConfigWarnings, Sources, suggest};
pub use self::expand::Environment;
pub use self::explain::explain;
pub(crate) use self::explain::explain_settings;
pub use self::layers::BUILT_IN;
pub use self::loaded::{ConfiguredFilter, Loaded};
pub use self::model::*;
pub use self::node::{Key, Kind, Node, Position, Variables};
pub use self::overlay::{ADMIN_API, Override};
pub use self::schema::schema;

use self::expand::Outside;
use self::layers::Layers;

/// Reads files, each over the one before. `known` names the plugins there are.
pub fn load(files: &[PathBuf], known: &[&str]) -> Result<Loaded, ConfigErrors> {
    Loader::new(known).files(files)
}

/// Reads a text as if it were a file called `name`. It cannot include files.
pub fn load_str(name: &str, text: &str, known: &[&str]) -> Result<Loaded, ConfigErrors> {
    Loader::new(known).text(name, text)
}

/// Reads configurations in an environment of one's choice.
pub struct Loader<'l> {
    known: &'l [&'l str],
    environment: Environment,
    open: open::Open,
}

impl<'l> Loader<'l> {
    /// Knows these plugins, and takes variables from the process's environment.
    pub fn new(known: &'l [&'l str]) -> Self {
        Self {
            known,
            environment: Environment::Process,
            open: open::patiently,
        }
    }

    /// Takes variables from there instead.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Refuses pipes, for which it would have to wait.
    pub fn at_once(mut self) -> Self {
        self.open = open::at_once;
        self
    }

    fn outside(&self) -> Outside<'_> {
        Outside {
            environment: &self.environment,
            open: self.open,
        }
    }

    /// Reads files, each over the one before.
    pub fn files(&self, files: &[PathBuf]) -> Result<Loaded, ConfigErrors> {
        let mut layers = Layers::new(self.outside());
        for file in files {
            layers.file(file);
        }
        self.finish(layers)
    }

    /// Reads a text as if it were a file called `name`.
    pub fn text(&self, name: &str, text: &str) -> Result<Loaded, ConfigErrors> {
        let mut layers = Layers::new(self.outside());
        layers.text(text, &Arc::from(name));
        self.finish(layers)
    }

    fn finish(&self, layers: Layers<'_>) -> Result<Loaded, ConfigErrors> {
        let stack = layers.finish();
        // With a layer missing, everything else would be guesswork.
        if !stack.errors.is_empty() {
            return Err(ConfigErrors::new(stack.errors, stack.sources).of_files(stack.files));
        }
        let (config, mut errors) = self.read(&stack.tree);
        // A value that could not be expanded was read as it is written; what that led to is no second mistake.
        let unexpanded = |error: &ConfigError| {
            let place = &error.position;
            let same_line =
                |other: &ConfigError| other.position.file == place.file && other.position.line == place.line;
            stack.unexpanded.iter().any(same_line)
        };
        errors.retain(|error| !unexpanded(error));
        errors.extend(stack.unexpanded);
        match config {
            Some(config) if errors.is_empty() => Ok(Loaded {
                config,
                tree: stack.tree,
                sources: stack.sources,
                files: stack.files,
                base: None,
                overrides: Vec::new(),
            }),
            _ => Err(ConfigErrors::new(errors, stack.sources).of_files(stack.files)),
        }
    }

    /// The same configuration with these changes laid over its files, in place of those that lie over them now.
    pub fn overlay(&self, loaded: &Loaded, overrides: Vec<Override>) -> Result<Loaded, ConfigErrors> {
        let tree = overlay::overlaid(loaded, &overrides);
        let (config, errors) = self.read(&tree);
        match config {
            Some(config) if errors.is_empty() => Ok(Loaded {
                config,
                base: Some(loaded.base().clone()),
                tree,
                sources: loaded.sources.clone(),
                files: loaded.files.clone(),
                overrides,
            }),
            _ => Err(ConfigErrors::new(errors, loaded.sources.clone())),
        }
    }

    /// The typed part of a tree, and everything that is wrong with it.
    fn read(&self, tree: &Node) -> (Option<Config>, Vec<ConfigError>) {
        let (config, mut errors) = de::deserialize_partly::<Config>(tree, "");
        errors.extend(check::check(tree, config.as_ref(), self.known));
        (config, errors)
    }
}
