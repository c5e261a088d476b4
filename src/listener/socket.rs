//! Listening sockets.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections the kernel holds until a worker accepts them.
const BACKLOG: i32 = 4096;

/// A bound socket, not yet tied to a runtime.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // One socket per worker: the kernel spreads connections, and no accept is contended.
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // `[::]` serves both families, as people expect of it.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds one socket per worker to the same address; port 0 is chosen once for all of them.
///
/// `SO_REUSEPORT` would let two sidecars share a port without a word, so the address is first bound without it: a taken
/// address is an error.
pub(crate) fn bind_all(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    probe.set_reuse_address(true)?;
    if address.is_ipv6() {
        probe.set_only_v6(false)?;
    }
    probe.bind(&address.into())?;
    drop(probe);
    let first = bind(address)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(bind(bound)?);
    }
    Ok((bound, listeners))
}

/// Ties a bound socket to the current runtime.
pub(crate) fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_an_error_and_port_zero_is_one_port() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (bound, listeners) = bind_all(any, 2).unwrap();
        assert_ne!(bound.port(), 0);
        assert_eq!(listeners.len(), 2);
        assert_eq!(listeners[1].local_addr().unwrap(), bound);
        assert_eq!(bind_all(bound, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
