//! `pillion check`: validates configuration files.

use std::path::PathBuf;

use pillion_filters::Registry;

use super::{load, print};

/// Command line of `check`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The files, each a configuration of its own.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Tells every mistake of every file, and what may be one. Only the mistakes fail the check.
pub(super) fn run(arguments: &Arguments, registry: &Registry) -> Result<(), String> {
    let mut told = Vec::new();
    for file in &arguments.files {
        match load(std::slice::from_ref(file), registry) {
            Ok((.., warnings)) => {
                eprint!("{}", warnings.render());
                print(&format!("{}: ok\n", file.display()))?;
            }
            Err(errors) => told.push(errors.render()),
        }
    }
    if told.is_empty() { Ok(()) } else { Err(told.join("\n")) }
}
