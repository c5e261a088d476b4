//! The streams of one HTTP/2 connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request};
use pingora_http::RequestHeader;
use tokio::sync::Notify;

use super::entrance::{Entrance, Stage};
use super::wire::Wire;
use super::worker::{Client, Worker};
use crate::engine::{self, Down};
use crate::snapshot::ConnectionLimits;

/// What a client may send ahead on one stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What a client may send ahead on one connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Decoded size of a request's fields.
const MAX_HEADER_LIST: u32 = 128 * 1024;
/// Streams reset by the client that may still be in memory.
const MAX_RESET_STREAMS: usize = 64;

/// Streams being served, and a call when there are none.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    /// So many the client has reset.
    resets: Arc<AtomicU32>,
    none: Notify,
}

struct StreamGuard(Arc<Streams>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.none.notify_one();
        }
    }
}

/// Serves streams until the client or a limit ends the connection.
pub(super) async fn serve(
    worker: &Arc<Worker>,
    entrance: &Entrance,
    wire: Wire,
    client: Client,
    limits: ConnectionLimits,
) {
    let outlet = wire.outlet();
    let metrics = worker.metrics.connections(entrance.direction());
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_streams(limits.max_streams)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .handshake(wire);
    let mut connection = match tokio::time::timeout(limits.header_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return metrics.malformed.inc(),
        Err(_) => return metrics.header_timeout.inc(),
    };
    let client = Arc::new(client);
    let streams = Arc::new(Streams::default());
    let mut changes = entrance.changes();
    let mut told = false;
    let mut accepted_in_all = 0_u32;
    loop {
        // One that may come although its side is left may ask for something, too.
        let goodbye = if accepted_in_all == 0 {
            Stage::Closing
        } else {
            Stage::Leaving
        };
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = idle(&streams, &limits) => {
                if told {
                    // A client that is gone does not say good-bye either.
                    break;
                }
                connection.graceful_shutdown();
                told = true;
                continue;
            }
            _ = changes.wait_for(|&stage| stage >= goodbye), if !told => {
                // Streams the client opened before it hears of this are still served (RFC 9113, section 6.8).
                connection.graceful_shutdown();
                told = true;
                continue;
            }
        };
        match accepted {
            Some(Ok((request, respond))) => {
                accepted_in_all = accepted_in_all.saturating_add(1);
                // A browser that leaves a page resets what it had asked for; an attacker resets all it asks for.
                let resets = streams.resets.load(Ordering::Relaxed);
                if resets > limits.max_resets && resets > accepted_in_all / 2 {
                    tracing::debug!(resets, "too many streams were reset");
                    metrics.too_many_resets.inc();
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    break;
                }
                streams.open.fetch_add(1, Ordering::Relaxed);
                let guard = StreamGuard(streams.clone());
                let (worker, client, resets) = (worker.clone(), client.clone(), streams.resets.clone());
                tokio::spawn(async move {
                    stream(&worker, &client, request, respond, resets).await;
                    drop(guard);
                });
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "HTTP/2 connection failed");
                if outlet.is_malformed() {
                    metrics.too_many_frames.inc();
                    // What it is owed, it would not read.
                    return;
                }
                break;
            }
            None => return,
        }
    }
    finish(&mut connection).await;
}

/// Lets the connection say why it ends.
async fn finish(connection: &mut Connection<Wire, Bytes>) {
    let closing = std::future::poll_fn(|cx| connection.poll_closed(cx));
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), closing).await;
}

/// Ready once no stream was open for the idle time.
async fn idle(streams: &Streams, limits: &ConnectionLimits) {
    while streams.open.load(Ordering::Relaxed) > 0 {
        streams.none.notified().await;
    }
    tokio::time::sleep(limits.idle_timeout).await;
}

async fn stream(
    worker: &Worker,
    client: &Client,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    resets: Arc<AtomicU32>,
) {
    let (parts, body) = request.into_parts();
    let head = RequestHeader::from(parts);
    if is_malformed(&head) {
        if let Some(entrance) = &client.entrance {
            worker.metrics.connections(entrance.direction()).malformed.inc();
        }
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    }
    let head_only = head.method == Method::HEAD;
    let down = Down::http2(body, respond, head_only, resets);
    engine::serve(worker, client, down, Box::new(head)).await;
}

/// What `h2` lets through of malformed requests (RFC 9113, section 8.3.1), and HTTP/1 has no room for.
fn is_malformed(head: &RequestHeader) -> bool {
    let path = head.raw_path();
    let begins = match path {
        [b'/', ..] => true,
        b"*" => head.method == Method::OPTIONS,
        // It has no path, or an empty one before a query.
        _ => head.method == Method::CONNECT,
    };
    // The URI parser lets some bytes through that would split an HTTP/1 request line.
    let splits = path.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n' | b' '));
    // `h2` takes it for a zero; others take it for no length.
    let empty_length = head.headers.get_all(CONTENT_LENGTH).iter().any(HeaderValue::is_empty);
    !begins || splits || empty_length
}
