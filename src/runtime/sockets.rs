//! The listening sockets: taken over from the process before, or bound anew.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use pillion_filters::Direction;

use super::StartError;
use crate::config::{Config, ListenAddress};
use crate::listener::socket;

/// What connects to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Clients.
    Inbound,
    /// The app.
    Outbound,
    /// Orchestrators, scrapers and people.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::Inbound, Self::Outbound, Self::Admin];

    /// The configuration's key for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Admin => "admin",
        }
    }

    /// Whose clients come there.
    pub(super) fn direction(self) -> Option<Direction> {
        match self {
            Self::Inbound => Some(Direction::Inbound),
            Self::Outbound => Some(Direction::Outbound),
            Self::Admin => None,
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// All sockets of one configured address.
pub(super) struct Listening {
    pub(super) role: Role,
    /// As configured: port 0 stays port 0.
    pub(super) address: String,
    pub(super) sockets: Vec<TcpListener>,
}

impl Listening {
    /// The same sockets once more: a connection in their queues is lost only when the last of them is closed.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            role: self.role,
            address: self.address.clone(),
            sockets: self
                .sockets
                .iter()
                .map(TcpListener::try_clone)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Where it was bound.
    pub(super) fn bound(&self) -> io::Result<SocketAddr> {
        let first = self.sockets.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        first.local_addr()
    }
}

/// Where to listen, and with how many sockets at least.
pub(super) fn addresses(config: &Config, workers: usize) -> impl Iterator<Item = (Role, &ListenAddress, usize)> {
    let inbound = config
        .inbound
        .as_ref()
        .map(|side| (Role::Inbound, &side.listen, workers));
    let outbound = config
        .outbound
        .as_ref()
        .map(|side| (Role::Outbound, &side.listen, workers));
    let admin = &config.admin;
    let admin = admin.enabled.then_some((Role::Admin, &admin.listen, 1));
    [inbound, outbound, admin].into_iter().flatten()
}

/// Sockets of the process before. Those that nobody takes are closed when this is dropped.
#[derive(Default)]
pub(super) struct Heritage(pub(super) Vec<Listening>);

impl Heritage {
    /// More sockets, which may be of an address that is there already.
    pub(super) fn add(&mut self, more: Listening) {
        let known = self
            .0
            .iter_mut()
            .find(|one| one.role == more.role && one.address == more.address);
        match known {
            Some(known) => known.sockets.extend(more.sockets),
            None => self.0.push(more),
        }
    }

    /// At least so many sockets for an address: all that were inherited, and new ones for what is missing.
    pub(super) fn listen(
        &mut self,
        role: Role,
        address: &ListenAddress,
        count: usize,
    ) -> Result<Listening, StartError> {
        let sockets = resolve(address).and_then(|resolved| match self.take(role, &address.to_string(), resolved) {
            Some(inherited) => complete(inherited, count),
            None => bind(resolved, count),
        });
        let sockets = sockets.map_err(|error| StartError::Listen {
            what: role.name(),
            address: address.to_string(),
            error,
        })?;
        Ok(Listening {
            role,
            address: address.to_string(),
            sockets,
        })
    }

    /// By what was configured, so that port 0 keeps its port, or by what it means, so that another spelling does as well.
    fn take(&mut self, role: Role, address: &str, resolved: SocketAddr) -> Option<Listening> {
        let fits = |old: &Listening| {
            old.role == role && (old.address == address || old.bound().is_ok_and(|bound| bound == resolved))
        };
        let found = self.0.iter().position(fits)?;
        Some(self.0.swap_remove(found))
    }
}

/// More workers than sockets: one more for each that has none.
pub(super) fn complete(inherited: Listening, count: usize) -> io::Result<Vec<TcpListener>> {
    let bound = inherited.bound()?;
    let mut sockets = inherited.sockets;
    while sockets.len() < count {
        sockets.push(socket::bind(bound)?);
    }
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    Ok(sockets)
}

pub(super) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    socket::bind_all(address, count).map(|(_, sockets)| sockets)
}

/// The same where sockets of this process are in the way.
pub(super) fn bind_beside(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    (0..count).map(|_| socket::bind(address)).collect()
}

pub(super) fn resolve(address: &ListenAddress) -> io::Result<SocketAddr> {
    let mut found = (address.host.as_str(), address.port).to_socket_addrs()?;
    found.next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> ListenAddress {
        ListenAddress {
            host: host.to_owned(),
            port,
        }
    }

    fn heritage(sockets: usize) -> (Heritage, SocketAddr) {
        let any = address("127.0.0.1", 0);
        let old = Heritage::default().listen(Role::Inbound, &any, sockets).unwrap();
        let bound = old.bound().unwrap();
        (Heritage(vec![old]), bound)
    }

    #[test]
    fn all_that_is_inherited_is_kept_and_what_is_missing_is_bound() {
        for (inherited, wanted, have) in [(2, 2, 2), (3, 1, 3), (1, 3, 3)] {
            let (mut heritage, bound) = heritage(inherited);
            let new = heritage
                .listen(Role::Inbound, &address("127.0.0.1", 0), wanted)
                .unwrap();
            assert_eq!(new.sockets.len(), have);
            assert!(new.sockets.iter().all(|socket| socket.local_addr().unwrap() == bound));
            assert!(heritage.0.is_empty());
        }
    }

    #[test]
    fn another_spelling_of_the_same_address_is_the_same() {
        let (mut heritage, bound) = heritage(1);
        let new = heritage
            .listen(Role::Inbound, &address("127.0.0.1", bound.port()), 1)
            .unwrap();
        assert_eq!(new.bound().unwrap(), bound);
    }

    #[test]
    fn another_address_or_purpose_is_bound_anew() {
        let (mut heritage, bound) = heritage(1);
        let other = heritage.listen(Role::Outbound, &address("127.0.0.1", 0), 1).unwrap();
        assert_ne!(other.bound().unwrap(), bound);
        let other = heritage.listen(Role::Inbound, &address("127.0.0.2", 0), 1).unwrap();
        assert_ne!(other.bound().unwrap(), bound);
        assert_eq!(heritage.0.len(), 1);
    }
}
