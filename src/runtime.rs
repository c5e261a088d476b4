//! A running sidecar: its threads, from start to stop.
//!
//! Each worker is a thread with a current-thread runtime, its own listening sockets and its own upstream connections. One
//! more thread, *control*, runs the admin API, and *config* sees files change. The exporter and the access-log writer have a
//! thread each, which sleep when there is nothing to do.

mod connections;
mod control;
mod filters;
mod handover;
mod history;
mod listeners;
mod overrides;
mod pools;
mod reload;
mod restart;
mod signals;
mod sockets;
mod start;
mod successor;
mod watcher;
mod workers;

pub use self::handover::Predecessor;
pub use self::signals::Signals;
pub(crate) use self::start::dry_ground;
pub use self::start::{Options, StartError, start, start_after};
pub use self::successor::Program;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use self::history::Trigger;
use self::listeners::Listeners;
use self::pools::Pools;
use self::reload::Reloads;
use self::signals::End;
use self::watcher::Watched;
use crate::config::{Config, ConfigErrors, ConfigWarnings, Loaded};
use crate::engine::Dispatch;
use crate::listener::OpenConnections;
use crate::log::Levels;
use crate::snapshot::{Ground, Snapshot};
use crate::telemetry::ProxyMetrics;
use crate::upstream::{Keeper, OffLimits};

/// How often a stop looks whether what it waits for is there.
const LOOK: Duration = Duration::from_millis(10);
/// How long workers may take to hear that they are to accept no more.
const LAST_ACCEPT: Duration = Duration::from_secs(1);
/// What the last connections a process accepted before its successor did have to begin a request. Nobody waits for the old
/// process to end, so there is no hurry.
const SETTLE: Duration = Duration::from_secs(1);

/// What the threads of a sidecar share.
pub(crate) struct Shared {
    snapshot: Arc<ArcSwap<Snapshot>>,
    loaded: ArcSwap<Loaded>,
    /// The configuration at the start, for what a reload does not change.
    started: Config,
    /// Where nobody is sent to.
    off_limits: OffLimits,
    /// What is listened on.
    listeners: Listeners,
    /// What the workers' pools hold, for who asks.
    pools: Pools,
    /// What is written to the sidecar's own log.
    levels: Levels,
    files: Vec<PathBuf>,
    ground: Ground,
    /// Looks names up and checks endpoints.
    keeper: Keeper,
    /// Deals background exchanges out to the workers.
    dispatch: Arc<Dispatch>,
    metrics: Arc<ProxyMetrics>,
    open: Arc<OpenConnections>,
    /// False from the moment the sidecar is told to stop, before it stops accepting.
    ready: AtomicBool,
    /// Counts snapshots, from 1 on.
    generation: AtomicU64,
    reloads: Mutex<Reloads>,
    watched: Watched,
}

/// Takes up what a configuration says of upstreams, before the first request goes by it.
fn settle(snapshot: &Snapshot, ground: &Ground, keeper: &Keeper) {
    ground.recorder.settle(&snapshot.explain);
    ground.upstreams.settle(snapshot.wanted(), Instant::now());
    keeper.keep(snapshot.wanted());
    // A lookup that ended in between has named others; now it is followed no more.
    for wanted in snapshot.wanted() {
        wanted.name_members(Instant::now());
    }
}

/// Tells the log what may be a mistake in a configuration that is taken up.
fn log_warnings(warnings: &ConfigWarnings) {
    for warning in warnings.warnings() {
        tracing::warn!("{warning}");
    }
}

/// A sidecar that is listening.
pub struct Running {
    /// Where clients connect, until a reload changes that.
    pub inbound: Option<SocketAddr>,
    /// Where the app sends its requests, likewise.
    pub outbound: Option<SocketAddr>,
    /// Where the admin API is, likewise.
    pub admin: Option<SocketAddr>,
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
    stopped: watch::Sender<bool>,
    admin_stopped: watch::Sender<bool>,
    telemetry: start::TelemetryThreads,
}

impl Running {
    /// Stops as configured: not ready, drain delay, no new connections, exchanges in flight finish within the grace period.
    pub fn stop(self) {
        self.shared.ready.store(false, Ordering::Relaxed);
        let shutdown = self.shared.loaded.load().config.shutdown;
        std::thread::sleep(shutdown.drain_delay.0);
        self.drain();
    }

    /// Stops without a word to anybody: a successor has the sockets, and all that is in their queues.
    fn retire(self) {
        self.shared.ready.store(false, Ordering::Relaxed);
        self.admin_stopped.send_replace(true);
        // A worker that drains takes what is queued, with little time left for it; the successor has all the time.
        self.shared.listeners.give_up();
        self.await_last_accept();
        std::thread::sleep(SETTLE);
        self.drain();
    }

    /// Waits until no worker accepts any more, so that all connections there will be are counted as open.
    fn await_last_accept(&self) {
        let began = Instant::now();
        while self.shared.listeners.are_accepting() && began.elapsed() < LAST_ACCEPT {
            std::thread::sleep(LOOK);
        }
    }

    fn drain(self) {
        let grace_period = self.shared.loaded.load().config.shutdown.grace_period.0;
        self.shared.listeners.close();
        let began = Instant::now();
        self.await_last_accept();
        // Connections close by themselves once they are idle; this only watches.
        while self.shared.open.total() > 0 && began.elapsed() < grace_period {
            std::thread::sleep(LOOK);
        }
        let left = self.shared.open.total();
        if left > 0 {
            tracing::warn!(connections = left, "grace period is over, closing what is left");
        }
        self.admin_stopped.send_replace(true);
        self.stopped.send_replace(true);
        self.shared.watched.stop();
        for thread in self.threads {
            // A panic in there was reported when it happened.
            let _ = thread.join();
        }
        self.telemetry.stop();
    }

    /// Blocks until SIGTERM or SIGINT, reloading on SIGHUP, then stops. With a program, SIGUSR2 starts it to take the place
    /// of this process.
    pub fn wait(self, signals: Signals, program: Option<&Program>) {
        match signals.wait_for_end(&self.shared, program) {
            End::Signal(signal) => {
                tracing::info!(signal, "stopping");
                self.stop();
            }
            End::Successor(pid) => {
                tracing::info!(pid, "stopping: a new process has taken over");
                self.retire();
            }
        }
    }

    /// Reads the configuration files again.
    pub fn reload(&self) -> Result<(), ConfigErrors> {
        self.shared.reload(Trigger::Api)
    }
}
