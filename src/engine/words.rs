//! What the engine enters in the ledger, in words.

use pillion_filters::{Fact, Failure, Timeouts, Words};

pub(crate) const WORDS: Words = &[
    (
        "no_endpoint",
        &[
            "no endpoint of {upstream} can take the request",
            "no endpoint can take the request",
        ],
    ),
    (
        "dns_error",
        &[
            "the name of {endpoint} could not be resolved",
            "the upstream's name could not be resolved",
        ],
    ),
    (
        "connect_failed",
        &[
            "the connection to {endpoint} was refused, or nobody could be reached there",
            "the connection was refused, or nobody could be reached",
        ],
    ),
    (
        "connect_timeout",
        &[
            "the connection to {endpoint} was not open within {0}",
            "the connection to {endpoint} was not open in time",
            "the connection was not open in time",
        ],
    ),
    (
        "destination_forbidden",
        &[
            "{endpoint} is an address that the sidecar does not connect to",
            "the sidecar does not connect to this address",
        ],
    ),
    (
        "attempt_timeout",
        &[
            "{endpoint} did not answer within {0} (`per_try_timeout` of `retry`)",
            "{endpoint} did not answer in the time for one try (`per_try_timeout` of `retry`)",
            "there was no answer in the time for one try",
        ],
    ),
    (
        "first_byte_timeout",
        &[
            "{endpoint} did not answer within {0} (`timeouts.first_byte`)",
            "{endpoint} did not answer in time (`timeouts.first_byte`)",
            "there was no answer in time (`timeouts.first_byte`)",
        ],
    ),
    (
        "idle_timeout",
        &[
            "nothing moved between the sidecar and {endpoint} for {0} (`timeouts.idle`)",
            "nothing moved between the sidecar and the upstream for too long (`timeouts.idle`)",
        ],
    ),
    (
        "exchange_timeout",
        &[
            "the exchange was not over within {0}, the limit for all of it",
            "the exchange was not over within the limit for all of it",
        ],
    ),
    (
        "upstream_closed",
        &[
            "{endpoint} closed the connection without an answer",
            "the upstream closed the connection without an answer",
        ],
    ),
    (
        "response_incomplete",
        &["the response of {endpoint} ended early", "the response ended early"],
    ),
    (
        "malformed_response",
        &[
            "the response of {endpoint} is not valid HTTP",
            "the response is not valid HTTP",
        ],
    ),
    (
        "request_timeout",
        &[
            "the client sent nothing more of its request body for {0} (`timeouts.idle`)",
            "the client did not send its request body in time (`timeouts.idle`)",
        ],
    ),
    (
        "malformed_request",
        &["the request is not valid HTTP: {0}", "the request is not valid HTTP"],
    ),
    ("stopped", &["the sidecar stopped before the exchange was over"]),
    ("internal_error", &["the sidecar failed, which is a bug"]),
    (
        "client_stalled",
        &[
            "the client took nothing more of the response for {0} (`timeouts.idle`)",
            "the client took nothing more of the response",
        ],
    ),
    (
        "hedged",
        &[
            "a second try was made beside the first, which had no answer after {0}",
            "a second try was made beside the first",
        ],
    ),
    (
        "hedge_denied",
        &[
            "no second try was made beside the first, which had no answer after {0}: the budget for more tries is spent",
            "no second try was made beside the first: the budget for more tries is spent",
        ],
    ),
    ("hedge_won", &["the second try was answered first"]),
    (
        "stale_connection_retried",
        &["a kept connection had been closed by the endpoint, so the request was sent again"],
    ),
    (
        "not_tried_again",
        &[
            "a filter wanted another try, but {0}",
            "a filter wanted another try that could not be made",
        ],
    ),
    (
        "proxy_loop",
        &["refused: the request has passed too many proxies, perhaps this one again and again"],
    ),
    ("duplicate_host", &["refused: the request names more than one `Host`"]),
    ("missing_host", &["refused: the request names no host"]),
    (
        "host_mismatch",
        &["refused: the request's `Host` and its target disagree"],
    ),
    (
        "invalid_authority",
        &["refused: the host that the request names is not valid"],
    ),
    ("invalid_target", &["refused: the request's target is not valid"]),
    ("no_destination", &["refused: the request names no host to send it to"]),
    (
        "connect_not_allowed",
        &["refused: CONNECT is served to the app over HTTP/1 only"],
    ),
    ("connect_with_body", &["refused: a CONNECT request has no body"]),
    (
        "https_needs_connect",
        &["refused: requests for https go through CONNECT"],
    ),
    ("header_timeout", &["refused: the request head did not arrive in time"]),
    (
        "headers_too_large",
        &["refused: the request head is larger than 128 KiB"],
    ),
    (
        "too_many_headers",
        &["refused: the request has more than 256 header fields"],
    ),
];

/// The limit that a failure has to do with.
pub(super) fn fact(failure: Failure, timeouts: &Timeouts) -> Fact {
    let limit = match failure {
        Failure::ConnectTimeout => timeouts.connect,
        Failure::AttemptTimeout => timeouts.attempt,
        Failure::FirstByteTimeout => timeouts.first_byte,
        Failure::IdleTimeout | Failure::RequestTimeout => timeouts.idle,
        Failure::ExchangeTimeout => timeouts.exchange,
        _ => None,
    };
    limit.map_or(Fact::None, Fact::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(reason: &str) -> bool {
        WORDS.iter().any(|(known, _)| *known == reason)
    }

    #[test]
    fn every_failure_has_words() {
        for failure in Failure::ALL {
            assert!(has(failure.reason()), "{failure:?}");
        }
        assert!(has(crate::engine::pump::CLIENT_STALLED));
    }

    /// What the sources enter or refuse with has words.
    #[test]
    fn every_reason_of_the_engine_has_words() {
        let mut found = 0;
        for folder in ["engine", "engine/exchange", "engine/heads", "listener"] {
            let folder = format!("{}/src/{folder}", env!("CARGO_MANIFEST_DIR"));
            for file in std::fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                if !path.is_file() {
                    continue;
                }
                let source = std::fs::read_to_string(&path).unwrap();
                let code = source.split("mod tests").next().unwrap_or_default();
                for lead in [
                    "enter(\"engine\", \"",
                    "enter_with(\"engine\", \"",
                    "bad(\"",
                    "Refusal::denied(",
                ] {
                    for rest in code.split(lead).skip(1) {
                        let rest = rest
                            .strip_prefix("\n")
                            .map_or(rest, |rest| rest.split_once('"').unwrap().1);
                        let reason = rest.split('"').next().unwrap();
                        if reason
                            .chars()
                            .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
                        {
                            found += 1;
                            assert!(has(reason), "{}: `{reason}`", path.display());
                        }
                    }
                }
            }
        }
        assert!(found > 15, "only {found} found: the sources are written otherwise now");
    }
}
