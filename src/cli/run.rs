//! `pillion run`: the sidecar.

use std::path::PathBuf;

use pillion_filters::Registry;

use crate::runtime::{self, Options, Signals, StartError};
use crate::{config, log};

/// Command line of `run`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration; given more than once, later files win.
    #[arg(long, short, required = true, value_name = "FILE")]
    config: Vec<PathBuf>,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(arguments: Arguments, registry: Registry) -> Result<(), String> {
    let names: Vec<&str> = registry.entries().iter().map(|entry| entry.name).collect();
    let loaded = config::load(&arguments.config, &names).map_err(|errors| errors.render())?;
    log::start(loaded.config.log);
    let service = loaded.config.service.to_string();
    let options = Options {
        registry,
        files: arguments.config,
    };
    let signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let running = runtime::start(loaded, options).map_err(|error| match error {
        StartError::Config(errors) => errors.render(),
        error => error.to_string(),
    })?;
    let address = |address: Option<std::net::SocketAddr>| address.map(tracing::field::display);
    tracing::info!(
        service,
        inbound = address(running.inbound),
        outbound = address(running.outbound),
        admin = address(running.admin),
        "listening"
    );
    running.wait(signals);
    Ok(())
}
