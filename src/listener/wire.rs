//! A socket whose two directions can be driven apart.
//!
//! A pingora session owns its stream and wants it mutably both to read a body and to write one. An exchange needs both at
//! once: an app may answer while the upload still runs, and a peer that stops reading must not stop us from reading. So a
//! [`Wire`] writes into a bounded buffer at once and never waits, and its [`Outlet`], held beside the session, moves that
//! buffer to the socket. The pump flushes when it has nothing else to do, which also makes one `send` of a head and a small
//! body.
//!
//! HTTP/2 does its own buffering and flow control: there the wire is [`Writes::Direct`].

mod gate;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use self::gate::Gate;
use super::frames::FrameMeter;
use crate::strict::{Chunks, Kind, Scanner};

/// At this much unsent the pump stops producing until the peer has read some.
pub(crate) const HIGH_WATER: usize = 64 * 1024;
/// Chunks at least this long are offered to the socket at once rather than copied.
const WORTH_A_SEND: usize = 8 * 1024;
/// No writer gets past this, whatever it believes about backpressure.
const HARD_LIMIT: usize = 1024 * 1024;

/// How writes reach the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// Into the buffer; the [`Outlet`] sends them.
    Deferred,
    /// Straight through, with honest readiness and flushes.
    Direct,
}

enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
    /// See [`WriteHalf::reset_on_close`].
    Reset,
}

impl WriteHalf {
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(half) => Pin::new(half).poll_write(cx, data),
            Self::Unix(half) => Pin::new(half).poll_write(cx, data),
            Self::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(half) => Pin::new(half).poll_write_vectored(cx, data),
            Self::Unix(half) => Pin::new(half).poll_write_vectored(cx, data),
            Self::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Self::Unix(half) => Pin::new(half).poll_shutdown(cx),
            Self::Reset => Poll::Ready(Ok(())),
        }
    }

    /// Has the kernel end the connection with a reset rather than in order; nothing more is sent.
    fn reset_on_close(&mut self) {
        if let Self::Tcp(half) = std::mem::replace(self, Self::Reset) {
            // A socket that takes no option is closed in order, which is all that is left to do.
            let _ = SockRef::from(half.as_ref()).set_linger(Some(Duration::ZERO));
            // Dropping it would close the sending direction in order first.
            half.forget();
        }
    }
}

struct Out {
    half: WriteHalf,
    buffer: BytesMut,
    /// A send failed where nobody could be told; the next drain tells.
    broken: bool,
    /// Of the body that was read last: what a session drops is handed past it.
    trailers: Option<Box<HeaderMap>>,
}

impl Out {
    /// Hands the kernel what waits and a large chunk together, and keeps only what it did not take.
    fn offer(&mut self, cx: &mut Context<'_>, data: &[u8], sent: &AtomicU64) -> io::Result<()> {
        let Self { half, buffer, .. } = self;
        let written = match half.poll_write_vectored(cx, &[io::IoSlice::new(buffer), io::IoSlice::new(data)]) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        sent.fetch_add(written as u64, Ordering::Relaxed);
        let waited = buffer.len().min(written);
        buffer.advance(waited);
        buffer.extend_from_slice(data.get(written - waited..).unwrap_or_default());
        Ok(())
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>, sent: &AtomicU64) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        while !self.buffer.is_empty() {
            let n = ready!(self.half.poll_write(cx, &self.buffer))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(n);
            sent.fetch_add(n as u64, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

struct Shared {
    out: Mutex<Out>,
    /// Bytes the kernel took.
    sent: AtomicU64,
    /// Bytes read from the socket.
    received: AtomicU64,
    /// What was read is not valid HTTP.
    malformed: AtomicBool,
}

impl Shared {
    /// Held for the length of one poll, by the one thread that runs the connection.
    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_trailers(&self, trailers: Option<Box<HeaderMap>>) {
        self.out().trailers = trailers;
    }
}

/// The sending side of a [`Wire`], to be driven while a session owns the wire itself.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Shared>);

impl Outlet {
    /// Takes bytes to send; a large chunk is offered to the kernel at once. An error shows at the next drain.
    pub(crate) fn send(&self, data: &[u8]) {
        let mut out = self.0.out();
        if data.len() < WORTH_A_SEND {
            out.buffer.extend_from_slice(data);
        } else {
            // Nobody needs waking: whoever pushes drains next.
            let mut cx = Context::from_waker(Waker::noop());
            if out.offer(&mut cx, data, &self.0.sent).is_err() {
                out.broken = true;
            }
        }
    }

    /// Forgets what was not sent.
    pub(crate) fn discard(&self) {
        self.0.out().buffer.clear();
    }

    /// Lets `write` add to what is to be sent.
    pub(crate) fn push_with(&self, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.0.out().buffer);
    }

    /// Sends what is buffered; ready once nothing is left.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.out().poll_drain(cx, &self.0.sent)
    }

    /// Sends what is buffered.
    pub(crate) async fn drain(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_drain(cx)).await
    }

    /// Sends what is buffered and then closes the sending direction; ready once both are done.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.0.out();
        ready!(out.poll_drain(cx, &self.0.sent))?;
        out.half.poll_shutdown(cx)
    }

    /// Makes the close of the connection a reset: for a response whose end nothing but the close tells, and that is cut.
    pub(crate) fn reset_on_close(&self) {
        self.0.out().half.reset_on_close();
    }

    /// Bytes not yet taken by the kernel.
    pub(crate) fn pending(&self) -> usize {
        self.0.out().buffer.len()
    }

    /// Bytes the kernel took since the connection was opened.
    pub(crate) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// The trailers of the body that was read, if there were any.
    pub(crate) fn take_trailers(&self) -> Option<HeaderMap> {
        self.0.out().trailers.take().map(|trailers| *trailers)
    }

    /// Whether a read failed for what was read, and not for the connection.
    pub(crate) fn is_malformed(&self) -> bool {
        self.0.malformed.load(Ordering::Relaxed)
    }

    /// Bytes read from the socket since the connection was opened.
    pub(crate) fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }
}

/// A socket as pingora's sessions take it.
pub(crate) struct Wire {
    read: ReadHalf,
    shared: Arc<Shared>,
    writes: Writes,
    /// Bytes read ahead, e.g. while telling HTTP/2 from HTTP/1.
    prefix: Bytes,
    gate: Gate,
    opened: Instant,
    served: u32,
}

impl Wire {
    /// A wire on a TCP connection.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self::new(ReadHalf::Tcp(read), WriteHalf::Tcp(write))
    }

    /// A wire on a Unix connection.
    pub(crate) fn unix(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self::new(ReadHalf::Unix(read), WriteHalf::Unix(write))
    }

    fn new(read: ReadHalf, half: WriteHalf) -> Self {
        let out = Mutex::new(Out {
            half,
            buffer: BytesMut::new(),
            broken: false,
            trailers: None,
        });
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            read,
            shared: Arc::new(Shared {
                out,
                sent,
                received,
                malformed: AtomicBool::new(false),
            }),
            writes: Writes::Deferred,
            prefix: Bytes::new(),
            gate: Gate::Open,
            opened: Instant::now(),
            served: 0,
        }
    }

    /// When the connection was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Counts an exchange that the connection has served; how many that makes.
    pub(crate) fn served(&mut self) -> u32 {
        self.served = self.served.saturating_add(1);
        self.served
    }

    /// The sending side.
    pub(crate) fn outlet(&self) -> Outlet {
        Outlet(self.shared.clone())
    }

    /// Chooses how writes reach the socket.
    pub(crate) fn set_writes(&mut self, writes: Writes) {
        self.writes = writes;
    }

    /// Puts bytes in front of what the socket gives.
    pub(crate) fn set_prefix(&mut self, prefix: Bytes) {
        self.prefix = prefix;
    }

    /// What is read next is the head of a response, after interim ones perhaps, and then its body. A flaw in how they are
    /// written is an error of the read.
    pub(crate) fn expect_response(&mut self, may_have_body: bool) {
        self.set_trailers(None);
        self.gate = Gate::Head(Scanner::new(Kind::Response), may_have_body);
    }

    /// What is read next is the rest of a chunked body.
    pub(crate) fn expect_chunks(&mut self, chunks: Chunks) {
        self.gate = Gate::Chunks(chunks);
    }

    /// What is read next is HTTP/2 from its preface on; a flood of frames is an error of the read.
    pub(crate) fn expect_frames(&mut self) {
        let mut meter = FrameMeter::new();
        // What was read ahead is too little to be a flood.
        meter.feed(&self.prefix, 0);
        self.gate = Gate::Frames(Box::new(meter));
    }

    /// Keeps the trailers of the body that was read, for who asks the [`Outlet`].
    pub(crate) fn set_trailers(&self, trailers: Option<Box<HeaderMap>>) {
        self.shared.set_trailers(trailers);
    }

    /// Waits for bytes and gives those that are there; none when the peer has closed. While it waits it holds no buffer,
    /// and it can be dropped without losing anything.
    pub(crate) async fn read_ahead(&mut self, capacity: usize) -> io::Result<BytesMut> {
        if !self.prefix.is_empty() {
            return Ok(BytesMut::from(std::mem::take(&mut self.prefix)));
        }
        loop {
            // Being told that there is something to read is not enough: the word may be from before the last read.
            match &self.read {
                ReadHalf::Tcp(half) => half.readable().await?,
                ReadHalf::Unix(half) => half.readable().await?,
            }
            let mut bytes = BytesMut::with_capacity(capacity);
            let read = match &self.read {
                ReadHalf::Tcp(half) => half.try_read_buf(&mut bytes),
                ReadHalf::Unix(half) => half.try_read_buf(&mut bytes),
            };
            match read {
                Ok(n) => {
                    self.shared.received.fetch_add(n as u64, Ordering::Relaxed);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads and drops until the peer has closed.
    pub(crate) async fn discard(&self) {
        // On the heap: an array would be part of every connection's memory.
        let mut sink = vec![0; 16 * 1024];
        loop {
            let (ready, read) = match &self.read {
                ReadHalf::Tcp(half) => (half.readable().await, half.try_read(&mut sink)),
                ReadHalf::Unix(half) => (half.readable().await, half.try_read(&mut sink)),
            };
            match (ready, read) {
                (Ok(()), Ok(1..)) => {}
                (Ok(()), Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Whether an idle connection is still usable: open, and silent. Costs no system call unless something arrived.
    pub(crate) fn is_idle(&self) -> bool {
        let mut probe = [0; 1];
        let read = match &self.read {
            ReadHalf::Tcp(half) => half.try_read(&mut probe),
            ReadHalf::Unix(half) => half.try_read(&mut probe),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

fn count(written: Poll<io::Result<usize>>, sent: &AtomicU64) -> Poll<io::Result<usize>> {
    if let Poll::Ready(Ok(n)) = written {
        sent.fetch_add(n as u64, Ordering::Relaxed);
    }
    written
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if !me.prefix.is_empty() {
            let n = me.prefix.len().min(buf.remaining());
            buf.put_slice(&me.prefix.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(match &mut me.read {
            ReadHalf::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            ReadHalf::Unix(half) => Pin::new(half).poll_read(cx, buf),
        })?;
        let read = buf.filled().get(before..).unwrap_or_default();
        me.shared.received.fetch_add(read.len() as u64, Ordering::Relaxed);
        Poll::Ready(me.gate.pass(read, &me.shared).map_err(|flaw| {
            tracing::debug!(?flaw, "malformed message");
            me.shared.malformed.store(true, Ordering::Relaxed);
            io::ErrorKind::InvalidData.into()
        }))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let shared = &self.shared;
        let mut out = shared.out();
        if self.writes == Writes::Direct {
            return count(out.half.poll_write(cx, data), &shared.sent);
        }
        if out.buffer.len() > HARD_LIMIT {
            ready!(out.poll_drain(cx, &shared.sent))?;
        }
        if data.len() < WORTH_A_SEND {
            out.buffer.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        out.offer(cx, data, &shared.sent)?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.writes == Writes::Direct {
            return count(
                self.shared.out().half.poll_write_vectored(cx, slices),
                &self.shared.sent,
            );
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        first.map_or(Poll::Ready(Ok(0)), |slice| self.poll_write(cx, slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.writes == Writes::Direct
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Deferred writes are the outlet's to flush; direct ones are with the kernel already.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outlet().poll_shutdown(cx)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // The peer may be gone already, which is what we want of it.
        let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        use std::os::fd::AsRawFd;
        match &self.read {
            ReadHalf::Tcp(half) => half.as_ref().as_raw_fd(),
            ReadHalf::Unix(half) => half.as_ref().as_raw_fd(),
        }
    }
}

impl Ssl for Wire {}
#[async_trait]
impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
