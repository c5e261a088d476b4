//! The content codings (RFC 9110, section 8.4.1; RFC 7932; RFC 8878) and their streams, with bounded memory.

use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;
use flate2::write::{DeflateDecoder, GzEncoder, MultiGzDecoder, ZlibDecoder};
use schemars::JsonSchema;
use serde::Deserialize;

/// Windows are no larger than this many bits: 256 KiB. A larger one gains little on what an API says and costs each stream
/// its size.
const WINDOW_BITS: u32 = 18;
/// The same for brotli, whose middle levels make more of a larger body than its lower ones only with 512 KiB.
const BROTLI_WINDOW_BITS: u32 = 19;
/// Brotli's middle levels take a much slower way with a smaller window than this, however small the body is.
const BROTLI_LEAST_WINDOW_BITS: u32 = 17;
/// Input is worked on in blocks of 64 KiB at the highest levels too, which would take 256 KiB: the worker's other exchanges
/// wait for a block.
const BROTLI_BLOCK_BITS: i32 = 16;
/// What a peer may need to decode what others made: 8 MiB (RFC 8878, section 3.1.1.1.2, and RFC 9659).
const MAX_WINDOW_BITS: u32 = 23;
const BUFFER: usize = 4096;
/// What a [`Sink`] says that is full.
pub(super) const TOO_MUCH: &str = "more than is allowed";

/// A content coding that is made and understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// Zstandard.
    Zstd,
    /// Brotli.
    Br,
    /// gzip, the one that everybody understands.
    Gzip,
}

impl Coding {
    /// All, the best first.
    pub(crate) const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// Its name in `Content-Encoding`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The coding of that name; `x-gzip` is `gzip` (RFC 9110, section 8.4.1.3).
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else {
            Self::ALL.into_iter().find(|coding| is(coding.as_str()))
        }
    }

    /// The lowest and the highest level.
    pub(crate) fn levels(self) -> (u32, u32) {
        match self {
            Self::Zstd => (1, 19),
            Self::Br => (0, 11),
            Self::Gzip => (1, 9),
        }
    }
}

/// Where a coder writes: taken from chunk by chunk, and bounded while it is filled.
#[derive(Debug)]
pub(super) struct Sink {
    bytes: Vec<u8>,
    most: usize,
}

impl Sink {
    fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
        }
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::Error::other(TOO_MUCH));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream that compresses.
pub(crate) enum Encoder {
    Zstd(Box<zstd::stream::write::Encoder<'static, Sink>>),
    Br(Box<brotli::CompressorWriter<Sink>>),
    Gzip(Box<GzEncoder<Sink>>),
}

impl Encoder {
    /// At that level; `length` is the body's, if it is known.
    pub(crate) fn new(coding: Coding, level: u32, length: Option<u64>) -> io::Result<Self> {
        let sink = Sink::new(usize::MAX);
        // A window larger than the body is wasted.
        let bits = length.map_or(u32::MAX, |length| length.max(1).ilog2() + 1);
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(sink, i32::try_from(level).unwrap_or(3))?;
                encoder.window_log(bits.clamp(10, WINDOW_BITS))?;
                // Its tables are as large as the body wants them.
                encoder.set_pledged_src_size(length)?;
                Self::Zstd(Box::new(encoder))
            }
            Coding::Br => {
                let least = if (5..9).contains(&level) {
                    BROTLI_LEAST_WINDOW_BITS
                } else {
                    10
                };
                let params = BrotliEncoderParams {
                    quality: i32::try_from(level).unwrap_or(4),
                    lgwin: bits.clamp(least, BROTLI_WINDOW_BITS).cast_signed(),
                    lgblock: if level >= 9 { BROTLI_BLOCK_BITS } else { 0 },
                    size_hint: length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0),
                    ..BrotliEncoderParams::default()
                };
                Self::Br(Box::new(brotli::CompressorWriter::with_params(sink, BUFFER, &params)))
            }
            Coding::Gzip => Self::Gzip(Box::new(GzEncoder::new(sink, flate2::Compression::new(level)))),
        })
    }

    /// Takes a piece; what can be sent of it all, by now. With `flush` that is all of it.
    pub(crate) fn push(&mut self, piece: &[u8], flush: bool) -> io::Result<Vec<u8>> {
        macro_rules! push {
            ($encoder:expr) => {{
                $encoder.write_all(piece)?;
                if flush {
                    $encoder.flush()?;
                }
                $encoder.get_mut().take()
            }};
        }
        Ok(match self {
            Self::Zstd(encoder) => push!(encoder),
            Self::Br(encoder) => push!(encoder),
            Self::Gzip(encoder) => push!(encoder),
        })
    }

    /// The rest.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::Zstd(encoder) => encoder.finish()?.bytes,
            Self::Br(encoder) => encoder.into_inner().bytes,
            Self::Gzip(encoder) => encoder.finish()?.bytes,
        })
    }
}

/// A stream that decompresses.
pub(crate) enum Decoder {
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
    Br(Box<brotli::DecompressorWriter<Sink>>),
    Gzip(Box<MultiGzDecoder<Sink>>),
    /// `deflate` is what zlib writes (RFC 9110, section 8.4.1.2)...
    Zlib(Box<ZlibDecoder<Sink>>),
    /// ...but some leave its frame out.
    Deflate(Box<DeflateDecoder<Sink>>),
    /// Which of the two, the first byte tells.
    Unsettled(usize),
}

impl Decoder {
    /// For a body in that coding; a piece that comes to more than `most` bytes is an error.
    pub(crate) fn new(coding: Coding, most: usize) -> io::Result<Self> {
        let sink = Sink::new(most);
        Ok(match coding {
            Coding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(sink)?;
                decoder.window_log_max(MAX_WINDOW_BITS)?;
                Self::Zstd(Box::new(decoder))
            }
            Coding::Br => Self::Br(Box::new(brotli::DecompressorWriter::new(sink, BUFFER))),
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(sink))),
        })
    }

    /// For a body in `deflate`, which is understood and never made.
    pub(crate) fn deflate(most: usize) -> Self {
        Self::Unsettled(most)
    }

    /// What a piece comes to.
    pub(crate) fn push(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        macro_rules! push {
            ($decoder:expr) => {{
                $decoder.write_all(piece)?;
                $decoder.flush()?;
                $decoder.get_mut().take()
            }};
        }
        if let (Self::Unsettled(most), Some(first)) = (&*self, piece.first()) {
            let sink = Sink::new(*most);
            *self = if first & 0x0f == 8 {
                Self::Zlib(Box::new(ZlibDecoder::new(sink)))
            } else {
                Self::Deflate(Box::new(DeflateDecoder::new(sink)))
            };
        }
        Ok(match self {
            Self::Zstd(decoder) => push!(decoder),
            Self::Br(decoder) => push!(decoder),
            Self::Gzip(decoder) => push!(decoder),
            Self::Zlib(decoder) => push!(decoder),
            Self::Deflate(decoder) => push!(decoder),
            Self::Unsettled(_) => Vec::new(),
        })
    }

    /// The rest; an error if there should be more.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        Ok(match self {
            Self::Zstd(mut decoder) => {
                decoder.flush()?;
                decoder.into_inner().bytes
            }
            Self::Br(mut decoder) => {
                decoder.close()?;
                decoder.into_inner().map_err(|_| cut_short())?.bytes
            }
            Self::Gzip(decoder) => decoder.finish()?.bytes,
            Self::Zlib(decoder) => decoder.finish()?.bytes,
            Self::Deflate(decoder) => decoder.finish()?.bytes,
            Self::Unsettled(_) => Vec::new(),
        })
    }
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the body ends early")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        let words = ["alpha ", "beta ", "gamma ", "delta ", "\"id\": 17, ", "epsilon\n"];
        let mut rng = fastrand::Rng::with_seed(7);
        let mut text = Vec::new();
        while text.len() < length {
            text.extend_from_slice(words[rng.usize(..words.len())].as_bytes());
        }
        text.truncate(length);
        text
    }

    fn encode(coding: Coding, level: u32, body: &[u8], piece: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(coding, level, Some(body.len() as u64)).unwrap();
        let mut coded = Vec::new();
        for piece in body.chunks(piece) {
            coded.extend(encoder.push(piece, false).unwrap());
        }
        coded.extend(encoder.finish().unwrap());
        coded
    }

    fn decode(coding: Coding, body: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(coding, 1 << 20)?;
        let mut plain = Vec::new();
        for piece in body.chunks(piece) {
            plain.extend(decoder.push(piece)?);
        }
        plain.extend(decoder.finish()?);
        Ok(plain)
    }

    #[test]
    fn what_goes_in_comes_out() {
        for coding in Coding::ALL {
            let (lowest, highest) = coding.levels();
            for level in [lowest, 4, highest] {
                for length in [0, 1, 1000, 300_000] {
                    let body = text(length);
                    let coded = encode(coding, level, &body, 8191);
                    assert_eq!(
                        decode(coding, &coded, 777).unwrap(),
                        body,
                        "{coding:?} {level} {length}"
                    );
                    assert!(length < 1000 || coded.len() * 2 < length, "{coding:?} {level} {length}");
                }
            }
        }
    }

    #[test]
    fn a_flush_sends_all_there_is() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, 4, None).unwrap();
            let mut decoder = Decoder::new(coding, 1 << 20).unwrap();
            for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
                let sent = encoder.push(event.as_bytes(), true).unwrap();
                assert_eq!(decoder.push(&sent).unwrap(), event.as_bytes(), "{coding:?}");
            }
            let rest = encoder.finish().unwrap();
            assert!(decoder.push(&rest).unwrap().is_empty());
            assert!(decoder.finish().unwrap().is_empty());
        }
    }

    #[test]
    fn a_body_that_is_cut_short_is_an_error() {
        for coding in [Coding::Br, Coding::Gzip] {
            let coded = encode(coding, 4, &text(10_000), 10_000);
            assert!(decode(coding, &coded[..coded.len() / 2], 100).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn what_swells_beyond_measure_is_an_error() {
        let zeros = vec![0; 8 << 20];
        for coding in Coding::ALL {
            let coded = encode(coding, 4, &zeros, 1 << 20);
            assert!(coded.len() < 20_000);
            assert!(decode(coding, &coded, coded.len()).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn deflate_is_understood_in_both_forms() {
        let body = text(5000);
        let zlib = {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(&body).unwrap();
            encoder.finish().unwrap()
        };
        for coded in [&zlib[..], &zlib[2..zlib.len() - 4]] {
            let mut decoder = Decoder::deflate(1 << 20);
            let mut plain = decoder.push(coded).unwrap();
            plain.extend(decoder.finish().unwrap());
            assert_eq!(plain, body);
        }
    }

    #[test]
    fn names() {
        assert_eq!(Coding::of(b"GZip"), Some(Coding::Gzip));
        assert_eq!(Coding::of(b"x-gzip"), Some(Coding::Gzip));
        assert_eq!(Coding::of(b"br"), Some(Coding::Br));
        assert_eq!(Coding::of(b"deflate"), None);
        assert_eq!(Coding::of(b""), None);
    }
}
