//! What is remembered of one exchange: times, shared names and copied texts, nothing that keeps larger things in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, StatusCode, Version};
use pillion_filters::{AttemptRecord, End, Exchange, Ledger, Outcome, Route};

use super::{Explain, Why, redact};

/// The longest host and request id that are kept whole, in bytes.
const NAME: usize = 256;
/// The longest name of a method that is kept whole.
const METHOD: usize = 32;

/// What the engine knows of an exchange beside what filters do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Story {
    /// The sidecar's own answer was there, and long enough for the client to take it piece by piece.
    pub(crate) answered: Option<Instant>,
    /// The response lasts as long as the app has something to say.
    pub(crate) streams: bool,
}

/// A trace's place, as far as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Traced {
    pub(super) trace_id: [u8; 32],
    pub(super) span_id: String,
    pub(super) sampled: bool,
}

/// One exchange.
#[derive(Debug)]
pub(crate) struct Record {
    /// Given by the recorder: the later, the larger.
    pub(super) id: u64,
    pub(super) why: Why,
    pub(super) route: Arc<Route>,
    pub(super) upstream: Option<Arc<str>>,
    pub(super) background: bool,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    pub(super) first_byte: Option<Instant>,
    pub(super) answered: Option<Instant>,
    pub(super) client: Option<SocketAddr>,
    pub(super) version: Version,
    pub(super) method: Box<str>,
    pub(super) target: Box<str>,
    pub(super) authority: Option<Box<str>>,
    pub(super) request_id: Option<Box<str>>,
    pub(super) trace: Option<Box<Traced>>,
    pub(super) headers: Box<str>,
    pub(super) status: Option<StatusCode>,
    pub(super) end: End,
    pub(super) duration: Duration,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) attempts: Vec<AttemptRecord>,
    pub(super) ledger: Ledger,
}

impl Record {
    /// What is kept of an exchange that is over. Its ledger and tries are moved here: nobody else asks for them any more.
    pub(crate) fn of(exchange: &mut Exchange, mut outcome: Outcome, story: Story, why: Why, explain: &Explain) -> Self {
        let request = &exchange.request;
        let target = String::from_utf8_lossy(request.raw_path());
        let mut attempts = std::mem::take(&mut outcome.attempts);
        attempts.shrink_to_fit();
        Self {
            id: 0,
            why,
            route: exchange.route.clone(),
            upstream: exchange.upstream().cloned(),
            background: exchange.is_background(),
            started: exchange.timing.started,
            started_at: exchange.timing.started_at,
            first_byte: exchange.timing.first_byte,
            answered: story.answered,
            client: exchange.connection.client.filter(|_| !exchange.is_background()),
            version: exchange.connection.version,
            method: method(&request.method),
            target: redact::target(&target, explain).into_boxed_str(),
            authority: exchange.authority.as_ref().map(|authority| {
                let authority = String::from_utf8_lossy(authority.as_bytes());
                redact::cut(redact::host(&authority).to_owned(), NAME).into_boxed_str()
            }),
            request_id: exchange.request_id.as_ref().map(text),
            trace: exchange.trace.as_ref().map(|trace| {
                Box::new(Traced {
                    trace_id: trace.trace_id_hex,
                    span_id: trace.span_id.to_string(),
                    sampled: trace.sampled,
                })
            }),
            headers: redact::headers(&request.headers, explain),
            status: outcome.status,
            end: outcome.end,
            duration: outcome.duration,
            request_bytes: outcome.request_bytes,
            response_bytes: outcome.response_bytes,
            attempts,
            ledger: std::mem::take(&mut exchange.ledger),
        }
    }

    /// Bytes it takes up, about: names that are shared with the configuration are not counted.
    pub(super) fn size(&self) -> usize {
        let optional = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<Arc<Self>>()
            + size_of::<Self>()
            + self.method.len()
            + self.target.len()
            + optional(&self.authority)
            + optional(&self.request_id)
            + self.trace.as_ref().map_or(0, |_| size_of::<Traced>() + 16)
            + self.headers.len()
            + self.attempts.capacity() * size_of::<AttemptRecord>()
            // The name of a host that a request names is nobody else's.
            + self.attempts.iter().map(|attempt| attempt.endpoint.len() + 16).sum::<usize>()
            + self.ledger.size()
            // Headers of the allocations, and what they are rounded up by.
            + 128
    }
}

fn method(method: &Method) -> Box<str> {
    redact::cut(method.as_str().to_owned(), METHOD).into_boxed_str()
}

/// A copy: the value that was received keeps all of the head in memory.
fn text(value: &HeaderValue) -> Box<str> {
    let text = String::from_utf8_lossy(value.as_bytes());
    redact::cut(text.into_owned(), NAME).into_boxed_str()
}
