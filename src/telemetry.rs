//! Where the sidecar's own signals go: spans to a collector, lines to the access log, metrics to whoever scrapes.
//!
//! Requests never wait for any of it. What they leave goes into bounded queues, and one thread for each empties it; what
//! finds no room, or cannot be sent, is dropped and counted.

mod doorbell;
mod export;
mod log_lines;
mod metrics;
mod process;
mod resource;
mod upstreams;

pub use self::export::{ExportSettings, ExporterHandle, Protocol, SpanQueue, start};
pub use self::log_lines::{LineWriter, LineWriterHandle};
pub use self::metrics::{Closed, ConnectionMetrics, OpenTunnel, ProxyMetrics, render};
pub use self::resource::resource;
pub(crate) use self::upstreams::watch_upstreams;

/// Why telemetry could not be set up. The text is for the person who starts the sidecar.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A thread could not be started.
    #[error("cannot start the thread {0}: {1}")]
    Thread(&'static str, std::io::Error),
    /// The exporter cannot be made from its settings.
    #[error("cannot export spans to {endpoint}: {reason}")]
    Exporter {
        /// Where spans were to go.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A family of that name exists with another type.
    #[error("the metric {0} is registered already, with another type")]
    Metric(String),
}
