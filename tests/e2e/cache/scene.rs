//! A sidecar with a cache, and an app whose answers the test gives one by one.

use std::time::Instant;

use crate::support::{Answer, App, PATIENCE, Peer, Setup, Sidecar};

/// Both.
pub(super) struct Scene {
    pub(super) app: App,
    pub(super) sidecar: Sidecar,
}

impl Scene {
    /// With these settings of the filter, and these lines of configuration besides.
    pub(super) fn with(settings: &str, more: &str) -> Self {
        let app = App::listen();
        let sidecar = setup(&app, settings, more).start();
        Self { app, sidecar }
    }

    /// Sends a request with these header lines besides, each ended.
    pub(super) fn ask(&self, request: &str, lines: &str) -> Peer {
        let mut client = self.sidecar.connect();
        send(&mut client, request, lines);
        client
    }

    /// What the client gets without the app being asked.
    pub(super) fn hit(&self, request: &str, lines: &str) -> Answer {
        let answer = self.ask(request, lines).read_answer();
        let status = answer.field("cache-status").unwrap_or_default();
        assert!(status.contains("hit"), "{}", answer.head);
        answer
    }

    /// What the client gets from the app, which answers with this head and body; and what the app got.
    pub(super) fn miss(&self, request: &str, lines: &str, head: &str, body: &str) -> (Answer, String) {
        let mut client = self.ask(request, lines);
        let asked = self.answer(head, body);
        (client.read_answer(), asked)
    }

    /// Answers the app's next request; the head of that.
    pub(super) fn answer(&self, head: &str, body: &str) -> String {
        let mut app = self.app.accept();
        let asked = app.read_head();
        app.send(response(head, body));
        asked
    }

    /// Stores an answer of a URL.
    pub(super) fn store(&self, target: &str, more: &str, body: &str) {
        let head = format!("Cache-Control: max-age=600\r\n{more}");
        let (answer, _) = self.miss(&format!("GET {target}"), "", &head, body);
        let status = answer.field("cache-status").unwrap_or_default();
        assert!(status.contains("stored"), "{}", answer.head);
        self.hit(&format!("GET {target}"), "");
    }

    /// Whether the app is asked for a URL.
    pub(super) fn is_gone(&self, target: &str) -> bool {
        let mut client = self.ask(&format!("GET {target}"), "Cache-Control: only-if-cached\r\n");
        client.read_answer().status == 504
    }

    /// Waits until an answer of a URL is stored.
    pub(super) fn await_stored(&self, target: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_gone(target) {
            assert!(Instant::now() < deadline, "{target} is not stored");
        }
    }

    /// What the admin API answers.
    pub(super) fn admin(&self, request: &str, body: &str) -> Answer {
        admin(self.sidecar.admin(), request, body)
    }
}

pub(super) fn setup(app: &App, settings: &str, more: &str) -> Setup {
    let settings = if settings.is_empty() {
        "enabled: true".to_owned()
    } else {
        format!("enabled: true, {settings}")
    };
    Setup::before(format!("http://{}", app.address()))
        .filters(&format!("cache: {{ {settings} }}"))
        .with(more)
}

pub(super) fn admin(address: std::net::SocketAddr, request: &str, body: &str) -> Answer {
    let mut admin = Peer::connect(address);
    let length = body.len();
    admin.send(format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    admin.read_answer()
}

/// Sends a request for the host `a.test`.
pub(super) fn send(client: &mut Peer, request: &str, lines: &str) {
    client.send(format!("{request} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"));
}

/// A response that closes its connection, so that each request of the sidecar comes by one of its own.
pub(super) fn response(head: &str, body: &str) -> String {
    let length = body.len();
    let separator = if head.is_empty() || head.ends_with("\r\n") {
        ""
    } else {
        "\r\n"
    };
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n{head}{separator}\r\n{body}")
}
