//! The same over HTTP/2: streams that wait, and streams that are reset.

use http::{Request, Response};

use super::{PAID, ask, error, pay, sidecar};
use crate::support::{App, H2App, H2Client, Setup, collect, send_body, wait};

#[test]
fn of_ten_at_once_over_http2_the_app_sees_one() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address))
        .filters("idempotency: { enabled: true, wait: 1m }")
        .start();
    let mut client = H2Client::connect(sidecar.inbound());
    let ask = |client: &mut H2Client| {
        let request = Request::post("http://a/pay").header("idempotency-key", "\"k\"");
        let (response, mut body) = client.send(request.body(()).unwrap(), false);
        wait(send_body(&mut body, "7 euro".into(), true)).unwrap();
        response
    };
    let responses: Vec<_> = (0..10).map(|_| ask(&mut client)).collect();
    let mut call = app.next();
    sidecar.await_metric("pillion_idempotency_waits_total", 9.0);
    let answer = Response::builder().status(201).header("location", "/payments/1");
    let mut body = call.answer(answer.body(()).unwrap(), false);
    body.send_data("paid".into(), true).unwrap();
    let mut replayed = 0;
    for response in responses {
        let whole = wait(collect(response)).unwrap();
        assert_eq!((whole.status, &*whole.body), (201, &b"paid"[..]));
        assert_eq!(whole.headers["location"], "/payments/1");
        replayed += usize::from(whole.headers.contains_key("idempotent-replayed"));
    }
    assert_eq!(replayed, 9);
    let again = wait(collect(ask(&mut client))).unwrap();
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert!(app.next_within(std::time::Duration::ZERO).is_none());
}

#[test]
fn who_left_over_http2_finds_the_answer_later() {
    let app = App::listen();
    let sidecar = sidecar(&app, "");
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::post("http://a/pay").header("idempotency-key", "k");
    let (response, mut body) = client.send(request.body(()).unwrap(), false);
    wait(send_body(&mut body, "7 euro".into(), true)).unwrap();
    let mut origin = app.accept();
    origin.read_until("7 euro");
    body.send_reset(h2::Reason::CANCEL);
    drop((response, body, client));
    let mut repeat = sidecar.connect();
    repeat.send(pay("k", "7 euro"));
    sidecar.await_metric("pillion_idempotency_waits_total", 1.0);
    origin.send(PAID);
    assert_eq!(repeat.read_answer().text(), "paid");
}

#[test]
fn who_leaves_at_the_moment_of_the_answer_finds_it_later() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address))
        .filters("idempotency: { enabled: true }")
        .start();
    let mut client = H2Client::connect(sidecar.inbound());
    for number in 0..20 {
        let request = || {
            Request::post("http://a/pay")
                .header("idempotency-key", number)
                .body(())
                .unwrap()
        };
        let (response, mut body) = client.send(request(), false);
        wait(send_body(&mut body, "7 euro".into(), true)).unwrap();
        let mut call = app.next();
        // Both are on their way at once, and either may be first.
        body.send_reset(h2::Reason::CANCEL);
        call.ok("paid");
        drop((response, body));
        let (response, mut body) = client.send(request(), false);
        wait(send_body(&mut body, "7 euro".into(), true)).unwrap();
        let whole = wait(collect(response)).unwrap();
        assert_eq!(whole.status, 200, "{number}: {}", String::from_utf8_lossy(&whole.body));
        assert_eq!(whole.headers["idempotent-replayed"], "true");
    }
    assert!(app.next_within(std::time::Duration::ZERO).is_none());
}

#[test]
fn after_an_http2_app_that_died_a_repeat_is_not_tried() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address))
        .filters("idempotency: { enabled: true }")
        .start();
    let mut client = sidecar.connect();
    client.send(pay("k", "7 euro"));
    let mut call = app.next();
    let mut body = call.answer(Response::new(()), false);
    body.send_data("half".into(), false).unwrap();
    client.read_until("half");
    app.cut();
    client.read_to_end();
    let repeat = ask(&sidecar, &pay("k", "7 euro"));
    assert_eq!(error(&repeat), (409, "idempotency_outcome_unknown".to_owned()));
    assert!(app.next_within(std::time::Duration::ZERO).is_none());
}
