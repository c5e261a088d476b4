//! `pillion run`: the sidecar.

use std::path::PathBuf;

use pillion_filters::Registry;

use crate::runtime::{self, Options, Predecessor, Program, Signals, StartError};
use crate::{config, log};

/// Command line of `run`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration; given more than once, later files win.
    #[arg(long, short, required = true, value_name = "FILE")]
    config: Vec<PathBuf>,
}

/// Runs until SIGTERM or SIGINT, or until another process has taken over after SIGUSR2.
pub(super) fn run(arguments: Arguments, registry: Registry) -> Result<(), String> {
    let program = Program::find().map_err(|error| format!("cannot tell which program this is: {error}"))?;
    let predecessor = Predecessor::find().map_err(|error| format!("cannot hear the process before: {error}"))?;
    let names: Vec<&str> = registry.entries().iter().map(|entry| entry.name).collect();
    let loaded = config::load(&arguments.config, &names).map_err(|errors| errors.render())?;
    log::start(loaded.config.log);
    let service = loaded.config.service.to_string();
    let options = Options {
        registry,
        files: arguments.config,
    };
    let signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let running = runtime::start_after(predecessor.as_ref(), loaded, options).map_err(|error| match error {
        StartError::Config(errors) => errors.render(),
        error => error.to_string(),
    })?;
    let address = |address: Option<std::net::SocketAddr>| address.map(tracing::field::display);
    tracing::info!(
        pid = std::process::id(),
        service,
        inbound = address(running.inbound),
        outbound = address(running.outbound),
        admin = address(running.admin),
        "listening"
    );
    if let Some(Err(error)) = predecessor.map(Predecessor::relieve) {
        // It may have been killed meanwhile; its sockets are here.
        tracing::warn!(%error, "the process before could not be told that this one serves");
    }
    running.wait(signals, Some(&program));
    Ok(())
}
