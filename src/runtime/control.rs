//! The control thread: the admin API, and signals.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, FusedFuture, OptionFuture};
use pillion_filters::Direction;
use pillion_filters::cache::Cache;
use pillion_filters::circuit_breaker::Breakers;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::Shared;
use super::sockets::Listening;
use super::successor::Program;
use crate::admin::{self, AdminSource, Readiness, Standing};
use crate::config::{self, AdminPeer};
use crate::upstream::Address;

/// How long `/readyz` waits for the app to take a connection.
const APP_CHECK: Duration = Duration::from_secs(1);

/// Starts the admin API on a thread of its own: a scrape never takes a worker's time.
pub(super) fn spawn(
    shared: Arc<Shared>,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the admin API is off"),
            };
            let token = {
                let loaded = shared.loaded.load();
                loaded
                    .config
                    .admin
                    .token
                    .as_ref()
                    .map(|token| token.expose().to_owned())
            };
            let stop = async move {
                // An error means that the sidecar is gone, which is a stop as well.
                let _ = stopped.wait_for(|&stopped| stopped).await;
            };
            if let Err(error) = admin::serve(listener, token, Arc::new(Source(shared)), stop).await {
                tracing::error!(%error, "the admin API failed");
            }
        });
    })
}

struct Source(Arc<Shared>);

impl AdminSource for Source {
    fn ready(&self) -> BoxFuture<'_, Readiness> {
        let listening = if self.0.ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("the sidecar is stopping".to_owned())
        };
        let snapshot = self.0.snapshot.load();
        let app = snapshot.side(Direction::Inbound).and_then(|side| side.app.clone());
        Box::pin(async move {
            let mut checks = vec![("listening", listening)];
            if let Some(app) = app {
                checks.push(("app", reachable(&app.address).await));
            }
            Readiness(checks)
        })
    }

    fn config_yaml(&self) -> String {
        config::explain(&self.0.loaded.load())
    }

    fn metrics(&self) -> String {
        crate::telemetry::render(&self.0.ground.telemetry.metrics)
    }

    fn caches(&self) -> Vec<(Direction, String, Arc<Cache>)> {
        self.0.ground.state.each()
    }

    fn breakers(&self) -> Vec<(Direction, String, Arc<Breakers>)> {
        self.0.ground.state.each()
    }

    fn upstreams(&self) -> Vec<serde_json::Value> {
        let now = std::time::Instant::now();
        let groups = self.0.ground.upstreams.all();
        let told = groups.iter().map(|group| serde_json::to_value(group.status(now)));
        told.filter_map(Result::ok).collect()
    }

    fn standing(&self) -> Standing {
        Standing {
            service: self.0.loaded.load().config.service.to_string(),
            draining: *self.0.draining.borrow() || !self.0.ready.load(Ordering::Relaxed),
            generation: 1 + self.0.metrics.reloads(),
        }
    }

    fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.0.ground.telemetry.metrics.registry().gather()
    }

    fn peers(&self) -> Vec<AdminPeer> {
        self.0.loaded.load().config.admin.peers.clone()
    }

    fn reload(&self) -> Result<(), String> {
        self.0.reload().map_err(|errors| errors.to_string())
    }
}

async fn reachable(address: &Address) -> Result<(), String> {
    let connecting = async {
        match address {
            Address::Tcp(host, port) => TcpStream::connect((&**host, *port)).await.map(drop),
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    };
    match tokio::time::timeout(APP_CHECK, connecting).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err("no connection within a second".to_owned()),
    }
}

/// The signals a process obeys. From the moment this is there, none is lost: one that comes while the sidecar starts
/// stops it in good order too.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
}

impl Signals {
    /// Takes SIGTERM, SIGINT, SIGHUP and SIGUSR2 from their defaults, for the whole process.
    pub fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (hangup, upgrade) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?);
        drop(entered);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            hangup,
            upgrade,
        })
    }

    /// Blocks until this process is to end. A signal to stop is obeyed while a successor starts, too, which then ends with
    /// this process.
    pub(super) fn wait_for_end(self, shared: &Shared, sockets: &[Listening], program: Option<&Program>) -> End {
        let Self {
            runtime,
            mut terminate,
            mut interrupt,
            mut hangup,
            mut upgrade,
        } = self;
        runtime.block_on(async {
            let mut successor = OptionFuture::default();
            loop {
                tokio::select! {
                    _ = terminate.recv() => return End::Signal("SIGTERM"),
                    _ = interrupt.recv() => return End::Signal("SIGINT"),
                    // The result is in the log, the metric and the admin API.
                    _ = hangup.recv() => drop(shared.reload()),
                    _ = upgrade.recv() => match program {
                        Some(program) if successor.is_terminated() => {
                            successor = Some(Box::pin(program.succeed(sockets)).fuse()).into();
                        }
                        Some(_) => tracing::warn!("a new process is starting already"),
                        None => tracing::warn!("only `pillion run` can be upgraded"),
                    },
                    Some(succeeded) = &mut successor => match succeeded {
                        Ok(pid) => return End::Successor(pid),
                        Err(error) => tracing::error!("not upgraded, this process goes on: {error}"),
                    },
                }
            }
        })
    }
}

/// Why a process ends.
pub(super) enum End {
    /// It was told to.
    Signal(&'static str),
    /// The process of that id serves in its place.
    Successor(u32),
}
