//! Opens the way for a try. It takes nothing from the exchange that a second one beside it would need.

use std::time::{Duration, Instant};

use pillion_filters::{Direction, Exchange};
use pingora_http::RequestHeader;

use crate::engine::connect::Connector;
use crate::engine::heads::{self, Hop, Style, Taken};
use crate::engine::pool::PoolLimits;
use crate::engine::pump::Stop;
use crate::engine::up::Up;
use crate::listener::Client;
use crate::snapshot::Side;
use crate::upstream::{Endpoint, Protocol};

/// What a try takes of its exchange. Not the exchange itself, which filters may have given what cannot be shared.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    connector: &'a Connector,
    request: &'a RequestHeader,
    hop: Hop<'a>,
    taken: Taken,
    limits: PoolLimits,
    timeout: Option<Duration>,
    /// The request may reach an upstream twice.
    repeatable: bool,
    /// There is no body, or none of it is left to be sent.
    ended: bool,
}

impl<'a> Opening<'a> {
    pub(super) fn new(
        connector: &'a Connector,
        client: &'a Client,
        side: &'a Side,
        exchange: &'a Exchange,
        taken: Taken,
        ended: bool,
    ) -> Self {
        let timeouts = &exchange.plan.timeouts;
        let hop = Hop {
            via: pillion_filters::via(exchange.connection.version),
            x_forwarded: exchange.route.direction == Direction::Inbound && side.forwarding.style == Style::XForwarded,
            client: client.address.as_ref(),
            scheme: exchange.connection.scheme,
            authority: exchange.authority.as_ref(),
        };
        let limits = [timeouts.connect, timeouts.attempt, super::time_left(exchange)];
        Self {
            connector,
            request: &exchange.request,
            hop,
            taken,
            limits: side.pool,
            timeout: limits.into_iter().flatten().min(),
            repeatable: exchange.is_repeatable(),
            ended,
        }
    }

    /// The upstream's side of a try, its request head on the way; and whether its connection has served others before.
    pub(super) async fn open(self, endpoint: &Endpoint, fresh: bool, now: Instant) -> Result<(Up, bool), Stop> {
        let connector = self.connector;
        let protocol = match endpoint.protocol {
            Protocol::Auto => {
                if let Some(known) = connector.known_protocol(endpoint, now) {
                    known
                } else {
                    let found = connector.find_protocol(endpoint, self.timeout).await;
                    found.map_err(Stop::Failed)?
                }
            }
            protocol => protocol,
        };
        match protocol {
            Protocol::Http1 | Protocol::Auto => {
                let pooled = if fresh {
                    None
                } else {
                    connector.reuse(endpoint, self.limits, !self.repeatable, now)
                };
                let reused = pooled.is_some();
                let wire = match pooled {
                    Some(wire) => wire,
                    None => connector.open(endpoint, self.timeout).await.map_err(Stop::Failed)?,
                };
                let up = Up::http1(wire, self.request, self.hop, self.taken, !self.ended).await;
                Ok((up.map_err(Stop::Failed)?, reused))
            }
            Protocol::H2c => {
                let head = heads::for_http2(self.request, self.taken, self.hop).map_err(Stop::Refused)?;
                let stream = connector.stream(endpoint, self.timeout).await;
                let (lease, reused) = stream.map_err(Stop::Failed)?;
                let up = Up::http2(lease, head, self.ended).map_err(Stop::Failed)?;
                Ok((up, reused))
            }
        }
    }
}
