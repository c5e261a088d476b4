//! Exchanges and outcomes for unit tests of filters, without a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Version};
use pingora_http::RequestHeader;

use crate::background::{Dispatcher, NoBackground};
use crate::context::{Context, SharedState, Telemetry};
use crate::exchange::{Connection, Direction, Exchange, Route, Timing};
use crate::failure::ErrorFormat;
use crate::outcome::{End, Outcome};
use crate::plan::Plan;
use crate::remark::{Matches, Warnings};

/// A route of the service `test`.
pub fn route(direction: Direction, name: &str) -> Arc<Route> {
    Arc::new(Route {
        service: Arc::from("test"),
        name: Arc::from(name),
        matched: name != "unmatched",
        direction,
        upstream: Some(Arc::from("app")),
        error_format: ErrorFormat::Json,
        plan: Plan::default(),
    })
}

/// An inbound HTTP/1.1 exchange from 192.0.2.7 for `example.com`, matched to the route `/test`.
///
/// # Panics
/// On a method or target that is not valid HTTP.
#[allow(clippy::expect_used, reason = "for tests, which are told at once")]
pub fn exchange(method: &str, target: &str) -> Exchange {
    let mut request = RequestHeader::build(method, target.as_bytes(), None).expect("a valid method and target");
    request.insert_header("host", "example.com").expect("a valid header");
    request.set_version(Version::HTTP_11);
    let connection = Connection {
        client: Some(SocketAddr::from(([192, 0, 2, 7], 40_000))),
        local: Some(SocketAddr::from(([192, 0, 2, 1], 8000))),
        scheme: "http",
        version: Version::HTTP_11,
    };
    let mut exchange = Exchange::new(
        route(Direction::Inbound, "/test"),
        connection,
        Box::new(request),
        Timing::now(),
    );
    exchange.authority = Some(http::HeaderValue::from_static("example.com"));
    exchange
}

/// A complete exchange with that status that took 5 ms.
///
/// # Panics
/// On a status outside 100 to 999.
#[allow(clippy::expect_used, reason = "for tests, which are told at once")]
pub fn outcome(status: u16) -> Outcome {
    Outcome {
        status: Some(StatusCode::from_u16(status).expect("a valid status")),
        end: End::Complete,
        duration: Duration::from_millis(5),
        request_bytes: 0,
        response_bytes: 0,
        grpc_status: None,
        attempts: Vec::new(),
    }
}

/// A dispatcher that runs nothing.
pub fn no_background() -> Arc<dyn Dispatcher> {
    Arc::new(NoBackground)
}

/// Calls `with` with the context a plugin is built in.
pub fn with_context<R>(filter: &str, telemetry: &Telemetry, with: impl FnOnce(&Context<'_>) -> R) -> R {
    with(&Context {
        filter,
        route: &route(Direction::Inbound, "/test"),
        telemetry,
        state: &SharedState::default(),
        matches: &Matches::default(),
        background: &no_background(),
        warnings: &Warnings::default(),
        upstreams: None,
    })
}
