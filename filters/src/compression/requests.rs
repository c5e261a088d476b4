//! Request bodies: decompressed for an app that does not understand them, compressed for hosts that do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use super::NAME;
use super::accept::{Accepted, Choice};
use super::coding::{Coding, Decoder, Encoder};
use super::config::Config;
use super::decide::{self, Types};
use crate::{Context, Exchange, Refusal};

/// Hosts of which it is known what they take.
const MOST_HOSTS: usize = 1024;
/// What is taken, said in responses to requests with a body (RFC 7694, section 3).
const TAKEN: HeaderValue = HeaderValue::from_static("zstd, br, gzip");

const TOO_LARGE: Refusal = Refusal::denied(
    StatusCode::PAYLOAD_TOO_LARGE,
    "decoded_body_too_large",
    "the request body is too large once it is decompressed",
);
const MALFORMED: Refusal = Refusal::denied(
    StatusCode::BAD_REQUEST,
    "malformed_coding",
    "the request body is not in the coding it says",
);

/// What hosts take, learned from what they answer.
#[derive(Default)]
pub(super) struct Hosts(Mutex<HashMap<HeaderValue, Coding>>);

pub(super) struct Requests {
    decode: bool,
    most: usize,
    /// `None` where nothing is compressed.
    encode: Option<(Arc<Hosts>, Types, u64, u32)>,
}

/// The coder of one request body.
#[derive(Default)]
pub(super) enum Coder {
    #[default]
    None,
    Decode {
        decoder: Decoder,
        decoded: usize,
    },
    Encode(Encoder),
}

impl Requests {
    pub(super) fn new(config: &Config, context: &Context<'_>) -> Self {
        let types = Types::new(&config.types).ok().filter(|_| config.requests.encode);
        Self {
            decode: config.requests.decode,
            most: usize::try_from(config.requests.max_decoded.0).unwrap_or(usize::MAX),
            encode: types.map(|types| {
                let hosts = context.shared(Hosts::default);
                (hosts, types, config.min_size.0, config.levels.gzip)
            }),
        }
    }

    /// Whether any body is.
    pub(super) fn are_coded(&self) -> bool {
        self.decode || self.encode.is_some()
    }

    /// Settles what becomes of a request body, and makes the head fit.
    pub(super) fn begin(&self, exchange: &mut Exchange) -> Result<Option<Coder>, Refusal> {
        if !self.are_coded() || !exchange.has_body || exchange.is_grpc() {
            return Ok(None);
        }
        let request = &mut exchange.request;
        if let Some(coded) = request.headers.get(CONTENT_ENCODING) {
            if !self.decode || request.headers.get_all(CONTENT_ENCODING).iter().count() > 1 {
                return Ok(None);
            }
            let Some(coding) = Coding::of(coded.as_bytes().trim_ascii()) else {
                return Ok(None);
            };
            let decoder = Decoder::new(coding, self.most).map_err(|_| MALFORMED)?;
            request.remove_header(&CONTENT_ENCODING);
            request.remove_header(&CONTENT_LENGTH);
            exchange.ledger.enter(NAME, "request_decoded");
            return Ok(Some(Coder::Decode { decoder, decoded: 0 }));
        }
        let Some((hosts, types, min_size, level)) = &self.encode else {
            return Ok(None);
        };
        let kind = request
            .headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], |kind| kind.as_bytes());
        let length = decide::length(&request.headers);
        if length.is_some_and(|length| length < *min_size) || !types.contains(kind) {
            return Ok(None);
        }
        let known = hosts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let coding = exchange.authority.as_ref().and_then(|host| known.get(host)).copied();
        drop(known);
        let Some(coding) = coding else { return Ok(None) };
        let Ok(encoder) = Encoder::new(coding, (*level).min(coding.levels().1), length) else {
            return Ok(None);
        };
        request.remove_header(&CONTENT_LENGTH);
        let _ = request.insert_header(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
        exchange.ledger.enter(NAME, "request_encoded");
        Ok(Some(Coder::Encode(encoder)))
    }

    /// A piece of the body. Whether it was the last of one that was decompressed.
    pub(super) fn body(&self, coder: &mut Coder, chunk: &mut Option<Bytes>, end: bool) -> Result<bool, Refusal> {
        match std::mem::take(coder) {
            Coder::None => Ok(false),
            Coder::Decode { mut decoder, decoded } => {
                let piece = chunk.take().unwrap_or_default();
                let mut bytes = Vec::new();
                // Slices, so that what swells is stopped before it has swollen.
                for slice in piece.chunks(4096) {
                    bytes.extend(decoder.push(slice).map_err(|error| why(&error))?);
                    if decoded + bytes.len() > self.most {
                        return Err(TOO_LARGE);
                    }
                }
                let mut decoded = decoded + bytes.len();
                if end {
                    let rest = decoder.finish().map_err(|error| why(&error))?;
                    decoded += rest.len();
                    bytes.extend(rest);
                } else {
                    *coder = Coder::Decode { decoder, decoded };
                }
                if decoded > self.most {
                    return Err(TOO_LARGE);
                }
                *chunk = (!bytes.is_empty()).then(|| Bytes::from(bytes));
                Ok(end)
            }
            Coder::Encode(mut encoder) => {
                let piece = chunk.take().unwrap_or_default();
                let mut bytes = encoder.push(&piece, false).unwrap_or_default();
                if end {
                    bytes.extend(encoder.finish().unwrap_or_default());
                } else {
                    *coder = Coder::Encode(encoder);
                }
                *chunk = (!bytes.is_empty()).then(|| Bytes::from(bytes));
                Ok(false)
            }
        }
    }

    /// Says what is taken, and learns what others take.
    pub(super) fn answered(&self, exchange: &Exchange, head: &mut ResponseHeader) {
        if !exchange.has_body {
            return;
        }
        if let (Some((hosts, ..)), Some(host)) = (&self.encode, &exchange.authority) {
            let takes = Accepted::of(&head.headers).map(|taken| taken.choose(&Coding::ALL));
            let mut known = hosts.0.lock().unwrap_or_else(PoisonError::into_inner);
            match takes {
                Some(Choice::Coded(coding)) if known.len() < MOST_HOSTS || known.contains_key(host) => {
                    known.insert(host.clone(), coding);
                }
                Some(Choice::Coded(_)) | None if head.status != StatusCode::UNSUPPORTED_MEDIA_TYPE => {}
                _ => {
                    known.remove(host);
                }
            }
        }
        if self.decode && !head.headers.contains_key(ACCEPT_ENCODING) {
            let _ = head.insert_header(ACCEPT_ENCODING, TAKEN);
        }
    }
}

fn why(error: &std::io::Error) -> Refusal {
    if error.kind() == std::io::ErrorKind::Other && error.to_string() == super::coding::TOO_MUCH {
        TOO_LARGE
    } else {
        MALFORMED
    }
}
