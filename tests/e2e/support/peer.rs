//! One end of a TCP or Unix connection, played by the test.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;

/// A connection with what was read from it and not yet asked for.
pub(crate) struct Peer<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    /// Connects from another address of this machine.
    pub(crate) fn connect_from(own: [u8; 4], address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::new(socket.into())
    }

    /// Connects with a receive buffer as small as the system has.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::new(socket.into())
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let mut peer = Self::over(stream);
        peer.set_patience(PATIENCE);
        peer
    }

    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        self.stream.set_write_timeout(Some(patience)).unwrap();
    }

    /// This end's own address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Another handle on the same connection, for a thread that only writes or only reads.
    pub(crate) fn twin(&self) -> Self {
        Self::over(self.stream.try_clone().unwrap())
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) fn close_sending(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Closes with a reset, as a process does that dies.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Writes that many bytes of no matter.
    pub(crate) fn send_zeros(&mut self, length: usize) {
        let piece = vec![0; 256 * 1024];
        let mut left = length;
        while left > 0 {
            let next = left.min(piece.len());
            self.send(&piece[..next]);
            left -= next;
        }
    }

    /// Writes until the other side takes no more for that long; how many bytes it took.
    pub(crate) fn send_until_stuck(&mut self, limit: usize, stuck: Duration) -> usize {
        self.stream.set_write_timeout(Some(stuck)).unwrap();
        let piece = vec![b'x'; 64 * 1024];
        let mut taken = 0;
        while taken < limit {
            let next = piece.len().min(limit - taken);
            match self.stream.write(&piece[..next]) {
                Ok(n) => taken += n,
                Err(error) if would_block(error.kind()) => break,
                Err(error) => panic!("{error} after {taken} bytes"),
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        taken
    }
}

impl<S: Read + Write> Peer<S> {
    /// A peer over any stream; its timeouts are the caller's to set.
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends to a peer that may have stopped listening.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Reads once into the buffer; false at the end of the stream. A reset counts as an end.
    fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
            Err(error) => panic!("{error}; so far {:?}", text(&self.buffer)),
        }
    }

    /// All bytes up to and with the first `end`.
    pub(crate) fn read_until(&mut self, end: &str) -> String {
        loop {
            let found = self
                .buffer
                .windows(end.len())
                .position(|window| window == end.as_bytes());
            if let Some(at) = found {
                return text(&self.take(at + end.len()));
            }
            assert!(self.more(), "ended before {end:?} with {:?}", text(&self.buffer));
        }
    }

    /// A message head, with the empty line that ends it.
    pub(crate) fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n")
    }

    pub(crate) fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more(), "ended after {} of {length} bytes", self.buffer.len());
        }
        self.take(length)
    }

    /// The same; none when the other side closes before that.
    pub(crate) fn try_read_exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.more() {
                return None;
            }
        }
        Some(self.take(length))
    }

    /// A chunked body, decoded, with its trailer section as it was sent.
    pub(crate) fn read_chunked(&mut self) -> (Vec<u8>, String) {
        let mut body = Vec::new();
        loop {
            let line = self.read_until("\r\n");
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
            if size == 0 {
                let mut trailers = String::new();
                loop {
                    let line = self.read_until("\r\n");
                    if line == "\r\n" {
                        return (body, trailers);
                    }
                    trailers.push_str(&line);
                }
            }
            body.extend(self.read_exactly(size));
            assert_eq!(self.read_exactly(2), b"\r\n");
        }
    }

    /// A whole response to a request other than HEAD.
    pub(crate) fn read_answer(&mut self) -> Answer {
        let mut answer = self.read_answer_to_head();
        answer.body = if matches!(answer.status, 100..=199 | 204 | 304) {
            Vec::new()
        } else if answer.field("transfer-encoding").is_some() {
            self.read_chunked().0
        } else if let Some(length) = answer.field("content-length") {
            self.read_exactly(length.parse().unwrap())
        } else {
            self.read_to_end()
        };
        answer
    }

    /// A response head; the body, if any, is still to come.
    pub(crate) fn read_answer_to_head(&mut self) -> Answer {
        let head = self.read_head();
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Answer {
            status: status.unwrap_or_else(|| panic!("no status in {head:?}")),
            head,
            body: Vec::new(),
        }
    }

    /// Everything until the other side closes.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits for the other side to close and to send nothing before that.
    pub(crate) fn expect_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "before it closed came {:?}", text(&rest));
    }

    /// Reads that many bytes, keeping none of them.
    pub(crate) fn skip(&mut self, length: usize) {
        let mut left = length - self.take(length.min(self.buffer.len())).len();
        let mut chunk = vec![0; 256 * 1024];
        while left > 0 {
            let most = left.min(chunk.len());
            let n = self.stream.read(&mut chunk[..most]).unwrap();
            assert!(n > 0, "ended with {left} of {length} bytes missing");
            left -= n;
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }
}

impl Peer {
    /// Whether nothing arrives for that long, and the connection stays open.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        self.stream.set_read_timeout(Some(time)).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(peeked, Err(error) if would_block(error.kind()))
    }
}

/// A response as it was received.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The only value of a field; more than one fails the test.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = fields(&self.head, name);
        assert!(values.len() < 2, "{name} more than once in {}", self.head);
        values.first().copied()
    }

    pub(crate) fn text(&self) -> String {
        text(&self.body)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}{}", self.head, self.text()))
    }
}

/// The values of a field in a message head, in order.
pub(crate) fn fields<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let lines = head.split("\r\n").skip(1);
    lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

/// An app that answers every request at once.
pub(crate) fn answering() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for _ in lines.map_while(Result::ok).filter(String::is_empty) {
                    if stream.write_all(super::OK.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn would_block(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A socket on a port of the system's choice, which nobody else is given meanwhile.
fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket
}

/// An address where nobody listens, and nobody will: each connection to it is refused.
pub(crate) fn nobody() -> SocketAddr {
    // Kept for as long as the process runs. A port that only was free a moment ago may be another test's by now.
    static NOBODY: OnceLock<Socket> = OnceLock::new();
    let address = NOBODY.get_or_init(bound).local_addr().unwrap();
    address.as_socket().unwrap()
}

/// The app's listening socket. The test accepts each of the sidecar's connections itself.
pub(crate) struct App {
    listener: TcpListener,
}

impl App {
    pub(crate) fn listen() -> Self {
        Self::listen_on(bound())
    }

    /// An address where an app will listen once what is returned with it is called; until then connections are refused.
    pub(crate) fn late() -> (SocketAddr, impl FnOnce() -> Self) {
        let socket = bound();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (address, move || Self::listen_on(socket))
    }

    fn listen_on(socket: Socket) -> Self {
        // The standard library's 128 are fewer than a test may open at once, and a connection that finds no place there is
        // tried again only a second later.
        socket.listen(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            listener: socket.into(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The sidecar's next connection.
    pub(crate) fn accept(&self) -> Peer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_accept() {
                Some(peer) => return peer,
                None => assert!(Instant::now() < deadline, "the sidecar did not connect"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A connection that waits to be accepted, if there is one.
    pub(crate) fn try_accept(&self) -> Option<Peer> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                Some(Peer::new(stream))
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        }
    }
}
