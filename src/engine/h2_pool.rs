//! Shared HTTP/2 connections of one worker: many exchanges over few connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};

use crate::listener::wire::Wire;

/// Streams opened on one connection before another is made. Peers usually allow 100 or more.
const STREAMS_PER_CONNECTION: usize = 100;
/// What a peer may send ahead on one stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What a peer may send ahead on one connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Decoded size of a response's or trailers' fields.
const MAX_HEADER_LIST: u32 = 64 * 1024;

struct Connection {
    send: SendRequest<Bytes>,
    streams: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

/// A place on a shared connection, for one stream.
pub(super) struct Lease {
    send: SendRequest<Bytes>,
    streams: Arc<AtomicUsize>,
}

impl Lease {
    fn new(connection: &Connection) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Self {
            send: connection.send.clone(),
            streams: connection.streams.clone(),
        }
    }

    /// Waits until the peer allows another stream.
    pub(super) async fn ready(&mut self) -> Result<(), h2::Error> {
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await
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
        open.iter()
            .find(|connection| connection.streams.load(Ordering::Relaxed) < STREAMS_PER_CONNECTION)
            .map(Lease::new)
    }

    /// The right to connect to the endpoint; whoever had to wait for it should [take](Self::take) first.
    pub(super) fn connecting(&self, endpoint: &Arc<str>) -> Arc<tokio::sync::Mutex<()>> {
        let mut connecting = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        connecting.entry(endpoint.clone()).or_default().clone()
    }

    /// Speaks HTTP/2 on a new connection and shares it.
    pub(super) async fn add(&self, endpoint: &Arc<str>, wire: Box<Wire>) -> Result<Lease, h2::Error> {
        let (send, driver) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .enable_push(false)
            .handshake(*wire)
            .await?;
        let connection = Connection {
            send,
            streams: Arc::default(),
            closed: Arc::default(),
        };
        let closed = connection.closed.clone();
        tokio::spawn(async move {
            // Its error reaches the streams themselves.
            let _ = driver.await;
            closed.store(true, Ordering::Relaxed);
        });
        let lease = Lease::new(&connection);
        self.connections().entry(endpoint.clone()).or_default().push(connection);
        Ok(lease)
    }

    /// Forgets closed connections.
    pub(super) fn sweep(&self) {
        self.connections().retain(|_, open| {
            open.retain(|connection| !connection.closed.load(Ordering::Relaxed));
            !open.is_empty()
        });
        let mut connecting = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        connecting.retain(|_, turn| Arc::strong_count(turn) > 1);
    }
}
