//! Pillion: a sidecar proxy with an embedded observability agent.
//!
//! It stands on the wire in front of a service and behind it. What it does there is a chain of filters
//! ([`pillion_filters`]); this crate is the rest: configuration, listeners, engine, telemetry, admin API, command line.
//!
//! A sidecar with a plugin of one's own is five lines:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     pillion::run(pillion_filters::Registry::builtin())
//! }
//! ```

pub mod admin;
mod cli;
mod clock;
pub mod config;
mod engine;
pub mod explain;
#[cfg(fuzzing)]
pub mod fuzzing;
mod listener;
mod log;
pub mod runtime;
mod snapshot;
mod strict;
pub mod telemetry;
mod upstream;

use std::process::ExitCode;

use pillion_filters::Registry;

/// Does what the command line says, with these plugins. The exit code is 0 when it worked out, 1 when it did not, 2 when
/// the command line makes no sense.
pub fn run(registry: Registry) -> ExitCode {
    cli::run(registry)
}
