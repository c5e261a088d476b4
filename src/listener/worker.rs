//! A worker's accept loop and what its connections share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use http::{HeaderValue, Version};
use pillion_filters::{Connection, Direction};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::open::OpenConnections;
use super::sniff::{self, Spoken};
use super::wire::{Wire, Writes};
use super::{http1, http2};
use crate::engine::Connector;
use crate::explain::Recorder;
use crate::snapshot::Snapshot;
use crate::telemetry::ProxyMetrics;

/// How long to wait when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection that is new when the sidecar drains has to begin its request.
const LAST_CALL: Duration = Duration::from_millis(100);

/// What the connections of one worker share.
pub(crate) struct Worker {
    /// The running configuration.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Upstream connections.
    pub(crate) connector: Connector,
    /// The sidecar's own metrics.
    pub(crate) metrics: Arc<ProxyMetrics>,
    /// What is remembered of exchanges.
    pub(crate) recorder: Arc<Recorder>,
    /// Turns true when the sidecar drains.
    pub(crate) draining: watch::Receiver<bool>,
    /// Open client connections of all workers, by direction.
    pub(crate) open: Arc<OpenConnections>,
}

impl Worker {
    /// The running configuration; an exchange keeps the one it began with.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Whether the sidecar is on its way out.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}

/// Who connected.
pub(crate) struct Client {
    /// What exchanges are told.
    pub(crate) connection: Connection,
    /// The address as header text, written once a connection.
    pub(crate) address: Option<HeaderValue>,
}

impl Client {
    fn new(peer: SocketAddr, local: Option<SocketAddr>) -> Self {
        let ip = peer.ip().to_canonical();
        Self {
            connection: Connection {
                client: Some(SocketAddr::new(ip, peer.port())),
                local,
                scheme: "http",
                version: Version::HTTP_11,
            },
            address: address_text(ip),
        }
    }
}

fn address_text(ip: IpAddr) -> Option<HeaderValue> {
    HeaderValue::from_str(&ip.to_string()).ok()
}

/// Accepts until the sidecar drains.
pub(crate) async fn accept(worker: Arc<Worker>, direction: Direction, listener: TcpListener) {
    let mut draining = worker.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|&draining| draining) => break,
        };
        match accepted {
            Ok((stream, peer)) => admit(&worker, direction, stream, peer),
            // The client left before it was accepted, or the process is out of descriptors; either passes.
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closing the socket would reset connections the kernel has taken already.
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        admit(&worker, direction, stream, peer);
    }
}

fn admit(worker: &Arc<Worker>, direction: Direction, stream: TcpStream, peer: SocketAddr) {
    let limits = match worker.snapshot.load().side(direction) {
        Some(side) => side.limits,
        // A reload that takes a side away is refused, so this does not happen.
        None => return,
    };
    let client = Client::new(peer, stream.local_addr().ok());
    let ip = peer.ip().to_canonical();
    let Some(guard) = worker.open.admit(direction, ip, limits, &worker.metrics) else {
        return;
    };
    let worker = worker.clone();
    tokio::spawn(async move {
        let _ = stream.set_nodelay(true);
        serve(&worker, direction, Wire::tcp(stream), client, limits).await;
        drop(guard);
    });
}

/// Ready once the sidecar drains and whoever was about to send a request has had the time to.
async fn drained(worker: &Worker) {
    let mut draining = worker.draining.clone();
    // An error means that the sidecar is gone.
    let _ = draining.wait_for(|&draining| draining).await;
    tokio::time::sleep(LAST_CALL).await;
}

async fn serve(
    worker: &Arc<Worker>,
    direction: Direction,
    mut wire: Wire,
    client: Client,
    limits: crate::snapshot::ConnectionLimits,
) {
    // Bytes that dribble in must not hold a connection: telling the protocol counts against the head's time.
    let sniffed = tokio::time::timeout(limits.idle_timeout.min(limits.header_timeout), sniff::sniff(&mut wire));
    let sniffed = tokio::select! {
        sniffed = sniffed => sniffed,
        () = drained(worker) => return,
    };
    match sniffed {
        Ok(Some(Spoken::Http1)) => http1::serve(worker, direction, wire, &client, limits).await,
        Ok(Some(Spoken::Http2)) => {
            wire.set_writes(Writes::Direct);
            wire.expect_frames();
            http2::serve(worker, direction, wire, client, limits).await;
        }
        Ok(None) | Err(_) => {}
    }
}
