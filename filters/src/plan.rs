//! What the filters decided the engine shall do for one exchange.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long the engine waits for what. `None` waits for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection to an endpoint. Passed: 504.
    pub connect: Option<Duration>,
    /// From the beginning of a try, connecting included, to its response head. Passed: 504, unless it is tried again.
    pub attempt: Option<Duration>,
    /// From the request's last byte sent to the response head. Passed: 504.
    pub first_byte: Option<Duration>,
    /// Without a byte in either direction once the exchange is under way. Passed: 504, 408 or an aborted body.
    pub idle: Option<Duration>,
    /// Without a byte in either direction once the connection was switched to another protocol or tunnelled. Passed: it is
    /// closed.
    pub tunnel: Option<Duration>,
    /// The whole exchange, retries included. Passed: 504 or an aborted body.
    pub exchange: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(1)),
            attempt: None,
            first_byte: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(60)),
            tunnel: Some(Duration::from_secs(3600)),
            exchange: None,
        }
    }
}

/// The plan an exchange starts with comes from its route; filters shape it in their request phase.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long the engine waits for what.
    pub timeouts: Timeouts,
    /// How many bytes of the response may wait for the client. The upstream is read that far ahead of a slow client, so
    /// that it is soon done; less than what the engine buffers anyway changes nothing.
    pub read_ahead: usize,
    /// The name of the upstream that the request goes to, in place of its route's.
    pub upstream: Option<Arc<str>>,
    /// Whether the request may reach an upstream twice although its method is not idempotent (RFC 9110, section 9.2.2), e.g.
    /// because it carries a key by which the upstream knows it again.
    pub repeatable: bool,
    /// How many bytes of the request body are kept until there is a response head, so that it can be sent again.
    pub replay: usize,
    /// A second try beside the first, when that is slow.
    pub hedge: Option<Hedge>,
    /// Whether a stored response, however stale, is better than an error.
    pub accept_stale: bool,
    /// Others who want the response: as long as they do, the exchange goes on when its client has left. Set by
    /// [`want`](Self::want).
    pub wanted: Option<WantedBy>,
}

/// A second try beside a slow one. Only for a request that may reach an upstream twice and has no body.
#[derive(Clone)]
pub struct Hedge {
    /// After how long without a response head.
    pub after: Duration,
    /// Asked when that time is over.
    pub permit: Arc<dyn Permit>,
}

/// Says whether there may be one more try.
pub trait Permit: Send + Sync {
    /// Takes leave for one.
    fn take(&self) -> bool;
}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hedge").field(&self.after).finish()
    }
}

/// Tells whether anybody but the client wants a response.
pub trait Wanted: Send + Sync {
    /// Asked when the client has left, and now and then after that.
    fn is_wanted(&self) -> bool;
}

/// See [`Plan::wanted`].
#[derive(Clone)]
pub struct WantedBy(pub Arc<dyn Wanted>);

impl fmt::Debug for WantedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WantedBy").field(&self.0.is_wanted()).finish()
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            read_ahead: 0,
            upstream: None,
            repeatable: false,
            replay: 64 * 1024,
            hedge: None,
            accept_stale: false,
            wanted: None,
        }
    }
}

/// Two filters' wishes.
struct Either(Arc<dyn Wanted>, Arc<dyn Wanted>);

impl Wanted for Either {
    fn is_wanted(&self) -> bool {
        self.0.is_wanted() || self.1.is_wanted()
    }
}

impl Plan {
    /// Lets the exchange go on without its client for as long as these want its response, or others before them do.
    pub fn want(&mut self, by: Arc<dyn Wanted>) {
        self.wanted = Some(WantedBy(match self.wanted.take() {
            Some(WantedBy(before)) => Arc::new(Either(before, by)),
            None => by,
        }));
    }

    /// Whether the exchange goes on without its client.
    pub fn is_wanted(&self) -> bool {
        self.wanted.as_ref().is_some_and(|by| by.0.is_wanted())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Wish(AtomicBool);

    impl Wanted for Wish {
        fn is_wanted(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn one_who_wants_it_is_enough() {
        let wish = |wanted| Arc::new(Wish(AtomicBool::new(wanted)));
        let (first, second) = (wish(true), wish(false));
        let mut plan = Plan::default();
        assert!(!plan.is_wanted());
        plan.want(first.clone());
        plan.want(second.clone());
        assert!(plan.is_wanted());
        first.0.store(false, Ordering::Relaxed);
        assert!(!plan.is_wanted());
        second.0.store(true, Ordering::Relaxed);
        assert!(plan.is_wanted());
    }
}
