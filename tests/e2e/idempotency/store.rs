//! What is kept: over reloads, and in which coding.

use super::{PAID, closing, pay, read, setup};
use crate::support::{App, Peer, Process};

#[test]
fn a_reload_forgets_nothing() {
    let app = App::listen();
    let yaml = setup(&app, "").yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let mut first = Peer::connect(inbound);
    first.send(pay("answered", "7 euro"));
    read(&app, "7 euro").0.send(closing(PAID));
    assert_eq!(first.read_answer().text(), "paid");
    // One is under way while the configuration changes.
    let mut second = Peer::connect(inbound);
    second.send(pay("\"under way\"", "8 euro"));
    let (mut origin, _) = read(&app, "8 euro");
    sidecar.configure(&yaml.replace("enabled: true,", "enabled: true, max_size: 8MiB, wait: 1m,"));
    assert_eq!(sidecar.reload().status, 200);
    let mut repeat = Peer::connect(inbound);
    repeat.send(pay("answered", "7 euro"));
    let answer = repeat.read_answer();
    assert_eq!(answer.text(), "paid");
    assert_eq!(answer.field("idempotent-replayed"), Some("true"));
    repeat.send(pay("\"under way\"", "8 euro"));
    sidecar.await_metric("pillion_idempotency_waits_total", 1.0);
    origin.send(PAID);
    assert_eq!(second.read_answer().text(), "paid");
    assert_eq!(repeat.read_answer().field("idempotent-replayed"), Some("true"));
    assert!(app.try_accept().is_none());
    sidecar.stop();
}

#[test]
fn a_repeat_is_answered_in_a_coding_that_it_accepts() {
    let app = App::listen();
    let sidecar = setup(&app, "").start();
    // Below and above what is recoded at once.
    for length in [2_000, 200_000] {
        let key = length.to_string();
        let body = "first answer ".repeat(length / 13);
        let mut client = sidecar.connect();
        client.send(pay(&key, "7 euro").replace("Host: a", "Host: a\r\nAccept-Encoding: gzip"));
        let (mut origin, _) = read(&app, "7 euro");
        let head = format!(
            "Content-Type: text/plain\r\nConnection: close\r\nContent-Length: {}",
            body.len()
        );
        origin.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
        let first = client.read_answer();
        assert_eq!(first.field("content-encoding"), Some("gzip"));
        client.send(pay(&key, "7 euro").replace("Host: a", "Host: a\r\nAccept-Encoding: gzip, br"));
        let same = client.read_answer();
        assert_eq!(same.field("content-encoding"), Some("gzip"));
        assert_eq!(same.body, first.body);
        client.send(pay(&key, "7 euro").replace("Host: a", "Host: a\r\nAccept-Encoding: identity"));
        let plain = client.read_answer();
        assert_eq!(plain.field("content-encoding"), None);
        assert_eq!(plain.field("idempotent-replayed"), Some("true"));
        assert!(plain.text() == body, "{length}");
    }
}
