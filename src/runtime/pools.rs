//! What the workers' pools of upstream connections hold, put together for who asks.
//!
//! A pool is its worker's own. So who asks raises a number; each worker looks at it when it sweeps its pool, a few times a
//! second, and tells what it has if it has not told for that number. While nobody asks this is one load a sweep.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::engine::{Connector, Pooled};

type Endpoints = HashMap<Arc<str>, Pooled>;

/// See the [module](self).
pub(super) struct Pools {
    asked: AtomicU64,
    told: Mutex<Told>,
    news: Notify,
}

struct Told {
    /// Of each worker, for which number it was told last.
    workers: Vec<(u64, Endpoints)>,
    /// So many wait for news. When nobody does, nothing is kept.
    asking: usize,
}

impl Pools {
    pub(super) fn new(workers: usize) -> Self {
        let told = Told {
            workers: (0..workers).map(|_| (0, Endpoints::new())).collect(),
            asking: 0,
        };
        Self {
            asked: AtomicU64::new(0),
            told: Mutex::new(told),
            news: Notify::new(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what a worker's pool holds, if somebody has asked since that number.
    pub(super) fn tell(&self, worker: usize, since: &mut u64, connector: &Connector) {
        self.tell_with(worker, since, || connector.pooled());
    }

    fn tell_with(&self, worker: usize, since: &mut u64, holds: impl FnOnce() -> Endpoints) {
        let asked = self.asked.load(Ordering::Relaxed);
        if asked == *since {
            return;
        }
        *since = asked;
        let holds = holds();
        let mut told = self.told();
        if told.asking > 0
            && let Some(of_worker) = told.workers.get_mut(worker)
        {
            *of_worker = (asked, holds);
            drop(told);
            self.news.notify_waiters();
        }
    }

    /// What all workers' pools hold, by endpoint, and whether every worker told in time.
    pub(super) async fn ask(&self, within: Duration) -> (Endpoints, bool) {
        let _asking = Asking::begin(self);
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let all_told = async {
            loop {
                let news = self.news.notified();
                if self.told().workers.iter().all(|(told, _)| *told >= number) {
                    return;
                }
                news.await;
            }
        };
        let complete = tokio::time::timeout(within, all_told).await.is_ok();
        let told = self.told();
        let mut all = Endpoints::new();
        for (endpoint, pooled) in told.workers.iter().flat_map(|(_, holds)| holds) {
            *all.entry(endpoint.clone()).or_default() += *pooled;
        }
        (all, complete)
    }
}

/// Somebody who asks, for as long as they do.
struct Asking<'p>(&'p Pools);

impl<'p> Asking<'p> {
    fn begin(pools: &'p Pools) -> Self {
        pools.told().asking += 1;
        Self(pools)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut told = self.0.told();
        told.asking -= 1;
        if told.asking == 0 {
            told.workers.iter_mut().for_each(|(_, holds)| *holds = Endpoints::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn holds(idle: usize) -> Endpoints {
        let pooled = Pooled {
            http1_idle: idle,
            ..Pooled::default()
        };
        HashMap::from([("a:1".into(), pooled)])
    }

    #[tokio::test]
    async fn the_workers_are_added_up_once_all_have_told() {
        let pools = Pools::new(2);
        let (mut first, mut second) = (0, 0);
        pools.tell_with(0, &mut first, || panic!("nobody asked"));
        let telling = async {
            while pools.told().asking == 0 {
                tokio::task::yield_now().await;
            }
            pools.tell_with(0, &mut first, || holds(1));
            tokio::task::yield_now().await;
            pools.tell_with(1, &mut second, || holds(2));
        };
        let ((all, complete), ()) = tokio::join!(pools.ask(LONG), telling);
        assert!(complete);
        assert_eq!(all["a:1"].http1_idle, 3);
        pools.tell_with(0, &mut first, || panic!("it has told"));
        assert!(pools.told().workers.iter().all(|(_, holds)| holds.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_tell_in_time_is_not_waited_for() {
        let pools = Pools::new(2);
        let mut first = 0;
        let telling = async {
            tokio::task::yield_now().await;
            pools.tell_with(0, &mut first, || holds(1));
        };
        let ((all, complete), ()) = tokio::join!(pools.ask(LONG), telling);
        assert!(!complete);
        assert_eq!(all["a:1"].http1_idle, 1);
    }
}
