//! What is entered in the ledger, in words.

use crate::Words;

pub(super) const WORDS: Words = &[
    ("hit", &["hit, {0} old, fresh for {1} more", "hit"]),
    (
        "recoded",
        &[
            "hit, {0} old, fresh for {1} more, in another coding than it was stored in",
            "hit, in another coding than it was stored in",
        ],
    ),
    (
        "stale_while_revalidate",
        &[
            "hit, {0} old and stale for {1}: served while a new one is fetched",
            "hit, stale: served while a new one is fetched",
        ],
    ),
    (
        "max_stale",
        &[
            "hit, {0} old and stale for {1}: the request takes it (`max-stale`)",
            "hit, stale: the request takes it (`max-stale`)",
        ],
    ),
    ("collapsed", &["answered with what another request was fetching"]),
    ("miss", &["miss"]),
    (
        "miss.vary",
        &["miss: what is stored under this URL is for other request headers"],
    ),
    (
        "miss.unstorable",
        &["miss: what this URL answered lately could not be stored"],
    ),
    ("miss.partial", &["miss: a part was asked for of what is not stored"]),
    (
        "only_if_cached",
        &["refused: the request wants nothing but a stored response (`only-if-cached`)"],
    ),
    (
        "stale",
        &["stale for {1}, {0} old: the app was asked", "stale: the app was asked"],
    ),
    (
        "no_cache",
        &["what is stored may not be served without asking the app (`no-cache`)"],
    ),
    ("request_no_cache", &["the request wants the app asked (`no-cache`)"]),
    (
        "request_max_age",
        &[
            "what is stored is {0} old, older than the request takes (`max-age`)",
            "what is stored is older than the request takes (`max-age`)",
        ],
    ),
    (
        "request_min_fresh",
        &["what is stored is not fresh for as long as the request wants (`min-fresh`)"],
    ),
    (
        "revalidated",
        &[
            "the app says that what is stored is still good (304), for {0} more",
            "the app says that what is stored is still good (304)",
        ],
    ),
    (
        "stale_if_error",
        &[
            "a stored response, {0} old, in place of the error (`stale-if-error`)",
            "a stored response in place of the error (`stale-if-error`)",
        ],
    ),
    (
        "stale_accepted",
        &[
            "a stored response, {0} old, in place of the error, as `circuit_breaker` wants it",
            "a stored response in place of the error, as `circuit_breaker` wants it",
        ],
    ),
    (
        "invalidated",
        &["stored responses were purged: the request may have changed them"],
    ),
    ("stored", &["stored for {0}", "stored"]),
    ("stored.to_ask", &["stored, and the app is asked before it is served"]),
    ("bypass", &["left alone"]),
    ("bypass.method", &["left alone: GET is not among `methods`"]),
    ("bypass.request_body", &["left alone: the request has a body"]),
    ("bypass.configured", &["left alone: `bypass` names such requests"]),
    ("bypass.upgrade", &["left alone: the request wants another protocol"]),
    (
        "bypass.precondition",
        &["left alone: the request is bound to a condition on the app's state"],
    ),
    (
        "bypass.rewritten",
        &["left alone: a header names another method or target"],
    ),
    (
        "bypass.request_body_too_large",
        &["left alone: the request body is larger than `max_request_body`"],
    ),
    ("bypass.key_too_long", &["left alone: the key would be too long"]),
    ("method", &["not stored: the method is not one that is stored"]),
    ("request_no_store", &["not stored: the request says `no-store`"]),
    ("partial", &["not stored: it is a part of a whole (206)"]),
    ("not_modified", &["not stored: a 304 has no body"]),
    ("content_range", &["not stored: it is a part of a whole"]),
    ("status", &["not stored: the status is not one that may be stored"]),
    ("no_store", &["not stored: the response says `no-store`"]),
    (
        "private",
        &["not stored: the response says `private`, and callers share this cache"],
    ),
    (
        "authorization",
        &["not stored: the request had `Authorization`, and the response does not allow it"],
    ),
    (
        "set_cookie",
        &["not stored: the response sets a cookie, and does not say that it is for all"],
    ),
    ("vary_any", &["not stored: the response says `Vary: *`"]),
    (
        "no_freshness",
        &["not stored: the response does not say how long it is fresh, and `ttl` is not set"],
    ),
    (
        "ends_with_connection",
        &["not stored: nobody can tell whether the body is whole, which ends with the connection"],
    ),
    ("event_stream", &["not stored: it is a stream of events"]),
    (
        "cookie",
        &["not stored: the request had a cookie, and nothing says that the response is for all"],
    ),
    (
        "body_too_large",
        &[
            "not stored: the body is larger than `max_body` ({0})",
            "not stored: the body is larger than `max_body`",
        ],
    ),
    (
        "incomplete",
        &["not stored after all: the body is not as long as the response says"],
    ),
    ("store_busy", &["not stored: too much is being received at once"]),
];
