//! What a plugin is given when its filter is built, once per route and snapshot.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_sdk::trace::SpanData;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use crate::background::Dispatcher;
use crate::exchange::{Direction, Route};
use crate::registry::BuildError;
use crate::remark::{Matches, Remark, Warnings};

/// Takes finished spans. Must not block: a slow or dead collector costs requests nothing.
pub trait SpanSink: Send + Sync {
    /// Queues a span, or drops and counts it.
    fn emit(&self, span: Box<SpanData>);
    /// Whether spans go anywhere. A filter builds none for a sink that discards them.
    fn is_active(&self) -> bool {
        true
    }
}

/// Takes access-log lines. Must not block.
pub trait LineSink: Send + Sync {
    /// Queues a line that ends in a newline, or drops and counts it.
    fn line(&self, line: Vec<u8>);
}

/// Drops every span.
pub struct DiscardSpans;
impl SpanSink for DiscardSpans {
    fn emit(&self, _: Box<SpanData>) {}
    fn is_active(&self) -> bool {
        false
    }
}

/// Drops every line.
pub struct DiscardLines;
impl LineSink for DiscardLines {
    fn line(&self, _: Vec<u8>) {}
}

/// State that outlives a snapshot, found by direction, filter name and type: what a reload must not forget, and what
/// the routes of one filter share.
#[derive(Clone, Default)]
pub struct SharedState(Arc<Mutex<HashMap<StateKey, Arc<dyn Any + Send + Sync>>>>);
type StateKey = (Direction, String, TypeId);

impl SharedState {
    /// All states of type `T`, with the direction and the name of the filter they belong to.
    pub fn each<T: Send + Sync + 'static>(&self) -> Vec<(Direction, String, Arc<T>)> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_type = states
            .iter()
            .filter(|((.., kind), _)| *kind == TypeId::of::<T>())
            .filter_map(|((direction, filter, _), state)| {
                Some((*direction, filter.clone(), state.clone().downcast().ok()?))
            });
        let mut found: Vec<_> = of_type.collect();
        found.sort_by(|a, b| (a.0.as_str(), &a.1).cmp(&(b.0.as_str(), &b.1)));
        found
    }
}

/// Metric families by name. A family is registered once and asked for by every route and snapshot.
#[derive(Clone)]
pub struct Metrics {
    registry: prometheus::Registry,
    families: Arc<Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(prometheus::Registry::new())
    }
}

impl Metrics {
    /// Families in a registry.
    pub fn new(registry: prometheus::Registry) -> Self {
        Self {
            registry,
            families: Arc::default(),
        }
    }

    /// The registry, for exposition.
    pub fn registry(&self) -> &prometheus::Registry {
        &self.registry
    }

    /// The counters of that name.
    ///
    /// # Errors
    /// Where the name is taken by another type.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, BuildError> {
        self.required(name, || IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// The gauges of that name.
    ///
    /// # Errors
    /// Where the name is taken by another type.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, BuildError> {
        self.required(name, || IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// [`family`](Self::family), for a filter that cannot be built without.
    ///
    /// # Errors
    /// Where the name is taken by another type.
    pub fn required<T>(&self, name: &str, make: impl FnOnce() -> prometheus::Result<T>) -> Result<T, BuildError>
    where
        T: prometheus::core::Collector + Clone + Send + Sync + 'static,
    {
        let taken = || BuildError::Meaning(format!("the metric `{name}` exists already with another type"));
        self.family(name, make).ok_or_else(taken)
    }

    /// The family of that name, made and registered on the first call. `None` when it exists with another type or
    /// cannot be registered.
    pub fn family<T>(&self, name: &str, make: impl FnOnce() -> prometheus::Result<T>) -> Option<T>
    where
        T: prometheus::core::Collector + Clone + Send + Sync + 'static,
    {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.get(name) {
            return family.downcast_ref::<T>().cloned();
        }
        let family = make().ok()?;
        self.registry.register(Box::new(family.clone())).ok()?;
        families.insert(name.to_owned(), Arc::new(family.clone()));
        Some(family)
    }
}

/// The sidecar's telemetry, as filters use it.
#[derive(Clone)]
pub struct Telemetry {
    /// Metric families.
    pub metrics: Metrics,
    /// Where spans go.
    pub spans: Arc<dyn SpanSink>,
    /// Where access-log lines go.
    pub lines: Arc<dyn LineSink>,
    /// Upper bounds of duration histograms, in seconds.
    pub histogram_buckets: Arc<[f64]>,
}

impl Default for Telemetry {
    /// Discards spans and lines; for tests and `check`.
    fn default() -> Self {
        Self {
            metrics: Metrics::default(),
            spans: Arc::new(DiscardSpans),
            lines: Arc::new(DiscardLines),
            histogram_buckets: Arc::from(Self::BUCKETS),
        }
    }
}

impl Telemetry {
    /// OpenTelemetry's bounds for `http.server.request.duration`, in seconds.
    pub const BUCKETS: [f64; 14] = [
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ];
}

/// What a plugin is given when its filter is built.
pub struct Context<'a> {
    /// The filter's configured name; the plugin's own unless the configuration says otherwise.
    pub filter: &'a str,
    /// The route the filter is built for.
    pub route: &'a Arc<Route>,
    /// The requests that route is for.
    pub matches: &'a Matches,
    /// The sidecar's telemetry.
    pub telemetry: &'a Telemetry,
    /// State that survives reloads.
    pub state: &'a SharedState,
    /// Runs exchanges that no client asked for.
    pub background: &'a Arc<dyn Dispatcher>,
    /// Collects what [`warn`](Self::warn) is told.
    pub warnings: &'a Warnings,
    /// The names of the upstreams there are, where that is known.
    pub upstreams: Option<&'a [Arc<str>]>,
}

impl Context<'_> {
    /// Warns whoever wrote the settings of what is valid and may be a mistake all the same. `pillion check` shows it with its
    /// place, the log tells it at start and reload; nothing is refused.
    pub fn warn(&self, remark: Remark) {
        self.warnings.add(remark);
    }

    /// The state of type `T` that all routes and snapshots of this filter share.
    pub fn shared<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.state_of(self.route.direction, make)
    }

    /// The same, shared by both directions' filters of this name, too.
    pub fn shared_by_both<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.state_of(Direction::Inbound, make)
    }

    fn state_of<T: Send + Sync + 'static>(&self, direction: Direction, make: impl FnOnce() -> T) -> Arc<T> {
        let key = (direction, self.filter.to_owned(), TypeId::of::<T>());
        let mut states = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = states.get(&key).cloned().and_then(|state| state.downcast().ok()) {
            return state;
        }
        let state = Arc::new(make());
        states.insert(key, state.clone());
        state
    }
}
