//! The sidecar as the app's forward proxy.

use crate::support::{App, GET, H2Client, OK, Peer, Sidecar, collect, fields, nobody, pattern, wait};

/// A sidecar whose inbound side is of no matter.
fn sidecar() -> Sidecar {
    Sidecar::before(&App::listen())
}

#[test]
fn a_target_in_absolute_form_says_where_to_go() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    let address = remote.address();
    app.send(format!(
        "GET http://{address}/x?y=1 HTTP/1.1\r\nHost: {address}\r\nProxy-Connection: keep-alive\r\n\r\n"
    ));
    let mut origin = remote.accept();
    let head = origin.read_head();
    assert!(head.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(fields(&head, "host"), [address.to_string()]);
    assert_eq!(fields(&head, "via"), ["1.1 pillion"]);
    assert_eq!(fields(&head, "proxy-connection"), [""; 0]);
    origin.send(OK);
    assert_eq!(app.read_answer().text(), "ok");
}

#[test]
fn a_host_alone_says_where_to_go() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    app.send(format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\n", remote.address()));
    let mut origin = remote.accept();
    assert!(origin.read_head().starts_with("GET /x HTTP/1.1\r\n"));
    origin.send(OK);
    assert_eq!(app.read_answer().text(), "ok");
}

#[test]
fn an_http_2_app_says_it_by_its_authority() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = H2Client::connect(sidecar.outbound());
    let request = http::Request::get(format!("http://{}/x", remote.address()))
        .body(())
        .unwrap();
    let (response, _) = app.send(request, true);
    let mut origin = remote.accept();
    assert!(origin.read_head().starts_with("GET /x HTTP/1.1\r\n"));
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
}

#[test]
fn a_name_is_resolved() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    let port = remote.address().port();
    app.send(format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"));
    let mut origin = remote.accept();
    assert_eq!(fields(&origin.read_head(), "host"), [format!("localhost:{port}")]);
    origin.send(OK);
    assert_eq!(app.read_answer().text(), "ok");
}

#[test]
fn the_apps_own_address_is_not_told() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    app.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", remote.address()));
    let head = remote.accept().read_head();
    for own in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"] {
        assert_eq!(fields(&head, own), [""; 0], "{own}");
    }
}

#[test]
fn each_host_has_connections_of_its_own() {
    let remotes = [App::listen(), App::listen()];
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    let mut origins: Vec<Peer> = Vec::new();
    for (number, remote) in remotes.iter().enumerate() {
        app.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", remote.address()));
        let mut origin = remote.accept();
        origin.read_head();
        origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"));
        assert_eq!(app.read_answer().text(), number.to_string());
        origins.push(origin);
    }
    for (remote, origin) in remotes.iter().zip(&mut origins) {
        app.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", remote.address()));
        origin.read_head();
        origin.send(OK);
        assert_eq!(app.read_answer().text(), "ok");
        assert!(remote.try_accept().is_none());
    }
}

#[test]
fn a_host_that_is_not_there_is_a_502() {
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    let gone = nobody();
    app.send(format!("GET / HTTP/1.1\r\nHost: {gone}\r\n\r\n"));
    assert_eq!(app.read_answer().json()["error"], "connect_failed");
    app.send("GET / HTTP/1.1\r\nHost: nowhere.invalid\r\n\r\n");
    let answer = app.read_answer();
    assert_eq!(
        (answer.status, answer.json()["error"].as_str().unwrap()),
        (502, "dns_error")
    );
}

#[test]
fn a_request_that_names_nobody_is_refused() {
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    app.send("GET / HTTP/1.0\r\n\r\n");
    let answer = app.read_answer();
    assert_eq!(
        (answer.status, answer.json()["error"].as_str().unwrap()),
        (400, "no_destination")
    );
}

/// Sending it in clear, and to port 80, would give away what was meant to be secret.
#[test]
fn a_request_for_https_is_not_sent_in_clear() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    let address = remote.address();
    app.send(format!(
        "GET https://{address}/secret HTTP/1.1\r\nHost: {address}\r\n\r\n"
    ));
    let answer = app.read_answer();
    assert!((400..600).contains(&answer.status), "{}", answer.status);
    assert!(remote.try_accept().is_none());
}

/// A tunnel to a listening socket: the app's end and the far end.
fn tunnel(sidecar: &Sidecar, remote: &App) -> (Peer, Peer) {
    let mut app = sidecar.connect_out();
    let address = remote.address();
    app.send(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let answer = app.read_answer_to_head();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("content-length"), None);
    assert_eq!(answer.field("transfer-encoding"), None);
    (app, remote.accept())
}

#[test]
fn a_tunnel_passes_bytes_both_ways() {
    let remote = App::listen();
    let sidecar = sidecar();
    let (mut app, mut far) = tunnel(&sidecar, &remote);
    app.send("\x16\x03\x01 hello");
    assert_eq!(far.read_exactly(9), b"\x16\x03\x01 hello");
    far.send("0\r\n\r\n");
    assert_eq!(app.read_exactly(5), b"0\r\n\r\n");
    let long = pattern(4 << 20);
    std::thread::scope(|scope| {
        let (mut from_app, mut from_far) = (app.twin(), far.twin());
        let long = &long;
        scope.spawn(move || from_app.send(long));
        scope.spawn(move || from_far.send(long));
        let received = scope.spawn(|| far.read_exactly(long.len()));
        assert!(app.read_exactly(long.len()) == *long);
        assert!(received.join().unwrap() == *long);
    });
}

#[test]
fn what_is_sent_along_with_connect_arrives() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    let address = remote.address();
    app.send(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\nearly "));
    let mut far = remote.accept();
    app.send("bird");
    assert_eq!(far.read_exactly(10), b"early bird");
    assert_eq!(app.read_answer_to_head().status, 200);
}

#[test]
fn a_tunnel_is_counted() {
    let remote = App::listen();
    let sidecar = sidecar();
    let (mut app, mut far) = tunnel(&sidecar, &remote);
    sidecar.await_metric("pillion_tunnels_open", 1.0);
    app.send("12345");
    far.read_exactly(5);
    far.send("123");
    app.read_exactly(3);
    drop(app);
    far.expect_closed();
    drop(far);
    sidecar.await_metric("pillion_tunnels_open", 0.0);
    sidecar.await_metric("pillion_tunnel_bytes_total", 8.0);
}

#[test]
fn either_end_of_a_tunnel_may_close_its_half() {
    let remote = App::listen();
    let sidecar = sidecar();
    let (mut app, mut far) = tunnel(&sidecar, &remote);
    app.send("question");
    app.close_sending();
    assert_eq!(far.read_to_end(), b"question");
    far.send("answer");
    drop(far);
    assert_eq!(app.read_to_end(), b"answer");
}

#[test]
fn an_end_of_a_tunnel_that_dies_takes_the_other_with_it() {
    let remote = App::listen();
    let sidecar = sidecar();
    let (app, mut far) = tunnel(&sidecar, &remote);
    app.reset();
    far.expect_closed();
    let (mut app, far) = tunnel(&sidecar, &remote);
    far.reset();
    app.expect_closed();
}

/// As Python's http.client, and with it urllib3 and requests, asked until 3.12.
#[test]
fn an_http_1_0_client_gets_its_tunnel() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    app.send(format!("CONNECT {} HTTP/1.0\r\n\r\n", remote.address()));
    assert_eq!(app.read_answer_to_head().status, 200);
    let mut far = remote.accept();
    app.send("hello");
    assert_eq!(far.read_exactly(5), b"hello");
    far.send("you");
    assert_eq!(app.read_exactly(3), b"you");
}

#[test]
fn a_tunnel_to_nobody_is_a_502_and_the_next_may_work() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    let gone = nobody();
    app.send(format!("CONNECT {gone} HTTP/1.1\r\nHost: {gone}\r\n\r\n"));
    let answer = app.read_answer();
    assert_eq!(
        (answer.status, answer.json()["error"].as_str().unwrap()),
        (502, "connect_failed")
    );
    let address = remote.address();
    app.send(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert_eq!(app.read_answer_to_head().status, 200);
}

#[test]
fn a_tunnel_needs_a_port() {
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    app.send("CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(app.read_answer().status, 400);
}

#[test]
fn no_client_of_the_service_gets_a_tunnel() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    let address = app.address();
    client.send(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let answer = client.read_answer();
    assert_eq!(
        (answer.status, answer.json()["error"].as_str().unwrap()),
        (405, "connect_not_allowed")
    );
    assert!(app.try_accept().is_none());
}

#[test]
fn an_upgrade_passes_outbound_too() {
    let remote = App::listen();
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    app.send(format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        remote.address()
    ));
    let mut origin = remote.accept();
    origin.read_head();
    origin.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(app.read_answer().status, 101);
    app.send("ping");
    assert_eq!(origin.read_exactly(4), b"ping");
}

#[test]
fn both_sides_work_at_once() {
    let (app, remote) = (App::listen(), App::listen());
    let sidecar = Sidecar::before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    let mut out = sidecar.connect_out();
    out.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", remote.address()));
    let mut far = remote.accept();
    far.read_head();
    far.send(OK);
    assert_eq!(out.read_answer().text(), "ok");
    origin.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_sidecar_that_is_sent_to_itself_soon_stops() {
    let sidecar = sidecar();
    let mut app = sidecar.connect_out();
    app.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", sidecar.outbound()));
    assert_eq!(app.read_answer().status, 508);
}

#[test]
fn a_tunnel_with_a_body_is_refused() {
    let sidecar = sidecar();
    let remote = App::listen();
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut app = sidecar.connect_out();
        let address = remote.address();
        app.send(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{body}"));
        let answer = app.read_answer();
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"], "connect_with_body");
        app.expect_closed();
    }
    assert!(remote.try_accept().is_none());
}

#[test]
fn nobody_reaches_the_admin_api_through_the_sidecar() {
    let sidecar = sidecar();
    let admin = sidecar.admin();
    for address in [
        admin.to_string(),
        format!("localhost:{}", admin.port()),
        format!("0.0.0.0:{}", admin.port()),
    ] {
        for request in [
            format!("GET http://{address}/config HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
        ] {
            let mut app = sidecar.connect_out();
            app.send(&request);
            let answer = app.read_answer();
            assert_eq!(answer.status, 403, "{request}");
            assert_eq!(answer.json()["error"], "destination_forbidden");
        }
    }
}
