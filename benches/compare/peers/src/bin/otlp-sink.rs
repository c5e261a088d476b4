//! Takes spans over OTLP/gRPC and OTLP/HTTP (protobuf), counts them by `service.name` and forgets them. Every message is decoded
//! in full, so that a malformed export is refused rather than counted.
//!
//!     otlp-sink --grpc 127.0.0.1:PORT --http 127.0.0.1:PORT
//!
//! `GET /count` on the HTTP port answers `{"total":3,"services":{"a":2,"b":1}}`; the same line is printed on SIGTERM.
//! Refused, in the transport's own way: another path, a compressed body, anything but protobuf.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write as _,
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, Bytes};
use compare_peers::{Failure, addresses};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::ResourceSpans,
};
use prost::Message;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXPORT_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LARGEST_EXPORT: usize = 64 << 20;

// gRPC status codes.
const INVALID_ARGUMENT: u8 = 3;
const UNIMPLEMENTED: u8 = 12;

type Body = BoxBody<Bytes, Infallible>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let [grpc, http] = addresses(["grpc", "http"])?;
    let grpc = TcpListener::bind(grpc).await?;
    let http = TcpListener::bind(http).await?;
    let tally = Arc::new(Tally::default());
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        failure = serve_grpc(grpc, tally.clone()) => failure?,
        failure = serve_http(http, tally.clone()) => failure?,
        _ = terminate.recv() => println!("{}", tally.json()),
    }
    Ok(())
}

async fn serve_grpc(listener: TcpListener, tally: Arc<Tally>) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let tally = tally.clone();
        let service = service_fn(move |request| grpc_export(tally.clone(), request));
        let connection =
            conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn serve_http(listener: TcpListener, tally: Arc<Tally>) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let tally = tally.clone();
        let service = service_fn(move |request| http_export(tally.clone(), request));
        let connection = conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn grpc_export(tally: Arc<Tally>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    if request.uri().path() != EXPORT_METHOD {
        return Ok(grpc_answer(UNIMPLEMENTED));
    }
    let body = collect(request.into_body()).await?;
    Ok(grpc_answer(match unframe(body) {
        Err(status) => status,
        Ok(message) => match tally.add(message) {
            Ok(()) => 0,
            Err(_) => INVALID_ARGUMENT,
        },
    }))
}

/// The one message of a unary call: a byte that says whether it is compressed, four bytes of length, the message.
fn unframe(mut body: Bytes) -> Result<Bytes, u8> {
    if body.len() < 5 {
        return Err(INVALID_ARGUMENT);
    }
    if body.get_u8() != 0 {
        return Err(UNIMPLEMENTED);
    }
    let length = body.get_u32() as usize;
    if length == body.len() {
        Ok(body)
    } else {
        Err(INVALID_ARGUMENT)
    }
}

/// An empty `ExportTraceServiceResponse` (zero bytes long, so only its frame), or the bare status.
fn grpc_answer(status: u8) -> Response<Body> {
    let frame: &'static [u8] = if status == 0 { &[0; 5] } else { &[] };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    let body = Full::new(Bytes::from_static(frame)).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

async fn http_export(tally: Arc<Tally>, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/count") => {
            return Ok(http_answer(StatusCode::OK, "application/json", tally.json()));
        }
        (&Method::POST, "/v1/traces") => {}
        _ => return Ok(http_answer(StatusCode::NOT_FOUND, "text/plain", "")),
    }
    let headers = request.headers();
    let protobuf = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/x-protobuf");
    if !protobuf || headers.contains_key(CONTENT_ENCODING) {
        return Ok(http_answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, "text/plain", ""));
    }
    let body = collect(request.into_body()).await?;
    let status = match tally.add(body) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::BAD_REQUEST,
    };
    Ok(http_answer(status, "application/x-protobuf", ""))
}

fn http_answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The whole body; one that is larger than any honest export breaks its connection.
async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    Ok(Limited::new(body, LARGEST_EXPORT).collect().await?.to_bytes())
}

/// Spans received, by the `service.name` of their resource.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, usize>>);

impl Tally {
    fn add(&self, message: Bytes) -> Result<(), prost::DecodeError> {
        let export = ExportTraceServiceRequest::decode(message)?;
        let mut services = self.lock();
        for resource_spans in &export.resource_spans {
            let spans: usize = resource_spans.scope_spans.iter().map(|scope| scope.spans.len()).sum();
            *services.entry(service_name(resource_spans).to_owned()).or_default() += spans;
        }
        Ok(())
    }

    fn json(&self) -> String {
        let services = self.lock();
        let mut json = format!("{{\"total\":{},\"services\":{{", services.values().sum::<usize>());
        for (position, (name, spans)) in services.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            // Rust's escapes are JSON's for every name the runner gives; writing to a string cannot fail.
            let _ = write!(json, "{comma}{name:?}:{spans}");
        }
        json.push_str("}}");
        json
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // Counting leaves nothing half done that a panic elsewhere could expose.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn service_name(spans: &ResourceSpans) -> &str {
    let attributes = spans.resource.iter().flat_map(|r| &r.attributes);
    let mut named = attributes.filter(|attribute| attribute.key == "service.name");
    match named.next().and_then(|a| a.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(name)) => name,
        _ => "",
    }
}
