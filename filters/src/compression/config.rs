//! What operators configure.

use schemars::JsonSchema;
use serde::Deserialize;

use super::coding::Coding;
use crate::units::ByteSize;

/// Compresses response bodies for clients that accept that.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The codings that are made: of those a client wants equally, it gets the first. None of them: bodies are only decompressed.
    pub codings: Vec<Coding>,
    /// How hard to try, by coding.
    pub levels: Levels,
    /// Bodies of a known length below this are left as they are: they fit a packet anyway.
    pub min_size: ByteSize,
    /// Content types that are compressed: whole, `text/*`, or `*+json` for a suffix. In place of the default ones.
    pub types: Vec<String>,
    /// What becomes of a strong `ETag`, which names a body byte for byte.
    pub etag: EtagMode,
    /// Whether a client that accepts nothing that can be made, not even the body as it is, gets a 406 rather than the body as it
    /// is.
    pub strict: bool,
    /// Whether a body that the app has compressed is decompressed for a client that does not accept its coding.
    pub decode_responses: bool,
    /// The brotli level, from 1 to 11, to which a body is brought that the cache stores and that is asked for again; `0` to leave
    /// it.
    pub improved_level: u32,
    /// Bodies of requests.
    pub requests: RequestConfig,
    /// The share of the CPU, from 0.05 to 1, beyond which levels are lowered until it is below again; `1` for never.
    pub cpu_limit: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            codings: Coding::ALL.to_vec(),
            levels: Levels::default(),
            min_size: ByteSize(1024),
            types: TYPES.iter().map(|kind| (*kind).to_owned()).collect(),
            etag: EtagMode::default(),
            strict: false,
            decode_responses: true,
            improved_level: 9,
            requests: RequestConfig::default(),
            cpu_limit: 0.8,
        }
    }
}

/// Bodies of requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestConfig {
    /// Whether compressed ones are decompressed for the app.
    pub decode: bool,
    /// The largest body after decompression. Larger: 413.
    pub max_decoded: ByteSize,
    /// Whether they are compressed for hosts that have said that they take it (RFC 7694).
    pub encode: bool,
}

impl Default for RequestConfig {
    fn default() -> Self {
        Self {
            decode: false,
            max_decoded: ByteSize(10 * 1024 * 1024),
            encode: false,
        }
    }
}

/// What gains by it. Images, video, archives and fonts of the web are compressed already.
const TYPES: [&str; 17] = [
    "text/*",
    "*+json",
    "*+xml",
    "*+text",
    "application/json",
    "application/ndjson",
    "application/x-ndjson",
    "application/jsonlines",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/wasm",
    "application/graphql",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/bmp",
];

/// How hard to try.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Levels {
    /// Zstandard: from 1 to 19.
    pub zstd: u32,
    /// Brotli: from 0 to 11.
    pub br: u32,
    /// gzip: from 1 to 9.
    pub gzip: u32,
}

impl Default for Levels {
    fn default() -> Self {
        Self {
            zstd: 3,
            br: 4,
            gzip: 6,
        }
    }
}

impl Levels {
    /// That of a coding.
    pub(super) fn of(&self, coding: Coding) -> u32 {
        match coding {
            Coding::Zstd => self.zstd,
            Coding::Br => self.br,
            Coding::Gzip => self.gzip,
        }
    }
}

/// What becomes of a strong `ETag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EtagMode {
    /// It becomes a weak one: `"a"` is sent as `W/"a"`.
    #[default]
    Weak,
    /// It carries the coding: `"a"` is sent as `"a-br"`. For clients that need strong ones; levels must not change then, so
    /// `cpu_limit` must be `1`.
    Suffix,
}
