//! Exchanges that no client asked for: a stored answer is fetched anew, a cache is warmed.

use std::any::Any;
use std::sync::Arc;

use http::HeaderValue;
use pingora_http::RequestHeader;

use crate::exchange::{Connection, Direction};

/// A request a filter wants to be made in nobody's name. It runs through the chain from that filter on, as an exchange of
/// its own: the filters before it, which tell of what clients do, do not see it.
pub struct Background {
    /// Which way.
    pub direction: Direction,
    /// The configured name of the filter that asks, where the exchange enters the chain. A route without that filter drops
    /// it.
    pub filter: Arc<str>,
    /// The request, without a body. The route is found by it.
    pub request: Box<RequestHeader>,
    /// The authority it is for.
    pub authority: Option<HeaderValue>,
    /// The connection of the exchange that brought it about, or a made-up one.
    pub connection: Connection,
    /// What the filter finds as its [state](crate::Exchange::state).
    pub state: Box<dyn Any + Send>,
}

/// Runs [`Background`] exchanges.
pub trait Dispatcher: Send + Sync {
    /// Queues one. False when there are too many: nobody waits for them, so nothing is lost but what they would have done.
    fn dispatch(&self, background: Background) -> bool;
    /// Whether any is ever run.
    fn is_active(&self) -> bool {
        true
    }
}

/// Runs none.
pub struct NoBackground;
impl Dispatcher for NoBackground {
    fn dispatch(&self, _: Background) -> bool {
        false
    }
    fn is_active(&self) -> bool {
        false
    }
}
