//! What is listened on now, who accepts there, and how that ends. [`change`] is how a reload changes it.
//!
//! Each socket is open twice: with the worker, or the admin API, that accepts from it, and here, for a successor. Who
//! accepts is told to stop by a `watch`, and has stopped once its receiver is gone.

mod change;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use self::change::Fresh;
use super::sockets::{Heritage, Listening, Role, addresses};
use super::start::StartError;
use crate::admin::Token;
use crate::config::Config;
use crate::listener::{Accepting, Entrance, Opening, Stage};
use crate::upstream::{Forbidden, OffLimits};

/// See the [module](self).
pub(super) struct Listeners {
    state: Mutex<State>,
    workers: Vec<mpsc::UnboundedSender<Opening>>,
    control: mpsc::UnboundedSender<Order>,
    off_limits: OffLimits,
}

/// What the threads get their sockets from.
pub(super) struct Receivers {
    pub(super) workers: Vec<mpsc::UnboundedReceiver<Opening>>,
    pub(super) control: mpsc::UnboundedReceiver<Order>,
}

/// What the control thread is told.
pub(super) enum Order {
    /// Serve the admin API here.
    Serve(AdminOpening),
    /// Cut what is left of a side after that time.
    Cut(Weak<Entrance>, Duration),
}

/// A listening socket for the admin API.
pub(super) struct AdminOpening {
    pub(super) socket: TcpListener,
    pub(super) token: Token,
    pub(super) accepting: watch::Receiver<Accepting>,
    /// No exchange is sent there for as long as this is served.
    pub(super) forbidden: Forbidden,
}

struct State {
    open: Vec<Open>,
    closing: Vec<Closing>,
    /// [`Stage::Closing`] once the process is on its way out: from then on nothing changes.
    stage: Stage,
    /// A new process has been given the sockets, or is about to be.
    passing_on: bool,
}

/// What is listened on.
struct Open {
    /// Once more, for a successor.
    listening: Listening,
    bound: SocketAddr,
    accepting: watch::Sender<Accepting>,
    serves: Serves,
}

enum Serves {
    Clients(Arc<Entrance>),
    Admin(Token),
}

/// What is listened on no more, but has something left to serve.
struct Closing {
    role: Role,
    address: String,
    bound: SocketAddr,
    accepting: watch::Sender<Accepting>,
    /// None if the side is listened on elsewhere.
    entrance: Weak<Entrance>,
}

impl Closing {
    fn is_there(&self) -> bool {
        self.accepting.receiver_count() > 0 || self.entrance.strong_count() > 0
    }
}

impl Listeners {
    /// Listens on all addresses of a configuration, as far as possible with inherited sockets. They wait for their threads.
    pub(super) fn start(
        mut heritage: Heritage,
        config: &Config,
        workers: usize,
        off_limits: OffLimits,
    ) -> Result<(Self, Receivers), StartError> {
        let (control, orders) = mpsc::unbounded_channel();
        let (senders, receivers) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        let listeners = Self {
            state: Mutex::new(State {
                open: Vec::new(),
                closing: Vec::new(),
                stage: Stage::Open,
                passing_on: false,
            }),
            workers: senders,
            control,
            off_limits,
        };
        let mut fresh = Vec::new();
        for (role, address, count) in addresses(config, workers) {
            fresh.push(Fresh::new(heritage.listen(role, address, count)?, None)?);
        }
        let mut state = listeners.state();
        for fresh in fresh {
            let serves = state.serves(fresh.listening.role, config);
            listeners.open(&mut state, fresh, serves);
        }
        drop(state);
        let receivers = Receivers {
            workers: receivers,
            control: orders,
        };
        Ok((listeners, receivers))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands sockets to who is to accept from them. None is left over, however many there are: each has a queue of its own,
    /// in which connections would wait for nobody.
    fn open(&self, state: &mut State, fresh: Fresh, serves: Serves) {
        let Fresh {
            listening,
            bound,
            sockets,
            ..
        } = fresh;
        let accepting = watch::Sender::new(Accepting::All);
        for (index, socket) in sockets.into_iter().enumerate() {
            // A thread that is gone has no use for it: then the process ends.
            match &serves {
                Serves::Clients(entrance) => {
                    let _ = self.workers[index % self.workers.len()].send(Opening {
                        entrance: entrance.clone(),
                        socket,
                        accepting: accepting.subscribe(),
                    });
                }
                Serves::Admin(token) => {
                    let _ = self.control.send(Order::Serve(AdminOpening {
                        socket,
                        token: token.clone(),
                        accepting: accepting.subscribe(),
                        forbidden: self.off_limits.forbid(bound),
                    }));
                }
            }
        }
        state.open.push(Open {
            listening,
            bound,
            accepting,
            serves,
        });
    }

    /// Where that is listened on.
    pub(super) fn bound(&self, role: Role) -> Option<SocketAddr> {
        let state = self.state();
        let open = state.open.iter().find(|open| open.listening.role == role);
        open.map(|open| open.bound)
    }

    /// Tells clients that their connections end, though new ones are taken; or takes that back. False if the process is
    /// ending, which cannot be taken back.
    pub(super) fn drain(&self, drain: bool) -> bool {
        let mut state = self.state();
        if state.stage == Stage::Closing {
            return false;
        }
        state.stage = if drain { Stage::Leaving } else { Stage::Open };
        state.entrances().for_each(|entrance| entrance.set(state.stage));
        true
    }

    /// Whether clients are told that their connections end.
    pub(super) fn is_draining(&self) -> bool {
        self.state().stage != Stage::Open
    }

    /// The current sockets for a new process. Until this is dropped, they stay the current ones.
    pub(super) fn pass_on(&self) -> io::Result<PassingOn<'_>> {
        let mut state = self.state();
        let sockets = state.open.iter().map(|open| open.listening.try_clone());
        let sockets = sockets.collect::<io::Result<_>>()?;
        state.passing_on = true;
        Ok(PassingOn {
            listeners: self,
            sockets,
        })
    }

    /// Accepts from clients no more, and leaves what waits to the process that has the sockets now.
    pub(super) fn give_up(&self) {
        let mut state = self.state();
        state.stage = Stage::Closing;
        for open in state.of_clients() {
            open.accepting.send_replace(Accepting::None);
        }
    }

    /// Takes the last that wait, and leads all clients out.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.stage = Stage::Closing;
        for open in &mut state.open {
            // As long as these are open, the kernel takes connections that nobody accepts.
            open.listening.sockets.clear();
        }
        state.entrances().for_each(|entrance| entrance.set(Stage::Closing));
        for open in state.of_clients() {
            open.accepting.send_if_modified(|accepting| {
                let changes = *accepting == Accepting::All;
                *accepting = if changes { Accepting::Last } else { *accepting };
                changes
            });
        }
    }

    /// Whether somebody may still accept a client.
    pub(super) fn are_accepting(&self) -> bool {
        let state = self.state();
        let open = state.of_clients().map(|open| &open.accepting);
        let closing = state.closing.iter().filter(|closing| closing.role != Role::Admin);
        let mut all = open.chain(closing.map(|closing| &closing.accepting));
        all.any(|accepting| accepting.receiver_count() > 0)
    }

    /// Each as JSON.
    pub(super) fn report(&self) -> Vec<Value> {
        let mut state = self.state();
        state.closing.retain(Closing::is_there);
        let ends = state.stage == Stage::Closing;
        let told = |role: Role, address: &str, bound: SocketAddr, leaves: bool| {
            json!({
                "direction": role.name(), "address": address, "bound": bound,
                "state": if leaves { "leaving" } else { "open" },
            })
        };
        let open = state.open.iter().map(|open| {
            let role = open.listening.role;
            told(role, &open.listening.address, open.bound, ends && role != Role::Admin)
        });
        let closing = state.closing.iter();
        open.chain(closing.map(|closing| told(closing.role, &closing.address, closing.bound, true)))
            .collect()
    }
}

impl State {
    /// What is new behind an address of that role.
    fn serves(&self, role: Role, config: &Config) -> Serves {
        match role.direction() {
            Some(direction) => Serves::Clients(Arc::new(Entrance::new(direction, self.stage))),
            None => Serves::Admin(Token::new(token(config))),
        }
    }

    fn of_clients(&self) -> impl Iterator<Item = &Open> {
        self.open.iter().filter(|open| open.listening.role != Role::Admin)
    }

    fn entrances(&self) -> impl Iterator<Item = &Arc<Entrance>> {
        self.open.iter().filter_map(|open| match &open.serves {
            Serves::Clients(entrance) => Some(entrance),
            Serves::Admin(_) => None,
        })
    }
}

/// See [`Listeners::pass_on`].
pub(super) struct PassingOn<'l> {
    listeners: &'l Listeners,
    pub(super) sockets: Vec<Listening>,
}

impl Drop for PassingOn<'_> {
    fn drop(&mut self) {
        self.listeners.state().passing_on = false;
    }
}

/// What the admin API asks for.
fn token(config: &Config) -> Option<String> {
    config.admin.token.as_ref().map(|token| token.expose().to_owned())
}
