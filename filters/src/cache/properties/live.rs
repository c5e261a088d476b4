//! An exchange under way, and what becomes of it next.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::history::Asked;
use crate::{BodyStream, Exchange, Waiting};

pub(super) struct Live {
    pub(super) asked: Asked,
    pub(super) exchange: Exchange,
    pub(super) stage: Stage,
    /// Its place in the history, once the origin is asked.
    pub(super) told: Option<usize>,
    /// No client asked for it.
    pub(super) background: bool,
}

pub(super) enum Stage {
    Begun,
    /// Behind another's fetch.
    Waiting(Waiting, Duration),
    /// The origin is to answer.
    Sent,
    /// The origin's body is on its way.
    Body(Script),
    /// Answered with what another is receiving: what of it came so far, and from whom.
    Following(BodyStream, Vec<u8>, Vec<usize>),
    Over,
}

/// What is still to come of a body.
pub(super) struct Script {
    pub(super) pieces: VecDeque<Bytes>,
    /// The connection breaks after the last piece.
    pub(super) cut: bool,
    /// The client is not to see any of it: it got a 304.
    pub(super) silent: bool,
    /// Whether anybody could tell that it came whole.
    pub(super) framed: bool,
}
