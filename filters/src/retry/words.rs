//! What is entered in the ledger, in words.

use std::time::Duration;

use super::decide::{Failed, Limits, Said};
use crate::{AttemptResult, Fact, Tried, Words};

pub(super) const WORDS: Words = &[
    (
        "connect",
        &[
            "tried again after {0}: no connection was open",
            "tried again: no connection was open",
        ],
    ),
    (
        "refused",
        &[
            "tried again after {0}: the endpoint had not looked at the request",
            "tried again: the endpoint had not looked at the request",
        ],
    ),
    (
        "reset",
        &[
            "tried again after {0}: the connection closed without an answer",
            "tried again: the connection closed without an answer",
        ],
    ),
    (
        "malformed",
        &[
            "tried again after {0}: the answer was no valid HTTP",
            "tried again: the answer was no valid HTTP",
        ],
    ),
    (
        "timeout",
        &[
            "tried again after {0}: no answer came in time",
            "tried again: no answer came in time",
        ],
    ),
    (
        "status",
        &[
            "tried again: the answer was {0}",
            "tried again for the status of the answer",
        ],
    ),
    ("grpc", &["tried again for the gRPC status of the answer"]),
    (
        "attempts_exhausted",
        &[
            "given up: {0} tries were made, and `attempts` allows no more",
            "given up: `attempts` allows no more tries",
        ],
    ),
    ("not_repeatable", &["not tried again: {method} is not safe to repeat"]),
    (
        "body_too_large",
        &[
            "not tried again: the request body is larger than `max_body` ({0}), so it was not kept",
            "not tried again: the request body was not kept",
        ],
    ),
    (
        "retry_after_too_long",
        &[
            "not tried again: the upstream asked to wait {0}, and `backoff.max` is {1}",
            "not tried again: the upstream asked to wait longer than `backoff.max`",
        ],
    ),
    (
        "not_wanted_by_upstream",
        &["not tried again: the upstream asked not to"],
    ),
    (
        "no_time_left",
        &[
            "not tried again: only {0} were left",
            "not tried again: there was no time left",
        ],
    ),
    (
        "budget_exhausted",
        &[
            "not tried again: the budget for tries towards {upstream} is spent",
            "not tried again: the budget is spent",
        ],
    ),
];

/// Why there is another try.
pub(super) fn tried_again(tried: &Tried<'_>, after: Duration) -> Fact {
    match tried.result {
        AttemptResult::Answered(status) => Fact::Status(status.as_u16()),
        _ if after.is_zero() => Fact::None,
        _ => Fact::Time(after),
    }
}

/// Why there is none.
pub(super) fn denied(reason: &'static str, limits: Limits, failed: Failed, max_body: usize) -> Fact {
    match (reason, failed.said, failed.left) {
        ("attempts_exhausted", ..) => Fact::Count(failed.tries.into()),
        ("body_too_large", ..) => Fact::Size(max_body as u64),
        ("retry_after_too_long", Said::After(asked), _) => Fact::Times(asked, limits.max),
        ("no_time_left", _, Some(left)) => Fact::Time(left),
        _ => Fact::None,
    }
}
