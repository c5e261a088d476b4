//! What a filter is, and what a plugin is.

use std::fmt;
use std::ops::BitOr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::chain::Link;
use crate::context::Context;
use crate::exchange::Exchange;
use crate::failure::{Failure, Refusal};
use crate::outcome::Outcome;
use crate::recode::Recoder;
use crate::registry::BuildError;
use crate::response::Response;
use crate::words::Words;

/// The phases a filter takes part in. A chain calls only who takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    /// None: the filter is left out of the compiled chain.
    pub const NONE: Self = Self(0);
    /// [`Filter::request`].
    pub const REQUEST: Self = Self(1);
    /// [`Filter::request_body`].
    pub const REQUEST_BODY: Self = Self(2);
    /// [`Filter::attempt`] and [`Filter::attempt_done`].
    pub const ATTEMPT: Self = Self(4);
    /// [`Filter::response`].
    pub const RESPONSE: Self = Self(8);
    /// [`Filter::response_body`].
    pub const RESPONSE_BODY: Self = Self(16);
    /// [`Filter::complete`].
    pub const COMPLETE: Self = Self(32);

    /// Whether all of `other` is in here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Phases {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phases({:06b})", self.0)
    }
}

/// Continues with the exchange once the wait is over.
pub type Resume = Box<dyn FnOnce(&mut Exchange) -> Step + Send>;
/// Something to wait for, e.g. a remote check.
pub type Waiting = Pin<Box<dyn Future<Output = Resume> + Send>>;

/// Continues with the exchange once its request body is there: all of it, or `None` where there is more of it than was asked
/// for.
pub type ResumeWithBody = Box<dyn FnOnce(&mut Exchange, Option<Bytes>) -> Step + Send>;

/// What a filter wants on the way in.
pub enum Step {
    /// On to the next filter.
    Continue,
    /// Answer with this; the filters after this one never run.
    Respond(Response),
    /// Refuse with this; like [`Step::Respond`], rendered in the service's error format.
    Refuse(Refusal),
    /// Wait, then go on with what comes of it. Only who waits pays for a future.
    Wait(Waiting),
    /// Read the request body, up to so many bytes, then go on. What was read is not lost: if the request goes on to the app,
    /// so does its body. Not before an attempt, whose request may have been sent in part.
    Body(usize, ResumeWithBody),
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Respond(response) => f.debug_tuple("Respond").field(response).finish(),
            Self::Refuse(refusal) => f.debug_tuple("Refuse").field(refusal).finish(),
            Self::Wait(_) => f.write_str("Wait"),
            Self::Body(limit, _) => write!(f, "Body({limit})"),
        }
    }
}

/// What a filter wants on the way out.
#[derive(Debug)]
pub enum Turn {
    /// Pass the response on, as edited.
    Keep,
    /// Drop it and send this instead, e.g. a stored answer for a 304.
    Replace(Response),
}

/// One try towards an endpoint.
#[derive(Debug)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// The endpoint's address.
    pub endpoint: Arc<str>,
}

/// What came of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// A response head with this status.
    Answered(StatusCode),
    /// No response head.
    Failed(Failure),
    /// The try came to nothing through no fault of the endpoint: the client went away, the rest of its request was refused,
    /// or a later filter answered in place of the try.
    Abandoned,
}

/// What came of a try, and what it says of another one.
#[derive(Clone, Copy, Debug)]
pub struct Tried<'a> {
    /// What came of it.
    pub result: AttemptResult,
    /// The response head, where there is one. Nothing of it has gone to the client.
    pub head: Option<&'a ResponseHeader>,
    /// From the beginning of the try, connecting included, to the head or to what went wrong.
    pub took: Duration,
    /// Whether the upstream cannot have acted on the request: no byte of it reached a connection, or the peer says that it
    /// has not looked at it (RFC 9113, section 8.7). Then any method may be sent again.
    pub unprocessed: bool,
    /// Whether all that was sent can be sent again. If not, no verdict brings another try about.
    pub whole: bool,
    /// Whether there was another try beside it that goes on, or was taken: then this one's end decides nothing.
    pub beside: bool,
}

impl Tried<'_> {
    /// A try that came to nothing through no fault of the endpoint, and is not repeated.
    pub fn abandoned(unprocessed: bool) -> Self {
        Self {
            result: AttemptResult::Abandoned,
            head: None,
            took: Duration::ZERO,
            unprocessed,
            whole: false,
            beside: false,
        }
    }
}

/// What to do after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its result stands, unless another filter wants to try again.
    Keep,
    /// Try again after this long, at another endpoint if there is one.
    Retry(Duration),
    /// Its result stands, whatever other filters want.
    Stop,
}

/// A configured instance of a plugin: one step of a chain.
///
/// All phases are synchronous and must not block; one that has to wait returns [`Step::Wait`]. Implement what
/// [`phases`](Self::phases) names; the rest is never called.
pub trait Filter: Send + Sync {
    /// The phases this filter takes part in, asked once when the chain is compiled.
    fn phases(&self) -> Phases;

    /// Called once when a chain is compiled, with the filters after this one.
    fn linked(&self, after: &[Link]) {
        let _ = after;
    }

    /// What this filter offers to one before it that stores responses.
    fn recoder(&self) -> Option<Arc<dyn Recoder>> {
        None
    }

    /// The request head is there. First to last.
    fn request(&self, exchange: &mut Exchange) -> Step {
        let _ = exchange;
        Step::Continue
    }

    /// A piece of the request body, or its `end`, on its way to the app. First to last. Taking the chunk holds it back.
    fn request_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Refusal> {
        let _ = (exchange, chunk, end);
        Ok(())
    }

    /// Before each try towards an endpoint. First to last.
    fn attempt(&self, exchange: &mut Exchange, attempt: &mut Attempt) -> Step {
        let _ = (exchange, attempt);
        Step::Continue
    }

    /// After each try that [`attempt`](Self::attempt) was called for. Last to first; one [`Verdict::Stop`] ends it, otherwise
    /// the first [`Verdict::Retry`] stands, and an [abandoned](AttemptResult::Abandoned) try is not repeated. Not called when the
    /// exchange is dropped on its way, because the sidecar stops: what a try holds belongs in
    /// [state](Exchange::set_state) that gives it back when dropped.
    fn attempt_done(&self, exchange: &mut Exchange, attempt: &Attempt, tried: Tried<'_>) -> Verdict {
        let _ = (exchange, attempt, tried);
        Verdict::Keep
    }

    /// The response head is there. Last to first.
    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHeader) -> Turn {
        let _ = (exchange, head);
        Turn::Keep
    }

    /// A piece of the response body, or its `end`, on its way to the client. Last to first.
    fn response_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Failure> {
        let _ = (exchange, chunk, end);
        Ok(())
    }

    /// The exchange is over, well or not. Called for every filter that was entered, first to last.
    fn complete(&self, exchange: &mut Exchange, outcome: &Outcome) {
        let _ = (exchange, outcome);
    }
}

/// A kind of filter.
pub trait Plugin: 'static {
    /// Its one name: file, config key, doc page, ledger name and log target.
    const NAME: &'static str;
    /// Its configuration; field docs are the manual. Use `deny_unknown_fields`.
    type Config: DeserializeOwned + JsonSchema;
    /// What the reasons that it enters in the ledger say, for people. One without words is read as it is written.
    const WORDS: Words = &[];
    /// Makes a filter for one route. Handles that cost a lookup are resolved here, not per request.
    fn build(config: Self::Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError>;
}
