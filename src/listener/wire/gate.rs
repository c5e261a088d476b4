//! What is looked at while it is read, before a session or `h2` gets it.

use std::sync::atomic::Ordering;

use super::Shared;
use crate::listener::frames::FrameMeter;
use crate::strict::{Chunks, Flaw, Kind, Scanner};

/// Looks at what is read.
pub(super) enum Gate {
    /// Nobody looks.
    Open,
    /// A response head is expected, of a response that may have a body or not.
    Head(Scanner, bool),
    /// A chunked body is expected.
    Chunks(Chunks),
    /// The frames of an HTTP/2 client are.
    Frames(Box<FrameMeter>),
}

impl Gate {
    /// Lets what was read pass, if it may.
    pub(super) fn pass(&mut self, mut bytes: &[u8], shared: &Shared) -> Result<(), Flaw> {
        loop {
            match self {
                Gate::Open => return Ok(()),
                Gate::Head(scanner, may_have_body) => {
                    let Some(end) = scanner.feed(bytes)? else { return Ok(()) };
                    bytes = bytes.get(end..).unwrap_or_default();
                    *self = if scanner.is_interim() {
                        Gate::Head(Scanner::new(Kind::Response), *may_have_body)
                    } else if *may_have_body && scanner.is_chunked() {
                        Gate::Chunks(Chunks::new())
                    } else {
                        Gate::Open
                    };
                }
                Gate::Frames(meter) => {
                    let sent = shared.sent.load(Ordering::Relaxed);
                    return if meter.feed(bytes, sent) {
                        Ok(())
                    } else {
                        Err(Flaw::TooMany)
                    };
                }
                Gate::Chunks(chunks) => {
                    if chunks.feed(bytes)?.is_some()
                        && let Gate::Chunks(chunks) = std::mem::replace(self, Gate::Open)
                    {
                        shared.set_trailers(chunks.into_trailers());
                    }
                    return Ok(());
                }
            }
        }
    }
}
