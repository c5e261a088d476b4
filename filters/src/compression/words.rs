//! What is entered in the ledger, in words.

use crate::Words;

pub(super) const WORDS: Words = &[
    ("zstd", &["compressed with zstd"]),
    ("br", &["compressed with brotli"]),
    ("gzip", &["compressed with gzip"]),
    (
        "decoded",
        &["decompressed, because the client does not accept the app's coding"],
    ),
    ("content_type", &["not compressed: its content type is none of `types`"]),
    (
        "small",
        &[
            "not compressed: it is smaller than `min_size` ({0})",
            "not compressed: it is smaller than `min_size`",
        ],
    ),
    (
        "not_accepted",
        &["not compressed: the client accepts none of `codings`"],
    ),
    ("encoded_already", &["left as it is: the app compressed it"]),
    (
        "unknown_coding",
        &["left as it is: the app compressed it in a way that cannot be undone here"],
    ),
    ("no_body", &["not compressed: the response has no body"]),
    ("partial", &["not compressed: it is a part of a whole"]),
    ("no_transform", &["not compressed: the response says `no-transform`"]),
    ("grpc", &["not compressed: gRPC compresses its messages itself"]),
    (
        "no_acceptable_coding",
        &["refused: the client accepts no coding that can be made"],
    ),
    ("request_decoded", &["the request body was decompressed for the app"]),
    (
        "request_encoded",
        &["the request body was compressed, as this host takes it"],
    ),
    (
        "decoded_body_too_large",
        &[
            "refused: the request body, decompressed, is larger than `requests.max_decoded` ({0})",
            "refused: the request body, decompressed, is larger than `requests.max_decoded`",
        ],
    ),
    (
        "malformed_coding",
        &["refused: the request body is not in the coding that it says"],
    ),
];
