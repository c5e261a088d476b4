//! The control thread: the admin API, and what is to be done later.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use pillion_filters::Direction;
use pillion_filters::cache::Cache;
use pillion_filters::circuit_breaker::Breakers;
use pillion_filters::units::HumanDuration;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::history::{self, Author, Change, Trigger};
use super::listeners::{AdminOpening, Order};
use super::overrides::MOST;
use super::reload::Refused;
use super::{Shared, filters};
use crate::admin::{self, AdminSource, ChangeError, FilterChange, FilterRestore, Readiness, Standing};
use crate::config::{self, AdminPeer, Difference, Override, TraceUrl};
use crate::explain::Recorder;
use crate::listener::Accepting;
use crate::upstream::Address;

/// How long `/readyz` waits for the app to take a connection.
const APP_CHECK: Duration = Duration::from_secs(1);

/// Starts the thread of the admin API, and of what is to be done later: a scrape never takes a worker's time.
pub(super) fn spawn(
    shared: Arc<Shared>,
    orders: mpsc::UnboundedReceiver<Order>,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || runtime.block_on(obey(shared, orders, stopped)))
}

async fn obey(shared: Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>, stopped: watch::Receiver<bool>) {
    let mut stop = stopped.clone();
    let mut serving = JoinSet::new();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(_) = serving.join_next() => continue,
            // An error means that the sidecar is gone, which is a stop as well.
            _ = stop.wait_for(|&stopped| stopped) => None,
        };
        match order {
            Some(Order::Serve(opening)) => drop(serving.spawn(serve(shared.clone(), opening, stopped.clone()))),
            Some(Order::Cut(entrance, after)) => drop(tokio::spawn(async move {
                tokio::time::sleep(after).await;
                if let Some(entrance) = entrance.upgrade() {
                    let direction = entrance.direction().as_str();
                    tracing::warn!(
                        direction,
                        "grace period is over, closing what is left of a side that is gone"
                    );
                    entrance.cut();
                }
            })),
            None => break,
        }
    }
    while serving.join_next().await.is_some() {}
}

/// Serves the admin API on one socket.
async fn serve(shared: Arc<Shared>, opening: AdminOpening, mut stopped: watch::Receiver<bool>) {
    let AdminOpening {
        socket,
        token,
        mut accepting,
        forbidden,
    } = opening;
    let stop = async move {
        tokio::select! {
            _ = stopped.wait_for(|&stopped| stopped) => {}
            _ = accepting.wait_for(|&accepting| accepting != Accepting::All) => {}
        }
    };
    let served = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => admin::serve(listener, token, Arc::new(Source(shared)), stop).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the admin API failed");
    }
    drop(forbidden);
}

struct Source(Arc<Shared>);

impl AdminSource for Source {
    fn ready(&self) -> BoxFuture<'_, Readiness> {
        let listens = self.0.ready.load(Ordering::Relaxed);
        let listening = if listens {
            Ok(())
        } else {
            Err("the sidecar is stopping".to_owned())
        };
        let snapshot = self.0.snapshot.load();
        let app = snapshot.side(Direction::Inbound).and_then(|side| side.app.clone());
        Box::pin(async move {
            let mut checks = vec![("listening", listening)];
            if self.0.listeners.is_draining() && listens {
                checks.push(("drain", Err("the sidecar is being taken out of service".to_owned())));
            }
            if let Some(app) = app {
                checks.push(("app", reachable(&app.address).await));
            }
            Readiness(checks)
        })
    }

    fn config_yaml(&self) -> String {
        config::explain(&self.0.loaded.load())
    }

    fn config_values(&self) -> Value {
        let loaded = self.0.loaded.load();
        let values = config::values(&loaded).into_iter();
        let values = values.map(|leaf| json!({ "key": leaf.key, "value": leaf.value, "origin": leaf.origin }));
        let files = loaded.files.iter().map(|file| file.display().to_string());
        json!({
            "generation": self.generation(), "files": files.collect::<Vec<_>>(), "values": values.collect::<Vec<_>>(),
        })
    }

    fn note(&self, action: &str) {
        self.0.note_action(action);
    }

    fn config_history(&self) -> Value {
        json!({ "generation": self.generation(), "entries": self.0.history() })
    }

    fn filters(&self) -> Value {
        let (loaded, overrides) = (self.0.loaded.load(), self.0.overrides());
        let filters = filters::all(&loaded, &overrides, &self.0.ground.registry);
        json!({ "generation": self.generation(), "filters": filters })
    }

    fn filter(&self, name: &str) -> Option<Value> {
        let (loaded, overrides) = (self.0.loaded.load(), self.0.overrides());
        filters::named(&loaded, &overrides, &self.0.ground.registry, name)
    }

    fn change_filter(&self, change: FilterChange) -> Result<Value, ChangeError> {
        let FilterChange {
            filter,
            direction,
            route,
            enabled,
            settings,
            ttl,
            by,
            reason,
        } = change;
        let change = Override {
            filter,
            direction,
            route,
            enabled,
            settings,
        };
        let changed = self.0.change_filter(change.clone(), Author { by, reason }, ttl)?;
        let shadowed = change.shadowed(&self.0.loaded.load());
        Ok(self.changed(&change.filter, &changed, &shadowed))
    }

    fn restore_filter(&self, restore: FilterRestore) -> Result<Value, ChangeError> {
        let FilterRestore {
            filter,
            direction,
            route,
            by,
            reason,
        } = restore;
        let leaves = |over: &Override| {
            over.filter == filter
                && (direction.is_none() || over.direction == direction)
                && (route.is_none() || over.route == route)
        };
        let changed = self.0.restore_filter(leaves, Author { by, reason })?;
        Ok(self.changed(&filter, &changed, &[]))
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

    fn upstreams(&self) -> Vec<Value> {
        let now = std::time::Instant::now();
        let groups = self.0.ground.upstreams.all();
        let told = groups.iter().map(|group| serde_json::to_value(group.status(now)));
        told.filter_map(Result::ok).collect()
    }

    fn standing(&self) -> Standing {
        Standing {
            service: self.0.loaded.load().config.service.to_string(),
            draining: self.is_draining(),
            generation: self.generation(),
        }
    }

    fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.0.ground.telemetry.metrics.registry().gather()
    }

    fn peers(&self) -> Vec<AdminPeer> {
        self.0.loaded.load().config.admin.peers.clone()
    }

    fn recorder(&self) -> (Arc<Recorder>, Option<TraceUrl>) {
        let trace_url = self.0.loaded.load().config.explain.trace_url.clone();
        (self.0.ground.recorder.clone(), trace_url)
    }

    fn is_draining(&self) -> bool {
        self.0.listeners.is_draining() || !self.0.ready.load(Ordering::Relaxed)
    }

    fn drain(&self, drain: bool) -> bool {
        let done = self.0.listeners.drain(drain);
        if done {
            self.note(if drain {
                "draining: clients are sent away"
            } else {
                "no longer draining"
            });
        }
        done
    }

    fn connections(&self) -> BoxFuture<'_, Value> {
        Box::pin(self.0.connections())
    }

    fn log_level(&self) -> Value {
        let standing = self.0.levels.standing();
        let until = standing.until.map(history::text);
        json!({
            "level": standing.level, "configured": standing.configured.as_str(),
            "until": until, "rust_log": standing.environment,
        })
    }

    fn choose_log_level(&self, level: &str, ttl: Option<Duration>) -> Result<(), String> {
        let choice = level.parse()?;
        let until = ttl.map(|ttl| SystemTime::now().checked_add(ttl).ok_or("the `ttl` is too long"));
        let number = self.0.levels.choose(choice, until.transpose()?);
        let time = ttl.map_or(String::new(), |ttl| format!(" for {}", HumanDuration(ttl)));
        self.note(&format!("log level {level}{time}"));
        if let Some(ttl) = ttl {
            let shared = self.0.clone();
            let timer = tokio::spawn(async move {
                tokio::time::sleep(ttl).await;
                shared.levels.end(Some(number));
            });
            self.0.levels.ends_by(number, timer.abort_handle());
        }
        Ok(())
    }

    fn reset_log_level(&self) {
        self.0.levels.end(None);
        self.note("log level as configured");
    }

    fn reload(&self) -> Result<(), String> {
        self.0.reload(Trigger::Api).map_err(|errors| errors.to_string())
    }
}

impl Source {
    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Relaxed)
    }

    /// A filter after a change, and what that changed.
    fn changed(&self, filter: &str, changes: &[Difference], shadowed: &[String]) -> Value {
        let mut shown = self.filter(filter).unwrap_or_else(|| json!({}));
        if let Value::Object(shown) = &mut shown {
            let changes: Vec<Change> = changes.iter().map(Change::from).collect();
            shown.insert("generation".to_owned(), self.generation().into());
            shown.insert("changes".to_owned(), json!(changes));
            shown.insert("shadowed".to_owned(), json!(shadowed));
        }
        shown
    }
}

impl From<Refused> for ChangeError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown(what) => Self::Unknown(what),
            Refused::TooMany => Self::TooMany(format!("{MOST} changes hold already; take some back")),
            Refused::Invalid(errors) => Self::Invalid(errors.to_string()),
        }
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
