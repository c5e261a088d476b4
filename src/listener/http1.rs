//! The requests of one HTTP/1 connection, one after the other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pillion_filters::Direction;
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_error::ErrorType;

use super::wire::{Outlet, Wire};
use super::worker::{Client, Worker};
use crate::clock;
use crate::engine::{self, Down, Kept};
use crate::snapshot::ConnectionLimits;

/// An error of a head that never became an exchange: it has no id, and no filter sees it.
struct Unread {
    status: &'static str,
    reason: &'static str,
    message: &'static str,
}

const MALFORMED: Unread = Unread {
    status: "400 Bad Request",
    reason: "malformed_request",
    message: "the request head is not valid HTTP",
};
const TOO_SLOW: Unread = Unread {
    status: "408 Request Timeout",
    reason: "header_timeout",
    message: "the request head did not arrive in time",
};

impl Unread {
    fn answer(&self) -> String {
        let Self {
            status,
            reason,
            message,
        } = self;
        let code = status.split(' ').next().unwrap_or_default();
        let body = format!(r#"{{"error":"{reason}","status":{code},"message":"{message}"}}"#);
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Connection: close\r\nProxy-Status: pillion; error=http_request_error; details=\"{reason}\"\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Room for the first bytes of a request, and for all of most heads.
const FIRST_READ: usize = 4096;

/// A client that sends its next request within this time is busy.
const BUSY: Duration = Duration::from_millis(500);

/// Serves requests until the client or a limit ends the connection.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    direction: Direction,
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
        let Kept { mut wire, mut prefix } = kept;
        let has_bytes = first || prefix.as_ref().is_some_and(|prefix| !prefix.is_empty());
        if !has_bytes {
            match await_request(worker, &mut wire, &limits).await {
                Some(bytes) => prefix = Some(bytes),
                None => return,
            }
        }
        first = false;
        let mut session = Box::new(HttpSession::new(wire));
        prepare(&mut session, prefix, &limits);
        match clock::within(Some(limits.header_timeout), session.read_request()).await {
            Some(Ok(Some(_))) => {}
            Some(Ok(None)) => return,
            Some(Err(error)) => {
                if matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError) {
                    return;
                }
                tracing::debug!(%error, "malformed request head");
                return refuse(worker, direction, session, &outlet, &MALFORMED).await;
            }
            None => return refuse(worker, direction, session, &outlet, &TOO_SLOW).await,
        }
        let (down, head) = Down::http1(session, outlet.clone(), worker.is_draining());
        match engine::serve(worker, direction, client, down, head).await {
            Some(next) => kept = next,
            None => return,
        }
    }
}

/// Waits for the first bytes of the next request. None when it did not come: then there is nobody to answer.
async fn await_request(worker: &Worker, wire: &mut Wire, limits: &ConnectionLimits) -> Option<BytesMut> {
    let mut request = pin!(first_bytes(wire));
    // A busy client is back at once. Only a quiet connection listens for the drain as well, which costs more than waiting.
    let busy = limits.idle_timeout.min(BUSY);
    if let Some(request) = clock::within(Some(busy), request.as_mut()).await {
        return request;
    }
    let mut draining = worker.draining.clone();
    tokio::select! {
        request = tokio::time::timeout(limits.idle_timeout.saturating_sub(busy), request) => request.ok()?,
        _ = draining.wait_for(|&draining| draining) => None,
    }
}

/// The bytes that begin a request, without the empty lines some clients send after a body (RFC 9112, section 2.2).
async fn first_bytes(wire: &mut Wire) -> Option<BytesMut> {
    loop {
        let mut bytes = wire.read_ahead(FIRST_READ).await.ok()?;
        if bytes.is_empty() {
            return None;
        }
        while bytes.starts_with(b"\r\n") {
            bytes.advance(2);
        }
        if !bytes.is_empty() {
            return Some(bytes);
        }
    }
}

fn prepare(session: &mut HttpSession, prefix: Option<bytes::BytesMut>, limits: &ConnectionLimits) {
    // The deadlines are ours: of the whole head, of idleness, of the exchange. The session's are per read.
    session.set_server_keepalive(Some(0));
    session.set_read_timeout(None);
    // RFC 9112, section 9.3.2: requests sent ahead are served in order rather than refused.
    session.set_pipelining_enabled(true);
    session.set_abort_on_close(!limits.allow_half_close);
    if let Some(prefix) = prefix {
        session.set_pipelined_prefix(prefix);
    }
}

/// Answers a head that could not be read, and closes.
async fn refuse(
    worker: &Worker,
    direction: Direction,
    mut session: Box<HttpSession>,
    outlet: &Outlet,
    unread: &Unread,
) {
    worker.metrics.connections(direction).malformed.inc();
    outlet.send(unread.answer().as_bytes());
    let closing = async {
        let _ = outlet.drain().await;
        session.shutdown().await;
    };
    // A client that does not read its answer does not keep us.
    let _ = tokio::time::timeout(Duration::from_secs(2), closing).await;
}
