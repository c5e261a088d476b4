//! `pillion explain`: the effective configuration, or what one request would meet.

use std::path::PathBuf;

use pillion_filters::{Direction, Registry};
use pingora_http::RequestHeader;

use super::{load, print};
use crate::config;

mod request;

/// Command line of `explain`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A method, to be told of one request.
    #[arg(requires = "url")]
    method: Option<String>,
    /// The request's URL, such as `http://example.com/api/users/7`, or its path.
    url: Option<String>,
    /// The request's headers, as `name: value`.
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    headers: Vec<String>,
    /// Explain it as a request of the app rather than one to it.
    #[arg(long)]
    outbound: bool,
}

/// Prints the explanation.
pub(super) fn run(arguments: &Arguments, registry: &Registry) -> Result<(), String> {
    let (loaded, snapshot, _) =
        load(std::slice::from_ref(&arguments.file), registry).map_err(|errors| errors.render())?;
    match (&arguments.method, &arguments.url) {
        (Some(method), Some(url)) => {
            let direction = if arguments.outbound {
                Direction::Outbound
            } else {
                Direction::Inbound
            };
            let head = request(method, url, &arguments.headers)?;
            print(&request::explain(&loaded, &snapshot, registry, direction, head)?)
        }
        _ => print(&config::explain(&loaded)),
    }
}

/// The head such a request would have.
fn request(method: &str, url: &str, headers: &[String]) -> Result<RequestHeader, String> {
    let uri: http::Uri = url
        .parse()
        .map_err(|error| format!("`{url}` is no URL or path: {error}"))?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let method = method.to_ascii_uppercase();
    let mut head = RequestHeader::build(method.as_str(), target.as_bytes(), None)
        .map_err(|_| format!("`{method}` is no method"))?;
    let host = uri
        .authority()
        .map_or("localhost", |authority| authority.as_str())
        .to_owned();
    let host = ("host".to_owned(), host);
    let given = headers.iter().map(|header| {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        (name.trim().to_owned(), value.trim().to_owned())
    });
    for (name, value) in std::iter::once(host).chain(given) {
        head.insert_header(name.clone(), value)
            .map_err(|_| format!("`{name}` is no header"))?;
    }
    Ok(head)
}
