//! Where the sidecar listens, where the app is, and hosts as requests name them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::text::{Text, text_serde};

/// An address to listen on: `host:port`. Port 0 lets the system choose one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// An IP address without brackets, or a name that resolves to one of this machine.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl ListenAddress {
    /// Whether only this machine can reach it. A name other than `localhost` counts as reachable from elsewhere.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Whether the two cannot both be listened on, or one would take the other's traffic.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let any = |host: &str| host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        self.port != 0 && self.port == other.port && (self.host == other.host || any(&self.host) || any(&other.host))
    }

    /// Whether a connection to that host and port on this machine arrives here.
    pub(crate) fn receives(&self, host: &str, port: u16) -> bool {
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let wide = self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        self.port != 0 && self.port == port && (self.host == host || (local && (wide || self.is_loopback())))
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = host_and_port(text)?;
        let port = port.ok_or("has no port: write an address such as `0.0.0.0:8000`")?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_and_port(f, &self.host, self.port)
    }
}

impl Text for ListenAddress {
    const EXPECTED: &'static str = "an address such as 0.0.0.0:8000";
    const PATTERN: &'static str = r"^(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}$";
    const EXAMPLES: &'static [&'static str] = &["0.0.0.0:8000", "127.0.0.1:15001", "[::]:8000"];
}
text_serde!(ListenAddress);

/// Where the app listens, and which protocol it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAddress {
    /// `http://host:port`: HTTP/1.1.
    Http1 {
        /// A name, or an IP address without brackets.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// `h2c://host:port`: HTTP/2 without TLS, from the first byte (prior knowledge).
    Http2 {
        /// A name, or an IP address without brackets.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// `auto://host:port`: HTTP/2 if the app takes it, otherwise HTTP/1.1; found out once.
    Auto {
        /// A name, or an IP address without brackets.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// `unix:/path`: HTTP/1.1 over a Unix socket.
    Unix(
        /// The socket's absolute path.
        PathBuf,
    ),
}

impl FromStr for AppAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') && path.len() > 1 {
                Ok(Self::Unix(path.into()))
            } else {
                Err("needs an absolute path, such as `unix:/run/app.sock`".to_owned())
            };
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("is no address: write `http://host:port`, `h2c://host:port` or `unix:/path`")?;
        if scheme == "https" {
            return Err("asks for TLS, which is not supported: use `http://` or `h2c://`".to_owned());
        }
        if !["http", "h2c", "auto"].contains(&scheme) {
            return Err("has an unknown scheme: use `http://`, `h2c://`, `auto://` or `unix:`".to_owned());
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("has a path: an address ends after the port".to_owned());
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.filter(|port| *port != 0).ok_or("has no port")?;
        Ok(match scheme {
            "h2c" => Self::Http2 { host, port },
            "auto" => Self::Auto { host, port },
            _ => Self::Http1 { host, port },
        })
    }
}

impl fmt::Display for AppAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Http1 { host, port } => ("http", host, port),
            Self::Http2 { host, port } => ("h2c", host, port),
            Self::Auto { host, port } => ("auto", host, port),
        };
        write!(f, "{scheme}://")?;
        write_host_and_port(f, host, *port)
    }
}

impl Text for AppAddress {
    const EXPECTED: &'static str = "an address such as http://127.0.0.1:8080";
    const PATTERN: &'static str = r"^((http|h2c|auto)://[^/\s]+:[0-9]{1,5}/?|unix:/.+)$";
    const EXAMPLES: &'static [&'static str] = &["http://127.0.0.1:8080", "h2c://127.0.0.1:50051", "unix:/run/app.sock"];
}
text_serde!(AppAddress);

/// A host with its port, as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// A name in small letters, or an IP address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl FromStr for Authority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err("has a scheme: a host stands alone here, with its port".to_owned());
        }
        let (host, port) = host_and_port(text)?;
        let port = port.unwrap_or(80);
        if port == 0 {
            return Err("has port 0, which nobody asks for".to_owned());
        }
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host_and_port(f, &self.host, self.port)
    }
}

impl Text for Authority {
    const EXPECTED: &'static str = "a host such as orders:8080";
    const PATTERN: &'static str = r"^(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+)(:[0-9]{1,5})?$";
    const EXAMPLES: &'static [&'static str] = &["orders:8080", "orders.internal"];
}
text_serde!(Authority);

/// Where a name server is: an IP address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(
    /// The address itself.
    pub std::net::SocketAddr,
);

impl FromStr for NameServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text
            .parse()
            .map_err(|_| "is no IP address with a port, such as `127.0.0.1:53`")?;
        Ok(Self(address))
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Text for NameServer {
    const EXPECTED: &'static str = "an IP address with a port such as 127.0.0.1:53";
    const PATTERN: &'static str = r"^(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]{1,5}$";
    const EXAMPLES: &'static [&'static str] = &["127.0.0.1:8600", "[::1]:53"];
}
text_serde!(NameServer);

/// Splits `host:port`; the brackets of an IPv6 address are taken off.
pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("has a `[` without its `]`")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("has something other than an IPv6 address in brackets".to_owned());
            }
            match (after, after.strip_prefix(':')) {
                ("", _) => (host, None),
                (_, Some(port)) => (host, Some(port)),
                _ => return Err("has something between `]` and the port".to_owned()),
            }
        }
        None => match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err("is ambiguous: put brackets around an IPv6 address, as in `[::1]:8000`".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("has no host, such as `127.0.0.1` or `0.0.0.0`".to_owned());
    }
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if !host.chars().all(is_host) {
        return Err("has a character that no host name has".to_owned());
    }
    let port = match port {
        None => None,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| "has a port above 65535")?)
        }
        Some(_) => return Err("has a port that is no number".to_owned()),
    };
    Ok((host.to_owned(), port))
}

pub(super) fn write_host_and_port(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') {
        write!(f, "[{host}]:{port}")
    } else {
        write!(f, "{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_were_read() {
        for text in ["0.0.0.0:8000", "[::1]:0", "app.local:80"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in [
            "http://127.0.0.1:8080",
            "h2c://[::1]:50051",
            "auto://a:1",
            "unix:/run/app.sock",
        ] {
            assert_eq!(text.parse::<AppAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":8000",
            "host",
            "host:",
            "host:x",
            "host:65536",
            "::1:80",
            "[::1",
            "[x]:1",
            "a b:1",
            "[::1]80",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text:?}");
        }
        for text in [
            "127.0.0.1:80",
            "https://a:1",
            "ftp://a:1",
            "http://a",
            "http://a:0",
            "http://a:1/x",
            "http://u@a:1",
            "unix:app",
        ] {
            assert!(text.parse::<AppAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_loopback_is_out_of_reach_from_elsewhere() {
        for (text, loopback) in [
            ("127.0.0.1:1", true),
            ("127.8.9.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("localhost:1", true),
            ("LocalHost:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("localhost.example:1", false),
            ("app:1", false),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn a_host_without_a_port_is_the_one_at_80() {
        for (text, shown) in [
            ("Orders", "orders:80"),
            ("orders:8080", "orders:8080"),
            ("[::1]", "[::1]:80"),
        ] {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), shown);
        }
        for text in ["", "http://orders", "orders:0", "orders:x", "a b"] {
            assert!(text.parse::<Authority>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn listeners_clash_on_the_same_port_of_the_same_or_any_address() {
        let listen = |text: &str| text.parse::<ListenAddress>().unwrap();
        assert!(listen("0.0.0.0:80").clashes_with(&listen("127.0.0.1:80")));
        assert!(listen("127.0.0.1:80").clashes_with(&listen("127.0.0.1:80")));
        assert!(!listen("127.0.0.1:80").clashes_with(&listen("127.0.0.2:80")));
        assert!(!listen("127.0.0.1:80").clashes_with(&listen("127.0.0.1:81")));
        assert!(!listen("127.0.0.1:0").clashes_with(&listen("127.0.0.1:0")));
    }
}
