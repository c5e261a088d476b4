//! A whole sidecar between a client that sends anything and an app that answers everything. What reaches the app is one
//! clear request after the other, each forwarded by the sidecar; what comes back is responses, and then a close.
#![no_main]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pillion::runtime::{self, Options, Running};
use pillion_filters::Registry;
use pillion_fuzz::{dechunk, is_text, is_token};

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

static SIDECAR: LazyLock<Mutex<Running>> = LazyLock::new(|| {
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let yaml = format!(
        "service: fuzz\n\
         workers: 1\n\
         inbound: {{ listen: '127.0.0.1:0', app: 'http://{}', connections: {{ allow_half_close: true }} }}\n\
         admin: {{ enabled: false }}\n\
         filters: {{ access_log: {{ enabled: false }} }}\n",
        app.local_addr().unwrap()
    );
    std::thread::spawn(move || {
        for stream in app.incoming() {
            std::thread::spawn(|| serve(stream.unwrap()));
        }
    });
    let registry = Registry::builtin();
    let names: Vec<&str> = registry.entries().iter().map(|entry| entry.name).collect();
    let loaded =
        pillion::config::load_str("fuzz.yaml", &yaml, &names).unwrap_or_else(|errors| panic!("{}", errors.render()));
    let options = Options {
        registry,
        files: Vec::new(),
    };
    Mutex::new(runtime::start(loaded, options).unwrap())
});

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let (first, second) = bytes.split_at(bytes.len().min(cut.into()));
    let address = SIDECAR.lock().unwrap().inbound.unwrap();
    let answers = ask(address, first, second);
    if !bytes.starts_with(b"PRI * HTTP/2.0") {
        responses(&answers);
    }
});

/// Sends both pieces; what comes until the sidecar closes, which may be because it has heard enough.
fn ask(address: SocketAddr, first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(first).and_then(|()| stream.write_all(second));
    let _ = stream.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    match stream.read_to_end(&mut answers) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("it hangs, after {:?}", String::from_utf8_lossy(&answers))
        }
        _ => answers,
    }
}

/// Reads requests and answers each, until the sidecar closes.
fn serve(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (mut to, mut from) = (stream.try_clone().unwrap(), BufReader::new(stream));
    while let Some(head) = head(&mut from) {
        let framing = check(&head);
        if body(&mut from, framing).is_none()
            || to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err()
        {
            return;
        }
    }
}

/// A request head. None when the connection ended, which it may before one but not within.
fn head(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match from.read_until(b'\n', &mut head) {
            Ok(1..) => {}
            Ok(0) if !head.is_empty() => panic!("half a head: {:?}", String::from_utf8_lossy(&head)),
            _ => return None,
        }
    }
    Some(head)
}

enum Framing {
    Length(u64),
    Chunked,
}

/// What every request to an app must be.
fn check(head: &[u8]) -> Framing {
    let text = String::from_utf8_lossy(head);
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start: Vec<_> = lines.next().unwrap().split(|&byte| byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = start[..] else {
        panic!("no request line: {text:?}")
    };
    assert!(is_token(method) && method != b"CONNECT", "{text:?}");
    assert!(
        target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS"),
        "{text:?}"
    );
    assert!(is_text(target) && !target.contains(&b'#'), "{text:?}");
    let fields: Vec<_> = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let colon = line
                .iter()
                .position(|&byte| byte == b':')
                .unwrap_or_else(|| panic!("no field: {text:?}"));
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            assert!(is_token(name) && is_text(value), "{text:?}");
            (String::from_utf8(name.to_ascii_lowercase()).unwrap(), value)
        })
        .collect();
    let all = |name: &str| -> Vec<&[u8]> {
        let named = fields.iter().filter(|(field, _)| field == name);
        named.map(|(_, value)| *value).collect()
    };
    assert_eq!(all("host").len(), 1, "{text:?}");
    // What was forwarded says so; what came by in another way does not.
    assert!(
        all("via").last().is_some_and(|via| via.ends_with(b" pillion")),
        "{text:?}"
    );
    for hop in ["keep-alive", "proxy-connection", "trailer"] {
        assert!(all(hop).is_empty(), "{text:?}");
    }
    match (
        all("content-length")[..].as_ref(),
        all("transfer-encoding")[..].as_ref(),
    ) {
        ([], []) => Framing::Length(0),
        ([], [b"chunked"]) => Framing::Chunked,
        (&[length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            Framing::Length(std::str::from_utf8(length).unwrap().parse().unwrap())
        }
        _ => panic!("framed in doubt: {text:?}"),
    }
}

/// Reads a body to its end. None when the connection ended before it.
fn body(from: &mut impl BufRead, framing: Framing) -> Option<()> {
    match framing {
        Framing::Length(length) => {
            let read = std::io::copy(&mut from.take(length), &mut std::io::sink()).ok()?;
            (read == length).then_some(())
        }
        Framing::Chunked => {
            let mut body = Vec::new();
            loop {
                if from.read_until(b'\n', &mut body).ok()? == 0 {
                    return None;
                }
                match dechunk(&body) {
                    Ok(Some((_, end))) => {
                        assert_eq!(end, body.len());
                        return Some(());
                    }
                    Ok(None) => {}
                    Err(why) => panic!("{why}: {:?}", String::from_utf8_lossy(&body)),
                }
            }
        }
    }
}

/// Responses, one after the other; the last may be cut short.
fn responses(mut bytes: &[u8]) {
    let all = String::from_utf8_lossy(bytes);
    while !bytes.is_empty() {
        let mut room = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut room);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return,
            Err(error) => panic!("{error} in {all:?}"),
        };
        bytes = &bytes[length..];
        // To HEAD there is no body.
        if response.code == Some(100) || bytes.starts_with(b"HTTP/1.1 ") {
            continue;
        }
        let value = |name: &str| {
            let mut fields = response.headers.iter();
            fields
                .find(|field| field.name.eq_ignore_ascii_case(name))
                .map(|field| field.value)
        };
        let length = match (value("content-length"), value("transfer-encoding")) {
            (Some(length), None) => std::str::from_utf8(length).unwrap().parse().unwrap(),
            (None, Some(b"chunked")) => match dechunk(bytes) {
                Ok(Some((_, end))) => end,
                Ok(None) => return,
                Err(why) => panic!("{why} in {all:?}"),
            },
            (None, None) => return,
            both => panic!("{both:?} in {all:?}"),
        };
        bytes = bytes.get(length..).unwrap_or_default();
    }
}
