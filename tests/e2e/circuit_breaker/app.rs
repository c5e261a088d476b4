//! An app that answers as it is told to, and counts what it is asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crate::support::{App, PATIENCE, Peer};

/// How it answers.
#[derive(Clone)]
pub(super) enum Mode {
    /// With that status.
    Status(u16),
    /// With 200 and these header lines.
    Says(String),
    /// With less of a body than it said.
    Cut,
    /// Not until it is told something else.
    Hold,
}

struct Shared {
    mode: Mutex<Mode>,
    changed: Condvar,
    asked: AtomicUsize,
}

pub(super) struct Moody {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Moody {
    pub(super) fn start() -> Self {
        let app = App::listen();
        let address = app.address();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Status(200)),
            changed: Condvar::new(),
            asked: AtomicUsize::new(0),
        });
        let serving = Arc::downgrade(&shared);
        thread::spawn(move || {
            while let Some(shared) = serving.upgrade() {
                match app.try_accept() {
                    Some(peer) => drop(thread::spawn(move || answer(peer, &shared))),
                    None => thread::sleep(std::time::Duration::from_millis(1)),
                }
            }
        });
        Self { address, shared }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn be(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
        self.shared.changed.notify_all();
    }

    /// How many requests have reached it.
    pub(super) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    pub(super) fn await_asked(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.asked() < count {
            assert!(Instant::now() < deadline, "asked {} times, not {count}", self.asked());
            thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

fn answer(mut peer: Peer, shared: &Shared) {
    peer.read_head();
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let mode = shared.mode.lock().unwrap();
    let held = |mode: &mut Mode| matches!(mode, Mode::Hold);
    let (mode, _) = shared.changed.wait_timeout_while(mode, PATIENCE, held).unwrap();
    let mode = mode.clone();
    let (status, fields, length) = match mode {
        Mode::Status(status) => (status, String::new(), 2),
        Mode::Says(fields) => (200, fields, 2),
        Mode::Cut => (200, String::new(), 10),
        Mode::Hold => panic!("nobody told what to answer"),
    };
    // Whoever asked may have gone.
    let _ = peer.try_send(format!(
        "HTTP/1.1 {status} Told\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\nok"
    ));
}
