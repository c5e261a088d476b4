//! Where requests go: named destinations and their addresses; and where they may not.

mod ejection;
mod group;
mod keeper;
mod maglev;
mod member;
mod off_limits;
mod recent;
mod review;
mod schedule;
mod settings;
mod slow_start;
mod state;
mod status;
mod table;
mod upstreams;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use self::group::Group;
pub(crate) use self::keeper::Keeper;
pub(crate) use self::maglev::hash;
pub(crate) use self::member::{Call, Heard, Member};
pub(crate) use self::off_limits::{Forbidden, OffLimits};
pub(crate) use self::settings::Settings;
pub(crate) use self::status::GroupStatus;
#[cfg(test)]
pub(crate) use self::status::MemberStatus;
pub(crate) use self::upstreams::{Name, Source, Upstreams, Wanted};

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Host name or IP address, and port.
    Tcp(Arc<str>, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in clear, with prior knowledge (RFC 9113, section 3.3).
    H2c,
    /// HTTP/2 if the endpoint takes it, otherwise HTTP/1.1: found out once, and remembered.
    Auto,
}

impl Protocol {
    /// For people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::H2c => "HTTP/2",
            Self::Auto => "HTTP/2 if it takes that, otherwise HTTP/1.1",
        }
    }
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The address as text: the key of its connections, and what logs and spans call it.
    pub(crate) name: Arc<str>,
    /// Where it listens.
    pub(crate) address: Address,
    /// What it speaks.
    pub(crate) protocol: Protocol,
}

impl Endpoint {
    /// An endpoint that is spoken to over TCP.
    pub(crate) fn tcp(protocol: Protocol, host: &str, port: u16) -> Self {
        let name = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self {
            name: Arc::from(name),
            address: Address::Tcp(Arc::from(host), port),
            protocol,
        }
    }
}
