//! The upstreams of a configuration, by name and by the hosts that stand for them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, header};
use pillion_filters::Exchange;

use crate::config::{AppAddress, Config, HashKey};
use crate::upstream::{Address, Endpoint, Group, Name, Protocol, Settings, Source, Upstreams, Wanted, hash};

/// The name of the upstream that `inbound.app` is.
pub(crate) const APP: &str = "app";

/// An upstream, and what consistent hashing goes by.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) group: Arc<Group>,
    hash_by: Option<HashBy>,
}

#[derive(Clone, Debug)]
enum HashBy {
    Header(HeaderName),
    Cookie(String),
    Client,
}

impl Destination {
    /// What a request is hashed by, where that counts and it has it.
    pub(crate) fn hash(&self, exchange: &Exchange) -> Option<u64> {
        match self.hash_by.as_ref()? {
            HashBy::Header(name) => exchange.request.headers.get(name).map(|value| hash(value.as_bytes())),
            HashBy::Cookie(name) => cookie(&exchange.request.headers, name).map(hash),
            HashBy::Client => exchange.connection.client.map(|client| match client.ip() {
                std::net::IpAddr::V4(ip) => hash(&ip.octets()),
                std::net::IpAddr::V6(ip) => hash(&ip.octets()),
            }),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, members) = (self.group.name(), self.group.members());
        if &**name == APP && members.len() == 1 {
            let endpoint = members[0].endpoint();
            return write!(f, "{} (the app, {})", endpoint.name, endpoint.protocol.as_str());
        }
        let algorithm = self.group.settings().algorithm.as_str();
        let names: Vec<&str> = members.iter().map(|member| &*member.endpoint().name).collect();
        match names[..] {
            [] => write!(f, "{name} ({algorithm})"),
            _ => write!(f, "{name} ({algorithm}: {})", names.join(", ")),
        }
    }
}

/// The value of a cookie (RFC 6265, section 4.2).
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let end = pair.iter().position(|&byte| byte == b'=')?;
        (&pair[..end] == name.as_bytes()).then(|| &pair[end + 1..])
    })
}

/// The upstreams of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    by_name: BTreeMap<Arc<str>, Destination>,
    /// By `host:port`, in small letters.
    by_host: HashMap<Box<str>, Arc<str>>,
    pub(super) wanted: Vec<Wanted>,
}

impl Destinations {
    /// Those of a configuration. Groups there are already go on; they are changed when it is taken up.
    pub(super) fn new(config: &Config, known: &Upstreams) -> Self {
        let mut destinations = Self::default();
        let now = Instant::now();
        let app = config.inbound.as_ref().map(|inbound| &inbound.app);
        let unsaid = crate::config::Upstream::default();
        let implied = app
            .filter(|_| !config.upstreams.contains_key(APP))
            .map(|_| (APP, &unsaid));
        let named = config
            .upstreams
            .iter()
            .map(|(name, upstream)| (name.as_str(), upstream));
        for (name, upstream) in implied.into_iter().chain(named) {
            let source = match (&upstream.dns, app) {
                (Some(dns), _) => name_of(dns),
                (None, Some(app)) if name == APP => Source::Named(vec![(Arc::new(endpoint(app)), 1)]),
                (None, _) => Source::Named(
                    upstream
                        .endpoints
                        .iter()
                        .map(|one| (Arc::new(endpoint(&one.address)), one.weight))
                        .collect(),
                ),
            };
            let settings = Settings::from(upstream);
            let group = known.get(name).unwrap_or_else(|| {
                let group = Group::new(name, settings.clone(), now);
                // Nobody else has it yet.
                if let Source::Named(endpoints) = &source {
                    group.set_endpoints(endpoints.clone(), now);
                }
                group
            });
            for host in &upstream.hosts {
                let host = host.to_string().into_boxed_str();
                destinations.by_host.insert(host, group.name().clone());
            }
            let hash_by = match &upstream.balance.hash {
                None => None,
                Some(HashKey::Header(name)) => name.parse().ok().map(HashBy::Header),
                Some(HashKey::Cookie(name)) => Some(HashBy::Cookie(name.clone())),
                Some(HashKey::Client) => Some(HashBy::Client),
            };
            let destination = Destination {
                group: group.clone(),
                hash_by,
            };
            destinations.by_name.insert(group.name().clone(), destination);
            destinations.wanted.push(Wanted {
                group,
                settings,
                source,
                health: upstream.health.clone(),
            });
        }
        destinations
    }

    /// The names of all upstreams.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.by_name.keys().cloned().collect()
    }

    /// The upstream of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Destination> {
        self.by_name.get(name)
    }

    /// The name of the upstream that a host stands for.
    pub(crate) fn of_host(&self, host: &str, port: u16) -> Option<&Arc<str>> {
        if self.by_host.is_empty() {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let key = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        self.by_host.get(&*key)
    }

    /// Whether any host stands for one.
    pub(crate) fn has_hosts(&self) -> bool {
        !self.by_host.is_empty()
    }
}

fn name_of(dns: &crate::config::DnsDiscovery) -> Source {
    let (protocol, host, port) = match &dns.address {
        AppAddress::Http1 { host, port } => (Protocol::Http1, host, *port),
        AppAddress::Http2 { host, port } => (Protocol::H2c, host, *port),
        AppAddress::Auto { host, port } => (Protocol::Auto, host, *port),
        // Refused by the checks before.
        AppAddress::Unix(_) => return Source::Named(vec![(Arc::new(endpoint(&dns.address)), 1)]),
    };
    Source::Dns(Name {
        host: Arc::from(host.as_str()),
        port,
        protocol,
        refresh: dns.refresh.0,
        server: dns.server.as_ref().map(|server| server.0),
    })
}

/// An address as the engine uses it.
pub(super) fn endpoint(address: &AppAddress) -> Endpoint {
    match address {
        AppAddress::Http1 { host, port } => Endpoint::tcp(Protocol::Http1, host, *port),
        AppAddress::Http2 { host, port } => Endpoint::tcp(Protocol::H2c, host, *port),
        AppAddress::Auto { host, port } => Endpoint::tcp(Protocol::Auto, host, *port),
        AppAddress::Unix(path) => Endpoint {
            name: Arc::from(format!("unix:{}", path.display())),
            address: Address::Unix(path.clone()),
            protocol: Protocol::Http1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; session=abc".parse().unwrap());
        headers.append(header::COOKIE, "ssession=no;b=".parse().unwrap());
        assert_eq!(cookie(&headers, "session"), Some(&b"abc"[..]));
        assert_eq!(cookie(&headers, "b"), Some(&b""[..]));
        assert_eq!(cookie(&headers, "sess"), None);
    }
}
