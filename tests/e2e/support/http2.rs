//! HTTP/2 peers: a thread drives each connection, the test holds its streams.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::PATIENCE;

/// Waits on the test's own thread, but not for ever.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, future).await })
        .expect("it did not happen in time")
}

/// Runs a connection's driver on a thread of its own.
pub(super) fn drive<F: Future<Output = ()>>(make: impl FnOnce() -> F + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, make());
    });
}

/// A response or request body, with its trailers.
pub(crate) async fn read_body(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, body.trailers().await?))
}

/// Sends a body as the windows allow.
pub(crate) async fn send_body(stream: &mut SendStream<Bytes>, mut body: Bytes, end: bool) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let capacity = match stream.capacity() {
            0 => poll_fn(|cx| stream.poll_capacity(cx))
                .await
                .expect("the stream is open")?,
            capacity => capacity,
        };
        let piece = body.split_to(capacity.min(body.len()));
        stream.send_data(piece, end && body.is_empty())?;
    }
    Ok(())
}

/// A response from head to trailers.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

pub(crate) async fn collect(response: ResponseFuture) -> Result<Whole, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let (body, trailers) = read_body(&mut body).await?;
    Ok(Whole {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        trailers,
    })
}

/// A client with one connection, prior knowledge. The connection closes when it is dropped.
pub(crate) struct H2Client {
    send: SendRequest<Bytes>,
    _open: watch::Sender<()>,
}

impl H2Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let (open, mut closed) = watch::channel(());
        let (give, take) = mpsc::channel();
        drive(move || async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let (send, connection) = h2::client::handshake(stream).await.unwrap();
            give.send(send).unwrap();
            tokio::select! {
                _ = connection => {}
                _ = closed.changed() => {}
            }
        });
        Self {
            send: take.recv_timeout(PATIENCE).unwrap(),
            _open: open,
        }
    }

    /// Sends a head; `end` when no body follows.
    pub(crate) fn send(&mut self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        wait(poll_fn(|cx| self.send.poll_ready(cx))).unwrap();
        self.send.send_request(request, end).unwrap()
    }

    /// Sends a GET.
    pub(crate) fn get(&mut self, path: &str) -> ResponseFuture {
        let request = Request::get(format!("http://a{path}")).body(()).unwrap();
        self.send(request, true).0
    }

    /// Sends a GET, if the connection still takes one.
    pub(crate) fn try_get(&mut self, path: &str) -> Result<ResponseFuture, h2::Error> {
        let request = Request::get(format!("http://a{path}")).body(()).unwrap();
        wait(poll_fn(|cx| self.send.poll_ready(cx)))?;
        Ok(self.send.send_request(request, true)?.0)
    }

    /// Sends a POST whose body is still to come.
    pub(crate) fn post(&mut self, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        self.send(Request::post(format!("http://a{path}")).body(()).unwrap(), false)
    }
}

/// A request that an [`H2App`] received.
pub(crate) struct Call {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
}

impl Call {
    /// Sends the response head; `end` when nothing follows.
    pub(crate) fn answer(&mut self, response: Response<()>, end: bool) -> SendStream<Bytes> {
        self.respond.send_response(response, end).unwrap()
    }

    /// 200 with a body.
    pub(crate) fn ok(&mut self, body: impl Into<Bytes>) {
        let mut stream = self.answer(Response::new(()), false);
        stream.send_data(body.into(), true).unwrap();
    }
}

/// An app that speaks HTTP/2 from the first byte.
pub(crate) struct H2App {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    calls: mpsc::Receiver<Call>,
    cut: watch::Sender<u32>,
    retire: watch::Sender<u32>,
}

impl H2App {
    pub(crate) fn listen() -> Self {
        Self::allowing(100)
    }

    /// An app that allows so many streams at once on a connection.
    pub(crate) fn allowing(streams: u32) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let (give_address, address) = mpsc::channel();
        let (give_call, calls) = mpsc::channel();
        let (cut, cuts) = watch::channel(0);
        let (retire, retires) = watch::channel(0);
        let closed = Arc::new(AtomicUsize::new(0));
        let (counted, gone_by) = (connections.clone(), closed.clone());
        drive(move || async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            give_address.send(listener.local_addr().unwrap()).unwrap();
            let mut gone = cuts.clone();
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    changed = gone.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                };
                counted.fetch_add(1, Ordering::SeqCst);
                let (give_call, mut cut, mut retire) = (give_call.clone(), cuts.clone(), retires.clone());
                cut.mark_unchanged();
                retire.mark_unchanged();
                let closing = Count(gone_by.clone());
                tokio::task::spawn_local(async move {
                    // Dropped after the connection, which is declared later.
                    let _closing = closing;
                    let mut builder = h2::server::Builder::new();
                    let handshake = builder.max_concurrent_streams(streams).handshake(stream);
                    let Ok(mut connection) = handshake.await else { return };
                    loop {
                        let accepted = tokio::select! {
                            accepted = connection.accept() => accepted,
                            _ = cut.changed() => return,
                            Ok(()) = retire.changed() => {
                                connection.graceful_shutdown();
                                continue;
                            }
                        };
                        let Some(Ok((request, respond))) = accepted else { return };
                        let _ = give_call.send(Call { request, respond });
                    }
                });
            }
        });
        Self {
            address: address.recv_timeout(PATIENCE).unwrap(),
            connections,
            closed,
            calls,
            cut,
            retire,
        }
    }

    /// The next request.
    pub(crate) fn next(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("a request")
    }

    /// The next request, if it comes in that time.
    pub(crate) fn next_within(&self, time: std::time::Duration) -> Option<Call> {
        self.calls.recv_timeout(time).ok()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Sends GOAWAY on all connections, which then finish what is on them.
    pub(crate) fn retire(&self) {
        self.retire.send_modify(|retire| *retire += 1);
    }

    /// Drops all connections, as a process does that dies; returns once they are closed.
    pub(crate) fn cut(&self) {
        let open = self.connections();
        self.cut.send_modify(|cut| *cut += 1);
        self.await_closed(open);
    }

    /// Waits until so many connections have been closed.
    pub(crate) fn await_closed(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.closed.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < deadline, "the connections stay open");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Counts when it is dropped.
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
