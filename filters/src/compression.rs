//! Compresses response bodies for clients that accept that, and decompresses what they do not.
//!
//! | the response | what becomes of it |
//! | --- | --- |
//! | of a type that gains, not too small | compressed in the coding the client wants most (RFC 9110, section 12.5.3) |
//! | compressed by the app, in a coding the client does not accept | decompressed |
//! | `no-transform`, 206, 304, no body, gRPC, other types | left as it is |
//!
//! A body of unknown length is sent on piece by piece, each flushed: an event is at the client as soon as without
//! compression. What can differ by `Accept-Encoding` says so in `Vary`, also where nothing was done for this client.
//!
//! The filter stands after the cache, so that a body is compressed once and stored as it was sent.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Method, StatusCode, header};
use pingora_http::ResponseHeader;

use crate::{
    BuildError, Context, Exchange, Fact, Failure, Filter, Phases, Plugin, Recoder, Refusal, Remark, Step, Turn,
};

mod accept;
mod coding;
mod config;
mod counters;
mod cpu;
mod decide;
mod etag;
mod recode;
mod requests;
mod words;

pub use coding::Coding;
pub use config::Config;

use accept::Accepted;
use coding::{Decoder, Encoder};
use config::EtagMode;
use counters::Counters;
use cpu::Cpu;
use decide::{Action, Coded, Types, Wanted};
use recode::Recodes;
use requests::Requests;

/// What a whole body in a coding comes to. For tests and tools.
pub fn decode(coding: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut decoder = Decoder::new(known(coding)?, MOST_OF_A_PIECE)?;
    let mut plain = decoder.push(body)?;
    plain.extend(decoder.finish()?);
    Ok(plain)
}

/// What the beginning of a body in a coding comes to. For tests and tools.
pub fn decode_beginning(coding: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    Decoder::new(known(coding)?, MOST_OF_A_PIECE)?.push(body)
}

fn known(coding: &str) -> std::io::Result<Coding> {
    Coding::of(coding.as_bytes()).ok_or_else(|| std::io::Error::other("unknown coding"))
}

const NAME: &str = "compression";

/// What one piece of a compressed response may come to. The app is trusted further than clients are.
const MOST_OF_A_PIECE: usize = 64 * 1024 * 1024;

const NOT_ACCEPTABLE: Refusal = Refusal::denied(
    StatusCode::NOT_ACCEPTABLE,
    "no_acceptable_coding",
    "the client accepts no coding that can be made",
);

/// The `compression` plugin.
pub struct Compression;

impl Plugin for Compression {
    const NAME: &'static str = NAME;
    type Config = Config;
    const WORDS: crate::Words = words::WORDS;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let wrong = mistakes(&config);
        let (Ok(types), true) = (Types::new(&config.types), wrong.is_empty()) else {
            return Err(BuildError::Mistakes(wrong));
        };
        let gauge = counters::step(context)?;
        Ok(Arc::new(Compressor {
            requests: Requests::new(&config, context),
            recodes: Arc::new(Recodes::new(
                Wanted {
                    codings: config.codings,
                    types,
                    min_size: config.min_size.0,
                    strict: config.strict,
                    decode: config.decode_responses,
                },
                config.levels,
                config.etag,
                Some(config.improved_level).filter(|level| *level > 0),
            )),
            cpu: context.shared(|| Cpu::new(gauge)),
            cpu_limit: Some(config.cpu_limit).filter(|limit| *limit < 1.0),
            counters: Counters::of(context)?,
        }))
    }
}

/// What is wrong with single settings, as far as their types do not tell.
fn mistakes(config: &Config) -> Vec<Remark> {
    let types = config.types.iter().map(std::slice::from_ref).enumerate();
    let mut wrong: Vec<Remark> = types
        .filter_map(|(index, kind)| Some((index, Types::new(kind).err()?)))
        .map(|(index, why)| Remark::new("types", why).of_element(index))
        .collect();
    for (key, coding) in [
        ("levels.zstd", Coding::Zstd),
        ("levels.br", Coding::Br),
        ("levels.gzip", Coding::Gzip),
    ] {
        let (lowest, highest) = coding.levels();
        if !(lowest..=highest).contains(&config.levels.of(coding)) {
            wrong.push(Remark::new(key, format!("expected a level from {lowest} to {highest}")));
        }
    }
    let (_, highest) = Coding::Br.levels();
    if config.improved_level > highest {
        let message = format!("expected a brotli level from 1 to {highest}, or 0 to leave what is stored as it is");
        wrong.push(Remark::new("improved_level", message));
    }
    if !(0.05..=1.0).contains(&config.cpu_limit) {
        let help = "`1` never lowers the levels";
        wrong.push(Remark::new("cpu_limit", "expected a share, from 0.05 to 1").with_help(help));
    } else if config.etag == EtagMode::Suffix && config.cpu_limit < 1.0 {
        // What is compressed at another level is another body, and a strong tag names one body.
        let help = "levels that change would give different bodies one tag; `cpu_limit` is 0.8 unless it is set";
        wrong.push(
            Remark::new("etag", "`suffix` needs `cpu_limit: 1`")
                .with_help(help)
                .of_missing(),
        );
    }
    wrong
}

struct Compressor {
    requests: Requests,
    recodes: Arc<Recodes>,
    cpu: Arc<Cpu>,
    cpu_limit: Option<f64>,
    counters: Counters,
}

/// What is left for later phases.
#[derive(Default)]
struct State {
    /// The client's `If-None-Match`, as it was before it was changed for the app.
    tags: Vec<HeaderValue>,
    /// Of the request body.
    request: requests::Coder,
    /// Of the response body.
    response: Option<Coder>,
}

enum Coder {
    Encode {
        encoder: Encoder,
        /// Each piece is sent on at once.
        flush: bool,
    },
    Decode(Decoder),
}

impl Filter for Compressor {
    fn phases(&self) -> Phases {
        let phases = Phases::REQUEST | Phases::RESPONSE | Phases::RESPONSE_BODY;
        if self.requests.are_coded() {
            phases | Phases::REQUEST_BODY
        } else {
            phases
        }
    }

    fn recoder(&self) -> Option<Arc<dyn Recoder>> {
        Some(self.recodes.clone())
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        let mut state = State::default();
        let mut needed = false;
        let headers = &exchange.request.headers;
        if headers.contains_key(IF_NONE_MATCH) || headers.contains_key(header::IF_MATCH) {
            state.tags = headers.get_all(IF_NONE_MATCH).iter().cloned().collect();
            needed = !state.tags.is_empty();
            etag::unmark(&mut exchange.request, self.recodes.etag);
        }
        match self.requests.begin(exchange) {
            Ok(None) => {}
            Ok(Some(coder)) => {
                state.request = coder;
                needed = true;
            }
            Err(refusal) => return Step::Refuse(refusal),
        }
        if needed {
            exchange.set_state(state);
        }
        Step::Continue
    }

    fn request_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Refusal> {
        let Some(state) = exchange.state::<State>() else {
            return Ok(());
        };
        let decoded = self.requests.body(&mut state.request, chunk, end)?;
        if decoded {
            self.counters.decoded();
        }
        Ok(())
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHeader) -> Turn {
        self.requests.answered(exchange, head);
        if head.status == StatusCode::NOT_MODIFIED {
            self.not_modified(exchange, head);
            return Turn::Keep;
        }
        let accepted = Accepted::of(&exchange.request.headers);
        let action = self
            .recodes
            .wanted
            .decide(head.status, &head.headers, accepted.as_ref());
        if !matches!(action, Action::Leave(_)) {
            vary(head);
        }
        let coder = match action {
            Action::Leave(reason) | Action::Keep(reason) => {
                if accepted.is_some() {
                    let fact = match reason {
                        "small" => Fact::Size(self.recodes.wanted.min_size),
                        _ => Fact::None,
                    };
                    exchange.ledger.enter_with(NAME, reason, fact);
                }
                return Turn::Keep;
            }
            Action::Refuse => {
                exchange.ledger.enter(NAME, NOT_ACCEPTABLE.reason);
                let mut response = NOT_ACCEPTABLE.render(exchange);
                vary(&mut response.head);
                return Turn::Replace(response);
            }
            Action::Encode(coding) => self.encode(exchange, head, coding),
            Action::Decode(coded) => self.decode(exchange, head, coded),
        };
        // A coder that cannot be made leaves the body as it is.
        if let Some(coder) = coder.filter(|_| exchange.request.method != Method::HEAD) {
            if let Some(state) = exchange.state::<State>() {
                state.response = Some(coder);
            } else {
                exchange.set_state(State {
                    response: Some(coder),
                    ..State::default()
                });
            }
        }
        Turn::Keep
    }

    fn response_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Failure> {
        let Some(state) = exchange.state::<State>() else {
            return Ok(());
        };
        match state.response.take() {
            None => Ok(()),
            Some(coder) => {
                let (next, bytes) = self.turn(coder, chunk.take(), end)?;
                state.response = next;
                *chunk = (!bytes.is_empty()).then(|| Bytes::from(bytes));
                Ok(())
            }
        }
    }
}

impl Compressor {
    fn encode(&self, exchange: &mut Exchange, head: &mut ResponseHeader, coding: Coding) -> Option<Coder> {
        let length = decide::length(&head.headers);
        let now = exchange.timing.first_byte.unwrap_or(exchange.timing.started);
        let level = self
            .cpu
            .level(coding, self.recodes.levels.of(coding), self.cpu_limit, now);
        let encoder = Encoder::new(coding, level, length).ok()?;
        head.remove_header(&CONTENT_LENGTH);
        head.insert_header(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()))
            .ok()?;
        etag::mark(head, self.recodes.etag, coding);
        etag::forget_bytes(head);
        exchange.ledger.enter(NAME, coding.as_str());
        self.counters.encoded(coding);
        Some(Coder::Encode {
            encoder,
            // Who knows the length has the body and sends it as fast as it is taken; others make it as they go.
            flush: length.is_none(),
        })
    }

    fn decode(&self, exchange: &mut Exchange, head: &mut ResponseHeader, coded: Coded) -> Option<Coder> {
        let decoder = match coded {
            Coded::Known(coding) => Decoder::new(coding, MOST_OF_A_PIECE).ok()?,
            Coded::Deflate => Decoder::deflate(MOST_OF_A_PIECE),
        };
        head.remove_header(&CONTENT_LENGTH);
        head.remove_header(&CONTENT_ENCODING);
        if let Some(tag) = head.headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) {
            // Not the body that the app named.
            let weak = [b"W/", tag.as_bytes()].concat();
            let weak = HeaderValue::from_bytes(&weak).ok()?;
            head.insert_header(ETAG, weak).ok()?;
        }
        etag::forget_bytes(head);
        exchange.ledger.enter(NAME, "decoded");
        self.counters.decoded();
        Some(Coder::Decode(decoder))
    }

    fn turn(&self, coder: Coder, chunk: Option<Bytes>, end: bool) -> Result<(Option<Coder>, Vec<u8>), Failure> {
        let chunk = chunk.unwrap_or_default();
        match coder {
            Coder::Encode { mut encoder, flush } => {
                self.counters.before.inc_by(chunk.len() as u64);
                let mut bytes = if chunk.is_empty() {
                    Vec::new()
                } else {
                    encoder.push(&chunk, flush && !end).map_err(|_| Failure::Internal)?
                };
                let next = if end {
                    bytes.extend(encoder.finish().map_err(|_| Failure::Internal)?);
                    None
                } else {
                    Some(Coder::Encode { encoder, flush })
                };
                self.counters.after.inc_by(bytes.len() as u64);
                Ok((next, bytes))
            }
            Coder::Decode(mut decoder) => {
                let mut bytes = decoder.push(&chunk).map_err(|_| Failure::MalformedResponse)?;
                if !end {
                    return Ok((Some(Coder::Decode(decoder)), bytes));
                }
                bytes.extend(decoder.finish().map_err(|_| Failure::ResponseIncomplete)?);
                Ok((None, bytes))
            }
        }
    }

    /// A 304 names the body the client has: if that is a compressed one, its tag is that one's. It says what the 200 would
    /// have been chosen by (RFC 9110, section 15.4.5).
    fn not_modified(&self, exchange: &mut Exchange, head: &mut ResponseHeader) {
        if !exchange.revalidates && self.recodes.wanted.may_vary(&head.headers) {
            vary(head);
        }
        let Some(tag) = head.headers.get(ETAG).cloned() else {
            return;
        };
        let Some(state) = exchange.state::<State>() else {
            return;
        };
        for coding in Coding::ALL {
            let Some(marked) = etag::marked(tag.as_bytes(), self.recodes.etag, coding) else {
                return;
            };
            let has = |line: &HeaderValue| line.as_bytes().windows(marked.len()).any(|part| part == marked);
            if marked != tag.as_bytes() && state.tags.iter().any(has) {
                if let Ok(marked) = HeaderValue::from_bytes(&marked) {
                    let _ = head.insert_header(ETAG, marked);
                }
                return;
            }
        }
    }
}

/// Says that the response may differ by `Accept-Encoding`.
fn vary(head: &mut ResponseHeader) {
    let lines = head.headers.get_all(VARY).iter();
    let mut names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let said = names.any(|name| {
        let name = name.trim_ascii();
        name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")
    });
    if !said {
        let _ = head.append_header(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// For `fuzz/`.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use http::HeaderMap;

    use super::accept::{Accepted, Choice};
    use super::coding::{Coding, Decoder, Encoder};

    /// What a client is given, it accepts.
    ///
    /// # Panics
    /// When it is given what it does not accept.
    pub fn negotiate(request: &HeaderMap) {
        let Some(accepted) = Accepted::of(request) else { return };
        match accepted.choose(&Coding::ALL) {
            Choice::Coded(coding) => assert!(accepted.accepts(coding.as_str().as_bytes())),
            Choice::Identity => assert!(accepted.accepts(b"identity")),
            Choice::Nothing => assert!(!accepted.accepts(b"identity")),
        }
    }

    /// Bytes of strangers come to a bounded number of bytes or to an error; what was coded comes back.
    ///
    /// # Panics
    /// When they do not.
    pub fn decode(which: u8, body: &[u8]) {
        const MOST: usize = 1 << 20;
        let coding = Coding::ALL[usize::from(which) % Coding::ALL.len()];
        for mut decoder in [Decoder::new(coding, MOST).ok(), Some(Decoder::deflate(MOST))]
            .into_iter()
            .flatten()
        {
            for piece in body.chunks(97) {
                match decoder.push(piece) {
                    Ok(plain) => assert!(plain.len() <= MOST),
                    Err(_) => break,
                }
            }
        }
        let Ok(mut encoder) = Encoder::new(coding, 2, None) else {
            return;
        };
        let Ok(mut coded) = encoder.push(body, true) else {
            return;
        };
        let Ok(rest) = encoder.finish() else { return };
        coded.extend(rest);
        let plain = super::decode(coding.as_str(), &coded);
        assert!(plain.is_ok_and(|plain| plain == body), "{coding:?}");
    }
}
