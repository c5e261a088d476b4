//! The upstream's side of one attempt.

use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pillion_filters::Failure;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_error::ErrorType;
use pingora_http::{RequestHeader, ResponseHeader};

use super::h1_head::{self, RequestBody};
use super::h2_pool::Lease;
use super::h2_sink::H2Sink;
use super::heads::{self, Hop, Taken};
use crate::listener::wire::{HIGH_WATER, Outlet, Wire};

/// What the upstream did.
#[derive(Debug)]
pub(super) enum UpEvent {
    /// An interim response other than 101.
    Interim(Box<ResponseHeader>),
    /// The final head, or 101.
    Head(Box<ResponseHeader>),
    /// A piece of the response body.
    Body(Bytes),
    /// The response is complete.
    End(Option<HeaderMap>),
    /// There is no more to come, and it is not complete.
    Failed(Failure),
}

/// What is read next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Head,
    Body,
    Trailers,
    Nothing,
}

/// The upstream's side of one attempt.
pub(super) enum Up {
    /// A connection of its own, for the length of one attempt.
    H1(Box<H1Up>),
    /// One stream of a shared connection.
    H2(Box<H2Up>),
}

/// See [`Up::H1`].
pub(super) struct H1Up {
    session: HttpSession,
    outlet: Outlet,
    /// What the connection had received before this attempt: a dead pooled connection gives not a byte more.
    received_before: u64,
    sent_before: u64,
    reading: Reading,
    deaf: bool,
    /// The request body is sent in chunks.
    chunked: bool,
    /// Nothing more is sent once what waits has left, though the upstream may still send.
    closes_write: bool,
}

/// See [`Up::H2`].
pub(super) struct H2Up {
    response: ResponseFuture,
    body: Option<RecvStream>,
    sink: H2Sink,
    reading: Reading,
    deaf: bool,
    /// The peer says that it has not looked at the request (RFC 9113, section 8.7).
    unprocessed: bool,
    /// Keeps the connection's count of streams.
    _lease: Lease,
}

impl Up {
    /// Starts an attempt over an HTTP/1 connection.
    pub(super) async fn http1(
        mut wire: Box<Wire>,
        head: &RequestHeader,
        hop: Hop<'_>,
        taken: Taken,
        has_body: bool,
    ) -> Result<Self, Failure> {
        wire.expect_response(head.method != Method::HEAD);
        let outlet = wire.outlet();
        let (received_before, sent_before) = (outlet.received(), outlet.sent());
        let body = heads::request_body(head, has_body);
        let stand_in = stand_in(head, body, taken.upgrade).map_err(|_| Failure::Internal)?;
        let mut session = HttpSession::new(wire);
        // The session frames the body and reads the response by the head it has written. It would keep a copy of all of
        // it, so it is given what it looks at and the real head is written in place of that one.
        session
            .write_request_header(Box::new(stand_in))
            .await
            .map_err(|_| Failure::Internal)?;
        outlet.discard();
        outlet.push_with(|out| h1_head::write_request(head, hop, body, taken.upgrade, out));
        Ok(Self::H1(Box::new(H1Up {
            session,
            outlet,
            received_before,
            sent_before,
            reading: Reading::Head,
            deaf: false,
            chunked: body == RequestBody::Chunked,
            closes_write: false,
        })))
    }

    /// Starts an attempt over a stream of an HTTP/2 connection.
    pub(super) fn http2(mut lease: Lease, head: http::Request<()>, end: bool) -> Result<Self, Failure> {
        let (response, stream) = lease.send(head, end).map_err(|_| Failure::UpstreamClosed)?;
        Ok(Self::H2(Box::new(H2Up {
            response,
            body: None,
            sink: H2Sink::new(stream, end),
            reading: Reading::Head,
            deaf: false,
            unprocessed: false,
            _lease: lease,
        })))
    }

    /// Whether more of the request body can be taken without growing memory.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::H1(up) => up.deaf || up.outlet.pending() < HIGH_WATER,
            Self::H2(up) => up.deaf || up.sink.is_ready(),
        }
    }

    /// Whether all of the request that was taken is on its way.
    pub(super) fn is_drained(&self) -> bool {
        match self {
            Self::H1(up) => up.deaf || up.outlet.pending() == 0,
            Self::H2(up) => up.deaf || up.sink.is_ready(),
        }
    }

    /// Takes a piece of the request body. An upstream that has stopped listening may still answer, so what it does not
    /// want is dropped.
    pub(super) async fn body(&mut self, chunk: Bytes) {
        // An empty chunk would end a chunked body; HTTP/2 clients send empty frames, and trailers are read as one.
        if chunk.is_empty() {
            return;
        }
        match self {
            Self::H1(up) if !up.deaf => {
                up.session.maybe_upgrade_body_writer();
                up.deaf = up.session.write_body(&chunk).await.is_err();
            }
            Self::H2(up) if !up.deaf => up.sink.push(chunk),
            _ => {}
        }
    }

    /// The request body is complete. Trailers go along where they can: only a chunked body has a place for them.
    pub(super) async fn end(&mut self, trailers: Option<HeaderMap>) {
        match self {
            Self::H1(up) if !up.deaf => {
                if up.session.was_upgraded() {
                    // The client closed its half; so do we, once what it sent has left.
                    up.closes_write = true;
                } else {
                    up.deaf = up.session.finish_body().await.is_err();
                    if let Some(trailers) = trailers.filter(|_| up.chunked) {
                        up.outlet.push_with(|out| h1_head::add_trailers(&trailers, out));
                    }
                }
            }
            Self::H2(up) => up.sink.end(trailers),
            Self::H1(_) => {}
        }
    }

    /// Sends what waits, then says what the upstream did. `read` allows a piece of body to be read.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<UpEvent> {
        match self {
            Self::H1(up) => up.poll_event(cx, read),
            Self::H2(up) => up.poll_event(cx, read),
        }
    }

    /// Bytes that have left for the upstream, to tell slow from idle.
    pub(super) fn taken(&self) -> u64 {
        match self {
            Self::H1(up) => up.outlet.sent(),
            Self::H2(up) => up.sink.sent(),
        }
    }

    /// Whether the attempt ended before the upstream said anything at all, as a dead pooled connection does.
    pub(super) fn heard_nothing(&self) -> bool {
        match self {
            Self::H1(up) => up.outlet.received() == up.received_before,
            Self::H2(up) => up.reading == Reading::Head,
        }
    }

    /// Whether the upstream cannot have acted on the request: no byte of it reached the connection, or it says so itself.
    pub(super) fn is_unprocessed(&self) -> bool {
        match self {
            Self::H1(up) => up.outlet.sent() == up.sent_before,
            Self::H2(up) => up.unprocessed,
        }
    }

    /// Whether the response is known to be complete with its head.
    pub(super) fn ended_with_head(&mut self) -> bool {
        match self {
            Self::H1(up) => up.session.is_body_done() && !up.session.was_upgraded(),
            Self::H2(up) => up.body.as_ref().is_none_or(RecvStream::is_end_stream),
        }
    }

    /// Whether nothing but the connection's end ends the response body (RFC 9112, section 6.3, point 8).
    pub(super) fn ends_with_connection(&mut self, head: &ResponseHeader) -> bool {
        let framed = head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(TRANSFER_ENCODING);
        matches!(self, Self::H1(_)) && !framed && !self.ended_with_head()
    }

    /// Trailers that were read with the last piece of body.
    pub(super) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::H1(up) => up.outlet.take_trailers(),
            Self::H2(_) => None,
        }
    }

    /// Whether the piece of body just read is known to be the last one, with no trailers still to come.
    pub(super) fn ends_here(&mut self) -> bool {
        let (done, reading) = match self {
            Self::H1(up) => (up.session.is_body_done(), &mut up.reading),
            Self::H2(up) => (up.body.as_ref().is_some_and(RecvStream::is_end_stream), &mut up.reading),
        };
        if done {
            *reading = Reading::Nothing;
        }
        done
    }

    /// The connection, if it is known to be in a state that can serve another request.
    pub(super) fn into_idle(self, request_sent: bool) -> Option<Box<Wire>> {
        let Self::H1(mut up) = self else { return None };
        if up.reading != Reading::Nothing || !request_sent || up.deaf || up.outlet.pending() > 0 {
            return None;
        }
        up.session.respect_keepalive();
        if !up.session.will_keepalive() {
            return None;
        }
        // The response was read to its end, so there is nothing to wait for.
        up.session.reuse().now_or_never()??.into_any().downcast().ok()
    }
}

/// A head with what the client session looks at: method, framing, `Upgrade`.
fn stand_in(head: &RequestHeader, body: RequestBody, upgrade: bool) -> pingora_error::Result<RequestHeader> {
    let mut stand_in = heads::blank(head.method.clone(), Version::HTTP_11);
    match (body, head.headers.get(CONTENT_LENGTH)) {
        (RequestBody::AsIs, Some(length)) => stand_in.insert_header(CONTENT_LENGTH, length.clone())?,
        (RequestBody::Chunked, _) => {
            stand_in.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
        }
        _ => {}
    }
    if let Some(protocol) = head.headers.get(UPGRADE).filter(|_| upgrade) {
        stand_in.insert_header(UPGRADE, protocol.clone())?;
    }
    Ok(stand_in)
}

impl H1Up {
    fn poll_event(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<UpEvent> {
        if !self.deaf {
            let sent = if self.closes_write {
                self.outlet.poll_shutdown(cx)
            } else {
                self.outlet.poll_drain(cx)
            };
            self.deaf = sent.map_err(drop) == Poll::Ready(Err(()));
        }
        // The reads keep their place in the session, so a future that is dropped while pending loses nothing.
        match self.reading {
            Reading::Head => {
                let read = pin!(self.session.read_response()).poll(cx);
                match read {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(_)) => Poll::Ready(self.head()),
                    Poll::Ready(Err(error)) => Poll::Ready(UpEvent::Failed(self.no_head(error.etype()))),
                }
            }
            Reading::Body if read => match pin!(self.session.read_body_bytes()).poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(Some(chunk))) => Poll::Ready(UpEvent::Body(chunk)),
                Poll::Ready(Ok(None)) => {
                    self.reading = Reading::Nothing;
                    Poll::Ready(UpEvent::End(self.outlet.take_trailers()))
                }
                Poll::Ready(Err(_)) => Poll::Ready(UpEvent::Failed(Failure::ResponseIncomplete)),
            },
            _ => Poll::Pending,
        }
    }

    fn no_head(&mut self, error: &ErrorType) -> Failure {
        self.reading = Reading::Nothing;
        let closed = matches!(error, ErrorType::ConnectionClosed | ErrorType::ReadError);
        if closed && self.outlet.received() == self.received_before {
            Failure::UpstreamClosed
        } else {
            Failure::MalformedResponse
        }
    }

    fn head(&mut self) -> UpEvent {
        let Some(head) = self.session.resp_header() else {
            return UpEvent::Failed(Failure::Internal);
        };
        let head = Box::new(head.clone());
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            return UpEvent::Interim(head);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS && !self.session.was_upgraded() {
            // RFC 9110, section 15.2.2: nobody asked to switch.
            self.reading = Reading::Nothing;
            return UpEvent::Failed(Failure::MalformedResponse);
        }
        self.reading = Reading::Body;
        UpEvent::Head(head)
    }
}

impl H2Up {
    fn poll_event(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<UpEvent> {
        if !self.deaf && self.sink.poll_drain(cx).map_err(drop) == Poll::Ready(Err(())) {
            self.deaf = true;
        }
        match self.reading {
            Reading::Head => self.poll_head(cx),
            Reading::Body if read => self.poll_body(cx),
            Reading::Trailers => self.poll_trailers(cx),
            _ => Poll::Pending,
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<UpEvent> {
        if let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            // HTTP/2 has none (RFC 9113, section 8.6), and an HTTP/1 client would take what follows for another protocol.
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(UpEvent::Failed(Failure::MalformedResponse));
            }
            return Poll::Ready(UpEvent::Interim(Box::new(interim.into_parts().0.into())));
        }
        match pin!(&mut self.response).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(response)) => {
                let (parts, body) = response.into_parts();
                // `h2` takes it for a zero; others take it for no length.
                let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
                if lengths.any(HeaderValue::is_empty) {
                    return Poll::Ready(UpEvent::Failed(Failure::MalformedResponse));
                }
                self.body = Some(body);
                self.reading = Reading::Body;
                Poll::Ready(UpEvent::Head(Box::new(parts.into())))
            }
            Poll::Ready(Err(error)) => {
                let reason = error.reason();
                // Streams that a GOAWAY says were looked at are not ended by it.
                self.unprocessed = error.is_remote()
                    && (reason == Some(Reason::REFUSED_STREAM)
                        || error.is_go_away() && reason == Some(Reason::NO_ERROR));
                Poll::Ready(UpEvent::Failed(
                    // An error that the connection found by itself is in what the peer sent.
                    if error.is_io() || error.is_remote() {
                        Failure::UpstreamClosed
                    } else {
                        Failure::MalformedResponse
                    },
                ))
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<UpEvent> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(UpEvent::Failed(Failure::Internal));
        };
        match body.poll_data(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(chunk))) => {
                // Read only when the client takes more, so the window may open again at once.
                let _ = body.flow_control().release_capacity(chunk.len());
                Poll::Ready(UpEvent::Body(chunk))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(UpEvent::Failed(Failure::ResponseIncomplete)),
            Poll::Ready(None) => {
                self.reading = Reading::Trailers;
                self.poll_trailers(cx)
            }
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<UpEvent> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(UpEvent::Failed(Failure::Internal));
        };
        match body.poll_trailers(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(trailers)) => {
                self.reading = Reading::Nothing;
                Poll::Ready(UpEvent::End(trailers))
            }
            Poll::Ready(Err(_)) => Poll::Ready(UpEvent::Failed(Failure::ResponseIncomplete)),
        }
    }
}
