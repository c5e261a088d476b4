//! One request and its response, from first byte to last, retries included.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderValue, Version};
use pingora_http::RequestHeader;

use crate::failure::ErrorFormat;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::slots::Slots;
use crate::trace_context::TraceContext;

/// Which way the traffic goes, as the app sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Traffic to the app.
    Inbound,
    /// Traffic the app sends.
    Outbound,
}

impl Direction {
    /// The word used in configuration, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What is known of the connection a request came on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Address of the peer that connected; `None` on a Unix socket.
    pub client: Option<SocketAddr>,
    /// Our own address on that connection.
    pub local: Option<SocketAddr>,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// Protocol version of the request.
    pub version: Version,
}

/// The route an exchange was matched to, fixed when the snapshot was compiled.
#[derive(Clone, Debug)]
pub struct Route {
    /// The service the sidecar serves.
    pub service: Arc<str>,
    /// The route's name: its path template unless one was given; `unmatched` for what no route names.
    pub name: Arc<str>,
    /// Whether it is a configured route, rather than the one for what no route names.
    pub matched: bool,
    /// Which listener the exchange came in by.
    pub direction: Direction,
    /// The name of the upstream its requests go to; `None` for the host that each of them names.
    pub upstream: Option<Arc<str>>,
    /// How errors made by the sidecar are written.
    pub error_format: ErrorFormat,
    /// The plan an exchange starts with.
    pub plan: Plan,
}

/// When what happened. All but the start are `None` until they happened.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The request head was complete.
    pub started: Instant,
    /// The same moment on the wall clock, for spans and logs.
    pub started_at: SystemTime,
    /// The attempt that was answered had its connection.
    pub connected: Option<Instant>,
    /// The final response head arrived from the upstream.
    pub first_byte: Option<Instant>,
}

impl Timing {
    /// The clocks at this moment.
    pub fn now() -> Self {
        Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            connected: None,
            first_byte: None,
        }
    }
}

/// One request and its response, as filters see it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Exchange {
    /// The matched route.
    pub route: Arc<Route>,
    /// The connection the request came on.
    pub connection: Connection,
    /// The request head. Filters edit it; the upstream gets it as they leave it.
    pub request: Box<RequestHeader>,
    /// The authority the client asked for (`Host`, or `:authority` of HTTP/2), as received.
    pub authority: Option<HeaderValue>,
    /// Whether the request has a body.
    pub has_body: bool,
    /// What the filters decided the engine shall do.
    pub plan: Plan,
    /// Who decided what and why.
    pub ledger: Ledger,
    /// When what happened.
    pub timing: Timing,
    /// Whether the response body ends with the upstream's connection and in no other way, so that nobody can tell a whole one
    /// from one that was cut short. Set with the response head.
    pub ends_with_connection: bool,
    /// Whether a filter asks if a response that it has stored is still good: then a 304 is its answer, and not the client's.
    pub revalidates: bool,
    /// Set by the `request_id` filter.
    pub request_id: Option<HeaderValue>,
    /// Set by the `tracing` filter.
    pub trace: Option<TraceContext>,
    /// No client asked for it.
    background: bool,
    /// The filter where the exchange entered the chain: 0 unless no client asked for it.
    pub(crate) first: usize,
    /// How many filters have been entered: these are completed at the end.
    pub(crate) entered: usize,
    /// How many filters have been called before the try that is under way: these hear what comes of it.
    pub(crate) attempted: usize,
    /// Response phases run for the filters before this position.
    pub(crate) turned: usize,
    /// The filter that is running.
    pub(crate) position: usize,
    slots: Slots,
}

impl Exchange {
    /// An exchange at its beginning.
    pub fn new(route: Arc<Route>, connection: Connection, request: Box<RequestHeader>, timing: Timing) -> Self {
        let plan = route.plan.clone();
        Self {
            route,
            connection,
            request,
            authority: None,
            has_body: false,
            plan,
            ledger: Ledger::default(),
            ends_with_connection: false,
            revalidates: false,
            timing,
            request_id: None,
            trace: None,
            background: false,
            first: 0,
            entered: 0,
            attempted: 0,
            turned: 0,
            position: 0,
            slots: Slots::default(),
        }
    }

    /// The name of the upstream that the request goes to; `None` for the host it names.
    pub fn upstream(&self) -> Option<&Arc<str>> {
        self.plan.upstream.as_ref().or(self.route.upstream.as_ref())
    }

    /// Whether the request may reach an upstream twice: its method is idempotent (RFC 9110, section 9.2.2), or a filter
    /// vouches for it.
    pub fn is_repeatable(&self) -> bool {
        self.plan.repeatable || self.request.method.is_idempotent()
    }

    /// Whether no client asked for it.
    pub fn is_background(&self) -> bool {
        self.background
    }

    /// Lets the exchange enter the chain at that filter, which finds this state.
    pub fn enter_at(&mut self, position: usize, state: Box<dyn Any + Send>) {
        self.first = position;
        self.background = true;
        self.slots.set_boxed(position, state);
    }

    /// The running filter's own state in this exchange, if it left any of that type.
    pub fn state<T: Send + 'static>(&mut self) -> Option<&mut T> {
        self.slots.get_mut(self.position)
    }

    /// Leaves state for the running filter's later phases. It belongs to the filter's place in the chain, so a plugin
    /// that stands in a chain twice has two.
    pub fn set_state<T: Send + 'static>(&mut self, state: T) {
        self.slots.set(self.position, state);
    }

    /// Takes the running filter's state out.
    pub fn take_state<T: Send + 'static>(&mut self) -> Option<T> {
        self.slots.take(self.position)
    }

    /// Whether the client speaks gRPC, whose errors are trailers rather than statuses.
    pub fn is_grpc(&self) -> bool {
        self.request
            .headers
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
    }
}
