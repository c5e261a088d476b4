//! Exports spans by OTLP, from a bounded queue and a thread of its own.
//!
//! A span is pushed and forgotten: [`SpanQueue::emit`] takes no lock, never blocks, and drops the span when the queue is
//! full. The exporter wakes for the first span after a pause, waits until a batch is full or `interval` is over, and sends
//! all there is. While there are no spans it sleeps.
//!
//! A batch that fails is tried once more where the collector's answer invites it; then it is dropped and counted, and the
//! exporter pauses, longer each time, so that a dead collector costs next to nothing. A log line a minute says so.

mod client;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use pillion_filters::{Metrics, SpanSink};
use prometheus::{IntCounter, IntCounterVec, Opts};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::TelemetryError;
use super::doorbell::Doorbell;

/// The pause after a first failure, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A collector that comes back is noticed within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Nobody waits longer for the last spans.
const LONGEST_STOP: Duration = Duration::from_secs(3600);
/// Between two log lines about failures.
const COMPLAINT: Duration = Duration::from_secs(60);

/// How spans travel to the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf over HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

/// Where and how spans are sent. Not for logs: headers hold secrets.
#[derive(Clone)]
pub struct ExportSettings {
    /// The collector, `http://host:port`. Over [`Protocol::Http`], `/v1/traces` is appended unless it is there.
    pub endpoint: String,
    /// How they travel.
    pub protocol: Protocol,
    /// Headers of every export.
    pub headers: BTreeMap<String, String>,
    /// For one export, its second try included.
    pub timeout: Duration,
    /// How many spans may wait.
    pub queue_size: usize,
    /// How many spans one export carries at most.
    pub batch_size: usize,
    /// How long a span waits at most while all goes well.
    pub interval: Duration,
    /// What the spans come from; see [`resource`](super::resource()).
    pub resource: Resource,
}

/// Spans on their way to the exporter.
pub struct SpanQueue {
    spans: ArrayQueue<Box<SpanData>>,
    batch_size: usize,
    doorbell: Doorbell,
    wake: Notify,
    stopped: AtomicBool,
    exported: IntCounter,
    queue_full: IntCounter,
    export_failed: IntCounter,
}

impl SpanSink for SpanQueue {
    fn emit(&self, span: Box<SpanData>) {
        if self.spans.push(span).is_err() {
            self.queue_full.inc();
        } else if self.doorbell.rings(|| self.spans.len() >= self.batch_size) {
            self.wake.notify_one();
        }
    }

    fn is_active(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }
}

impl SpanQueue {
    fn new(settings: &ExportSettings, metrics: &Metrics) -> Result<Self, TelemetryError> {
        let missing = |name: &str| TelemetryError::Metric(name.to_owned());
        let name = "pillion_spans_exported_total";
        let exported = metrics.family(name, || IntCounter::new(name, "Spans the collector took."));
        let exported = exported.ok_or_else(|| missing(name))?;
        let name = "pillion_spans_dropped_total";
        let dropped = metrics.family(name, || {
            IntCounterVec::new(
                Opts::new(name, "Spans that never reached the collector, by reason."),
                &["reason"],
            )
        });
        let dropped = dropped.ok_or_else(|| missing(name))?;
        let reason = |reason: &str| {
            dropped
                .get_metric_with_label_values(&[reason])
                .map_err(|_| missing(name))
        };
        Ok(Self {
            spans: ArrayQueue::new(settings.queue_size.max(1)),
            batch_size: settings.batch_size.max(1),
            doorbell: Doorbell::default(),
            wake: Notify::new(),
            stopped: AtomicBool::new(false),
            exported,
            queue_full: reason("queue_full")?,
            export_failed: reason("export_failed")?,
        })
    }

    /// The next batch; `None` when there is nothing.
    fn take(&self) -> Option<Vec<SpanData>> {
        let first = self.spans.pop()?;
        let rest = std::iter::from_fn(|| self.spans.pop()).map(|span| *span);
        let mut batch = Vec::with_capacity(self.batch_size.min(self.spans.len() + 1));
        batch.push(*first);
        batch.extend(rest.take(self.batch_size - 1));
        Some(batch)
    }

    /// Sleeps until there is something worth exporting.
    async fn gathered(&self, interval: Duration) {
        loop {
            self.doorbell.idle();
            if !self.spans.is_empty() {
                break;
            }
            self.wake.notified().await;
            if !self.spans.is_empty() {
                break;
            }
        }
        self.doorbell.gather();
        if self.spans.len() < self.batch_size {
            let _ = timeout(interval, self.wake.notified()).await;
        }
    }
}

/// The exporter's thread. Dropped without [`shutdown`](Self::shutdown), it is told to stop and left to itself.
pub struct ExporterHandle {
    stop_by: watch::Sender<Option<Instant>>,
    done: std::sync::mpsc::Receiver<()>,
    queue: Arc<SpanQueue>,
}

impl ExporterHandle {
    /// Takes no more spans, exports what is queued and ends, within that time. Blocks. What is left is counted as dropped.
    pub fn shutdown(self, within: Duration) {
        self.queue.stopped.store(true, Ordering::Relaxed);
        self.stop_by
            .send_replace(Some(Instant::now() + within.min(LONGEST_STOP)));
        // The thread keeps to the same deadline; a little more lets it say that it did.
        let _ = self
            .done
            .recv_timeout(within.saturating_add(Duration::from_millis(100)));
    }
}

impl Drop for ExporterHandle {
    fn drop(&mut self) {
        self.stop_by.send_if_modified(|stop_by| {
            let first = stop_by.is_none();
            stop_by.get_or_insert_with(Instant::now);
            first
        });
    }
}

/// Starts the exporter. Nothing is sent before the first span, so a collector may come up later.
pub fn start(settings: ExportSettings, metrics: &Metrics) -> Result<(Arc<SpanQueue>, ExporterHandle), TelemetryError> {
    const THREAD: &str = "span-exporter";
    let queue = Arc::new(SpanQueue::new(&settings, metrics)?);
    let (stop_by, stopping) = watch::channel(None);
    let (finished, done) = std::sync::mpsc::channel();
    let (started, start) = std::sync::mpsc::channel();
    let thread_queue = queue.clone();
    // The exporter is made where it runs: its HTTP client and its runtime may not be dropped within another runtime.
    let thread = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime.map_err(|error| TelemetryError::Thread(THREAD, error)) {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        let exporter = runtime.block_on(async { client::exporter(&settings) });
        match exporter {
            Ok(exporter) => {
                let _ = started.send(Ok(()));
                runtime.block_on(run(
                    thread_queue,
                    exporter,
                    stopping,
                    settings.timeout,
                    settings.interval,
                ));
            }
            Err(error) => drop(started.send(Err(error))),
        }
        let _ = finished.send(());
    };
    let spawned = std::thread::Builder::new().name(THREAD.to_owned()).spawn(thread);
    spawned.map_err(|error| TelemetryError::Thread(THREAD, error))?;
    let gone = || TelemetryError::Thread(THREAD, std::io::Error::other("it ended at once"));
    start.recv().map_err(|_| gone())??;
    let handle = ExporterHandle {
        stop_by,
        done,
        queue: queue.clone(),
    };
    Ok((queue, handle))
}

async fn run<E: SpanExporter>(
    queue: Arc<SpanQueue>,
    exporter: E,
    stopping: watch::Receiver<Option<Instant>>,
    export_timeout: Duration,
    interval: Duration,
) {
    let mut complaints = Complaints::default();
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = queue.gathered(interval) => {}
            _ = stopped(&stopping) => {}
        }
        queue.doorbell.awake();
        while let Some(batch) = queue.take() {
            let count = batch.len() as u64;
            let export = timeout(export_timeout, exporter.export(batch));
            let result = tokio::select! {
                result = export => result.map_or_else(|_| Err("timed out".to_owned()), |sent| sent.map_err(|e| e.to_string())),
                () = out_of_time(&stopping) => Err("the sidecar stopped".to_owned()),
            };
            match result {
                Ok(()) => {
                    queue.exported.inc_by(count);
                    pause = Duration::ZERO;
                }
                Err(error) => {
                    queue.export_failed.inc_by(count);
                    complaints.complain(&error, count);
                    pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    if timeout(pause, stopped(&stopping)).await.is_ok() {
                        break;
                    }
                }
            }
        }
        if stopping.borrow().is_some() {
            break;
        }
    }
    // Nobody takes these any more.
    queue.stopped.store(true, Ordering::Relaxed);
    while let Some(batch) = queue.take() {
        queue.export_failed.inc_by(batch.len() as u64);
    }
}

/// Waits until the exporter is told to stop, and gives the time it has until. A handle says so before it goes, so a channel
/// without a sender means that there is no time at all.
async fn stopped(stopping: &watch::Receiver<Option<Instant>>) -> Instant {
    let mut stopping = stopping.clone();
    let stop_by = stopping.wait_for(Option::is_some).await;
    stop_by.ok().and_then(|stop_by| *stop_by).unwrap_or_else(Instant::now)
}

/// Waits until the time to stop is over.
async fn out_of_time(stopping: &watch::Receiver<Option<Instant>>) {
    let stop_by = stopped(stopping).await;
    tokio::time::sleep_until(stop_by.into()).await;
}

/// Says once a minute what went wrong since.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    spans: u64,
}

impl Complaints {
    /// Whether it was said.
    fn complain(&mut self, error: &str, spans: u64) -> bool {
        self.spans += spans;
        if self.last.is_some_and(|last| last.elapsed() < COMPLAINT) {
            return false;
        }
        tracing::warn!(
            error,
            spans = self.spans,
            "spans could not be exported and were dropped"
        );
        self.spans = 0;
        self.last = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};

    use super::*;

    const ENOUGH: Duration = Duration::from_secs(10);

    fn span() -> Box<SpanData> {
        Box::new(SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "GET".into(),
            start_time: std::time::SystemTime::UNIX_EPOCH,
            end_time: std::time::SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: opentelemetry_sdk::trace::SpanEvents::default(),
            links: opentelemetry_sdk::trace::SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: opentelemetry::InstrumentationScope::default(),
        })
    }

    fn queue(queue_size: usize, batch_size: usize) -> Arc<SpanQueue> {
        let settings = ExportSettings {
            endpoint: String::new(),
            protocol: Protocol::Http,
            headers: BTreeMap::new(),
            timeout: ENOUGH,
            queue_size,
            batch_size,
            interval: ENOUGH,
            resource: Resource::builder_empty().build(),
        };
        Arc::new(SpanQueue::new(&settings, &Metrics::default()).unwrap())
    }

    /// Notes the sizes of batches, and says so; fails when it is told to.
    #[derive(Debug, Default)]
    struct Taken {
        batches: Mutex<Vec<usize>>,
        fails: bool,
        took: Notify,
    }

    #[derive(Clone, Debug, Default)]
    struct Collector(Arc<Taken>);

    impl SpanExporter for Collector {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.batches.lock().unwrap().push(batch.len());
            self.0.took.notify_one();
            if self.0.fails {
                return Err(OTelSdkError::InternalFailure("no".to_owned()));
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_full_batch_is_sent_before_the_interval_is_over() {
        let (queue, collector) = (queue(10, 2), Collector::default());
        let (_stop, stopping) = watch::channel(None);
        let exporter = tokio::spawn(run(queue.clone(), collector.clone(), stopping, ENOUGH, ENOUGH * 100));
        queue.emit(span());
        tokio::task::yield_now().await;
        assert!(collector.0.batches.lock().unwrap().is_empty(), "one span is no batch");
        queue.emit(span());
        timeout(ENOUGH, collector.0.took.notified()).await.unwrap();
        assert_eq!(*collector.0.batches.lock().unwrap(), [2]);
        exporter.abort();
    }

    #[tokio::test]
    async fn the_interval_bounds_how_long_a_span_waits() {
        let (queue, collector) = (queue(10, 5), Collector::default());
        let (_stop, stopping) = watch::channel(None);
        let interval = Duration::from_millis(1);
        let exporter = tokio::spawn(run(queue.clone(), collector.clone(), stopping, ENOUGH, interval));
        queue.emit(span());
        timeout(ENOUGH, collector.0.took.notified()).await.unwrap();
        assert_eq!(*collector.0.batches.lock().unwrap(), [1]);
        exporter.abort();
    }

    #[tokio::test]
    async fn what_is_queued_is_sent_when_it_stops() {
        let (queue, collector) = (queue(10, 2), Collector::default());
        let (stop, stopping) = watch::channel(None);
        (0..5).for_each(|_| queue.emit(span()));
        stop.send_replace(Some(Instant::now() + ENOUGH));
        run(queue.clone(), collector.clone(), stopping, ENOUGH, ENOUGH).await;
        assert_eq!(*collector.0.batches.lock().unwrap(), [2, 2, 1]);
        assert_eq!(queue.exported.get(), 5);
        assert!(!queue.is_active());
    }

    #[tokio::test]
    async fn a_failure_on_the_way_out_drops_and_counts_the_rest() {
        let queue = queue(10, 2);
        let collector = Collector(Arc::new(Taken {
            fails: true,
            ..Taken::default()
        }));
        let (stop, stopping) = watch::channel(None);
        (0..5).for_each(|_| queue.emit(span()));
        stop.send_replace(Some(Instant::now() + ENOUGH));
        run(queue.clone(), collector.clone(), stopping, ENOUGH, ENOUGH).await;
        assert_eq!(*collector.0.batches.lock().unwrap(), [2]);
        assert_eq!((queue.exported.get(), queue.export_failed.get()), (0, 5));
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let queue = queue(2, 512);
        (0..5).for_each(|_| queue.emit(span()));
        assert_eq!(queue.queue_full.get(), 3);
        assert_eq!(queue.take().map(|batch| batch.len()), Some(2));
        assert!(queue.take().is_none());
    }

    #[test]
    fn it_complains_once_a_minute() {
        let mut complaints = Complaints::default();
        assert!(complaints.complain("no", 1));
        assert!(!complaints.complain("no", 2));
        assert!(!complaints.complain("no", 3));
        complaints.last = Instant::now().checked_sub(COMPLAINT);
        assert!(complaints.complain("no", 4));
        assert_eq!(complaints.spans, 0);
    }
}
