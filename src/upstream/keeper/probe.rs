//! One question to an endpoint: whether it is well.

use std::io;
use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{GrpcCheck, HealthProbe, HttpCheck};
use crate::upstream::{Address, Endpoint, Protocol};

/// More of an answer is not read for its status.
const MOST: usize = 16 * 1024;
/// What `grpc.health.v1.HealthCheckResponse` says of a service that is well.
const SERVING: u64 = 1;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Nothing, if it is well; else what is wrong, for people.
pub(super) async fn ask(endpoint: &Endpoint, probe: &HealthProbe) -> Result<(), String> {
    let stream = connect(&endpoint.address).await.map_err(|error| error.to_string())?;
    match probe {
        HealthProbe::Tcp => Ok(()),
        HealthProbe::Http(check) => {
            let status = match endpoint.protocol {
                Protocol::H2c => http2(stream, endpoint, check).await?,
                Protocol::Http1 | Protocol::Auto => http1(stream, endpoint, check).await?,
            };
            let is_good = if check.status.is_empty() {
                (200..300).contains(&status)
            } else {
                check.status.contains(&status)
            };
            is_good.then_some(()).ok_or_else(|| format!("it answered {status}"))
        }
        HealthProbe::Grpc(check) => grpc(stream, endpoint, check).await,
    }
}

async fn connect(address: &Address) -> io::Result<Pin<Box<dyn Stream>>> {
    Ok(match address {
        Address::Tcp(host, port) => Box::pin(TcpStream::connect((&**host, *port)).await?),
        Address::Unix(path) => Box::pin(UnixStream::connect(path).await?),
    })
}

/// The authority that is asked for.
fn host<'a>(endpoint: &'a Endpoint, check: &'a HttpCheck) -> &'a str {
    match (&check.host, &endpoint.address) {
        (Some(host), _) => host,
        (None, Address::Tcp(..)) => &endpoint.name,
        (None, Address::Unix(_)) => "localhost",
    }
}

async fn http1(mut stream: Pin<Box<dyn Stream>>, endpoint: &Endpoint, check: &HttpCheck) -> Result<u16, String> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: pillion-health-check\r\nConnection: close\r\n\r\n",
        check.path,
        host(endpoint, check),
    );
    let failed = |error: io::Error| error.to_string();
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut line = Vec::new();
    let mut stream = stream.take(MOST as u64);
    while !line.contains(&b'\n') {
        if stream.read_buf(&mut line).await.map_err(failed)? == 0 {
            return Err("it closed without an answer".to_owned());
        }
    }
    status(&line).ok_or_else(|| "what it answered is not HTTP/1".to_owned())
}

/// The status of a status line (RFC 9112, section 4).
fn status(line: &[u8]) -> Option<u16> {
    let rest = line
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let ends = rest.get(3).is_some_and(|end| b" \r\n".contains(end));
    ends.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

async fn http2(stream: Pin<Box<dyn Stream>>, endpoint: &Endpoint, check: &HttpCheck) -> Result<u16, String> {
    let request = Request::get(format!("http://{}{}", host(endpoint, check), check.path))
        .header("user-agent", "pillion-health-check")
        .body(())
        .map_err(|error| error.to_string())?;
    let response = exchange(stream, request, Bytes::new()).await?;
    Ok(response.status().as_u16())
}

/// Asks `grpc.health.v1.Health/Check`.
async fn grpc(stream: Pin<Box<dyn Stream>>, endpoint: &Endpoint, check: &GrpcCheck) -> Result<(), String> {
    let authority = match &endpoint.address {
        Address::Tcp(..) => &*endpoint.name,
        Address::Unix(_) => "localhost",
    };
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| error.to_string())?;
    let response = exchange(stream, request, grpc_message(&check.service)).await?;
    let said = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    let mut message = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| error.to_string())?;
        if message.len() + piece.len() > MOST {
            return Err("its answer is too long".to_owned());
        }
        // Far below any window.
        message.put(piece);
    }
    let trailers = body.trailers().await.map_err(|error| error.to_string())?;
    let said = said.or_else(|| trailers.and_then(|trailers| trailers.get("grpc-status").cloned()));
    match said.as_ref().map(http::HeaderValue::as_bytes) {
        Some(b"0") => {}
        Some(other) => return Err(format!("grpc-status {}", String::from_utf8_lossy(other))),
        None => return Err("it said no grpc-status".to_owned()),
    }
    match serving_status(&message) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(format!("its serving status is {other}")),
        None => Err("what it answered is no health".to_owned()),
    }
}

/// A `HealthCheckRequest`: field 1, the service's name, behind gRPC's five bytes.
fn grpc_message(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(service.len() as u64, &mut message);
        message.put(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put(message);
    framed.freeze()
}

fn put_varint(mut number: u64, out: &mut BytesMut) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// Field 1 of a `HealthCheckResponse`; an absent one is 0, `UNKNOWN`.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (&0, rest) = framed.split_first()? else { return None };
    let (length, message) = rest.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    match message.get(..length)? {
        [] => Some(0),
        [0x08, status] if *status < 0x80 => Some((*status).into()),
        _ => None,
    }
}

/// One request over HTTP/2 with prior knowledge.
async fn exchange(
    stream: Pin<Box<dyn Stream>>,
    request: Request<()>,
    body: Bytes,
) -> Result<http::Response<h2::RecvStream>, String> {
    let failed = |error: h2::Error| error.to_string();
    let (send, connection) = h2::client::handshake(stream).await.map_err(failed)?;
    // Ends with the last handle on it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut send = send.ready().await.map_err(failed)?;
    let (response, mut stream) = send.send_request(request, body.is_empty()).map_err(failed)?;
    if !body.is_empty() {
        stream.send_data(body, true).map_err(failed)?;
    }
    response.await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_strictly() {
        for (line, expected) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503 \r\n", Some(503)),
            ("HTTP/1.1 204\r\n", Some(204)),
            ("HTTP/2 200\r\n", None),
            ("HTTP/1.1 20x OK\r\n", None),
            ("HTTP/1.1 2000\r\n", None),
            ("SSH-2.0-x\r\n", None),
        ] {
            assert_eq!(status(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn messages_are_as_grpc_writes_them() {
        assert_eq!(&grpc_message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&grpc_message("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = "x".repeat(300);
        assert_eq!(grpc_message(&long)[5..8], [0x0a, 0xac, 0x02]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 2]), Some(2));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        for wrong in [
            &[][..],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 9, 8, 1],
            &[0, 0, 0, 0, 2, 16, 1],
        ] {
            assert_eq!(serving_status(wrong), None, "{wrong:?}");
        }
    }
}
