//! Chunked bodies that the scanner lets pass end at one place: however they are cut, and for whoever decodes them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pillion::fuzzing::chunks;
use pillion_fuzz::{cut, dechunk};

fuzz_target!(|data: &[u8]| {
    // Beyond this come the bounds on lines, which the decoder here has not.
    if data.len() > 4096 {
        return;
    }
    let (pieces, bytes) = cut(data);
    let whole = chunks([bytes]);
    match (&whole, &chunks(pieces)) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        (whole, cut) => assert!(whole.is_err() && cut.is_err(), "whole {whole:?}, cut {cut:?}"),
    }
    match (whole, dechunk(bytes)) {
        (Ok(Some(length)), Ok(Some((_, end)))) => {
            assert_eq!(length, end);
            // It refuses sizes of many digits, be they zeros.
            if let Ok(found) = lenient_end(bytes) {
                assert_eq!(found, Some(end));
            }
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        // The end of a chunk is looked at when its line is whole.
        (Ok(None), Err(_)) => {}
        (whole, decoded) => panic!("{whole:?}, but {decoded:?}"),
    }
});

/// Where the body ends for a decoder that takes what it can get.
fn lenient_end(bytes: &[u8]) -> Result<Option<usize>, httparse::InvalidChunkSize> {
    let mut at = 0;
    loop {
        let httparse::Status::Complete((skip, size)) = httparse::parse_chunk_size(&bytes[at..])? else {
            return Ok(None);
        };
        at += skip;
        if size == 0 {
            break;
        }
        let Some(rest) = usize::try_from(size).ok().and_then(|size| bytes.get(at + size..)) else {
            return Ok(None);
        };
        at = bytes.len() - rest.len() + if rest.starts_with(b"\r\n") { 2 } else { 1 };
    }
    loop {
        let Some(line) = bytes[at..].iter().position(|&byte| byte == b'\n') else {
            return Ok(None);
        };
        let empty = matches!(&bytes[at..at + line], b"" | b"\r");
        at += line + 1;
        if empty {
            return Ok(Some(at));
        }
    }
}
