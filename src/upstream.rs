//! Where requests go: named destinations and their addresses; and where they may not.

mod off_limits;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use self::off_limits::OffLimits;

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Host name or IP address, and port.
    Tcp(Arc<str>, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in clear, with prior knowledge (RFC 9113, section 3.3).
    H2c,
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
    /// An endpoint that speaks HTTP/1.1 over TCP.
    pub(crate) fn http1(host: &str, port: u16) -> Self {
        let name = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self {
            name: Arc::from(name),
            address: Address::Tcp(Arc::from(host), port),
            protocol: Protocol::Http1,
        }
    }
}

/// What decides where a request of a route goes.
#[derive(Clone, Debug)]
pub(crate) enum Upstream {
    /// The app beside the sidecar.
    App(Arc<Endpoint>),
    /// The host the request names: the sidecar is the app's forward proxy.
    Authority,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(endpoint) => match endpoint.protocol {
                Protocol::Http1 => write!(f, "{} (the app, HTTP/1.1)", endpoint.name),
                Protocol::H2c => write!(f, "{} (the app, HTTP/2)", endpoint.name),
            },
            Self::Authority => f.write_str("the host the request names"),
        }
    }
}
