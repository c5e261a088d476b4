//! A worker's accept loop and what its connections share.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Version};
use pillion_filters::Connection;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::entrance::Entrance;
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
    /// Open client connections of all workers, by direction.
    pub(crate) open: Arc<OpenConnections>,
}

impl Worker {
    /// The running configuration; an exchange keeps the one it began with.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// What becomes of the connections that wait in a socket's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// They are taken, and those that come.
    All,
    /// They are taken, and the socket is closed.
    Last,
    /// They are left to others who have the socket too.
    None,
}

/// A listening socket for one worker.
pub(crate) struct Opening {
    /// Where its clients come in.
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) socket: std::net::TcpListener,
    /// Dropped once nothing is accepted from it any more.
    pub(crate) accepting: watch::Receiver<Accepting>,
}

/// Who connected.
pub(crate) struct Client {
    /// What exchanges are told.
    pub(crate) connection: Connection,
    /// The address as header text, written once a connection.
    pub(crate) address: Option<HeaderValue>,
    /// Where they came in; none where nobody asks.
    pub(crate) entrance: Option<Arc<Entrance>>,
}

impl Client {
    fn new(entrance: Arc<Entrance>, peer: SocketAddr, local: Option<SocketAddr>) -> Self {
        let ip = peer.ip().to_canonical();
        Self {
            entrance: Some(entrance),
            connection: Connection {
                client: Some(SocketAddr::new(ip, peer.port())),
                local,
                scheme: "http",
                version: Version::HTTP_11,
            },
            address: address_text(ip),
        }
    }

    /// Whether they are to be told that their connection ends.
    pub(crate) fn is_leaving(&self) -> bool {
        self.entrance.as_ref().is_some_and(|entrance| entrance.is_leaving())
    }

    /// Whether their connection was ended, rather than by themselves.
    pub(crate) fn is_cut(&self) -> bool {
        self.entrance.as_ref().is_some_and(|entrance| entrance.is_cut())
    }
}

fn address_text(ip: IpAddr) -> Option<HeaderValue> {
    HeaderValue::from_str(&ip.to_string()).ok()
}

/// Accepts for as long as it is told to.
pub(crate) async fn accept(worker: Arc<Worker>, opening: Opening) {
    let Opening {
        entrance,
        socket,
        mut accepting,
    } = opening;
    let listener = match super::socket::adopt(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a worker cannot accept connections"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = accepting.wait_for(|&accepting| accepting != Accepting::All) => break,
        };
        match accepted {
            Ok((stream, peer)) => admit(&worker, &entrance, stream, peer),
            // The client left before it was accepted, or the process is out of descriptors; either passes.
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if *accepting.borrow() == Accepting::Last
        && let Ok(socket) = listener.into_std()
    {
        // Closing the socket would reset connections the kernel has taken already. The runtime may not have heard of them.
        while let Ok((stream, peer)) = socket.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                admit(&worker, &entrance, stream, peer);
            }
        }
    }
}

fn admit(worker: &Arc<Worker>, entrance: &Arc<Entrance>, stream: TcpStream, peer: SocketAddr) {
    let snapshot = entrance.snapshot(&worker.snapshot);
    let limits = match snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.side(entrance.direction()))
    {
        Some(side) => side.limits,
        // There is always one that had this side.
        None => return,
    };
    let client = Client::new(entrance.clone(), peer, stream.local_addr().ok());
    let ip = peer.ip().to_canonical();
    let Some(guard) = worker.open.admit(entrance.direction(), ip, limits, &worker.metrics) else {
        return;
    };
    let (worker, entrance) = (worker.clone(), entrance.clone());
    tokio::spawn(async move {
        let _ = stream.set_nodelay(true);
        let mut cutting = pin!(entrance.cutting());
        let mut serving = pin!(serve(&worker, &entrance, Wire::tcp(stream), client, limits));
        let mut listens = false;
        std::future::poll_fn(|cx| {
            if !listens {
                // Once is enough: it is to wake this task, which stays the same, and the flag says the rest.
                listens = true;
                let _ = cutting.as_mut().poll(cx);
            }
            if entrance.is_cut() {
                return Poll::Ready(());
            }
            serving.as_mut().poll(cx)
        })
        .await;
        drop(guard);
    });
}

async fn serve(
    worker: &Arc<Worker>,
    entrance: &Entrance,
    mut wire: Wire,
    client: Client,
    limits: crate::snapshot::ConnectionLimits,
) {
    // Bytes that dribble in must not hold a connection: telling the protocol counts against the head's time.
    let sniffed = tokio::time::timeout(limits.idle_timeout.min(limits.header_timeout), sniff::sniff(&mut wire));
    let sniffed = tokio::select! {
        sniffed = sniffed => sniffed,
        () = entrance.closed() => return,
    };
    match sniffed {
        Ok(Some(Spoken::Http1)) => http1::serve(worker, entrance, wire, &client, limits).await,
        Ok(Some(Spoken::Http2)) => {
            wire.set_writes(Writes::Direct);
            wire.expect_frames();
            http2::serve(worker, entrance, wire, client, limits).await;
        }
        Ok(None) | Err(_) => {}
    }
}
