//! Accepts connections and turns them into exchanges.
//!
//! Each worker is one thread with a runtime, listening sockets (`SO_REUSEPORT`) and upstream connections of its own, so
//! nothing on the hot path is shared between cores. HTTP/1.1 and cleartext HTTP/2 share a port: the first bytes tell.

mod entrance;
mod frames;
mod head;
mod http1;
mod http2;
mod open;
mod sniff;
pub(crate) mod socket;
pub(crate) mod wire;
mod worker;

pub(crate) use entrance::{Entrance, Stage};
pub(crate) use open::OpenConnections;
pub(crate) use worker::{Accepting, Client, Opening, Worker, accept};
