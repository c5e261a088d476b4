//! The filter chain of the Pillion sidecar.
//!
//! Filters decide, the engine executes. A [`Filter`] sees an [`Exchange`] (one request and its response), never a socket:
//! it reads the request, shapes the [`Plan`], edits heads and body chunks, and may answer by itself. The engine carries
//! the plan out. So every filter can be tested without a socket, and one that comes from elsewhere is just one more filter.
//!
//! ```text
//! request phases   first to last   request, request_body, attempt
//! response phases  last to first   response, response_body
//! always           first to last   complete
//! ```
//!
//! The chain is an onion: a filter that answers ends the way in. Those after it never run, those before it see the answer
//! on its way out.

pub mod access_log;
mod background;
pub mod cache;
mod chain;
pub mod circuit_breaker;
pub mod compression;
pub mod conditions;
mod context;
pub mod deadline;
mod exchange;
mod failure;
mod filter;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod headers;
pub mod idempotency;
mod ledger;
pub mod limits;
pub mod metrics;
mod outcome;
mod own_header;
mod plan;
mod recode;
mod registry;
mod remark;
pub mod request_id;
mod response;
pub mod retry;
mod slots;
pub mod testing;
mod trace_context;
pub mod tracing;
pub mod units;
mod via;
pub mod words;

pub use background::{Background, Dispatcher, NoBackground};
pub use chain::{Chain, Link, Way};
pub use context::{Context, DiscardLines, DiscardSpans, LineSink, Metrics, SharedState, SpanSink, Telemetry};
pub use exchange::{Connection, Direction, Exchange, Route, Timing};
pub use failure::{ErrorFormat, Failure, Refusal};
pub use filter::{
    Attempt, AttemptResult, Filter, Phases, Plugin, Resume, ResumeWithBody, Step, Tried, Turn, Verdict, Waiting,
};
pub use ledger::{Entry, Fact, Ledger};
pub use outcome::{AttemptRecord, End, Outcome};
pub use plan::{Hedge, Permit, Plan, Timeouts, Wanted, WantedBy};
pub use recode::Recoder;
pub use registry::{BuildError, PluginEntry, Registry};
pub use remark::{Matches, Remark, Warnings};
pub use response::{Body, BodyStream, Response};
pub use trace_context::{SpanId, TraceContext, TraceId};
pub use via::via;
pub use words::{Dictionary, Words};
