//! From a configuration to a listening sidecar.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pillion_filters::{
    Direction, DiscardLines, DiscardSpans, Dispatcher, LineSink, Metrics, NoBackground, Registry, SharedState,
    SpanSink, Telemetry,
};
use tokio::sync::watch;

use super::handover::Predecessor;
use super::sockets::{Heritage, Listening, Role};
use super::watcher::{self, Watched};
use super::{Running, Shared, control, workers};
use crate::config::{Config, ConfigErrors, ListenAddress, Loaded, OtlpProtocol};
use crate::engine::Dispatch;
use crate::explain::Recorder;
use crate::listener::OpenConnections;
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
    let mut heritage = match predecessor {
        Some(predecessor) => predecessor.heritage().map_err(StartError::TakeOver)?,
        None => Heritage::default(),
    };
    let mut listening = Vec::new();
    for (role, address, sockets) in addresses(&config, count) {
        listening.push(heritage.listen(role, address, sockets)?);
    }
    drop(heritage);
    let bound = |role| {
        listening
            .iter()
            .find(|one| one.role == role)
            .map(Listening::bound)
            .transpose()
    };
    let (inbound, outbound, admin) = (bound(Role::Inbound)?, bound(Role::Outbound)?, bound(Role::Admin)?);
    let to_pass_on = listening.iter().map(Listening::try_clone).collect::<io::Result<_>>()?;

    let keeper = Keeper::default();
    super::settle(&first, &ground, &keeper);
    let shared = Arc::new(Shared {
        snapshot: Arc::new(ArcSwap::from_pointee(first)),
        started: config.clone(),
        off_limits: OffLimits::new(admin),
        watched: Watched::new(loaded.files.clone()),
        loaded: ArcSwap::from_pointee(loaded),
        files: options.files,
        ground,
        keeper,
        dispatch,
        metrics,
        open: Arc::new(OpenConnections::default()),
        handed_over: watch::Sender::new(false),
        draining: watch::Sender::new(false),
        ready: AtomicBool::new(true),
        generation: AtomicU64::new(1),
        reloads: Mutex::default(),
    });
    let (stopped, admin_stopped) = (watch::Sender::new(false), watch::Sender::new(false));
    let mut threads = Vec::with_capacity(count + 1);
    let (workers, admin_sockets) = share_out(listening, count);
    for (index, listeners) in workers.into_iter().enumerate() {
        threads.push(workers::spawn(&shared, index, listeners, stopped.subscribe())?);
    }
    for listener in admin_sockets {
        threads.push(control::spawn(shared.clone(), listener, admin_stopped.subscribe())?);
    }
    shared.note_start(began.elapsed());
    threads.push(watcher::spawn(&shared)?);
    Ok(Running {
        inbound,
        outbound,
        admin,
        shared,
        to_pass_on,
        threads,
        stopped,
        admin_stopped,
        telemetry: telemetry_threads,
    })
}

/// Where to listen, and with how many sockets at least.
fn addresses(config: &Config, workers: usize) -> impl Iterator<Item = (Role, &ListenAddress, usize)> {
    let inbound = config
        .inbound
        .as_ref()
        .map(|side| (Role::Inbound, &side.listen, workers));
    let outbound = config
        .outbound
        .as_ref()
        .map(|side| (Role::Outbound, &side.listen, workers));
    let admin = &config.admin;
    let admin = admin.enabled.then_some((Role::Admin, &admin.listen, 1));
    [inbound, outbound, admin].into_iter().flatten()
}

/// Deals the sockets out to the workers and the admin API. None is left over, however many there are: each has a queue of
/// its own, in which connections would wait for nobody.
fn share_out(listening: Vec<Listening>, workers: usize) -> (Vec<Vec<(Direction, TcpListener)>>, Vec<TcpListener>) {
    let mut dealt: Vec<Vec<(Direction, TcpListener)>> = (0..workers).map(|_| Vec::new()).collect();
    let mut admin = Vec::new();
    for Listening { role, sockets, .. } in listening {
        let direction = match role {
            Role::Inbound => Direction::Inbound,
            Role::Outbound => Direction::Outbound,
            Role::Admin => {
                admin.extend(sockets);
                continue;
            }
        };
        for (index, socket) in sockets.into_iter().enumerate() {
            dealt[index % workers].push((direction, socket));
        }
    }
    (dealt, admin)
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
