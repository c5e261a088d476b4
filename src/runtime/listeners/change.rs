//! What a reload does to the listeners.
//!
//! | an address | its sockets | connections accepted there |
//! | --- | --- | --- |
//! | stays, perhaps spelled in another way | stay | live on |
//! | moves | new ones are bound first; the old ones are closed once their queues are empty | live on |
//! | is added | are bound first | |
//! | is removed | are closed once their queues are empty | are led out, see [`Entrance`](crate::listener::Entrance) |
//!
//! Everything that can fail is done before anything changes. An address that another listener gives up in the same reload
//! changes hands with its sockets, so two may swap.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::{Closing, Listeners, Open, Order, Serves, State, token};
use crate::config::{Config, ConfigError, ConfigErrors, ListenAddress, Loaded, Node};
use crate::listener::{Accepting, Stage};
use crate::runtime::sockets::{self, Listening, Role, addresses};
use crate::snapshot::Snapshot;

/// Sockets nobody accepts from yet.
pub(super) struct Fresh {
    pub(super) listening: Listening,
    pub(super) bound: SocketAddr,
    /// The same sockets again, for those who will accept.
    pub(super) sockets: Vec<TcpListener>,
    /// Which of the open listeners had them.
    from: Option<usize>,
}

impl Fresh {
    pub(super) fn new(listening: Listening, from: Option<usize>) -> io::Result<Self> {
        Ok(Self {
            bound: listening.bound()?,
            sockets: listening.try_clone()?.sockets,
            listening,
            from,
        })
    }
}

/// One address of a new configuration.
enum Next {
    /// One of the open listeners, and how the address is spelled now.
    Kept(usize, String),
    Fresh(Fresh),
}

/// A change that can be made. Until it is made or dropped, nobody else can prepare one.
pub(in crate::runtime) struct Prepared<'l> {
    listeners: &'l Listeners,
    state: MutexGuard<'l, State>,
    next: Vec<(Role, Next)>,
    config: Config,
}

impl Listeners {
    /// Binds what a new configuration wants to be listened on. Nothing has changed when it cannot be had, or when what this
    /// gives is dropped.
    pub(in crate::runtime) fn prepare(&self, loaded: &Loaded) -> Result<Prepared<'_>, ConfigErrors> {
        let mut state = self.state();
        state.closing.retain(Closing::is_there);
        let mut errors = Vec::new();
        let wanted: Vec<_> = addresses(&loaded.config, self.workers.len()).collect();
        let kept: Vec<Option<usize>> = wanted
            .iter()
            .map(|(role, address, _)| state.open.iter().position(|open| open.is_at(*role, address)))
            .collect();
        let mut next = Vec::new();
        for ((role, address, count), keeps) in wanted.into_iter().zip(&kept) {
            if let Some(index) = keeps {
                next.push((role, Next::Kept(*index, address.to_string())));
                continue;
            }
            let given_up = |index: usize| !kept.contains(&Some(index));
            match state
                .may_change()
                .and_then(|()| state.listen(role, address, count, given_up))
            {
                Ok(fresh) => next.push((role, Next::Fresh(fresh))),
                Err(why) => errors.push(refusal(loaded, role, address, &why)),
            }
        }
        let gone = state.open.iter().map(|open| open.listening.role);
        let gone = gone.filter(|role| !next.iter().any(|(next, _)| next == role));
        if errors.is_empty()
            && let Some(role) = gone.into_iter().next()
            && let Err(why) = state.may_change()
        {
            let message = format!("`{}` is gone: {why}", role.name());
            errors.push(ConfigError::new(loaded.tree.pos.clone(), message).with_path(role.name()));
        }
        if !errors.is_empty() {
            return Err(ConfigErrors::new(errors, loaded.sources.clone()));
        }
        Ok(Prepared {
            listeners: self,
            state,
            next,
            config: loaded.config.clone(),
        })
    }
}

impl State {
    /// Whether sockets may come and go.
    fn may_change(&self) -> Result<(), String> {
        if self.stage == Stage::Closing {
            return Err("the sidecar is stopping".to_owned());
        }
        if self.passing_on {
            return Err(
                "a new process is starting and has the sockets there were; try again once it serves".to_owned(),
            );
        }
        Ok(())
    }

    fn listen(
        &self,
        role: Role,
        address: &ListenAddress,
        count: usize,
        given_up: impl Fn(usize) -> bool,
    ) -> Result<Fresh, String> {
        let bind = || {
            let resolved = sockets::resolve(address)?;
            let others = self.open.iter().enumerate().filter(|(index, _)| given_up(*index));
            let mut others = others.map(|(index, open)| (index, open.bound, &open.listening));
            let (sockets, from) = match others.clone().find(|(_, bound, _)| *bound == resolved) {
                Some((index, _, listening)) => (sockets::complete(listening.try_clone()?, count)?, Some(index)),
                None => match sockets::bind(resolved, count) {
                    // `0.0.0.0:80` in place of `127.0.0.1:80`, or an address that was given up a moment ago: what is in the
                    // way is our own, and goes.
                    Err(error)
                        if error.kind() == ErrorKind::AddrInUse
                            && (others.any(|(_, bound, _)| overlap(bound, resolved))
                                || self.closing.iter().any(|one| one.blocks(resolved))) =>
                    {
                        (sockets::bind_beside(resolved, count)?, None)
                    }
                    bound => (bound?, None),
                },
            };
            let address = address.to_string();
            Fresh::new(Listening { role, address, sockets }, from)
        };
        bind().map_err(|error| words(&error))
    }
}

impl Closing {
    fn blocks(&self, address: SocketAddr) -> bool {
        self.accepting.receiver_count() > 0 && overlap(self.bound, address)
    }
}

/// Whether only one of the two can be listened on, as a rule.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (any || one.ip().to_canonical() == other.ip().to_canonical())
}

impl Open {
    /// Whether that address is this one, however it is spelled. Port 0 is the port that was chosen for it.
    fn is_at(&self, role: Role, address: &ListenAddress) -> bool {
        let was = &self.listening.address;
        if self.listening.role != role || *was == address.to_string() {
            return self.listening.role == role;
        }
        let any_port = address.port == 0 && was.parse::<ListenAddress>().is_ok_and(|was| was.port == 0);
        sockets::resolve(address)
            .is_ok_and(|resolved| resolved == self.bound || (any_port && resolved.ip() == self.bound.ip()))
    }
}

impl Prepared<'_> {
    /// Makes the change. `swap` takes up the configuration it is part of: from then on `running` is a snapshot of that. It
    /// must not ask anything of the listeners, which wait for it.
    pub(in crate::runtime) fn commit(self, running: &ArcSwap<Snapshot>, swap: impl FnOnce()) {
        let Self {
            listeners,
            mut state,
            next,
            config,
        } = self;
        let stays = |role: Role| next.iter().any(|(next, _)| *next == role);
        for open in &state.open {
            if let Serves::Clients(entrance) = &open.serves
                && !stays(open.listening.role)
            {
                entrance.remember(running.load_full());
            }
        }
        swap();
        let changed_hands: Vec<usize> = next
            .iter()
            .filter_map(|(_, next)| match next {
                Next::Fresh(fresh) => fresh.from,
                Next::Kept(..) => None,
            })
            .collect();
        let gone: Vec<Role> = state.open.iter().map(|open| open.listening.role).collect();
        let gone: Vec<Role> = gone.into_iter().filter(|role| !stays(*role)).collect();
        // Where a side is listened on elsewhere, its clients come in by the entrance there was.
        let entrances: Vec<_> = state.entrances().cloned().collect();
        let mut before: Vec<Option<Open>> = state.open.drain(..).map(Some).collect();
        for (role, next) in next {
            match next {
                Next::Kept(index, address) => {
                    let Some(mut open) = before.get_mut(index).and_then(Option::take) else {
                        continue;
                    };
                    open.listening.address = address;
                    if let Serves::Admin(guarding) = &open.serves {
                        guarding.set(token(&config));
                    }
                    state.open.push(open);
                }
                Next::Fresh(fresh) => {
                    let was = before.iter().flatten().any(|open| open.listening.role == role);
                    tracing::info!(
                        address = fresh.listening.address,
                        bound = %fresh.bound,
                        "{} {}",
                        role.name(),
                        if was { "moves" } else { "is added" }
                    );
                    let known = entrances
                        .iter()
                        .find(|entrance| Some(entrance.direction()) == role.direction());
                    let serves = match known {
                        Some(entrance) => Serves::Clients(entrance.clone()),
                        None => state.serves(role, &config),
                    };
                    listeners.open(&mut state, fresh, serves);
                }
            }
        }
        let grace_period = config.shutdown.grace_period.0;
        for (index, open) in before.into_iter().enumerate() {
            let Some(open) = open else { continue };
            let is_gone = gone.contains(&open.listening.role);
            let queue = if changed_hands.contains(&index) {
                Accepting::None
            } else {
                Accepting::Last
            };
            listeners.close_one(&mut state, open, is_gone.then_some(grace_period), queue);
        }
    }
}

impl Listeners {
    /// Accepts there no more. With a time, the side itself is gone, and its connections have so long to end.
    fn close_one(&self, state: &mut State, open: Open, is_gone: Option<Duration>, queue: Accepting) {
        let Open {
            listening,
            bound,
            accepting,
            serves,
        } = open;
        let Listening { role, address, sockets } = listening;
        // As long as these are open, the kernel takes connections that nobody accepts.
        drop(sockets);
        let entrance = match (serves, is_gone) {
            (Serves::Clients(entrance), Some(grace_period)) => {
                entrance.set(Stage::Closing);
                let entrance = Arc::downgrade(&entrance);
                // Without a control thread the process is ending, and all of it has a grace period.
                let _ = self.control.send(Order::Cut(entrance.clone(), grace_period));
                entrance
            }
            _ => Weak::new(),
        };
        if is_gone.is_some() {
            tracing::info!(address, %bound, "{} is removed", role.name());
        }
        accepting.send_replace(queue);
        state.closing.push(Closing {
            role,
            address,
            bound,
            accepting,
            entrance,
        });
    }
}

/// What is wrong with an address, at the place where it is written or, being a default, at the nearest.
fn refusal(loaded: &Loaded, role: Role, address: &ListenAddress, why: &str) -> ConfigError {
    let path = [role.name(), "listen"];
    let written = loaded.tree.at(&path);
    let place = written.or_else(|| loaded.tree.at(&path[..1])).unwrap_or(&loaded.tree);
    let from_environment = written.filter(|node| node.variables.is_some());
    let shown = from_environment.map_or_else(|| address.to_string(), Node::shown);
    let path = path.join(".");
    let message = format!("{path}: cannot listen on `{shown}`: {why}");
    ConfigError::new(place.pos.clone(), message).with_path(path)
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "address in use".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
