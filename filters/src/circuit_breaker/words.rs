//! What is entered in the ledger, in words.

use crate::Words;

pub(super) const WORDS: Words = &[
    (
        "circuit_open",
        &[
            "refused: open since {0}, {1}",
            "refused: {0}",
            "refused: the circuit is open",
        ],
    ),
    (
        "fallback_response",
        &[
            "answered with the fallback: open since {0}, {1}",
            "answered with the fallback: {0}",
            "answered with the fallback: the circuit is open",
        ],
    ),
    (
        "fallback_upstream",
        &[
            "sent to {upstream} instead: open since {0}, {1}",
            "sent to {upstream} instead: {0}",
            "sent to the fallback's upstream instead: the circuit is open",
        ],
    ),
    ("probe", &["let through to see whether the upstream answers again"]),
    ("not_retried", &["not tried again: the circuit is open"]),
];
