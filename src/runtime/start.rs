//! From a configuration to a listening sidecar.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use pillion_filters::{
    Direction, DiscardLines, DiscardSpans, LineSink, Metrics, Registry, SharedState, SpanSink, Telemetry,
};
use tokio::sync::watch;

use super::{Running, Shared, control, workers};
use crate::config::{Config, ConfigErrors, ListenAddress, Loaded, OtlpProtocol};
use crate::listener::{OpenConnections, socket};
use crate::snapshot::{self, Ground};
use crate::telemetry::{
    self, ExportSettings, ExporterHandle, LineWriter, LineWriterHandle, Protocol, ProxyMetrics, TelemetryError,
};
use crate::upstream::OffLimits;

/// How long a stop waits for the last spans to reach the collector.
const LAST_EXPORT: Duration = Duration::from_secs(2);
/// How long a stop waits for the last access-log lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What a sidecar needs beside its configuration.
pub struct Options {
    /// The plugins.
    pub registry: Registry,
    /// The files the configuration was read from, for reloads.
    pub files: Vec<PathBuf>,
}

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A filter's settings make no sense.
    #[error("{0}")]
    Config(ConfigErrors),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what}): {error}")]
    Listen {
        /// What the address is for.
        what: &'static str,
        /// The address as configured.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The system gives no thread or runtime.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// Telemetry does not take its settings.
    #[error("{0}")]
    Telemetry(#[from] TelemetryError),
}

impl From<ConfigErrors> for StartError {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

/// The threads that carry spans and lines away.
pub(super) struct TelemetryThreads {
    exporter: Option<ExporterHandle>,
    lines: LineWriterHandle,
}

impl TelemetryThreads {
    /// Sends what is queued, within bounds.
    pub(super) fn stop(self) {
        if let Some(exporter) = self.exporter {
            exporter.shutdown(LAST_EXPORT);
        }
        self.lines.shutdown(LAST_LINES);
    }
}

/// Starts a sidecar: once this returns, its addresses take connections.
pub fn start(loaded: Loaded, options: Options) -> Result<Running, StartError> {
    let config = loaded.config.clone();
    let (ground, metrics, telemetry_threads) = ground(&config, options.registry)?;
    let first = snapshot::build(&loaded, &ground)?;

    let count = config.workers.unwrap_or_else(cores);
    let mut sockets: Vec<Vec<(Direction, TcpListener)>> = (0..count).map(|_| Vec::new()).collect();
    let inbound = config.inbound.as_ref().map(|inbound| &inbound.listen);
    let inbound = listen("inbound", Direction::Inbound, inbound, &mut sockets)?;
    let outbound = config.outbound.as_ref().map(|outbound| &outbound.listen);
    let outbound = listen("outbound", Direction::Outbound, outbound, &mut sockets)?;
    let admin = match config.admin.enabled.then_some(&config.admin.listen) {
        Some(address) => Some(bind_one("admin", address)?),
        None => None,
    };
    let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());

    let shared = Arc::new(Shared {
        snapshot: Arc::new(ArcSwap::from_pointee(first)),
        started: config.clone(),
        off_limits: OffLimits::new(admin_address),
        loaded: ArcSwap::from_pointee(loaded),
        files: options.files,
        ground,
        metrics,
        open: Arc::new(OpenConnections::default()),
        draining: watch::Sender::new(false),
        ready: AtomicBool::new(true),
    });
    let stopped = watch::Sender::new(false);
    let mut threads = Vec::with_capacity(count + 1);
    for (index, listeners) in sockets.into_iter().enumerate() {
        threads.push(workers::spawn(&shared, index, listeners, stopped.subscribe())?);
    }
    if let Some(listener) = admin {
        threads.push(control::spawn(shared.clone(), listener, stopped.subscribe())?);
    }
    Ok(Running {
        inbound,
        outbound,
        admin: admin_address,
        shared,
        threads,
        stopped,
        telemetry: telemetry_threads,
    })
}

/// What outlives snapshots: metrics, sinks, plugins.
fn ground(config: &Config, registry: Registry) -> Result<(Ground, Arc<ProxyMetrics>, TelemetryThreads), StartError> {
    let metrics = Metrics::default();
    let own = Arc::new(ProxyMetrics::new(&metrics)?);
    let (spans, exporter): (Arc<dyn SpanSink>, _) = match export_settings(config) {
        Some(settings) => {
            let (queue, handle) = telemetry::start(settings, &metrics)?;
            (queue, Some(handle))
        }
        None => (Arc::new(DiscardSpans), None),
    };
    let (lines, writer) = LineWriter::start(Box::new(io::stdout()), &metrics)?;
    let lines: Arc<dyn LineSink> = lines;
    let ground = Ground {
        registry,
        telemetry: Telemetry {
            metrics,
            spans,
            lines,
            histogram_buckets: config.telemetry.histogram_buckets.clone().into(),
        },
        state: SharedState::default(),
    };
    let threads = TelemetryThreads {
        exporter,
        lines: writer,
    };
    Ok((ground, own, threads))
}

/// What filters are checked against when nothing runs: everything they report is dropped.
pub(crate) fn dry_ground(config: &Config, registry: Registry) -> Ground {
    Ground {
        registry,
        telemetry: Telemetry {
            metrics: Metrics::default(),
            spans: Arc::new(DiscardSpans),
            lines: Arc::new(DiscardLines),
            histogram_buckets: config.telemetry.histogram_buckets.clone().into(),
        },
        state: SharedState::default(),
    }
}

fn export_settings(config: &Config) -> Option<ExportSettings> {
    let otlp = &config.telemetry.otlp;
    let endpoint = otlp.endpoint.as_ref()?;
    let headers = otlp.headers.iter();
    Some(ExportSettings {
        endpoint: endpoint.as_str().to_owned(),
        protocol: match otlp.protocol {
            OtlpProtocol::Http => Protocol::Http,
            OtlpProtocol::Grpc => Protocol::Grpc,
        },
        headers: headers
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        timeout: otlp.timeout.0,
        queue_size: otlp.queue_size.get(),
        batch_size: otlp.batch_size.get(),
        interval: otlp.interval.0,
        resource: telemetry::resource(config.service.as_str(), &config.telemetry.resource),
    })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn resolve(address: &ListenAddress) -> io::Result<SocketAddr> {
    let mut found = (address.host.as_str(), address.port).to_socket_addrs()?;
    found.next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Binds a listening address once per worker.
fn listen(
    what: &'static str,
    direction: Direction,
    address: Option<&ListenAddress>,
    workers: &mut [Vec<(Direction, TcpListener)>],
) -> Result<Option<SocketAddr>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let bound = resolve(address).and_then(|resolved| socket::bind_all(resolved, workers.len()));
    let (bound, listeners) = bound.map_err(|error| StartError::Listen {
        what,
        address: address.to_string(),
        error,
    })?;
    for (worker, listener) in workers.iter_mut().zip(listeners) {
        worker.push((direction, listener));
    }
    Ok(Some(bound))
}

fn bind_one(what: &'static str, address: &ListenAddress) -> Result<TcpListener, StartError> {
    let bound = resolve(address).and_then(|resolved| {
        let listener = TcpListener::bind(resolved)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| StartError::Listen {
        what,
        address: address.to_string(),
        error,
    })
}
