//! The command line: one file per subcommand.

mod check;
mod demo;
mod explain;
mod run;
mod schema;
mod top;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pillion_filters::Registry;

use crate::config::{self, ConfigErrors, ConfigWarnings, Loaded};
use crate::runtime;
use crate::snapshot::{self, Snapshot};

/// A sidecar proxy with an embedded observability agent.
#[derive(Parser)]
#[command(name = "pillion", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an app, a sidecar and the admin API on loopback; nothing else is needed.
    Demo(demo::Arguments),
    /// Run the sidecar.
    Run(run::Arguments),
    /// Validate configuration files; exit 1 and say where if one is wrong.
    Check(check::Arguments),
    /// Show the effective configuration with each value's origin, or what one request would meet.
    Explain(explain::Arguments),
    /// Print the JSON Schema of the configuration, for editors.
    Schema(schema::Arguments),
    /// Show a running sidecar's rates, errors and durations in the terminal.
    Top(top::Arguments),
}

/// Does what the command line says.
pub(crate) fn run(registry: Registry) -> ExitCode {
    // clap itself exits with 2 on a command line that makes no sense.
    let done = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments, registry),
        Command::Run(arguments) => run::run(arguments, registry),
        Command::Check(arguments) => check::run(&arguments, &registry),
        Command::Explain(arguments) => explain::run(&arguments, &registry),
        Command::Schema(arguments) => schema::run(&arguments, &registry),
        Command::Top(arguments) => top::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot write to standard output: {error}")),
        _ => Ok(()),
    }
}

/// Reads files and compiles them, so that filters' own mistakes are found too.
fn load(files: &[PathBuf], registry: &Registry) -> Result<(Loaded, Snapshot, ConfigWarnings), ConfigErrors> {
    let names: Vec<&str> = registry.entries().iter().map(|entry| entry.name).collect();
    let loaded = config::load(files, &names)?;
    let ground = runtime::dry_ground(&loaded.config, registry.clone());
    let (snapshot, warnings) = snapshot::build(&loaded, &ground)?;
    Ok((loaded, snapshot, warnings))
}
