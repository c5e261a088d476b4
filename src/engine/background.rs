//! Runs exchanges that no client asked for, on the workers, a bounded number at a time.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use pillion_filters::{Background, Dispatcher};
use tokio::sync::{Semaphore, mpsc};

use super::exchange::serve_nobody;
use crate::listener::Worker;

/// Exchanges that wait for a worker.
const QUEUED: usize = 64;
/// Exchanges under way on a worker.
const AT_ONCE: usize = 16;

/// Deals background exchanges out to the workers.
#[derive(Default)]
pub(crate) struct Dispatch {
    queues: Mutex<Vec<mpsc::Sender<Background>>>,
    next: AtomicUsize,
}

/// A worker's queue of background exchanges.
pub(crate) struct Jobs(mpsc::Receiver<Background>);

impl Dispatch {
    /// A queue for one more worker.
    pub(crate) fn worker(&self) -> Jobs {
        let (sender, receiver) = mpsc::channel(QUEUED);
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.push(sender);
        Jobs(receiver)
    }
}

impl Dispatcher for Dispatch {
    fn dispatch(&self, background: Background) -> bool {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut background = background;
        for offset in 0..queues.len() {
            match queues[(first + offset) % queues.len()].try_send(background) {
                Ok(()) => return true,
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                    background = back;
                }
            }
        }
        false
    }
}

impl Jobs {
    /// Serves the queue for as long as the worker lives.
    pub(crate) async fn serve(mut self, worker: Arc<Worker>) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(job) = self.0.recv().await {
            // Never closed, so there is a place sooner or later.
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let worker = worker.clone();
            tokio::spawn(async move {
                serve_nobody(&worker, job).await;
                drop(place);
            });
        }
    }
}
