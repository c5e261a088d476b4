//! What no exchange may be sent to: the sidecar's own admin API.
//!
//! Whoever may use the outbound proxy would otherwise reach the admin API through it, from the very loopback address that
//! keeps it from everyone else. Names and addresses can be written in too many ways to be told apart beforehand, so the
//! question is asked of a connection once it is open and before a byte is sent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;

/// The addresses that no exchange may be sent to. While the admin API moves there are two.
#[derive(Clone, Debug, Default)]
pub(crate) struct OffLimits(Arc<ArcSwap<Vec<SocketAddr>>>);

impl OffLimits {
    /// Forbids the address, as bound, until what this gives is dropped.
    pub(crate) fn forbid(&self, address: SocketAddr) -> Forbidden {
        self.0.rcu(|known| [&known[..], &[address]].concat());
        Forbidden {
            off_limits: self.clone(),
            address,
        }
    }

    /// Whether this connection leads there. One that is gone already leads nowhere, and counts as if it did.
    pub(crate) fn cover(&self, stream: &TcpStream) -> bool {
        let forbidden = self.0.load();
        if forbidden.is_empty() {
            return false;
        }
        let ends = || io::Result::Ok((stream.peer_addr()?, stream.local_addr()?));
        ends().map_or(true, |(peer, local)| {
            forbidden.iter().any(|&admin| leads_to(admin, peer, local))
        })
    }
}

/// Keeps an address forbidden.
#[derive(Debug)]
pub(crate) struct Forbidden {
    off_limits: OffLimits,
    address: SocketAddr,
}

impl Drop for Forbidden {
    fn drop(&mut self) {
        self.off_limits.0.rcu(|known| {
            let mut left = known.to_vec();
            // It may be there twice, for two who listen there one after the other.
            if let Some(place) = left.iter().position(|known| *known == self.address) {
                left.swap_remove(place);
            }
            left
        });
    }
}

/// Whether a connection to `peer`, seen from this end as `local`, is one to `admin`.
fn leads_to(admin: SocketAddr, peer: SocketAddr, local: SocketAddr) -> bool {
    if peer.port() != admin.port() {
        return false;
    }
    let (admin, peer, local) = (
        admin.ip().to_canonical(),
        peer.ip().to_canonical(),
        local.ip().to_canonical(),
    );
    // On every address of this machine: one that connects to itself has the same address at both ends, but on loopback,
    // where the system may choose another.
    peer == admin || (admin.is_unspecified() && (peer.is_loopback() || peer == local))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(admin: &str, peer: &str, local: &str) -> bool {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        leads_to(address(admin), address(peer), address(local))
    }

    #[test]
    fn an_address_is_known_however_it_is_written() {
        assert!(leads("127.0.0.1:9901", "127.0.0.1:9901", "127.0.0.1:40000"));
        assert!(leads(
            "127.0.0.1:9901",
            "[::ffff:127.0.0.1]:9901",
            "[::ffff:127.0.0.1]:40000"
        ));
        assert!(leads("[::1]:9901", "[::1]:9901", "[::1]:40000"));
        assert!(leads("10.0.0.5:9901", "10.0.0.5:9901", "10.0.0.5:40000"));
    }

    #[test]
    fn other_ports_and_other_addresses_are_free() {
        assert!(!leads("127.0.0.1:9901", "127.0.0.1:9902", "127.0.0.1:40000"));
        assert!(!leads("127.0.0.1:9901", "127.0.0.2:9901", "127.0.0.1:40000"));
        assert!(!leads("10.0.0.5:9901", "10.0.0.6:9901", "10.0.0.5:40000"));
    }

    #[test]
    fn any_address_of_this_machine_counts_where_all_are_listened_on() {
        for any in ["0.0.0.0:9901", "[::]:9901"] {
            assert!(leads(any, "127.0.0.2:9901", "127.0.0.1:40000"));
            assert!(leads(any, "[::1]:9901", "[::1]:40000"));
            assert!(leads(any, "10.0.0.5:9901", "10.0.0.5:40000"));
            assert!(!leads(any, "10.0.0.6:9901", "10.0.0.5:40000"));
        }
    }

    #[tokio::test]
    async fn a_connection_is_asked_for_both_its_ends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Another way to write loopback, which the system resolves.
        let stream = TcpStream::connect(("0.0.0.0", address.port())).await.unwrap();
        let off_limits = OffLimits::default();
        assert!(!off_limits.cover(&stream));
        let elsewhere = off_limits.forbid(SocketAddr::new(address.ip(), address.port() ^ 1));
        assert!(!off_limits.cover(&stream));
        let (first, second) = (off_limits.forbid(address), off_limits.forbid(address));
        assert!(off_limits.cover(&stream));
        drop((first, elsewhere));
        assert!(off_limits.cover(&stream));
        drop(second);
        assert!(!off_limits.cover(&stream));
    }
}
