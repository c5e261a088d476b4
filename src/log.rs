//! The sidecar's own log, on standard error; access logs go to standard output.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging. `RUST_LOG` wins over the configuration. Only the first call counts.
pub(crate) fn start(log: Log) {
    // pingora reports clients' mistakes as errors; ours tell them better.
    let directives = format!("{},pingora_core=off", log.level.as_str());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error means that somebody was first, e.g. another sidecar in the same test.
    let _ = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
