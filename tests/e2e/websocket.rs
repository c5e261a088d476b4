//! `WebSocket` messages between a client and a server as people have them.

use std::future::Future;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::support::{PATIENCE, Setup, Sidecar, pattern};

type Socket = WebSocketStream<TcpStream>;

/// A client's socket, and what becomes of the server's.
struct Pair {
    client: Socket,
    response: Response,
    server: tokio::task::JoinHandle<Option<CloseFrame>>,
    _sidecar: Sidecar,
}

/// Sends back what comes until the client closes; what it says then.
async fn echo(listener: TcpListener) -> Option<CloseFrame> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    while let Some(message) = socket.next().await {
        match message.unwrap() {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await.unwrap(),
            // The library answers pings and closes by itself.
            Message::Close(frame) => {
                assert!(socket.next().await.is_none());
                return frame;
            }
            _ => {}
        }
    }
    None
}

async fn connect(address: SocketAddr) -> (Socket, Response) {
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async("ws://a/chat?room=1", stream)
        .await
        .unwrap()
}

async fn open() -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sidecar = Setup::before(format!("http://{}", listener.local_addr().unwrap())).start();
    let server = tokio::spawn(echo(listener));
    let (client, response) = connect(sidecar.inbound()).await;
    Pair {
        client,
        response,
        server,
        _sidecar: sidecar,
    }
}

/// Runs a test's client and server, but not for ever.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, test).await })
        .expect("it did not happen in time")
}

#[test]
fn messages_of_all_kinds_come_back() {
    run(async {
        let mut pair = open().await;
        assert_eq!(pair.response.status(), 101);
        for message in [
            Message::text("hello"),
            Message::text(""),
            Message::text("süß"),
            Message::binary(Bytes::from_static(b"\0\x81\xff\r\n\r\n")),
            Message::binary(pattern(1024 * 1024)),
            Message::text("x".repeat(1024 * 1024)),
        ] {
            pair.client.send(message.clone()).await.unwrap();
            assert!(pair.client.next().await.unwrap().unwrap() == message);
        }
        pair.client.send(Message::Ping("are you there".into())).await.unwrap();
        let pong = pair.client.next().await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong("are you there".into()));
    });
}

#[test]
fn messages_sent_ahead_keep_their_order() {
    run(async {
        let mut pair = open().await;
        for number in 0..100 {
            pair.client.feed(Message::text(number.to_string())).await.unwrap();
        }
        pair.client.flush().await.unwrap();
        for number in 0..100 {
            let message = pair.client.next().await.unwrap().unwrap();
            assert_eq!(message, Message::text(number.to_string()));
        }
    });
}

#[test]
fn both_sides_say_good_bye() {
    run(async {
        let mut pair = open().await;
        let good_bye = CloseFrame {
            code: CloseCode::Away,
            reason: "enough".into(),
        };
        pair.client.close(Some(good_bye.clone())).await.unwrap();
        let answer = pair.client.next().await.unwrap().unwrap();
        assert_eq!(answer, Message::Close(Some(good_bye.clone())));
        assert!(pair.client.next().await.is_none());
        assert_eq!(pair.server.await.unwrap(), Some(good_bye));
    });
}

#[test]
fn a_server_that_takes_no_web_sockets_says_so() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sidecar = Setup::before(format!("http://{}", listener.local_addr().unwrap())).start();
        let app = axum::Router::new().route("/chat", axum::routing::get(|| async { "no sockets here" }));
        tokio::spawn(async { axum::serve(listener, app).await });
        let stream = TcpStream::connect(sidecar.inbound()).await.unwrap();
        match tokio_tungstenite::client_async("ws://a/chat", stream).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 200),
            other => panic!("{other:?}"),
        }
    });
}
