//! One limit: what is refused in which words, and counted.

use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, Opts};

use crate::exchange::Route;
use crate::{BuildError, Context, Fact, Refusal, Words};

/// A limit, with what is done about a request that passes it.
pub(super) struct Limit {
    pub(super) max: u64,
    refusal: Refusal,
    refused: IntCounter,
}

/// What is entered in the ledger, in words.
pub(super) const WORDS: Words = &[
    (
        "uri_too_long",
        &[
            "refused: the request target is longer than `uri_length` ({0})",
            "refused: the request target is longer than `uri_length`",
        ],
    ),
    (
        "too_many_headers",
        &[
            "refused: the request has more header fields than `header_count` ({0})",
            "refused: the request has more header fields than `header_count`",
        ],
    ),
    (
        "headers_too_large",
        &[
            "refused: the request's header fields are larger than `header_bytes` ({0})",
            "refused: the request's header fields are larger than `header_bytes`",
        ],
    ),
    (
        "body_too_large",
        &[
            "refused: the request body is larger than `body` ({0})",
            "refused: the request body is larger than `body`",
        ],
    ),
    (
        "too_many_in_flight",
        &[
            "refused: as many requests are under way as `in_flight` allows ({0})",
            "refused: as many requests are under way as `in_flight` allows",
        ],
    ),
];

impl Limit {
    pub(super) fn new(max: u64, refusal: Refusal, refused: &IntCounterVec, route: &Route) -> Self {
        let labels = [&*route.service, route.direction.as_str(), &*route.name, refusal.reason];
        Self {
            max,
            refusal: refusal.with_fact(match refusal.reason {
                "too_many_headers" | "too_many_in_flight" => Fact::Count(max),
                _ => Fact::Size(max),
            }),
            refused: refused.with_label_values(&labels),
        }
    }

    /// The refusal, counted.
    pub(super) fn refuse(&self) -> Refusal {
        self.refused.inc();
        self.refusal
    }
}

/// The metric of all limits.
pub(super) fn refused(context: &Context<'_>) -> Result<IntCounterVec, BuildError> {
    const NAME: &str = "pillion_limits_refused_total";
    let make = || {
        let help = "Requests refused because they passed a limit";
        IntCounterVec::new(Opts::new(NAME, help), &["service", "direction", "route", "reason"])
    };
    let family = context.telemetry.metrics.family(NAME, make);
    family.ok_or_else(|| BuildError::Meaning(format!("the metric {NAME} is taken by something else")))
}

pub(super) const URI_TOO_LONG: Refusal = Refusal::denied(
    StatusCode::URI_TOO_LONG,
    "uri_too_long",
    "the request target is longer than this service allows",
);
pub(super) const TOO_MANY_HEADERS: Refusal = Refusal::denied(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too_many_headers",
    "the request has more header fields than this service allows",
);
pub(super) const HEADERS_TOO_LARGE: Refusal = Refusal::denied(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    "the request's header fields are larger than this service allows",
);
pub(super) const BODY_TOO_LARGE: Refusal = Refusal::denied(
    StatusCode::PAYLOAD_TOO_LARGE,
    "body_too_large",
    "the request body is larger than this service allows",
);
pub(super) const TOO_MANY_IN_FLIGHT: Refusal = Refusal::denied(
    StatusCode::SERVICE_UNAVAILABLE,
    "too_many_in_flight",
    "the service is handling as many requests as it may",
)
.retry_after(1);
