//! Shared HTTP/2 connections of one worker: many exchanges over few connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, SendStream};

use crate::listener::wire::Wire;

/// Streams opened on one connection before another is made. Peers usually allow 100 or more.
const STREAMS_PER_CONNECTION: usize = 100;
/// Streams that may be opened before the peer has said how many it allows: a stream too many would be refused.
const UNKNOWN: usize = 1;
/// Connections to one endpoint. When all are full, streams wait in them for their turn.
const MAX_CONNECTIONS: usize = 16;
/// What a peer may send ahead on one stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What a peer may send ahead on one connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Decoded size of a response's or trailers' fields.
const MAX_HEADER_LIST: u32 = 64 * 1024;

struct Connection {
    send: SendRequest<Bytes>,
    streams: Arc<AtomicUsize>,
    /// No new stream is opened on it: it is closed, or its peer wants it to be.
    closed: Arc<AtomicBool>,
    /// Since when a sweep has found it without a stream.
    idle_since: Option<Instant>,
}

impl Connection {
    fn open(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        let allowed = match self.send.current_max_send_streams() {
            // Not known yet: what is opened until then waits in the connection.
            UNKNOWN => STREAMS_PER_CONNECTION,
            allowed => allowed.min(STREAMS_PER_CONNECTION),
        };
        self.open() < allowed
    }

    /// Whether it is to be kept at a sweep.
    fn stays(&mut self, idle_timeout: Duration, now: Instant) -> bool {
        if self.closed.load(Ordering::Relaxed) {
            return false;
        }
        if self.open() > 0 {
            self.idle_since = None;
            return true;
        }
        let idle_since = *self.idle_since.get_or_insert(now);
        now.saturating_duration_since(idle_since) < idle_timeout
    }
}

/// A place on a shared connection, for one stream.
pub(super) struct Lease {
    send: SendRequest<Bytes>,
    streams: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

impl Lease {
    fn new(connection: &mut Connection) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        connection.idle_since = None;
        Self {
            send: connection.send.clone(),
            streams: connection.streams.clone(),
            closed: connection.closed.clone(),
        }
    }

    /// Waits until the peer allows another stream. A connection that allows none any more, after GOAWAY for one, is out of
    /// the pool from then on, though what runs on it may still end well.
    pub(super) async fn ready(&mut self) -> Result<(), h2::Error> {
        let ready = std::future::poll_fn(|cx| self.send.poll_ready(cx)).await;
        ready.inspect_err(|_| self.closed.store(true, Ordering::Relaxed))
    }

    /// The lease, if a stream can be opened without waiting.
    pub(super) fn ready_now(mut self) -> Option<Self> {
        let ready = self.ready().now_or_never();
        ready.is_some_and(|ready| ready.is_ok()).then_some(self)
    }

    /// Opens the stream.
    pub(super) fn send(
        &mut self,
        head: http::Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.send.send_request(head, end)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The HTTP/2 connections of one worker.
#[derive(Default)]
pub(super) struct H2Pool {
    connections: Mutex<HashMap<Arc<str>, Vec<Connection>>>,
    /// One connects per endpoint, the others wait for its connection.
    connecting: Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>,
}

impl H2Pool {
    fn connections(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on an open connection to the endpoint.
    pub(super) fn take(&self, endpoint: &str) -> Option<Lease> {
        let mut connections = self.connections();
        let open = connections.get_mut(endpoint)?;
        open.retain(|connection| !connection.closed.load(Ordering::Relaxed));
        if open.len() >= MAX_CONNECTIONS {
            return open
                .iter_mut()
                .min_by_key(|connection| connection.open())
                .map(Lease::new);
        }
        open.iter_mut().find(|connection| connection.has_room()).map(Lease::new)
    }

    /// The right to connect to the endpoint; whoever had to wait for it should [take](Self::take) first.
    pub(super) fn connecting(&self, endpoint: &Arc<str>) -> Arc<tokio::sync::Mutex<()>> {
        let mut connecting = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        connecting.entry(endpoint.clone()).or_default().clone()
    }

    /// Speaks HTTP/2 on a new connection and shares it.
    pub(super) async fn add(&self, endpoint: &Arc<str>, wire: Box<Wire>) -> Result<Lease, h2::Error> {
        let (mut connection, driver) = connect(wire).await?;
        drive(driver, &connection);
        let lease = Lease::new(&mut connection);
        self.connections().entry(endpoint.clone()).or_default().push(connection);
        Ok(lease)
    }

    /// Whether the peer takes HTTP/2 on a new connection, which is shared then.
    pub(super) async fn ask(&self, endpoint: &Arc<str>, wire: Box<Wire>) -> bool {
        let Ok((connection, mut driver)) = connect(wire).await else {
            return false;
        };
        let ping = driver.ping_pong();
        drive(driver, &connection);
        // Only who has read the preface answers.
        let answered = match ping {
            Some(mut ping) => ping.ping(Ping::opaque()).await.is_ok(),
            None => false,
        };
        if answered {
            self.connections().entry(endpoint.clone()).or_default().push(connection);
        }
        answered
    }

    /// Closes what was idle for too long and forgets what is closed.
    pub(super) fn sweep(&self, idle_timeout: Duration, now: Instant) {
        self.connections().retain(|_, open| {
            open.retain_mut(|connection| connection.stays(idle_timeout, now));
            !open.is_empty()
        });
        let mut connecting = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        connecting.retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    /// Tells of each endpoint how many connections to it are open, and how many streams on them.
    pub(super) fn each(&self, mut tell: impl FnMut(&Arc<str>, usize, usize)) {
        for (endpoint, connections) in self.connections().iter() {
            let open = connections.iter().filter(|one| !one.closed.load(Ordering::Relaxed));
            let (count, streams) = open.fold((0, 0), |(count, streams), one| (count + 1, streams + one.open()));
            if count > 0 {
                tell(endpoint, count, streams);
            }
        }
    }
}

type Driver = h2::client::Connection<Wire, Bytes>;

async fn connect(wire: Box<Wire>) -> Result<(Connection, Driver), h2::Error> {
    let (send, driver) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_max_send_streams(UNKNOWN)
        .enable_push(false)
        .handshake(*wire)
        .await?;
    let connection = Connection {
        send,
        streams: Arc::default(),
        closed: Arc::default(),
        idle_since: None,
    };
    Ok((connection, driver))
}

fn drive(driver: Driver, connection: &Connection) {
    let closed = connection.closed.clone();
    tokio::spawn(async move {
        // Its error reaches the streams themselves.
        let _ = driver.await;
        closed.store(true, Ordering::Relaxed);
    });
}
