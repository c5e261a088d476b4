//! The signals that end a process, have it read its configuration again, or put another in its place.

use futures_util::FutureExt;
use futures_util::future::{FusedFuture, OptionFuture};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Shared;
use super::history::Trigger;
use super::successor::{Program, SuccessionError};

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
    pub(super) fn wait_for_end(self, shared: &Shared, program: Option<&Program>) -> End {
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
                    _ = hangup.recv() => drop(shared.reload(Trigger::Signal)),
                    _ = upgrade.recv() => match program {
                        Some(program) if successor.is_terminated() => {
                            for active in shared.overrides().all() {
                                let filter = &active.change.filter;
                                tracing::warn!(filter, "changed by the admin API, which the new process does not know of");
                            }
                            successor = Some(Box::pin(succeed(shared, program)).fuse()).into();
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

/// Starts another process with the sockets of this one, which are not changed meanwhile.
async fn succeed(shared: &Shared, program: &Program) -> Result<u32, SuccessionError> {
    let passing_on = shared.listeners.pass_on().map_err(SuccessionError::System)?;
    program.succeed(&passing_on.sockets).await
}

/// Why a process ends.
pub(super) enum End {
    /// It was told to.
    Signal(&'static str),
    /// The process of that id serves in its place.
    Successor(u32),
}
