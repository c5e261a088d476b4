//! The requests of one HTTP/1 connection, one after the other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pillion_filters::{Failure, Refusal};
use pingora_core::protocols::http::v1::server::HttpSession;

use super::entrance::{Entrance, Stage};
use super::head::{self, Unread};
use super::wire::Wire;
use super::worker::{Client, Worker};
use crate::clock;
use crate::engine::{self, Down, Kept};
use crate::snapshot::ConnectionLimits;

/// A client that sends its next request within this time is busy.
const BUSY: Duration = Duration::from_millis(500);

/// The request head did not arrive in time.
const TOO_SLOW: Refusal = Refusal::denied(
    http::StatusCode::REQUEST_TIMEOUT,
    "header_timeout",
    "the request head did not arrive in time",
);

/// Serves requests until the client or a limit ends the connection.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    entrance: &Entrance,
    wire: Wire,
    client: &Client,
    limits: ConnectionLimits,
) {
    let outlet = wire.outlet();
    let mut kept = Kept {
        wire: Box::new(wire),
        prefix: None,
    };
    let mut first = true;
    loop {
        let mut wire = kept.wire;
        let mut bytes = kept.prefix.unwrap_or_default();
        if !first && bytes.is_empty() {
            match await_request(entrance, &mut wire, &limits).await {
                Some(came) => bytes = came,
                None => return,
            }
        }
        first = false;
        let read = clock::within(Some(limits.header_timeout), head::read(&mut wire, &mut bytes)).await;
        let mut session = Box::new(HttpSession::new(wire));
        let refusal = match read.unwrap_or(Err(Unread::Refused(TOO_SLOW))) {
            Ok(()) => {
                prepare(&mut session, bytes, &limits);
                parse(&mut session).await.err()
            }
            Err(Unread::Closed) => return,
            Err(Unread::Refused(refusal)) => Some(refusal),
        };
        if let Some(refusal) = refusal {
            worker.metrics.connections(entrance.direction()).refused(refusal.reason);
            let down = Down::unread(session, outlet);
            return Box::pin(engine::refuse_unread(worker, client, down, refusal)).await;
        }
        let (down, head) = Down::http1(session, outlet.clone(), entrance.is_leaving());
        match engine::serve(worker, client, down, head).await {
            Some(next) => kept = next,
            None => return,
        }
    }
}

/// Waits for the first bytes of the next request. None when it did not come: then there is nobody to answer.
async fn await_request(entrance: &Entrance, wire: &mut Wire, limits: &ConnectionLimits) -> Option<BytesMut> {
    let mut request = pin!(first_bytes(wire));
    // A busy client is back at once. Only a quiet connection listens for its end as well, which costs more than waiting.
    let busy = limits.idle_timeout.min(BUSY);
    if let Some(request) = clock::within(Some(busy), request.as_mut()).await {
        return request;
    }
    tokio::select! {
        // A request that is there already is served.
        biased;
        request = tokio::time::timeout(limits.idle_timeout.saturating_sub(busy), request) => request.ok()?,
        () = entrance.reached(Stage::Closing) => None,
    }
}

/// The bytes that begin a request: empty lines do not.
async fn first_bytes(wire: &mut Wire) -> Option<BytesMut> {
    loop {
        let mut bytes = wire.read_ahead(head::FIRST_READ).await.ok()?;
        if bytes.is_empty() {
            return None;
        }
        head::skip_empty_lines(&mut bytes);
        if !bytes.is_empty() {
            return Some(bytes);
        }
    }
}

fn prepare(session: &mut HttpSession, bytes: BytesMut, limits: &ConnectionLimits) {
    // The deadlines are ours: of the whole head, of idleness, of the exchange. The session's are per read.
    session.set_server_keepalive(Some(0));
    session.set_read_timeout(None);
    // RFC 9112, section 9.3.2: requests sent ahead are served in order rather than refused.
    session.set_pipelining_enabled(true);
    session.set_abort_on_close(!limits.allow_half_close);
    session.set_pipelined_prefix(bytes);
}

/// Has the session parse the head it was given; it is whole, so nothing is waited for.
async fn parse(session: &mut HttpSession) -> Result<(), Refusal> {
    match session.read_request().await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Failure::MalformedRequest.into()),
        Err(error) => {
            tracing::debug!(%error, "malformed request head");
            Err(Failure::MalformedRequest.into())
        }
    }
}
