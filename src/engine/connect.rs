//! Opens and reuses connections to endpoints.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pillion_filters::Failure;
use tokio::net::{TcpStream, UnixStream};

use super::h2_pool::{H2Pool, Lease};
use super::pool::{Pool, PoolLimits};
use super::spoken::Spoken;
use crate::clock;
use crate::listener::wire::{Wire, Writes};
use crate::telemetry::ProxyMetrics;
use crate::upstream::{Address, Endpoint, OffLimits, Protocol};

/// How long an endpoint may take to answer the connection preface of HTTP/2.
const ANSWER: Duration = Duration::from_millis(500);
/// More addresses of one host are not tried.
const MAX_ADDRESSES: usize = 8;

/// The connections of one worker.
pub(crate) struct Connector {
    pool: Pool,
    h2: H2Pool,
    spoken: Spoken,
    off_limits: OffLimits,
    metrics: Arc<ProxyMetrics>,
}

impl Connector {
    /// No connections yet.
    pub(crate) fn new(off_limits: OffLimits, metrics: Arc<ProxyMetrics>) -> Self {
        Self {
            pool: Pool::default(),
            h2: H2Pool::default(),
            spoken: Spoken::default(),
            off_limits,
            metrics,
        }
    }

    /// An idle HTTP/1 connection, if there is one that can be used; `careful` for a request that cannot be repeated.
    pub(super) fn reuse(
        &self,
        endpoint: &Endpoint,
        limits: PoolLimits,
        careful: bool,
        now: Instant,
    ) -> Option<Box<Wire>> {
        let wire = self.pool.take(&endpoint.name, limits, careful, now, &self.metrics)?;
        self.metrics.upstream_reused.inc();
        Some(wire)
    }

    /// Keeps a connection that can serve another request; `keep_alive` is how long the endpoint said it would.
    pub(super) fn keep(
        &self,
        endpoint: &Endpoint,
        wire: Box<Wire>,
        limits: PoolLimits,
        keep_alive: Option<Duration>,
        now: Instant,
    ) {
        self.pool
            .put(&endpoint.name, wire, limits, keep_alive, now, &self.metrics);
    }

    /// A new connection.
    pub(super) async fn open(&self, endpoint: &Endpoint, timeout: Option<Duration>) -> Result<Box<Wire>, Failure> {
        // Connecting is rare: on the heap, it is no part of every exchange's memory.
        let opened = in_time(timeout, Box::pin(self.connect(&endpoint.address, timeout))).await;
        match &opened {
            Ok(_) => self.metrics.upstream_opened.inc(),
            Err(_) => self.metrics.upstream_connect_failures.inc(),
        }
        opened.map(Box::new)
    }

    async fn connect(&self, address: &Address, limit: Option<Duration>) -> Result<Wire, Failure> {
        match address {
            Address::Tcp(host, port) => {
                let stream = connect_tcp(host, *port, limit).await?;
                if self.off_limits.cover(&stream) {
                    return Err(Failure::DestinationForbidden);
                }
                // Heads and small bodies must not wait for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                Ok(Wire::tcp(stream))
            }
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Wire::unix(stream)),
                Err(_) => Err(Failure::ConnectFailed),
            },
        }
    }

    /// A place on an HTTP/2 connection, shared or new, and whether it was shared. The time is for all of it: waiting for
    /// the connection another exchange opens, opening one, and the peer's leave to open a stream.
    pub(super) async fn stream(
        &self,
        endpoint: &Endpoint,
        timeout: Option<Duration>,
    ) -> Result<(Lease, bool), Failure> {
        if let Some(lease) = self.h2.take(&endpoint.name).and_then(Lease::ready_now) {
            self.metrics.upstream_reused.inc();
            return Ok((lease, true));
        }
        in_time(timeout, Box::pin(self.stream_at_leisure(endpoint, timeout))).await
    }

    async fn stream_at_leisure(
        &self,
        endpoint: &Endpoint,
        timeout: Option<Duration>,
    ) -> Result<(Lease, bool), Failure> {
        if let Some(lease) = self.ready(endpoint).await {
            return Ok((lease, true));
        }
        let turn = self.h2.connecting(&endpoint.name);
        let _turn = turn.lock().await;
        if let Some(lease) = self.ready(endpoint).await {
            return Ok((lease, true));
        }
        let mut wire = self.open(endpoint, timeout).await?;
        wire.set_writes(Writes::Direct);
        let lease = self.h2.add(&endpoint.name, wire).await;
        let mut lease = lease.map_err(|_| Failure::UpstreamClosed)?;
        lease.ready().await.map_err(|_| Failure::UpstreamClosed)?;
        Ok((lease, false))
    }

    /// What an endpoint speaks that has to be asked, if it has been.
    pub(super) fn known_protocol(&self, endpoint: &Endpoint, now: Instant) -> Option<Protocol> {
        self.spoken.of(&endpoint.name, now)
    }

    /// What an endpoint speaks was wrong, perhaps: something else may listen there now.
    pub(super) fn doubt_protocol(&self, endpoint: &Endpoint) {
        self.spoken.forget(&endpoint.name);
    }

    /// Asks an endpoint for HTTP/2, once for all who want to know. The connection that found it is kept for use.
    pub(super) async fn find_protocol(
        &self,
        endpoint: &Endpoint,
        timeout: Option<Duration>,
    ) -> Result<Protocol, Failure> {
        in_time(timeout, Box::pin(self.ask_protocol(endpoint, timeout))).await
    }

    async fn ask_protocol(&self, endpoint: &Endpoint, timeout: Option<Duration>) -> Result<Protocol, Failure> {
        let turn = self.h2.connecting(&endpoint.name);
        let _turn = turn.lock().await;
        if let Some(known) = self.known_protocol(endpoint, Instant::now()) {
            return Ok(known);
        }
        let mut wire = self.open(endpoint, timeout).await?;
        wire.set_writes(Writes::Direct);
        // One that speaks HTTP/1 alone answers the preface with an error or closes; one that keeps silent is not waited for.
        let taken = clock::within(Some(ANSWER), self.h2.ask(&endpoint.name, wire)).await;
        let protocol = if taken == Some(true) {
            Protocol::H2c
        } else {
            Protocol::Http1
        };
        tracing::debug!(endpoint = &*endpoint.name, ?protocol, "asked for HTTP/2");
        self.spoken.learn(&endpoint.name, protocol, Instant::now());
        Ok(protocol)
    }

    async fn ready(&self, endpoint: &Endpoint) -> Option<Lease> {
        // One that is not ready is out of the pool now, so this ends.
        while let Some(mut lease) = self.h2.take(&endpoint.name) {
            if lease.ready().await.is_ok() {
                self.metrics.upstream_reused.inc();
                return Some(lease);
            }
        }
        None
    }

    /// Closes what is too old or was closed by its peer; how many connections are idle then.
    pub(crate) fn sweep(&self, limits: PoolLimits) -> usize {
        let now = Instant::now();
        self.h2.sweep(limits.idle_timeout, now);
        self.pool.sweep(limits, now, &self.metrics)
    }

    /// The connections there are, by endpoint.
    pub(crate) fn pooled(&self) -> HashMap<Arc<str>, Pooled> {
        let mut pooled: HashMap<Arc<str>, Pooled> = HashMap::new();
        self.pool.each(|endpoint, idle| {
            pooled.entry(endpoint.clone()).or_default().http1_idle = idle;
        });
        self.h2.each(|endpoint, connections, streams| {
            let of_endpoint = pooled.entry(endpoint.clone()).or_default();
            (of_endpoint.http2_connections, of_endpoint.http2_streams) = (connections, streams);
        });
        pooled
    }
}

/// Connections to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pooled {
    /// HTTP/1 connections that wait for an exchange.
    pub(crate) http1_idle: usize,
    /// HTTP/2 connections.
    pub(crate) http2_connections: usize,
    /// Exchanges under way on those.
    pub(crate) http2_streams: usize,
}

impl std::ops::AddAssign for Pooled {
    fn add_assign(&mut self, other: Self) {
        self.http1_idle += other.http1_idle;
        self.http2_connections += other.http2_connections;
        self.http2_streams += other.http2_streams;
    }
}

/// What takes longer than the limit has failed.
async fn in_time<T>(
    limit: Option<Duration>,
    connecting: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    clock::within(limit, connecting)
        .await
        .unwrap_or(Err(Failure::ConnectTimeout))
}

/// Tries the addresses of a host in the resolver's order. Each has its part of the time, so that one that does not answer
/// leaves some to the next.
async fn connect_tcp(host: &str, port: u16, limit: Option<Duration>) -> Result<TcpStream, Failure> {
    let began = Instant::now();
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|_| Failure::DnsError)?;
    let addresses: Vec<_> = addresses.take(MAX_ADDRESSES).collect();
    let mut failure = Failure::DnsError;
    for (tried, &address) in addresses.iter().enumerate() {
        let waiting = (addresses.len() - tried) as u32;
        let part = limit.map(|limit| limit.saturating_sub(began.elapsed()) / waiting);
        match clock::within(part, TcpStream::connect(address)).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(_)) => failure = Failure::ConnectFailed,
            None => failure = Failure::ConnectTimeout,
        }
    }
    Err(failure)
}
