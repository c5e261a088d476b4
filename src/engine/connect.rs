//! Opens and reuses connections to endpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pillion_filters::Failure;
use tokio::net::{TcpStream, UnixStream};

use super::h2_pool::{H2Pool, Lease};
use super::pool::{Pool, PoolLimits};
use crate::listener::wire::{Wire, Writes};
use crate::telemetry::ProxyMetrics;
use crate::upstream::{Address, Endpoint};

/// The connections of one worker.
pub(crate) struct Connector {
    pool: Pool,
    h2: H2Pool,
    metrics: Arc<ProxyMetrics>,
}

impl Connector {
    /// No connections yet.
    pub(crate) fn new(metrics: Arc<ProxyMetrics>) -> Self {
        Self {
            pool: Pool::default(),
            h2: H2Pool::default(),
            metrics,
        }
    }

    /// An idle HTTP/1 connection, if there is one.
    pub(super) fn reuse(&self, endpoint: &Endpoint, limits: PoolLimits, now: Instant) -> Option<Box<Wire>> {
        let wire = self.pool.take(&endpoint.name, limits, now)?;
        self.metrics.upstream_reused.inc();
        Some(wire)
    }

    /// Keeps a connection that can serve another request.
    pub(super) fn keep(&self, endpoint: &Endpoint, wire: Box<Wire>, limits: PoolLimits, now: Instant) {
        self.pool.put(&endpoint.name, wire, limits, now);
    }

    /// A new connection.
    pub(super) async fn open(&self, endpoint: &Endpoint, timeout: Option<Duration>) -> Result<Box<Wire>, Failure> {
        let connecting = connect(&endpoint.address);
        let opened = match timeout {
            Some(timeout) => tokio::time::timeout(timeout, connecting)
                .await
                .unwrap_or(Err(Failure::ConnectTimeout)),
            None => connecting.await,
        };
        match &opened {
            Ok(_) => self.metrics.upstream_opened.inc(),
            Err(_) => self.metrics.upstream_connect_failures.inc(),
        }
        opened.map(Box::new)
    }

    /// A place on an HTTP/2 connection, shared or new, and whether it was shared.
    pub(super) async fn stream(
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
        let handshake = async {
            let mut lease = self.h2.add(&endpoint.name, wire).await?;
            lease.ready().await?;
            Ok::<_, h2::Error>(lease)
        };
        let lease = match timeout {
            Some(timeout) => tokio::time::timeout(timeout, handshake)
                .await
                .map_err(|_| Failure::ConnectTimeout)?,
            None => handshake.await,
        };
        lease.map(|lease| (lease, false)).map_err(|_| Failure::UpstreamClosed)
    }

    async fn ready(&self, endpoint: &Endpoint) -> Option<Lease> {
        let mut lease = self.h2.take(&endpoint.name)?;
        lease.ready().await.ok()?;
        self.metrics.upstream_reused.inc();
        Some(lease)
    }

    /// Closes what is too old or was closed by its peer.
    pub(crate) fn sweep(&self, limits: PoolLimits) {
        self.pool.sweep(limits);
        self.h2.sweep();
    }
}

async fn connect(address: &Address) -> Result<Wire, Failure> {
    match address {
        Address::Tcp(host, port) => connect_tcp(host, *port).await,
        Address::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Wire::unix(stream)),
            Err(_) => Err(Failure::ConnectFailed),
        },
    }
}

/// Tries the addresses of a host in the resolver's order.
async fn connect_tcp(host: &str, port: u16) -> Result<Wire, Failure> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|_| Failure::DnsError)?;
    let mut failure = Failure::DnsError;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Heads and small bodies must not wait for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                return Ok(Wire::tcp(stream));
            }
            Err(_) => failure = Failure::ConnectFailed,
        }
    }
    Err(failure)
}
