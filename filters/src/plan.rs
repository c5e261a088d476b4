//! What the filters decided the engine shall do for one exchange.

use std::time::Duration;

/// How long the engine waits for what. `None` waits for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection to an endpoint. Passed: 504.
    pub connect: Option<Duration>,
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
            first_byte: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(60)),
            tunnel: Some(Duration::from_secs(3600)),
            exchange: None,
        }
    }
}

/// The plan an exchange starts with comes from its route; filters shape it in their request phase.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How long the engine waits for what.
    pub timeouts: Timeouts,
}
