//! The client's side of one exchange.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora_core::protocols::http::v1::server::HttpSession;
use pingora_error::ErrorType;
use pingora_http::{RequestHeader, ResponseHeader};

use super::h1_head::{self, Asked, Framing};
use super::h2_sink::H2Sink;
use super::heads;
use crate::clock;
use crate::listener::wire::{HIGH_WATER, Outlet, Wire};

/// How long nothing may come of the rest of a request body once the answer is complete.
const LINGER: Duration = Duration::from_secs(2);
/// How long such a rest is read, even if it comes.
const LINGER_IN_ALL: Duration = Duration::from_secs(30);

/// What the client did.
#[derive(Debug)]
pub(crate) enum DownEvent {
    /// A piece of the request body.
    Body(Bytes),
    /// The request body is complete.
    End(Option<HeaderMap>),
    /// The client went away: it closed, reset, or stopped the stream.
    Gone,
    /// The request body is not valid HTTP.
    Malformed,
}

/// An HTTP/1 connection that can serve another request, with the bytes of it that were read already.
pub(crate) struct Kept {
    /// The connection.
    pub(crate) wire: Box<Wire>,
    /// What was read beyond the last request.
    pub(crate) prefix: Option<bytes::BytesMut>,
}

/// The client's side of one exchange.
pub(crate) enum Down {
    /// An HTTP/1 connection, for the length of one exchange.
    H1(Box<H1Down>),
    /// One stream of an HTTP/2 connection.
    H2(Box<H2Down>),
    /// No client: none asked, or the one that did has left and others want the response.
    Nobody(Nobody),
}

/// See [`Down::Nobody`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Nobody {
    /// There was a client.
    pub(crate) left: bool,
    /// The response is complete.
    whole: bool,
}

/// See [`Down::H1`].
#[allow(clippy::struct_excessive_bools, reason = "independent facts, not a state machine")]
pub(crate) struct H1Down {
    session: Box<HttpSession>,
    outlet: Outlet,
    asked: Asked,
    framing: Framing,
    keep: bool,
    /// The session has no request head.
    unread: bool,
    request_ended: bool,
    response_ended: bool,
    upgraded: bool,
    /// Nothing more is sent once what waits has left, though the client may still send.
    closes_write: bool,
    sent: u64,
}

/// See [`Down::H2`].
pub(crate) struct H2Down {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    sink: Option<H2Sink>,
    head_only: bool,
    request_ended: bool,
    /// Counts the streams that the client has reset on this connection.
    resets: Arc<AtomicU32>,
}

impl Down {
    /// An HTTP/1 session whose request head was read; takes the head out of it.
    pub(crate) fn http1(mut session: Box<HttpSession>, outlet: Outlet, draining: bool) -> (Self, Box<RequestHeader>) {
        // Settles how the body is framed while the session still holds the head.
        let request_ended = session.is_body_done();
        let head = take_head(&mut session);
        let asked = Asked {
            head_only: head.method == Method::HEAD,
            version: head.version,
            keep_alive: session.will_keepalive() && !draining,
        };
        let down = H1Down::new(session, outlet, asked, request_ended);
        (Self::H1(Box::new(down)), head)
    }

    /// An HTTP/1 session whose request head could not be read: all there can be is an answer and a close.
    pub(crate) fn unread(session: Box<HttpSession>, outlet: Outlet) -> Self {
        let asked = Asked {
            head_only: false,
            version: Version::HTTP_11,
            keep_alive: false,
        };
        Self::H1(Box::new(H1Down {
            unread: true,
            ..H1Down::new(session, outlet, asked, true)
        }))
    }

    /// A stream of an HTTP/2 connection.
    pub(crate) fn http2(
        body: RecvStream,
        respond: SendResponse<Bytes>,
        head_only: bool,
        resets: Arc<AtomicU32>,
    ) -> Self {
        let request_ended = body.is_end_stream();
        Self::H2(Box::new(H2Down {
            body,
            respond,
            sink: None,
            head_only,
            request_ended,
            resets,
        }))
    }

    /// No client at all.
    pub(crate) fn nobody() -> Self {
        Self::Nobody(Nobody::default())
    }

    /// The client has left; the response is taken for others.
    pub(crate) fn let_go(&mut self) {
        *self = Self::Nobody(Nobody {
            left: true,
            whole: false,
        });
    }

    /// Whether the client has left and the exchange goes on.
    pub(crate) fn is_left(&self) -> bool {
        matches!(self, Self::Nobody(Nobody { left: true, .. }))
    }

    /// Whether the request body was read to its end.
    pub(crate) fn request_ended(&self) -> bool {
        match self {
            Self::Nobody(_) => true,
            Self::H1(down) => down.request_ended,
            Self::H2(down) => down.request_ended,
        }
    }

    /// Trailers of a request body that was there with its head.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::H1(down) => down.outlet.take_trailers(),
            Self::H2(_) | Self::Nobody(_) => None,
        }
    }

    /// Sends what waits, then says what the client did. `read` allows a piece of body to be read.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<DownEvent> {
        match self {
            Self::Nobody(_) => Poll::Pending,
            Self::H1(down) => down.poll_event(cx, read),
            Self::H2(down) => down.poll_event(cx, read),
        }
    }

    /// Whether more of the response can be taken: what waits for the client is bounded, by more where it may wait.
    pub(crate) fn is_ready(&self, may_wait: usize) -> bool {
        match self {
            Self::Nobody(_) => true,
            Self::H1(down) => down.outlet.pending() < HIGH_WATER.max(may_wait),
            Self::H2(down) => down
                .sink
                .as_ref()
                .is_none_or(|sink| sink.is_ready() || sink.pending() < may_wait),
        }
    }

    /// Whether the client, or its connection's windows, took all there was.
    pub(crate) fn is_drained(&self) -> bool {
        match self {
            Self::Nobody(_) => true,
            Self::H1(down) => down.outlet.pending() == 0,
            Self::H2(down) => down.sink.as_ref().is_none_or(H2Sink::is_ready),
        }
    }

    /// Sends an interim response. Best effort: a client that cannot have one goes without.
    pub(crate) fn interim(&mut self, head: &ResponseHeader) {
        match self {
            // RFC 9110, section 15.2: never to an HTTP/1.0 client.
            Self::H1(down) if down.asked.version == Version::HTTP_11 => {
                down.outlet
                    .push_with(|out| h1_head::write(head, None, clock::date, out));
            }
            Self::H1(_) | Self::Nobody(_) => {}
            Self::H2(down) => {
                let mut response = http::Response::new(());
                *response.status_mut() = head.status;
                *response.headers_mut() = head.headers.clone();
                let _ = down.respond.send_informational(response);
            }
        }
    }

    /// Sends the final head, with this hop's `Via` if it was forwarded. `end` when no body follows. False when the client cannot take it any more.
    pub(crate) fn head(&mut self, head: &mut ResponseHeader, via: Option<&'static str>, end: bool) -> bool {
        match self {
            Self::Nobody(_) => true,
            Self::H1(down) => {
                let has_length = head.headers.contains_key(http::header::CONTENT_LENGTH);
                // The length in a 304 is that of the answer it stands for, which is not ours to say.
                if end && !has_length && !down.asked.head_only && head.status != StatusCode::NOT_MODIFIED {
                    let _ = head.insert_header(http::header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                (down.framing, down.keep) = h1_head::frame(head, down.asked);
                down.response_ended = down.framing == Framing::Empty;
                down.outlet.push_with(|out| h1_head::write(head, via, clock::date, out));
                true
            }
            Self::H2(down) => {
                head.remove_header(&http::header::TRANSFER_ENCODING);
                if !head.headers.contains_key(http::header::DATE) {
                    let _ = head.insert_header(http::header::DATE, clock::date());
                }
                let end = end || down.head_only;
                let mut response = http::Response::new(());
                *response.status_mut() = head.status;
                *response.headers_mut() = head.headers.clone();
                if let Some(via) = via {
                    response
                        .headers_mut()
                        .append(http::header::VIA, HeaderValue::from_static(via));
                }
                match down.respond.send_response(response, end) {
                    Ok(stream) => {
                        down.sink = Some(H2Sink::new(stream, end));
                        true
                    }
                    Err(_) => false,
                }
            }
        }
    }

    /// Switches to whatever protocol the 101 response agreed on; the session then passes bytes through.
    pub(crate) async fn upgrade(&mut self, head: Box<ResponseHeader>) -> bool {
        let Self::H1(down) = self else { return false };
        down.upgraded = true;
        down.request_ended = false;
        down.response_ended = false;
        down.keep = false;
        down.framing = Framing::Close;
        down.session.write_response_header(head).await.is_ok()
    }

    /// After an upgrade: nothing more is sent, while the client may still send.
    pub(crate) fn close_write(&mut self) {
        if let Self::H1(down) = self {
            down.closes_write = true;
        }
    }

    /// Takes a piece of the response body. False when the head promised less.
    pub(crate) fn body(&mut self, chunk: Bytes) -> bool {
        match self {
            Self::Nobody(_) => true,
            Self::H1(down) => down.body(&chunk),
            Self::H2(down) => {
                if let Some(sink) = &mut down.sink {
                    sink.push(chunk);
                }
                true
            }
        }
    }

    /// The response is complete. False when the head promised more.
    pub(crate) fn end(&mut self, trailers: Option<HeaderMap>) -> bool {
        match self {
            Self::Nobody(nobody) => {
                nobody.whole = true;
                true
            }
            Self::H1(down) => down.end(trailers.as_ref()),
            Self::H2(down) => {
                if let Some(sink) = &mut down.sink {
                    sink.end(trailers);
                }
                true
            }
        }
    }

    /// No further request is served on this connection.
    pub(crate) fn close_after(&mut self) {
        if let Self::H1(down) = self {
            down.asked.keep_alive = false;
        }
    }

    /// Whether the response was sent to its end.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Nobody(nobody) => nobody.whole,
            Self::H1(down) => down.response_ended,
            Self::H2(down) => down.sink.as_ref().is_some_and(H2Sink::is_done),
        }
    }

    /// Body bytes sent, as the client counts them.
    pub(crate) fn sent(&self) -> u64 {
        match self {
            Self::Nobody(_) => 0,
            Self::H1(down) => down.sent,
            Self::H2(down) => down.sink.as_ref().map_or(0, H2Sink::sent),
        }
    }

    /// Bytes that have left for the client, to tell slow from idle.
    pub(crate) fn taken(&self) -> u64 {
        match self {
            Self::Nobody(_) => 0,
            Self::H1(down) => down.outlet.sent(),
            Self::H2(down) => down.sink.as_ref().map_or(0, H2Sink::sent),
        }
    }

    /// Ready once all of the response was handed to the kernel or the connection; an error when the client went away.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        match self {
            Self::Nobody(_) => Poll::Ready(Ok(())),
            Self::H1(down) => down.outlet.poll_drain(cx).map_err(drop),
            Self::H2(down) => match &mut down.sink {
                Some(sink) => sink.poll_drain(cx).map_err(drop),
                None => Poll::Ready(Ok(())),
            },
        }
    }

    /// Cuts the response short in a way the client cannot take for its end.
    pub(crate) fn cut(mut self, reason: h2::Reason) {
        match &mut self {
            Self::Nobody(_) => {}
            // The connection closes without the last chunk or the promised length. Where its close is the only sign of the
            // end, it must not look like one.
            Self::H1(down) => {
                down.keep = false;
                if down.framing == Framing::Close && !down.response_ended {
                    down.outlet.reset_on_close();
                }
            }
            Self::H2(down) => match &mut down.sink {
                Some(sink) => sink.reset(reason),
                None => down.respond.send_reset(reason),
            },
        }
    }

    /// Ends the exchange; gives the connection back when it can serve another request.
    pub(crate) async fn finish(self) -> Option<Kept> {
        match self {
            Self::H1(down) => down.finish().await,
            // What is still to come of the request is not needed (RFC 9113, section 8.1). Dropping the stream says so once
            // the answer has left; a reset of our own would overtake it.
            Self::H2(_) | Self::Nobody(_) => None,
        }
    }

    /// The session, for a tunnel that leaves HTTP behind.
    pub(crate) fn into_http1(self) -> Option<(Box<HttpSession>, Outlet)> {
        match self {
            Self::H1(down) => Some((down.session, down.outlet)),
            Self::H2(_) | Self::Nobody(_) => None,
        }
    }
}

impl H1Down {
    fn new(session: Box<HttpSession>, outlet: Outlet, asked: Asked, request_ended: bool) -> Self {
        Self {
            session,
            outlet,
            asked,
            framing: Framing::Empty,
            keep: asked.keep_alive,
            unread: false,
            request_ended,
            response_ended: false,
            upgraded: false,
            closes_write: false,
            sent: 0,
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<DownEvent> {
        let sent = if self.closes_write {
            self.outlet.poll_shutdown(cx)
        } else {
            self.outlet.poll_drain(cx)
        };
        if sent.map_err(drop) == Poll::Ready(Err(())) {
            return Poll::Ready(DownEvent::Gone);
        }
        if self.request_ended {
            if self.upgraded || self.unread {
                return Poll::Pending;
            }
            // Nothing is expected but the next request, which the session keeps, or the client's leaving.
            return match pin!(self.session.read_body_or_idle(true)).poll(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(DownEvent::Gone),
                _ => Poll::Pending,
            };
        }
        if !read {
            return Poll::Pending;
        }
        // The read keeps its place in the session, so a future that is dropped while pending loses nothing.
        match pin!(self.session.read_body_bytes()).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(chunk))) => Poll::Ready(DownEvent::Body(chunk)),
            Poll::Ready(Ok(None)) => {
                self.request_ended = true;
                Poll::Ready(DownEvent::End(self.outlet.take_trailers()))
            }
            Poll::Ready(Err(error)) => {
                // The session counts a malformed body as read, but nobody knows where the next request begins.
                self.asked.keep_alive = false;
                self.keep = false;
                Poll::Ready(match error.etype() {
                    _ if self.outlet.is_malformed() => DownEvent::Malformed,
                    ErrorType::ConnectionClosed | ErrorType::ReadError => DownEvent::Gone,
                    _ => DownEvent::Malformed,
                })
            }
        }
    }

    fn body(&mut self, chunk: &Bytes) -> bool {
        let length = chunk.len() as u64;
        match &mut self.framing {
            Framing::Empty => return true,
            Framing::Length(left) if *left < length => return false,
            Framing::Length(left) => {
                *left -= length;
                self.outlet.send(chunk);
            }
            Framing::Chunked => self.outlet.push_with(|out| h1_head::write_chunk(chunk, out)),
            Framing::Close => self.outlet.send(chunk),
        }
        self.sent += length;
        true
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> bool {
        match self.framing {
            Framing::Length(left) if left > 0 => return false,
            Framing::Chunked if !self.response_ended => {
                self.outlet.push_with(|out| h1_head::write_last_chunk(trailers, out));
            }
            _ => {}
        }
        self.response_ended = true;
        true
    }

    async fn finish(mut self: Box<Self>) -> Option<Kept> {
        if !self.keep || !self.response_ended || self.upgraded {
            // Nobody waits longer for a client that does not read.
            let _ = tokio::time::timeout(LINGER, self.session.shutdown()).await;
            if self.unread {
                self.discard().await;
            } else if !self.upgraded {
                // Closing with unread bytes would reset the connection and could take the answer with it
                // (RFC 9112, section 9.6).
                self.linger().await;
            }
            return None;
        }
        if !self.linger().await {
            return None;
        }
        take_wire(self.session)
    }

    /// Reads and drops what else the client sends, until it closes as well.
    async fn discard(&self) {
        if let Some(wire) = self.session.stream().as_any().downcast_ref::<Wire>() {
            let _ = tokio::time::timeout(LINGER, wire.discard()).await;
        }
    }

    /// Reads and drops what is left of the request body, for as long as it comes. Whether that was all of it.
    async fn linger(&mut self) -> bool {
        let mut seen = None;
        let began = Instant::now();
        while !self.request_ended && began.elapsed() < LINGER_IN_ALL && seen != Some(self.outlet.received()) {
            seen = Some(self.outlet.received());
            // The read keeps its place in the session, so being dropped loses nothing.
            let drained = tokio::time::timeout(LINGER, self.session.drain_request_body()).await;
            match drained {
                Ok(Ok(())) => self.request_ended = true,
                Ok(Err(_)) => return false,
                Err(_) => {}
            }
        }
        self.request_ended
    }
}

impl H2Down {
    fn poll_event(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<DownEvent> {
        let mut reset = Poll::Pending;
        if let Some(sink) = &mut self.sink {
            if sink.poll_drain(cx).map_err(drop) == Poll::Ready(Err(())) {
                return Poll::Ready(DownEvent::Gone);
            }
            if !sink.is_done() {
                reset = sink.poll_reset(cx);
            }
        } else {
            reset = self.respond.poll_reset(cx);
        }
        if let Poll::Ready(reset) = reset {
            // Anything else is the connection's end.
            if reset.is_ok() {
                self.resets.fetch_add(1, Ordering::Relaxed);
            }
            return Poll::Ready(DownEvent::Gone);
        }
        if self.request_ended || !read {
            return Poll::Pending;
        }
        match self.body.poll_data(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(chunk))) => {
                // What the pump has taken is bounded by what the upstream takes, so the window opens again at once.
                let _ = self.body.flow_control().release_capacity(chunk.len());
                Poll::Ready(DownEvent::Body(chunk))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(if error.is_reset() || error.is_io() {
                DownEvent::Gone
            } else {
                DownEvent::Malformed
            }),
            Poll::Ready(None) => match ready!(self.body.poll_trailers(cx)) {
                Ok(trailers) => {
                    self.request_ended = true;
                    Poll::Ready(DownEvent::End(trailers))
                }
                Err(_) => Poll::Ready(DownEvent::Gone),
            },
        }
    }
}

/// Takes the connection out of a session that has read its request to the end.
pub(super) fn take_wire(mut session: Box<HttpSession>) -> Option<Kept> {
    // It closes the connection unless it was told to keep it.
    session.set_server_keepalive(Some(0));
    // There is nothing left to wait for.
    let (stream, prefix) = session.reuse().now_or_never()?.ok()??.into_parts();
    let wire = stream.into_any().downcast::<Wire>().ok()?;
    Some(Kept { wire, prefix })
}

/// Takes the request head out of the session. What the session asks its own copy later is the method, and for upgrades
/// the `Upgrade` header; a copy of all headers is made only for those.
fn take_head(session: &mut HttpSession) -> Box<RequestHeader> {
    let head = session.req_header_mut();
    let stand_in = if head.headers.contains_key(http::header::UPGRADE) {
        head.clone()
    } else {
        heads::blank(head.method.clone(), head.version)
    };
    Box::new(std::mem::replace(head, stand_in))
}
