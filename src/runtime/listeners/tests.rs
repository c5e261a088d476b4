use std::net::SocketAddr;

use arc_swap::ArcSwap;
use pillion_filters::{Direction, Registry};

use super::*;
use crate::config::{self, Loaded};
use crate::runtime::start::dry_ground;
use crate::snapshot::{self, Snapshot};

fn loaded(lines: &[String]) -> Loaded {
    let text = format!(
        "service: a\nchain: []\nadmin: {{ enabled: false }}\n{}",
        lines.join("\n")
    );
    config::load_str("a.yaml", &text, &[]).unwrap_or_else(|errors| panic!("{}", errors.render()))
}

fn inbound(address: impl std::fmt::Display) -> String {
    format!("inbound: {{ listen: '{address}', app: 'http://127.0.0.1:1' }}")
}

fn outbound(address: impl std::fmt::Display) -> String {
    format!("outbound: {{ listen: '{address}' }}")
}

/// Listeners of two workers whose sockets nobody accepts from.
struct Still {
    listeners: Listeners,
    receivers: Receivers,
    running: ArcSwap<Snapshot>,
}

impl Still {
    fn start(lines: &[String]) -> Self {
        let loaded = loaded(lines);
        let (heritage, off_limits) = (Heritage::default(), OffLimits::default());
        let (listeners, receivers) = Listeners::start(heritage, &loaded.config, 2, off_limits).unwrap();
        Self {
            listeners,
            receivers,
            running: ArcSwap::from_pointee(compiled(&loaded)),
        }
    }

    fn change(&self, lines: &[String]) -> Result<(), String> {
        let loaded = loaded(lines);
        let prepared = self.listeners.prepare(&loaded).map_err(|errors| errors.to_string())?;
        prepared.commit(&self.running, || self.running.store(Arc::new(compiled(&loaded))));
        Ok(())
    }

    fn bound(&self, role: Role) -> SocketAddr {
        self.listeners.bound(role).unwrap()
    }

    /// What the workers have been handed since this was asked last.
    fn handed(&mut self) -> Vec<Opening> {
        let workers = self.receivers.workers.iter_mut();
        workers
            .flat_map(|worker| std::iter::from_fn(|| worker.try_recv().ok()))
            .collect()
    }
}

fn compiled(loaded: &Loaded) -> Snapshot {
    let ground = dry_ground(&loaded.config, Registry::empty());
    snapshot::build(loaded, &ground).unwrap().0
}

const ANY: &str = "127.0.0.1:0";

#[test]
fn every_worker_is_handed_a_socket_of_each_side() {
    let mut still = Still::start(&[inbound(ANY), outbound(ANY)]);
    let handed = still.handed();
    for role in [Role::Inbound, Role::Outbound] {
        let of_role = handed
            .iter()
            .filter(|one| Some(one.entrance.direction()) == role.direction());
        let bound: Vec<_> = of_role.map(|one| one.socket.local_addr().unwrap()).collect();
        assert_eq!(bound, [still.bound(role); 2]);
    }
}

#[test]
fn a_change_that_is_dropped_has_changed_nothing() {
    let mut still = Still::start(&[inbound(ANY), outbound(ANY)]);
    let before = still.bound(Role::Inbound);
    let handed = still.handed();
    drop(still.listeners.prepare(&loaded(&[inbound("127.0.0.2:0")])).unwrap());
    assert_eq!(still.bound(Role::Inbound), before);
    assert!(still.handed().is_empty());
    assert!(handed.iter().all(|one| *one.accepting.borrow() == Accepting::All));
    assert_eq!(still.listeners.report().len(), 2);
}

#[test]
fn who_moves_keeps_the_entrance_and_who_leaves_remembers_the_last_configuration() {
    let mut still = Still::start(&[inbound(ANY), outbound(ANY)]);
    let before = still.handed();
    still.change(&[inbound("127.0.0.2:0")]).unwrap();
    let after = still.handed();
    assert_eq!(after.len(), 2);
    let entrance = |openings: &[Opening], direction: Direction| {
        let found = openings.iter().find(|one| one.entrance.direction() == direction);
        found.unwrap().entrance.clone()
    };
    let moved = entrance(&before, Direction::Inbound);
    assert!(Arc::ptr_eq(&moved, &entrance(&after, Direction::Inbound)));
    assert!(!moved.is_leaving());
    let gone = entrance(&before, Direction::Outbound);
    assert!(gone.is_leaving());
    assert!(still.running.load().side(Direction::Outbound).is_none());
    assert!(
        gone.snapshot(&still.running)
            .unwrap()
            .side(Direction::Outbound)
            .is_some()
    );
    assert!(before.iter().all(|one| *one.accepting.borrow() == Accepting::Last));
    assert!(matches!(still.receivers.control.try_recv(), Ok(Order::Cut(..))));
    // With such a side again, that is what counts.
    still.change(&[inbound("127.0.0.2:0"), outbound(ANY)]).unwrap();
    assert!(Arc::ptr_eq(
        &gone.snapshot(&still.running).unwrap(),
        &still.running.load_full()
    ));
    assert!(gone.is_leaving());
    assert!(!entrance(&still.handed(), Direction::Outbound).is_leaving());
}

#[test]
fn addresses_change_hands_with_their_sockets() {
    let mut still = Still::start(&[inbound(ANY), outbound(ANY)]);
    let (was_in, was_out) = (still.bound(Role::Inbound), still.bound(Role::Outbound));
    let before = still.handed();
    still.change(&[inbound(was_out), outbound(was_in)]).unwrap();
    assert_eq!(
        (still.bound(Role::Inbound), still.bound(Role::Outbound)),
        (was_out, was_in)
    );
    // Who waits is left to the new one.
    assert!(before.iter().all(|one| *one.accepting.borrow() == Accepting::None));
    assert_eq!(still.handed().len(), 4);
}

#[test]
fn an_address_that_was_given_up_a_moment_ago_can_be_had_again() {
    let mut still = Still::start(&[inbound(ANY), outbound(ANY)]);
    let address = still.bound(Role::Outbound);
    // Nobody has closed it yet.
    let before = still.handed();
    still.change(&[inbound(ANY)]).unwrap();
    still.change(&[inbound(ANY), outbound(address)]).unwrap();
    assert_eq!(still.bound(Role::Outbound), address);
    assert_eq!(still.listeners.report().len(), 3);
    drop(before);
    still.handed();
    assert_eq!(still.listeners.report().len(), 2);
}

#[test]
fn an_address_that_cannot_be_had_is_told_as_it_is_written() {
    let taken = TcpListener::bind(ANY).unwrap();
    let address = taken.local_addr().unwrap();
    let still = Still::start(&[inbound(ANY)]);
    let told = |address: &str| still.change(&[inbound(address)]).unwrap_err();
    assert_eq!(
        told(&address.to_string()),
        format!("a.yaml:4:20: inbound.listen: cannot listen on `{address}`: address in use")
    );
    let secret = format!("${{NO_SUCH_VARIABLE:-{address}}}");
    assert!(told(&secret).contains(&format!("`{secret}`: address in use")));
    assert!(told("192.0.2.1:0").ends_with("`192.0.2.1:0`: this machine has no such address"));
}

#[test]
fn nothing_changes_while_the_process_passes_its_sockets_on_or_stops() {
    let still = Still::start(&[inbound(ANY), outbound(ANY)]);
    let passing_on = still.listeners.pass_on().unwrap();
    assert_eq!(passing_on.sockets.len(), 2);
    let refused = still.change(&[inbound("127.0.0.2:0"), outbound(ANY)]).unwrap_err();
    assert!(refused.contains("a new process is starting"), "{refused}");
    let refused = still.change(&[inbound(ANY)]).unwrap_err();
    assert!(refused.contains("`outbound` is gone: a new process"), "{refused}");
    still.change(&[inbound(ANY), outbound(ANY)]).unwrap();
    drop(passing_on);
    still.change(&[inbound(ANY)]).unwrap();
    still.listeners.close();
    let refused = still.change(&[inbound("127.0.0.2:0")]).unwrap_err();
    assert!(refused.contains("the sidecar is stopping"), "{refused}");
    assert!(!still.listeners.drain(false));
}

#[test]
fn clients_of_all_sides_are_sent_away_and_back() {
    let mut still = Still::start(&[inbound(ANY)]);
    assert!(still.listeners.drain(true));
    still.change(&[inbound(ANY), outbound(ANY)]).unwrap();
    let handed = still.handed();
    assert_eq!(handed.len(), 4);
    assert!(handed.iter().all(|one| one.entrance.is_leaving()));
    assert!(still.listeners.drain(false));
    assert!(handed.iter().all(|one| !one.entrance.is_leaving()));
    assert!(!still.listeners.is_draining());
}
