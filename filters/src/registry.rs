//! The plugins a sidecar knows, by name.

use std::sync::Arc;

use schemars::{Schema, SchemaGenerator};

use crate::context::Context;
use crate::filter::{Filter, Plugin};
use crate::remark::Remark;
use crate::words::Words;

/// Why a filter could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration does not have the plugin's shape. The deserializer knows the place.
    #[error("{0}")]
    Shape(erased_serde::Error),
    /// The values do not go together; the text is for the person who wrote them.
    #[error("{0}")]
    Meaning(String),
    /// The same, each at the setting it is about.
    #[error("{}", .0.iter().map(Remark::to_string).collect::<Vec<_>>().join("; "))]
    Mistakes(Vec<Remark>),
}

type Build = fn(&mut dyn erased_serde::Deserializer<'_>, &Context<'_>) -> Result<Arc<dyn Filter>, BuildError>;

/// One plugin, with its types erased.
#[derive(Clone, Copy)]
pub struct PluginEntry {
    /// The plugin's name.
    pub name: &'static str,
    /// What it enters in the ledger, in words.
    pub words: Words,
    build: Build,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl PluginEntry {
    fn of<P: Plugin>() -> Self {
        Self {
            name: P::NAME,
            words: P::WORDS,
            build: |deserializer, context| {
                let config = erased_serde::deserialize(deserializer).map_err(BuildError::Shape)?;
                P::build(config, context)
            },
            schema: |generator| generator.subschema_for::<P::Config>(),
        }
    }

    /// Builds a filter from its configuration, whatever format that is written in.
    pub fn build(
        &self,
        config: &mut dyn erased_serde::Deserializer<'_>,
        context: &Context<'_>,
    ) -> Result<Arc<dyn Filter>, BuildError> {
        (self.build)(config, context)
    }

    /// The JSON Schema of the plugin's configuration.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }
}

/// The plugins a sidecar knows. A third party adds its own:
/// `pillion::run(Registry::builtin().with::<MyPlugin>())`.
#[derive(Clone, Default)]
pub struct Registry {
    entries: Vec<PluginEntry>,
}

impl Registry {
    /// Knows no plugin.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Knows what comes with the sidecar, in the order of the default chain.
    pub fn builtin() -> Self {
        Self::empty()
            .with::<crate::request_id::RequestId>()
            .with::<crate::access_log::AccessLog>()
            .with::<crate::tracing::Tracing>()
            .with::<crate::metrics::MetricsPlugin>()
            .with::<crate::deadline::Deadline>()
            .with::<crate::limits::Limits>()
            .with::<crate::headers::Headers>()
            .with::<crate::idempotency::Idempotency>()
            .with::<crate::cache::CachePlugin>()
            .with::<crate::compression::Compression>()
            .with::<crate::circuit_breaker::CircuitBreaker>()
            .with::<crate::retry::Retry>()
    }

    /// Adds a plugin; one of the same name is replaced.
    #[must_use]
    pub fn with<P: Plugin>(mut self) -> Self {
        self.entries.retain(|entry| entry.name != P::NAME);
        self.entries.push(PluginEntry::of::<P>());
        self
    }

    /// The plugin of that name.
    pub fn get(&self, name: &str) -> Option<&PluginEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// All plugins.
    pub fn entries(&self) -> &[PluginEntry] {
        &self.entries
    }
}
