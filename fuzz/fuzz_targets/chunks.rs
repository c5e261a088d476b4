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
            assert_eq!(lenient_end(bytes), Some(end));
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        // The end of a chunk is looked at when its line is whole.
        (Ok(None), Err(_)) => {}
        (whole, decoded) => panic!("{whole:?}, but {decoded:?}"),
    }
});

/// Where the body ends for a decoder that takes what it can get.
fn lenient_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let httparse::Status::Complete((skip, size)) = httparse::parse_chunk_size(&bytes[at..]).ok()? else {
            return None;
        };
        at += skip;
        if size == 0 {
            break;
        }
        at += usize::try_from(size).ok()?;
        at += if bytes[at..].starts_with(b"\r\n") { 2 } else { 1 };
    }
    loop {
        let line = bytes[at..].iter().position(|&byte| byte == b'\n')?;
        let empty = matches!(&bytes[at..at + line], b"" | b"\r");
        at += line + 1;
        if empty {
            return Some(at);
        }
    }
}
