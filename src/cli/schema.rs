//! `pillion schema`: the JSON Schema of the configuration.

use pillion_filters::Registry;

use super::print;
use crate::config;

/// Command line of `schema`.
#[derive(clap::Args)]
pub(super) struct Arguments {}

/// Prints the schema, plugins' settings included.
pub(super) fn run(_: &Arguments, registry: &Registry) -> Result<(), String> {
    let schema = config::schema(&mut |generator| {
        let entries = registry.entries().iter();
        entries
            .map(|entry| (entry.name.to_owned(), entry.schema(generator)))
            .collect()
    });
    let text = serde_json::to_string_pretty(&schema).map_err(|error| error.to_string())?;
    print(&format!("{text}\n"))
}
