//! All upstreams of a sidecar. They outlive snapshots: a reload keeps what is known of their members.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::group::Group;
use super::settings::Settings;
use super::{Endpoint, Protocol};
use crate::config::HealthCheck;

/// The groups of the running configuration, by name.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(Mutex<BTreeMap<Arc<str>, Arc<Group>>>);

/// What a configuration says of an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) group: Arc<Group>,
    pub(crate) settings: Settings,
    pub(crate) source: Source,
    pub(crate) health: Option<HealthCheck>,
}

impl Wanted {
    /// Gives the group the members that the configuration names, if it does.
    pub(crate) fn name_members(&self, now: Instant) {
        if let Source::Named(endpoints) = &self.source {
            self.group.set_endpoints(endpoints.clone(), now);
        }
    }
}

/// Where the members of a group come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// The configuration names them.
    Named(Vec<(Arc<Endpoint>, u32)>),
    /// They are the addresses of a name.
    Dns(Name),
}

/// A name that is looked up again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// The longest that an answer is held for good.
    pub(crate) refresh: Duration,
    /// Who is asked, in place of the system's name servers.
    pub(crate) server: Option<std::net::SocketAddr>,
}

impl Upstreams {
    /// The group of that name, if a configuration in force has it.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Group>> {
        self.groups().get(name).cloned()
    }

    /// All groups, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Group>> {
        self.groups().values().cloned().collect()
    }

    /// Takes up a configuration: these groups and no others, with their settings and the members it names.
    pub(crate) fn settle(&self, wanted: &[Wanted], now: Instant) {
        for wanted in wanted {
            wanted.group.configure(wanted.settings.clone(), now);
            wanted.name_members(now);
        }
        *self.groups() = wanted
            .iter()
            .map(|wanted| (wanted.group.name().clone(), wanted.group.clone()))
            .collect();
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Group>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
