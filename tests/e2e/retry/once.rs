//! A POST is never sent twice, whatever breaks and whenever: with settings that want everything tried again, over break points at
//! random, HTTP/1.1 and HTTP/2 on both sides.
//!
//! The app counts the connections or streams on which it was sent anything of the request. The one exception is what the
//! app itself says that it has not looked at (RFC 9113, section 8.7), which is a test of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{H2Client, Peer, Setup, Sidecar, collect, wait};

const EVERYTHING: &str = "retry: { on: [connect, refused, reset, malformed, timeout, 5xx, 429], attempts: 5, per_try_timeout: 150ms, \
                          backoff: { base: 1ms }, hedge: { enabled: true, after: 20ms } }";

/// Where the app breaks.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// Before it reads anything.
    AtOnce,
    /// After the head, or a part of it.
    InHead,
    /// After a part of the body.
    InBody,
    /// When it has it all.
    AfterRequest,
    /// In the middle of the response's head.
    InResponseHead,
    /// In the middle of the response's body.
    InResponseBody,
    /// It answers with an error.
    Error,
    /// It never answers.
    Never,
}

const BREAKS: [Break; 8] = [
    Break::AtOnce,
    Break::InHead,
    Break::InBody,
    Break::AfterRequest,
    Break::InResponseHead,
    Break::InResponseBody,
    Break::Error,
    Break::Never,
];

const BODY: usize = 3000;

/// How a connection ends.
fn end(stream: &TcpStream, reset: bool) {
    if reset {
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    let _ = stream.shutdown(if reset { Shutdown::Both } else { Shutdown::Write });
}

/// Reads until that many bytes in all are there, or no more come.
fn read_to(stream: &mut TcpStream, read: &mut Vec<u8>, length: usize) -> bool {
    let mut piece = [0; 4096];
    while read.len() < length {
        let most = (length - read.len()).min(piece.len());
        match stream.read(&mut piece[..most]) {
            Ok(0) | Err(_) => return false,
            Ok(count) => read.extend_from_slice(&piece[..count]),
        }
    }
    true
}

/// An HTTP/1.1 app that serves one connection after the other, each of which breaks so. The first request of a connection is
/// answered where `warm` says so.
fn app_1(how: Break, reset: bool, warm: bool) -> (std::net::SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, posts) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let counted = posts.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counted) = (stream.unwrap(), counted.clone());
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                if warm && !answer_get(&mut stream) {
                    return;
                }
                broken(&mut stream, how, reset, &counted);
            });
        }
    });
    (address, posts)
}

/// Serves a GET, if that is what comes.
fn answer_get(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut first = [0];
    if !matches!(stream.peek(&mut first), Ok(1)) || first[0] != b'G' {
        // The request that matters, on a connection of its own.
        return true;
    }
    while !head.ends_with(b"\r\n\r\n") {
        let length = head.len() + 1;
        if !read_to(stream, &mut head, length) {
            return false;
        }
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .is_ok()
}

fn broken(stream: &mut TcpStream, how: Break, reset: bool, counted: &AtomicU32) {
    if matches!(how, Break::AtOnce) {
        // It does not read, but what has reached it by then it could have.
        let mut first = [0];
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        if matches!(stream.peek(&mut first), Ok(1)) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        return end(stream, reset);
    }
    let mut read = Vec::new();
    if !read_to(stream, &mut read, 10) {
        return;
    }
    counted.fetch_add(1, Ordering::SeqCst);
    if matches!(how, Break::InHead) {
        return end(stream, reset);
    }
    while !read.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = read.len() + 1;
        if !read_to(stream, &mut read, length) {
            return;
        }
    }
    let length = read.len() + if matches!(how, Break::InBody) { BODY / 2 } else { BODY };
    if !read_to(stream, &mut read, length) {
        return;
    }
    let said = match how {
        Break::InResponseHead => "HTTP/1.1 200 OK\r\nContent-",
        Break::InResponseBody => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        Break::Error => "HTTP/1.1 503 No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
        _ => "",
    };
    let _ = stream.write_all(said.as_bytes());
    if matches!(how, Break::Never) {
        let _ = stream.read(&mut [0]);
    }
    end(stream, reset);
}

/// An HTTP/2 app that breaks so; with frames by hand, so that it breaks just there.
fn app_2(how: Break, reset: bool) -> (std::net::SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, posts) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
    let counted = posts.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, counted) = (stream.unwrap(), counted.clone());
            std::thread::spawn(move || broken_2(stream, how, reset, &counted));
        }
    });
    (address, posts)
}

fn broken_2(mut stream: TcpStream, how: Break, reset: bool, counted: &AtomicU32) {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut preface = Vec::new();
    if !read_to(&mut stream, &mut preface, 24) || stream.write_all(&frame(SETTINGS, 0, 0, &[])).is_err() {
        return;
    }
    let mut body = 0;
    loop {
        let (mut head, mut payload) = (Vec::new(), Vec::new());
        if !read_to(&mut stream, &mut head, 9) {
            return;
        }
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if !read_to(&mut stream, &mut payload, length) {
            return;
        }
        let (kind, is_last) = (head[3], head[4] & 1 == 1);
        if kind == SETTINGS && !is_last {
            let _ = stream.write_all(&frame(SETTINGS, 1, 0, &[]));
        }
        if kind == HEADERS {
            counted.fetch_add(1, Ordering::SeqCst);
            if matches!(how, Break::AtOnce | Break::InHead) {
                return end_2(&mut stream, reset, id);
            }
        }
        if kind != DATA {
            continue;
        }
        body += payload.len();
        if matches!(how, Break::InBody) {
            return end_2(&mut stream, reset, id);
        }
        if !is_last {
            continue;
        }
        assert_eq!(body, BODY);
        // Fields by their index in the static table (RFC 7541, appendix A): 8 is `:status: 200`, 14 is 500.
        match how {
            Break::InResponseHead => {
                let whole = frame(HEADERS, 4, id, &[0x88]);
                let _ = stream.write_all(&whole[..whole.len() - 1]);
            }
            Break::InResponseBody => {
                let _ = stream.write_all(&frame(HEADERS, 4, id, &[0x88]));
                let _ = stream.write_all(&frame(DATA, 0, id, b"half"));
            }
            Break::Error => {
                let _ = stream.write_all(&frame(HEADERS, 5, id, &[0x8e]));
            }
            Break::Never => {
                let _ = stream.read(&mut [0]);
            }
            _ => {}
        }
        return end_2(&mut stream, reset, id);
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

/// Ends a stream with an error that says nothing of whether it was looked at, or the connection without a word.
fn end_2(stream: &mut TcpStream, reset: bool, id: u32) {
    if reset {
        // INTERNAL_ERROR.
        let _ = stream.write_all(&frame(3, 0, id, &2u32.to_be_bytes()));
        // The connection lives on; only the stream is over.
        let mut piece = [0; 1024];
        while matches!(stream.read(&mut piece), Ok(1..)) {}
    }
    end(stream, false);
}

/// A client's POST, the body in two pieces; whatever comes of it.
fn post(sidecar: &Sidecar, over_2: bool) {
    let body = vec![b'x'; BODY];
    if over_2 {
        let mut client = H2Client::connect(sidecar.inbound());
        let (response, mut stream) = client.post("/");
        let _ = wait(async move {
            // The sidecar may have answered before it has read all of it.
            // It fits into any window.
            let _ = stream.send_data(body.into(), true);
            collect(response).await
        });
        return;
    }
    let mut client = Peer::connect(sidecar.inbound());
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {BODY}\r\n\r\n"
    ));
    client.send(&body[..BODY / 2]);
    let _ = client.try_send(&body[BODY / 2..]);
    let _ = client.read_to_end();
}

#[test]
fn a_post_is_never_sent_twice() {
    for how in BREAKS {
        for reset in [false, true] {
            for over_2 in [false, true] {
                for warm in [false, true] {
                    let (address, posts) = app_1(how, reset, warm);
                    let sidecar = Setup::before(format!("http://{address}")).filters(EVERYTHING).start();
                    if warm {
                        // A connection that has served before is in the pool.
                        let mut client = sidecar.connect();
                        client.send(crate::support::GET);
                        assert_eq!(client.read_answer().status, 200);
                    }
                    post(&sidecar, over_2);
                    let posts = posts.load(Ordering::SeqCst);
                    assert!(
                        posts <= 1,
                        "{posts}: {how:?}, reset {reset}, HTTP/2 client {over_2}, warm {warm}"
                    );
                }
                let (address, posts) = app_2(how, reset);
                let sidecar = Setup::before(format!("h2c://{address}")).filters(EVERYTHING).start();
                post(&sidecar, over_2);
                let posts = posts.load(Ordering::SeqCst);
                assert!(
                    posts <= 1,
                    "{posts}: HTTP/2 app, {how:?}, reset {reset}, HTTP/2 client {over_2}"
                );
            }
        }
    }
}
