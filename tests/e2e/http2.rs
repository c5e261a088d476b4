//! HTTP/2 from clients, and towards apps.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use crate::support::{
    App, GET, H2App, H2Client, OK, Setup, Sidecar, collect, fields, nobody, pattern, read_body, send_body, wait,
};

fn before(app: &H2App) -> Sidecar {
    Setup::before(format!("h2c://{}", app.address)).start()
}

#[test]
fn both_versions_share_a_port() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut new = H2Client::connect(sidecar.inbound());
    let response = new.get("/x?y=1");
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("GET /x?y=1 HTTP/1.1\r\n"));
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
    let mut old = sidecar.connect();
    old.send(GET);
    origin.read_head();
    origin.send(OK);
    assert_eq!(old.read_answer().text(), "ok");
}

#[test]
fn the_authority_becomes_the_host() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::get("http://Example.com:81/").body(()).unwrap();
    let (response, _) = client.send(request, true);
    let mut origin = app.accept();
    let head = origin.read_head();
    assert_eq!(fields(&head, "host"), ["Example.com:81"]);
    assert_eq!(fields(&head, "x-forwarded-host"), ["Example.com:81"]);
    assert_eq!(fields(&head, "via"), ["2 pillion"]);
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().status, 200);
}

#[test]
fn cookie_crumbs_become_one_cookie() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let mut request = Request::get("http://a/").body(()).unwrap();
    for crumb in ["a=1", "b=2; c=3", "d=4"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
    }
    let _response = client.send(request, true);
    assert_eq!(fields(&app.accept().read_head(), "cookie"), ["a=1; b=2; c=3; d=4"]);
}

#[test]
fn fields_of_http_1_connections_do_not_reach_the_client() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nUpgrade: h2c\r\n\
         Transfer-Encoding: chunked\r\nProxy-Connection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let answer = wait(collect(response)).unwrap();
    assert_eq!(answer.body, b"ok");
    for gone in [
        "connection",
        "keep-alive",
        "x-hop",
        "upgrade",
        "transfer-encoding",
        "proxy-connection",
    ] {
        assert!(!answer.headers.contains_key(gone), "{gone}");
    }
    assert!(answer.headers.contains_key("date"));
}

#[test]
fn two_hundred_streams_share_a_connection() {
    let app = H2App::allowing(1000);
    let sidecar = Setup::before(format!("h2c://{}", app.address))
        .connections("{ max_streams: 500 }")
        .start();
    let mut client = H2Client::connect(sidecar.inbound());
    let responses: Vec<_> = (0..200).map(|number| client.get(&format!("/{number}"))).collect();
    // All of them are under way before the first is answered.
    let calls: Vec<_> = responses.iter().map(|_| app.next()).collect();
    for mut call in calls {
        let path = call.request.uri().path().to_owned();
        call.ok(path);
    }
    for (number, response) in responses.into_iter().enumerate() {
        let answer = wait(collect(response)).unwrap();
        assert_eq!(answer.body, format!("/{number}").as_bytes());
    }
}

#[test]
fn two_hundred_streams_become_as_many_http_1_requests() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ max_streams: 500 }").start();
    let mut client = H2Client::connect(sidecar.inbound());
    let responses: Vec<_> = (0..200).map(|number| client.get(&format!("/{number}"))).collect();
    let origins: Vec<_> = responses.iter().map(|_| app.accept()).collect();
    for mut origin in origins {
        let head = origin.read_head();
        let path = head.split(' ').nth(1).unwrap();
        origin.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
            path.len()
        ));
    }
    for (number, response) in responses.into_iter().enumerate() {
        let answer = wait(collect(response)).unwrap();
        assert_eq!(answer.body, format!("/{number}").as_bytes());
    }
}

#[test]
fn streams_beyond_the_limit_wait_for_their_turn() {
    let app = App::listen();
    let sidecar = Sidecar::setup(&app).connections("{ max_streams: 2 }").start();
    let mut client = H2Client::connect(sidecar.inbound());
    // The limit is known once the first exchange is over.
    let first = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    wait(collect(first)).unwrap();
    let mut responses = vec![client.get("/1"), client.get("/2")];
    let mut other = app.accept();
    origin.read_head();
    other.read_head();
    std::thread::scope(|scope| {
        // Opening the third waits in the client's own library until one of the two is over.
        let third = scope.spawn(|| client.get("/3"));
        origin.send(OK);
        responses.push(third.join().unwrap());
    });
    assert!(origin.read_head().contains(" /3 "));
    origin.send(OK);
    other.send(OK);
    for response in responses {
        assert_eq!(wait(collect(response)).unwrap().status, 200);
    }
}

#[test]
fn a_body_of_known_length_arrives_with_its_length() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::post("http://a/")
        .header("content-length", "5")
        .body(())
        .unwrap();
    let (response, mut stream) = client.send(request, false);
    wait(send_body(&mut stream, Bytes::from_static(b"hello"), true)).unwrap();
    let mut origin = app.accept();
    let head = origin.read_head();
    assert_eq!(fields(&head, "content-length"), ["5"]);
    assert_eq!(fields(&head, "transfer-encoding"), [""; 0]);
    assert_eq!(origin.read_exactly(5), b"hello");
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().status, 200);
}

#[test]
fn a_body_of_unknown_length_arrives_chunked() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let (response, mut stream) = client.post("/");
    let body = pattern(1_000_000);
    let mut origin = std::thread::scope(|scope| {
        scope.spawn(|| wait(send_body(&mut stream, Bytes::from(body.clone()), true)).unwrap());
        let mut origin = app.accept();
        assert_eq!(fields(&origin.read_head(), "transfer-encoding"), ["chunked"]);
        assert!(origin.read_chunked().0 == body);
        origin
    });
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().status, 200);
}

#[test]
fn a_post_without_a_body_is_not_chunked() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let _response = client.send(Request::post("http://a/").body(()).unwrap(), true);
    let head = app.accept().read_head();
    assert_eq!(fields(&head, "content-length"), ["0"]);
    assert_eq!(fields(&head, "transfer-encoding"), [""; 0]);
}

#[test]
fn resetting_a_stream_leaves_the_others_alone() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let (doomed, mut doomed_stream) = client.post("/doomed");
    let mut doomed_origin = app.accept();
    doomed_origin.read_head();
    let other = client.get("/other");
    let mut other_origin = app.accept();
    other_origin.read_head();
    doomed_stream.send_reset(h2::Reason::CANCEL);
    doomed_origin.expect_closed();
    drop(doomed);
    other_origin.send(OK);
    assert_eq!(wait(collect(other)).unwrap().body, b"ok");
}

#[test]
fn the_answer_to_head_ends_with_its_head() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::head("http://a/").body(()).unwrap();
    let (response, _) = client.send(request, true);
    let mut origin = app.accept();
    assert!(origin.read_head().starts_with("HEAD / "));
    origin.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    let answer = wait(collect(response)).unwrap();
    assert_eq!(answer.headers["content-length"], "1000");
    assert!(answer.body.is_empty());
}

#[test]
fn an_answer_of_the_sidecars_own_to_head_ends_with_its_head() {
    let sidecar = Setup::before(format!("http://{}", nobody())).start();
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::head("http://a/").body(()).unwrap();
    let (response, _) = client.send(request, true);
    let answer = wait(collect(response)).unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.body.is_empty());
}

#[test]
fn a_response_larger_than_all_windows_arrives_whole() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    let body = pattern(8 << 20);
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            origin.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            origin.send(&body);
        });
        wait(collect(response)).unwrap().body
    });
    assert!(received == body);
}

#[test]
fn a_stream_nobody_reads_holds_no_other_up() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let unread = client.get("/unread");
    let mut origin = app.accept();
    origin.read_head();
    // Less than the connection's window, which the client's library would not open again.
    origin.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n{}",
        "x".repeat(40_000)
    ));
    let unread = wait(unread).unwrap();
    for _ in 0..3 {
        let response = client.get("/");
        origin.read_head();
        origin.send(OK);
        assert_eq!(wait(collect(response)).unwrap().body, b"ok");
    }
    assert_eq!(wait(read_body(&mut unread.into_body())).unwrap().0.len(), 40_000);
}

#[test]
fn an_http_1_client_is_served_by_an_http_2_app() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = sidecar.connect();
    client.send("GET /x?y HTTP/1.1\r\nHost: Example.com\r\nX-Name: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n");
    let mut call = app.next();
    assert_eq!(call.request.method(), Method::GET);
    assert_eq!(call.request.uri(), "http://Example.com/x?y");
    assert_eq!(call.request.headers()["x-name"], "1");
    assert_eq!(call.request.headers()["via"], "1.1 pillion");
    for gone in ["host", "connection", "x-hop"] {
        assert!(!call.request.headers().contains_key(gone), "{gone}");
    }
    call.ok("hello");
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
}

#[test]
fn a_body_reaches_an_http_2_app_and_comes_back() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = sidecar.connect();
    let body = pattern(1 << 20);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    let mut call = app.next();
    assert_eq!(call.request.headers()["content-length"], body.len().to_string());
    std::thread::scope(|scope| {
        let mut twin = client.twin();
        scope.spawn({
            let body = &body;
            move || twin.send(body)
        });
        let received = wait(read_body(call.request.body_mut())).unwrap().0;
        let mut stream = call.answer(Response::new(()), false);
        scope.spawn(move || wait(send_body(&mut stream, Bytes::from(received), true)).unwrap());
        let answer = client.read_answer();
        assert!(answer.body == body);
    });
}

#[test]
fn exchanges_share_a_connection_to_an_http_2_app() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut clients = [sidecar.connect(), sidecar.connect(), sidecar.connect()];
    for client in &mut clients {
        client.send(GET);
    }
    let calls: Vec<_> = clients.iter().map(|_| app.next()).collect();
    for mut call in calls {
        call.ok("ok");
    }
    for client in &mut clients {
        assert_eq!(client.read_answer().text(), "ok");
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn an_app_that_allows_one_stream_serves_many_clients() {
    let app = H2App::allowing(1);
    let sidecar = before(&app);
    let mut clients: Vec<_> = (0..5).map(|_| sidecar.connect()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    for _ in &clients {
        app.next().ok("ok");
    }
    for client in &mut clients {
        assert_eq!(client.read_answer().text(), "ok");
    }
}

#[test]
fn an_http_2_app_that_was_restarted_is_connected_to_again() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    app.next().ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
    app.cut();
    client.send(GET);
    app.next().ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
    assert_eq!(app.connections(), 2);
}

#[test]
fn a_connection_that_says_good_bye_finishes_and_gets_no_new_stream() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut slow = sidecar.connect();
    slow.send(GET);
    let mut under_way = app.next();
    app.retire();
    let mut client = sidecar.connect();
    for _ in 0..20 {
        client.send(GET);
        app.next().ok("ok");
        assert_eq!(client.read_answer().text(), "ok");
    }
    under_way.ok("late");
    assert_eq!(slow.read_answer().text(), "late");
    assert!(app.connections() <= 2, "{} connections", app.connections());
}

/// RFC 9113, section 8.7: the app has not looked at it.
#[test]
fn a_refused_stream_is_tried_again_whatever_its_method() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    app.next().respond.send_reset(h2::Reason::REFUSED_STREAM);
    app.next().ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let mut call = app.next();
    assert_eq!(wait(call.request.body_mut().data()).unwrap().unwrap(), "hello");
    call.respond.send_reset(h2::Reason::REFUSED_STREAM);
    let mut call = app.next();
    assert_eq!(wait(read_body(call.request.body_mut())).unwrap().0, b"hello");
    call.ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    app.next().respond.send_reset(h2::Reason::CANCEL);
    assert_eq!(client.read_answer().status, 502);
}

#[test]
fn idle_connections_to_an_http_2_app_are_closed() {
    let app = H2App::listen();
    let sidecar = Setup::before(format!("h2c://{}", app.address))
        .with("pool: { idle_timeout: 500ms }")
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    app.next().ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
    app.await_closed(1);
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("grpc-message", HeaderValue::from_static("fine"));
    trailers
}

#[test]
fn a_grpc_call_passes_with_its_trailers() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::post("http://a/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut stream) = client.send(request, false);
    stream.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), true).unwrap();
    let mut call = app.next();
    assert_eq!(call.request.headers()["te"], "trailers");
    assert_eq!(call.request.uri().path(), "/pkg.Service/Method");
    assert_eq!(wait(read_body(call.request.body_mut())).unwrap().0, b"\0\0\0\0\x02hi");
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut stream = call.answer(head, false);
    stream.send_data(Bytes::from_static(b"\0\0\0\0\x02ho"), false).unwrap();
    stream.send_trailers(trailers()).unwrap();
    let answer = wait(collect(response)).unwrap();
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(answer.body, b"\0\0\0\0\x02ho");
    assert_eq!(answer.trailers, Some(trailers()));
}

#[test]
fn a_grpc_error_without_a_body_passes() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/pkg.Service/Method");
    let head = Response::builder().header("grpc-status", "5").body(()).unwrap();
    app.next().answer(head, true);
    let answer = wait(collect(response)).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.headers["grpc-status"], "5");
}

#[test]
fn grpc_messages_pass_one_by_one_in_both_directions() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let (response, mut up) = client.post("/pkg.Service/Chat");
    let mut call = app.next();
    let mut down = call.answer(Response::new(()), false);
    let mut from_app = wait(response).unwrap().into_body();
    let mut from_client = call.request.into_body();
    for message in [b"one", b"two", b"six"] {
        up.send_data(Bytes::from_static(message), false).unwrap();
        assert_eq!(wait(from_client.data()).unwrap().unwrap(), &message[..]);
        down.send_data(Bytes::from_static(message), false).unwrap();
        assert_eq!(wait(from_app.data()).unwrap().unwrap(), &message[..]);
    }
    up.send_data(Bytes::new(), true).unwrap();
    assert!(wait(from_client.data()).is_none_or(|last| last.unwrap().is_empty()));
    down.send_trailers(trailers()).unwrap();
    assert!(wait(from_app.data()).is_none());
    assert_eq!(wait(from_app.trailers()).unwrap(), Some(trailers()));
}

#[test]
fn trailers_of_an_http_2_app_end_a_chunked_body() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
    let mut call = app.next();
    let mut stream = call.answer(Response::new(()), false);
    stream.send_data(Bytes::from_static(b"body"), false).unwrap();
    stream.send_trailers(trailers()).unwrap();
    assert_eq!(client.read_answer_to_head().field("transfer-encoding"), Some("chunked"));
    let (body, trailers) = client.read_chunked();
    assert_eq!(body, b"body");
    assert_eq!(trailers, "grpc-status: 0\r\ngrpc-message: fine\r\n");
}

#[test]
fn an_http_2_app_is_sent_the_body_at_once_whatever_the_client_expects() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.read_answer().status, 100);
    client.send("hello");
    let mut call = app.next();
    assert!(!call.request.headers().contains_key("expect"));
    assert_eq!(wait(read_body(call.request.body_mut())).unwrap().0, b"hello");
    call.ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
}

/// Clients count small frames that do not end a stream: hyper's end the connection over a hundred or so.
#[test]
fn the_end_of_a_small_body_comes_with_its_bytes() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let response = client.get("/");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    let mut body = wait(response).unwrap().into_body();
    assert_eq!(wait(body.data()).unwrap().unwrap(), "ok");
    assert!(body.is_end_stream());
}

#[test]
fn a_host_that_disagrees_with_the_authority_is_refused() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::get("http://a/").header("host", "b").body(()).unwrap();
    let (response, _) = client.send(request, true);
    match wait(collect(response)) {
        Ok(answer) => assert_eq!(answer.status, 400),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    assert!(app.try_accept().is_none());
}

#[test]
fn a_get_over_a_connection_that_dies_is_sent_once_more() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    app.next().ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
    client.send(GET);
    let lost = app.next();
    app.cut();
    app.next().ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
    drop(lost);
}

#[test]
fn a_post_over_a_connection_that_dies_is_not_sent_again() {
    let app = H2App::listen();
    let sidecar = before(&app);
    let mut client = sidecar.connect();
    client.send(GET);
    app.next().ok("ok");
    assert_eq!(client.read_answer().text(), "ok");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    let lost = app.next();
    app.cut();
    assert_eq!(client.read_answer().status, 502);
    assert_eq!(app.connections(), 1);
    drop(lost);
}

#[test]
fn an_http_2_client_that_expects_to_be_asked_is_asked_by_the_app() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let request = Request::post("http://a/")
        .header("expect", "100-continue")
        .body(())
        .unwrap();
    let (mut response, mut stream) = client.send(request, false);
    let mut origin = app.accept();
    assert_eq!(fields(&origin.read_head(), "expect"), ["100-continue"]);
    origin.send("HTTP/1.1 100 Continue\r\n\r\n");
    let go_on = wait(std::future::poll_fn(|cx| response.poll_informational(cx)))
        .unwrap()
        .unwrap();
    assert_eq!(go_on.status(), 100);
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!(origin.read_chunked().0, b"hello");
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().body, b"ok");
}

/// In chunked coding an empty chunk is the last one: what follows would be taken for another request.
#[test]
fn an_empty_frame_does_not_end_a_body() {
    let app = App::listen();
    let sidecar = Sidecar::before(&app);
    let mut client = H2Client::connect(sidecar.inbound());
    let (response, mut stream) = client.post("/");
    for piece in ["", "ab", "", "cd", ""] {
        stream.send_data(Bytes::from_static(piece.as_bytes()), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let mut origin = app.accept();
    origin.read_head();
    assert_eq!(origin.read_chunked().0, b"abcd");
    origin.send(OK);
    assert_eq!(wait(collect(response)).unwrap().status, 200);
    let next = client.get("/next");
    let head = origin.read_head();
    assert!(head.starts_with("GET /next "), "{head}");
    origin.send(OK);
    assert_eq!(wait(collect(next)).unwrap().body, b"ok");
}
