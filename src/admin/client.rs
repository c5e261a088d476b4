//! Asks another admin API: one `GET`, no redirects, an answer of bounded length.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::AdminUrl;

/// Longer answers are not taken.
const MOST: usize = 1024 * 1024;
/// More of what a refusal says is not shown.
const MOST_OF_A_REFUSAL: usize = 200;

/// Why there is no answer. The text is for whoever asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// It took too long.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// What came is not HTTP, or ended early.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// The answer is too long.
    #[error("the answer is longer than 1 MiB")]
    Long,
    /// A token is needed, or another one.
    #[error("it wants another token than it was shown")]
    Token,
    /// Anything but 200.
    #[error("it answered {0}{1}")]
    Refused(StatusCode, String),
    /// The token cannot be sent.
    #[error("the token has characters that no header may have")]
    NoHeader,
}

/// The body of a 200.
pub(crate) async fn get(url: &AdminUrl, path: &str, token: Option<&str>, limit: Duration) -> Result<Bytes, AskError> {
    match tokio::time::timeout(limit, exchange(url, path, token)).await {
        Ok(done) => done,
        Err(_) => Err(AskError::Late(limit)),
    }
}

async fn exchange(url: &AdminUrl, path: &str, token: Option<&str>) -> Result<Bytes, AskError> {
    let mut request = Request::get(path)
        .header(header::HOST, url.authority())
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, "pillion");
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| AskError::NoHeader)?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let broken = |error: hyper::Error| AskError::Broken(error.to_string());
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| AskError::Broken(error.to_string()))?;
    let stream = TcpStream::connect((&*url.host, url.port))
        .await
        .map_err(AskError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => AskError::Broken(error.to_string()),
            Err(_) => AskError::Long,
        })?;
        match status {
            StatusCode::OK => Ok(body.to_bytes()),
            StatusCode::UNAUTHORIZED => Err(AskError::Token),
            _ => Err(AskError::Refused(status, sentence(&body.to_bytes()))),
        }
    };
    // The connection ends with the asking, however that ends: nothing is left running.
    tokio::pin!(asking, connection);
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        ended = &mut connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(broken(error)),
        },
    }
}

/// The first line of what a refusal says, if it is a text.
fn sentence(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..MOST_OF_A_REFUSAL).unwrap_or(body));
    let line = text.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Asks a server that answers with these bytes and closes; what it was asked, and what came of it.
    async fn ask(answer: Vec<u8>, token: Option<&str>) -> (String, Result<Bytes, AskError>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            // A client that has read enough closes.
            let _ = stream.write_all(&answer).await;
            String::from_utf8(asked).unwrap()
        });
        let url = format!("http://127.0.0.1:{port}").parse().unwrap();
        let done = get(&url, "/stats", token, LIMIT).await;
        (server.await.unwrap(), done)
    }

    #[tokio::test]
    async fn a_token_is_shown_and_the_body_read() {
        let (asked, done) = ask(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            Some("secret"),
        )
        .await;
        assert_eq!(&*done.unwrap(), b"ok");
        assert!(asked.starts_with("GET /stats HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("authorization: Bearer secret\r\n"), "{asked}");
        let (asked, _) = ask(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), None).await;
        assert!(!asked.contains("authorization"), "{asked}");
    }

    #[tokio::test]
    async fn what_is_no_good_answer_is_told_in_words() {
        let long = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; MOST + 1]].concat();
        for (answer, said) in [
            (
                b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
                "another token",
            ),
            (
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
                "it answered 302",
            ),
            (
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\nno\x1b such\nxx".to_vec(),
                "404 Not Found: no such",
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok".to_vec(), "broke off"),
            (b"SSH-2.0-x\r\n\r\n".to_vec(), "broke off"),
            (Vec::new(), "broke off"),
            (long, "longer than 1 MiB"),
        ] {
            let (_, done) = ask(answer, None).await;
            let error = done.unwrap_err().to_string();
            assert!(error.contains(said), "{error} does not say {said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let error = get(&url, "/stats", None, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 1s");
    }
}
