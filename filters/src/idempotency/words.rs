//! What is entered in the ledger, in words.

use crate::Words;

pub(super) const WORDS: Words = &[
    ("key_added", &["a key was added to the request, which had none"]),
    ("waited", &["waited for the first request with this key"]),
    ("replayed", &["answered with what the first request with this key got"]),
    (
        "stored",
        &[
            "the answer is kept for whoever repeats this key, for {0}",
            "the answer is kept for whoever repeats this key",
        ],
    ),
    (
        "retried_unknown",
        &["let through: the answer to the first request with this key was lost, and the time for it is over"],
    ),
    (
        "released",
        &["nothing is kept for this key: the app did not act on the request, or its answer says to try again"],
    ),
    (
        "outcome_unknown",
        &["the answer was lost: whether the app acted on the request is not known"],
    ),
    (
        "answer_too_large",
        &[
            "the answer is not kept: it is larger than `max_response` ({0})",
            "the answer is not kept: it is larger than `max_response`",
        ],
    ),
    ("store_full", &["not protected: there is no room left in the store"]),
    (
        "body_too_large",
        &[
            "not protected: the request body is larger than `max_body` ({0})",
            "not protected: the request body is larger than `max_body`",
        ],
    ),
    (
        "field_missing",
        &["no key was made: the request lacks a field that it is made of"],
    ),
    ("idempotency_key_missing", &["refused: the request has no key"]),
    (
        "idempotency_key_malformed",
        &["refused: the key is not one string of 1 to 256 visible characters"],
    ),
    (
        "idempotency_key_reused",
        &["refused: the key was used with another payload"],
    ),
    (
        "idempotency_in_progress",
        &["refused: the first request with this key is still under way"],
    ),
    (
        "idempotency_outcome_unknown",
        &["refused: the answer to the first request with this key was lost"],
    ),
];
