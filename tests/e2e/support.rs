//! What the tests are told with: a sidecar in this process, and peers on either side of it.

pub(crate) mod collector;
pub(crate) mod echo;
pub(crate) mod frames;
mod http2;
mod peer;
mod sidecar;
mod succession;

use std::time::{Duration, Instant};

pub(crate) use http2::{H2App, H2Client, collect, read_body, send_body, wait};
pub(crate) use peer::{Answer, App, Peer, answering, fields, nobody};
pub(crate) use sidecar::{JSON, Process, Setup, Sidecar, ask};

/// How long anything may take that should happen at once. Long, since nothing that goes well waits for it and a machine may
/// have other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request head without a body, as a client of a test sends it.
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An answer that every test of something else can use.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Waits until that holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes that tell of a loss or a swap of pieces.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect()
}
