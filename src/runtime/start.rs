//! From a configuration to a listening sidecar.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pillion_filters::{
    DiscardLines, DiscardSpans, Dispatcher, LineSink, Metrics, NoBackground, Registry, SharedState, SpanSink, Telemetry,
};
use tokio::sync::watch;

use super::handover::Predecessor;
use super::listeners::Listeners;
use super::pools::Pools;
use super::sockets::{Heritage, Role};
use super::watcher::{self, Watched};
use super::{Running, Shared, control, workers};
use crate::config::{Config, ConfigErrors, Loaded, OtlpProtocol};
use crate::engine::Dispatch;
use crate::explain::Recorder;
use crate::listener::OpenConnections;
use crate::log::Levels;
use crate::snapshot::{self, Ground};
use crate::telemetry::{
    self, ExportSettings, ExporterHandle, LineWriter, LineWriterHandle, Protocol, ProxyMetrics, TelemetryError,
};
use crate::upstream::{Keeper, OffLimits, Upstreams};

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
    /// The process before does not hand its sockets over.
    #[error("cannot take the listening sockets over: {0}")]
    TakeOver(io::Error),
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
    start_after(None, loaded, options)
}

/// Starts a sidecar with the listening sockets of the process before, as far as it listens where that one did.
pub fn start_after(predecessor: Option<&Predecessor>, loaded: Loaded, options: Options) -> Result<Running, StartError> {
    let began = Instant::now();
    let config = loaded.config.clone();
    let dispatch = Arc::new(Dispatch::default());
    let (ground, metrics, telemetry_threads) = ground(&config, options.registry, dispatch.clone())?;
    let (first, warnings) = snapshot::build(&loaded, &ground)?;
    super::log_warnings(&warnings);

    let count = config.workers.unwrap_or_else(cores);
    let heritage = match predecessor {
        Some(predecessor) => predecessor.heritage().map_err(StartError::TakeOver)?,
        None => Heritage::default(),
    };
    let off_limits = OffLimits::default();
    let (listeners, receivers) = Listeners::start(heritage, &config, count, off_limits.clone())?;
    let (inbound, outbound) = (listeners.bound(Role::Inbound), listeners.bound(Role::Outbound));
    let admin = listeners.bound(Role::Admin);

    let keeper = Keeper::default();
    super::settle(&first, &ground, &keeper);
    let shared = Arc::new(Shared {
        snapshot: Arc::new(ArcSwap::from_pointee(first)),
        started: config.clone(),
        off_limits,
        listeners,
        pools: Pools::new(count),
        levels: Levels::new(config.log.level),
        watched: Watched::new(loaded.files.clone()),
        loaded: ArcSwap::from_pointee(loaded),
        files: options.files,
        ground,
        keeper,
        dispatch,
        metrics,
        open: Arc::new(OpenConnections::default()),
        ready: AtomicBool::new(true),
        generation: AtomicU64::new(1),
        reloads: Mutex::default(),
    });
    let (stopped, admin_stopped) = (watch::Sender::new(false), watch::Sender::new(false));
    let mut threads = Vec::with_capacity(count + 1);
    for (index, openings) in receivers.workers.into_iter().enumerate() {
        threads.push(workers::spawn(&shared, index, openings, stopped.subscribe())?);
    }
    threads.push(control::spawn(
        shared.clone(),
        receivers.control,
        admin_stopped.subscribe(),
    )?);
    shared.note_start(began.elapsed());
    threads.push(watcher::spawn(&shared)?);
    Ok(Running {
        inbound,
        outbound,
        admin,
        shared,
        threads,
        stopped,
        admin_stopped,
        telemetry: telemetry_threads,
    })
}

/// What outlives snapshots: metrics, sinks, plugins.
fn ground(
    config: &Config,
    registry: Registry,
    background: Arc<dyn Dispatcher>,
) -> Result<(Ground, Arc<ProxyMetrics>, TelemetryThreads), StartError> {
    let metrics = Metrics::default();
    let own = Arc::new(ProxyMetrics::new(&metrics)?);
    let upstreams = Arc::new(Upstreams::default());
    telemetry::watch_upstreams(&metrics, upstreams.clone())?;
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
        recorder: Arc::new(Recorder::new(&registry)),
        registry,
        telemetry: Telemetry {
            metrics,
            spans,
            lines,
            histogram_buckets: config.telemetry.histogram_buckets.clone().into(),
        },
        state: SharedState::default(),
        background,
        upstreams,
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
        recorder: Arc::new(Recorder::new(&registry)),
        registry,
        telemetry: Telemetry {
            metrics: Metrics::default(),
            spans: Arc::new(DiscardSpans),
            lines: Arc::new(DiscardLines),
            histogram_buckets: config.telemetry.histogram_buckets.clone().into(),
        },
        state: SharedState::default(),
        background: Arc::new(NoBackground),
        upstreams: Arc::default(),
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
