//! The worker threads.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use pillion_filters::Direction;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Shared;
use crate::engine::{Connector, Jobs, PoolLimits};
use crate::listener::{self, Worker, socket};

/// How often idle upstream connections are looked at.
const SWEEP: Duration = Duration::from_millis(200);

/// Starts a worker with its listening sockets.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    index: usize,
    listeners: Vec<(Direction, TcpListener)>,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let worker = Arc::new(Worker {
        snapshot: shared.snapshot.clone(),
        connector: Connector::new(shared.off_limits, shared.metrics.clone()),
        metrics: shared.metrics.clone(),
        recorder: shared.ground.recorder.clone(),
        draining: shared.draining.subscribe(),
        open: shared.open.clone(),
    });
    let jobs = shared.dispatch.worker();
    let entered = runtime.enter();
    let listeners = listeners
        .into_iter()
        .map(|(direction, listener)| Ok((direction, socket::adopt(listener)?)))
        .collect::<std::io::Result<Vec<_>>>()?;
    drop(entered);
    let handed_over = shared.handed_over.subscribe();
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || runtime.block_on(serve(worker, listeners, jobs, handed_over, stopped)))
}

async fn serve(
    worker: Arc<Worker>,
    listeners: Vec<(Direction, tokio::net::TcpListener)>,
    jobs: Jobs,
    mut handed_over: watch::Receiver<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    tokio::spawn(jobs.serve(worker.clone()));
    let mut accepting = JoinSet::new();
    for (direction, listener) in listeners {
        accepting.spawn(listener::accept(worker.clone(), direction, listener));
    }
    tokio::spawn(async move {
        let ended = async { while accepting.join_next().await.is_some() {} };
        let passed_on = tokio::select! {
            _ = handed_over.wait_for(|&handed_over| handed_over) => true,
            () = ended => false,
        };
        if passed_on {
            // What is still queued is the successor's.
            accepting.shutdown().await;
        }
        // Says that nothing accepts any more.
        drop(handed_over);
    });
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The gauge is of all workers, each of which adds its own change.
    let mut idle = 0;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|&stopped| stopped) => return,
            _ = sweep.tick() => {
                let now = worker.connector.sweep(pool_limits(&worker));
                let now = i64::try_from(now).unwrap_or(i64::MAX);
                worker.metrics.upstream_idle.add(now - idle);
                idle = now;
            }
        }
    }
}

fn pool_limits(worker: &Worker) -> PoolLimits {
    let snapshot = worker.snapshot();
    let side = snapshot
        .side(Direction::Inbound)
        .or_else(|| snapshot.side(Direction::Outbound));
    side.map_or(PoolLimits::default(), |side| side.pool)
}
