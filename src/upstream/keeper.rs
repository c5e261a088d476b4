//! Looks after upstreams beside the traffic: looks names up again, asks endpoints whether they are well. One thread for all, which
//! is there only if a configuration needs it.

mod dns;
mod health;
mod probe;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;

use super::upstreams::{Source, Wanted};

/// How long a start or a reload waits for the addresses of names that are new.
const FIRST_LOOKUP: Duration = Duration::from_secs(2);

/// Looks after the upstreams of the configuration in force.
#[derive(Default)]
pub(crate) struct Keeper(Mutex<Option<watch::Sender<Order>>>);

/// What is to be looked after from now on, and who waits for the first addresses.
#[derive(Clone, Default)]
struct Order {
    wanted: Vec<Wanted>,
    done: Option<mpsc::Sender<()>>,
}

impl Keeper {
    /// Looks after these and no others. Waits for the addresses of names that are new, within bounds: without one of them its requests
    /// would fail.
    pub(crate) fn keep(&self, wanted: &[Wanted]) {
        let needs = |wanted: &&Wanted| matches!(wanted.source, Source::Dns(_)) || wanted.health.is_some();
        let wanted: Vec<Wanted> = wanted.iter().filter(needs).cloned().collect();
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.is_empty() && orders.is_none() {
            return;
        }
        let (done, is_done) = mpsc::channel();
        let order = Order {
            wanted,
            done: Some(done),
        };
        match &*orders {
            Some(sender) => {
                sender.send_replace(order);
            }
            None => match start(order) {
                Ok(sender) => *orders = Some(sender),
                Err(error) => return tracing::error!(%error, "names are not looked up, endpoints not checked"),
            },
        }
        drop(orders);
        // Timed out, it goes on behind; the log says what is missing.
        let _ = is_done.recv_timeout(FIRST_LOOKUP);
    }
}

fn start(first: Order) -> std::io::Result<watch::Sender<Order>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, receiver) = watch::channel(first);
    std::thread::Builder::new()
        .name("upstreams".to_owned())
        .spawn(move || runtime.block_on(follow(receiver)))?;
    Ok(sender)
}

/// One upstream that is looked after. Dropped, it is no more.
struct Kept {
    wanted: Wanted,
    _tasks: JoinSet<()>,
}

impl Kept {
    fn is(&self, wanted: &Wanted) -> bool {
        Arc::ptr_eq(&self.wanted.group, &wanted.group)
            && self.wanted.source == wanted.source
            && self.wanted.health == wanted.health
    }
}

/// Obeys orders until the sidecar is gone.
async fn follow(mut orders: watch::Receiver<Order>) {
    let mut kept: Vec<Kept> = Vec::new();
    orders.mark_changed();
    while orders.changed().await.is_ok() {
        let Order { wanted, done } = orders.borrow_and_update().clone();
        let mut first = JoinSet::new();
        let mut next = Vec::new();
        for wanted in wanted {
            match kept.iter().position(|kept| kept.is(&wanted)) {
                Some(place) => next.push(kept.swap_remove(place)),
                None => next.push(begin(wanted, &mut first)),
            }
        }
        kept = next;
        tokio::spawn(async move {
            while first.join_next().await.is_some() {}
            // Nobody may wait any more.
            let _ = done.map(|done| done.send(()));
        });
    }
}

fn begin(wanted: Wanted, first: &mut JoinSet<()>) -> Kept {
    let mut tasks = JoinSet::new();
    let changed = Arc::new(Notify::new());
    if let Source::Dns(name) = &wanted.source {
        let (found, is_found) = oneshot::channel();
        first.spawn(async move { drop(is_found.await) });
        tasks.spawn(dns::follow(wanted.group.clone(), name.clone(), changed.clone(), found));
    }
    if let Some(check) = &wanted.health {
        tasks.spawn(health::watch(wanted.group.clone(), check.clone(), changed));
    }
    Kept { wanted, _tasks: tasks }
}
