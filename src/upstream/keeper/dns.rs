//! A name whose addresses are the members of a group.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::sync::{Notify, oneshot};

use crate::upstream::{Endpoint, Group, Name};

/// An answer is held for at least as long, whatever its time to live says.
const LEAST: Duration = Duration::from_secs(1);
/// How soon a lookup that failed is made again, at the latest.
const AGAIN: Duration = Duration::from_secs(2);
/// More addresses of one name are not used.
const MOST: usize = 1024;

/// What a lookup found: the addresses, and how long they hold.
type Found = (BTreeSet<IpAddr>, Duration);

/// Looks a name up again and again, each time when the last answer has run out. A lookup that fails changes nothing: the last
/// addresses are better than none.
pub(super) async fn follow(group: Arc<Group>, name: Name, changed: Arc<Notify>, found: oneshot::Sender<()>) {
    let mut found = Some(found);
    let mut last = BTreeSet::new();
    let mut failing = false;
    loop {
        let upstream = &**group.name();
        let pause = match look_up(&name).await {
            Ok((addresses, holds)) => {
                if failing {
                    tracing::info!(upstream, host = &*name.host, "found again");
                }
                failing = false;
                if addresses != last {
                    tracing::info!(upstream, host = &*name.host, addresses = ?addresses, "addresses");
                    let endpoint = |ip: &IpAddr| Endpoint::tcp(name.protocol, &ip.to_string(), name.port);
                    let endpoints = addresses.iter().map(|ip| (Arc::new(endpoint(ip)), 1)).collect();
                    group.set_endpoints(endpoints, Instant::now());
                    changed.notify_one();
                    last = addresses;
                }
                holds.clamp(LEAST, name.refresh.max(LEAST))
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(upstream, host = &*name.host, error, kept = last.len(), "name not found");
                }
                failing = true;
                name.refresh.clamp(LEAST, AGAIN)
            }
        };
        // Nobody may wait any more.
        let _ = found.take().map(|found| found.send(()));
        tokio::time::sleep(pause).await;
    }
}

async fn look_up(name: &Name) -> Result<Found, String> {
    if let Ok(ip) = name.host.parse() {
        return Ok((BTreeSet::from([ip]), name.refresh));
    }
    // Made anew each time: the system's name servers may have changed, and it keeps no answers anyway.
    let resolver = resolver(name).map_err(|error| error.to_string())?;
    let found = resolver
        .lookup_ip(&*name.host)
        .await
        .map_err(|error| error.to_string())?;
    let holds = found.valid_until().saturating_duration_since(Instant::now());
    let addresses: BTreeSet<IpAddr> = found.iter().take(MOST).collect();
    if addresses.is_empty() {
        return Err("it has no address".to_owned());
    }
    Ok((addresses, holds))
}

fn resolver(name: &Name) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = match name.server {
        None => TokioResolver::builder_tokio()?,
        Some(server) => {
            let mut asked = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut asked.connections {
                connection.port = server.port();
            }
            let config = ResolverConfig::from_name_servers(vec![asked]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    // One of a family is enough: both would be the same endpoints twice.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    if name.server.is_some() {
        options.use_hosts_file = ResolveHosts::Never;
    }
    builder.build()
}
