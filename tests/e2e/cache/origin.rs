//! The app of all cases at once: it answers at each path what it was told to, and remembers what it was asked.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use super::case::{Framing, Reply};
use crate::support::{App, PATIENCE, Peer, fields};

/// Stops when it is dropped.
pub(super) struct Origin {
    address: SocketAddr,
    scripts: Arc<Scripts>,
}

type Scripts = Mutex<HashMap<String, Script>>;

/// Of one path and all below it.
#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    asked: Vec<Asked>,
}

/// A request that came to the app.
pub(super) struct Asked {
    pub(super) head: String,
    pub(super) body: String,
}

impl Asked {
    /// A word of the first line.
    pub(super) fn word(&self, place: usize) -> &str {
        self.head.split(' ').nth(place).unwrap_or_default()
    }
}

impl Origin {
    pub(super) fn start() -> Self {
        let app = App::listen();
        let address = app.address();
        let scripts: Arc<Scripts> = Arc::default();
        let weak = Arc::downgrade(&scripts);
        std::thread::spawn(move || {
            while let Some(scripts) = weak.upgrade() {
                match app.try_accept() {
                    Some(peer) => drop(std::thread::spawn(move || serve(peer, &scripts))),
                    None => sleep(Duration::from_millis(1)),
                }
            }
        });
        Self { address, scripts }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What to answer at a path from now on.
    pub(super) fn script(&self, path: &str, replies: Vec<Reply>) {
        let script = Script {
            replies: replies.into(),
            asked: Vec::new(),
        };
        self.scripts.lock().unwrap().insert(path.to_owned(), script);
    }

    /// What has been asked at a path, as soon as that were so many requests, or it is clear that they do not come.
    pub(super) fn asked(&self, path: &str, count: usize) -> Vec<Asked> {
        let deadline = Instant::now() + PATIENCE / 4;
        loop {
            let mut scripts = self.scripts.lock().unwrap();
            let asked = &mut scripts.get_mut(path).unwrap().asked;
            if asked.len() >= count || Instant::now() > deadline {
                return std::mem::take(asked);
            }
            drop(scripts);
            sleep(Duration::from_millis(5));
        }
    }
}

fn serve(mut peer: Peer, scripts: &Scripts) {
    let head = peer.read_head();
    let body = if fields(&head, "transfer-encoding").is_empty() {
        let length = fields(&head, "content-length").first().map(|length| length.parse());
        peer.read_exactly(length.map_or(0, Result::unwrap))
    } else {
        peer.read_chunked().0
    };
    let asked = Asked {
        head,
        body: String::from_utf8(body).unwrap(),
    };
    let bodiless = asked.word(0) == "HEAD";
    let path: Vec<&str> = asked.word(1).split(['/', '?']).take(3).collect();
    let mut scripts = scripts.lock().unwrap();
    let script = scripts.entry(path.join("/")).or_default();
    script.asked.push(asked);
    let reply = script.replies.pop_front();
    drop(scripts);
    match reply {
        Some(reply) => {
            sleep(reply.delay);
            answer(peer, &reply, bodiless);
        }
        None => peer.send(
            "HTTP/1.1 418 Not In The Script\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        ),
    }
}

/// Answers on a connection that is not used again, so that no request is repeated because a connection was old.
fn answer(mut peer: Peer, reply: &Reply, bodiless: bool) {
    let content = reply.content();
    let says = |name: &str| reply.fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
    let mut head = format!("HTTP/1.1 {} Told\r\nConnection: close\r\n", reply.status);
    if !says("date") {
        write!(head, "Date: {}\r\n", httpdate::fmt_http_date(SystemTime::now())).unwrap();
    }
    let length = match reply.framing {
        Framing::Length => Some(content.len()),
        Framing::Short => Some(content.len() + 10),
        Framing::Long => Some(content.len() - 2),
        Framing::Chunked | Framing::Cut | Framing::Reset => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            None
        }
        Framing::Close => None,
        Framing::Dies => return,
    };
    if let Some(length) = length.filter(|_| !says("content-length") && !matches!(reply.status, 204 | 304)) {
        write!(head, "Content-Length: {length}\r\n").unwrap();
    }
    for (name, value) in reply.fields.iter().filter(|(_, value)| value != "!") {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    if !bodiless {
        match reply.framing {
            Framing::Chunked => write!(head, "{:x}\r\n{content}\r\n0\r\n\r\n", content.len()).unwrap(),
            Framing::Cut | Framing::Reset => write!(head, "{:x}\r\n{content}\r\n", content.len()).unwrap(),
            _ => head.push_str(&content),
        }
    }
    // Whoever asked may have heard enough.
    let _ = peer.try_send(head);
    if reply.framing == Framing::Reset {
        // The bytes before a reset may be lost with it.
        sleep(Duration::from_millis(100));
        peer.reset();
    }
}
