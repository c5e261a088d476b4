//! gRPC between a client and a server as people have them, with a sidecar before each.

use std::future::Future;
use std::net::SocketAddr;

use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::support::echo::{self, Codec, Note, note, refusal};
use crate::support::{PATIENCE, Setup, Sidecar, nobody, pattern};

const UNARY: PathAndQuery = PathAndQuery::from_static("/e2e.Echo/Unary");
const CLIENT_STREAMING: PathAndQuery = PathAndQuery::from_static("/e2e.Echo/ClientStreaming");
const SERVER_STREAMING: PathAndQuery = PathAndQuery::from_static("/e2e.Echo/ServerStreaming");
const BIDIRECTIONAL: PathAndQuery = PathAndQuery::from_static("/e2e.Echo/Bidirectional");

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

/// The sidecars on the way, from the client's to the server's.
struct Way {
    first: Sidecar,
    _second: Sidecar,
}

impl Way {
    fn to(server: SocketAddr) -> Self {
        let second = Setup::before(format!("h2c://{server}")).start();
        let first = Setup::before(format!("h2c://{}", second.inbound())).start();
        Self { first, _second: second }
    }

    async fn client(&self) -> Grpc<Channel> {
        client_of(&self.first).await
    }
}

async fn client_of(sidecar: &Sidecar) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", sidecar.inbound())).unwrap();
    let mut client = Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

fn assert_is_refusal(status: &Status) {
    let said = refusal();
    assert_eq!(status.code(), said.code());
    assert_eq!(status.message(), said.message());
    assert_eq!(status.details(), said.details());
    assert_eq!(status.metadata().get("x-why"), said.metadata().get("x-why"));
}

#[test]
fn a_unary_call_passes_with_its_metadata() {
    run(async {
        let way = Way::to(echo::start());
        let mut client = way.client().await;
        let mut request = Request::new(note("hello"));
        let bytes = MetadataValue::from_bytes(b"\0\xff, ;");
        request.metadata_mut().insert("x-key", "value".parse().unwrap());
        request.metadata_mut().insert_bin("x-key-bin", bytes.clone());
        let response = client.unary(request, UNARY, Codec::default()).await.unwrap();
        assert_eq!(response.metadata().get("x-key").unwrap(), "value");
        assert_eq!(response.metadata().get_bin("x-key-bin"), Some(&bytes));
        assert_eq!(response.into_inner(), note("hello!"));
    });
}

/// Larger than any window on the way.
#[test]
fn a_message_of_three_megabytes_passes() {
    run(async {
        let way = Way::to(echo::start());
        let text: String = pattern(3_000_000)
            .into_iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect();
        let request = Request::new(note(&text));
        let mut client = way.client().await;
        let response = client.unary(request, UNARY, Codec::default()).await;
        assert!(response.unwrap().into_inner().text == text + "!");
    });
}

#[test]
fn a_client_streams() {
    run(async {
        let way = Way::to(echo::start());
        let notes = tokio_stream::iter(["one", "two", "six"].map(note));
        let mut client = way.client().await;
        let response = client.client_streaming(Request::new(notes), CLIENT_STREAMING, Codec::default());
        assert_eq!(response.await.unwrap().into_inner(), note("one two six"));
    });
}

#[test]
fn a_server_streams() {
    run(async {
        let way = Way::to(echo::start());
        let mut client = way.client().await;
        let response = client
            .server_streaming(Request::new(note("")), SERVER_STREAMING, Codec::default())
            .await;
        let notes: Vec<Result<Note, Status>> = response.unwrap().into_inner().collect().await;
        let notes: Vec<Note> = notes.into_iter().map(Result::unwrap).collect();
        assert_eq!(notes, ["1", "2", "3"].map(note));
    });
}

/// Nothing on the way waits for more of either side before it passes on what there is.
#[test]
fn both_sides_stream_in_turn() {
    run(async {
        let way = Way::to(echo::start());
        let (say, said) = mpsc::channel(1);
        say.send(note("first")).await.unwrap();
        let request = Request::new(ReceiverStream::new(said));
        let mut client = way.client().await;
        let response = client.streaming(request, BIDIRECTIONAL, Codec::default()).await;
        let mut notes = response.unwrap().into_inner();
        assert_eq!(notes.message().await.unwrap(), Some(note("first!")));
        for number in 0..100 {
            say.send(note(format!("{number}"))).await.unwrap();
            assert_eq!(notes.message().await.unwrap(), Some(note(format!("{number}!"))));
        }
        drop(say);
        assert_eq!(notes.message().await.unwrap(), None);
        assert!(notes.trailers().await.unwrap().is_some());
    });
}

#[test]
fn an_error_passes_with_its_details() {
    run(async {
        let way = Way::to(echo::start());
        let request = Request::new(note("refuse"));
        let mut client = way.client().await;
        let response = client.unary::<Note, Note, _>(request, UNARY, Codec::default()).await;
        assert_is_refusal(&response.unwrap_err());
    });
}

#[test]
fn an_error_behind_messages_passes_with_its_details() {
    run(async {
        let way = Way::to(echo::start());
        let request = Request::new(note("refuse"));
        let mut client = way.client().await;
        let response = client.server_streaming(request, SERVER_STREAMING, Codec::default());
        let mut notes = response.await.unwrap().into_inner();
        for number in ["1", "2", "3"] {
            assert_eq!(notes.message().await.unwrap(), Some(note(number)));
        }
        assert_is_refusal(&notes.message().await.unwrap_err());
    });
}

#[test]
fn a_method_that_is_not_there_is_unimplemented() {
    run(async {
        let way = Way::to(echo::start());
        let path = PathAndQuery::from_static("/e2e.Echo/Nothing");
        let mut client = way.client().await;
        let response = client
            .unary::<Note, Note, _>(Request::new(note("")), path, Codec::default())
            .await;
        assert_eq!(response.unwrap_err().code(), Code::Unimplemented);
    });
}

/// Whichever sidecar finds that out.
#[test]
fn a_server_that_is_down_is_unavailable() {
    run(async {
        let way = Way::to(nobody());
        let alone = Setup::before(format!("h2c://{}", nobody())).start();
        for mut client in [way.client().await, client_of(&alone).await] {
            let request = Request::new(note("hello"));
            let response = client.unary::<Note, Note, _>(request, UNARY, Codec::default()).await;
            assert_eq!(response.unwrap_err().code(), Code::Unavailable);
        }
    });
}
