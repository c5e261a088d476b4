//! Carries exchanges out: the only code, with the stream types of the listener, that knows Pingora.
//!
//! HTTP/1 is read by pingora-core's sessions and written by [`h1_head`]; HTTP/2 is the `h2` crate that pingora-core
//! itself stands on, used directly because its wrapper drops interim responses and replaces `Date`.
//! `docs/decisions/engine.md` gives the reasons.

mod background;
mod connect;
mod down;
mod exchange;
mod h1_head;
mod h2_pool;
mod h2_sink;
mod heads;
mod pool;
mod pump;
mod replay;
mod spoken;
mod tunnel;
mod up;
mod words;

pub(crate) use background::{Dispatch, Jobs};
pub(crate) use connect::{Connector, Pooled};
pub(crate) use down::{Down, Kept};
pub(crate) use exchange::{refuse_unread, serve};
pub(crate) use heads::{Forwarding, Style};
pub(crate) use pool::PoolLimits;
pub(crate) use pump::CLIENT_STALLED;
pub(crate) use words::WORDS;
