//! The worker threads.

use std::sync::Arc;
use std::time::Duration;

use pillion_filters::Direction;
use tokio::sync::{mpsc, watch};

use super::Shared;
use crate::engine::{Connector, Jobs, PoolLimits};
use crate::listener::{self, Opening, Worker};

/// How often idle upstream connections are looked at.
const SWEEP: Duration = Duration::from_millis(200);

/// Starts a worker, which gets its listening sockets one by one.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    index: usize,
    openings: mpsc::UnboundedReceiver<Opening>,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let worker = Arc::new(Worker {
        snapshot: shared.snapshot.clone(),
        connector: Connector::new(shared.off_limits.clone(), shared.metrics.clone()),
        metrics: shared.metrics.clone(),
        recorder: shared.ground.recorder.clone(),
        open: shared.open.clone(),
    });
    let jobs = shared.dispatch.worker();
    let shared = shared.clone();
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || runtime.block_on(serve(&shared, index, worker, openings, jobs, stopped)))
}

async fn serve(
    shared: &Shared,
    index: usize,
    worker: Arc<Worker>,
    mut openings: mpsc::UnboundedReceiver<Opening>,
    jobs: Jobs,
    mut stopped: watch::Receiver<bool>,
) {
    tokio::spawn(jobs.serve(worker.clone()));
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The gauge is of all workers, each of which adds its own change.
    let mut idle = 0;
    let mut told = 0;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|&stopped| stopped) => return,
            Some(opening) = openings.recv() => drop(tokio::spawn(listener::accept(worker.clone(), opening))),
            _ = sweep.tick() => {
                let now = worker.connector.sweep(pool_limits(&worker));
                let now = i64::try_from(now).unwrap_or(i64::MAX);
                worker.metrics.upstream_idle.add(now - idle);
                idle = now;
                shared.pools.tell(index, &mut told, &worker.connector);
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
