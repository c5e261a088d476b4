//! A gRPC service without generated code: notes come back, each with an exclamation mark.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

pub(crate) type Codec = ProstCodec<Note, Note>;

/// The one message there is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Note {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

pub(crate) fn note(text: impl Into<String>) -> Note {
    Note { text: text.into() }
}

fn reply(to: &Note) -> Note {
    note(format!("{}!", to.text))
}

/// Starts the service within the running runtime.
pub(crate) fn start() -> SocketAddr {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    tokio::spawn(Server::builder().add_service(Echo).serve_with_incoming(incoming));
    address
}

/// What the service says when it is asked to refuse.
pub(crate) fn refusal() -> Status {
    let mut status = Status::with_details(
        Code::FailedPrecondition,
        "not now: 100% süß",
        bytes::Bytes::from_static(b"\x08\x09\xff\0"),
    );
    status.metadata_mut().insert("x-why", "because".parse().unwrap());
    status
}

async fn unary(request: Request<Note>) -> Result<Response<Note>, Status> {
    if request.get_ref().text == "refuse" {
        return Err(refusal());
    }
    let mut response = Response::new(reply(request.get_ref()));
    if let Some(value) = request.metadata().get("x-key") {
        response.metadata_mut().insert("x-key", value.clone());
    }
    if let Some(value) = request.metadata().get_bin("x-key-bin") {
        response.metadata_mut().insert_bin("x-key-bin", value.clone());
    }
    Ok(response)
}

/// Answers once with all that was said.
async fn client_streaming(request: Request<Streaming<Note>>) -> Result<Response<Note>, Status> {
    let notes: Vec<Note> = request.into_inner().try_collect().await?;
    let texts: Vec<String> = notes.into_iter().map(|note| note.text).collect();
    Ok(Response::new(note(texts.join(" "))))
}

type Notes = BoxStream<'static, Result<Note, Status>>;

/// Answers three times, and refuses after that if it was asked to.
async fn server_streaming(request: Request<Note>) -> Result<Response<Notes>, Status> {
    let asked = request.into_inner();
    let notes = stream::iter((1..=3).map(|number| Ok(note(format!("{number}")))));
    let refuse = asked.text == "refuse";
    let end = stream::iter(refuse.then(|| Err(refusal())));
    Ok(Response::new(notes.chain(end).boxed()))
}

/// Answers each note before it reads the next.
async fn bidirectional(request: Request<Streaming<Note>>) -> Result<Response<Notes>, Status> {
    let notes = request.into_inner().map_ok(|note| reply(&note));
    Ok(Response::new(notes.boxed()))
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "e2e.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        async move {
            let mut grpc = Grpc::new(Codec::default());
            Ok(match request.uri().path() {
                "/e2e.Echo/Unary" => grpc.unary(service_fn(unary), request).await,
                "/e2e.Echo/ClientStreaming" => grpc.client_streaming(service_fn(client_streaming), request).await,
                "/e2e.Echo/ServerStreaming" => grpc.server_streaming(service_fn(server_streaming), request).await,
                "/e2e.Echo/Bidirectional" => grpc.streaming(service_fn(bidirectional), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        }
        .boxed()
    }
}
