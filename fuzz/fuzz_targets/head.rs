//! Heads that the scanner lets pass mean one thing: it says the same however they are cut, and the parser behind it sees
//! the same lines, with the same end, however lenient it is told to be.
#![no_main]

use httparse::{Header, ParserConfig, Status};
use libfuzzer_sys::fuzz_target;
use pillion::fuzzing::{Head, Whose, head};
use pillion_fuzz::{cut, is_token};

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let whose = if first & 1 == 0 {
        Whose::Request
    } else {
        Whose::Response
    };
    let (pieces, bytes) = cut(data);
    let whole = head(whose, [bytes]);
    let cut = head(whose, pieces);
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => {
            assert_eq!(whole, cut);
            if let Some(head) = whole {
                agree(whose, bytes, head);
            }
        }
        (whole, cut) => assert!(whole.is_err() && cut.is_err(), "whole {whole:?}, cut {cut:?}"),
    }
});

/// Both kinds of parser say of a head what its lines say.
fn agree(whose: Whose, bytes: &[u8], head: Head) {
    let mut lines = bytes[..head.length].split(|&byte| byte == b'\n').map(|line| {
        // The last piece is what comes after the last LF: nothing.
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    let start = lines.next().unwrap();
    let fields: Vec<(&[u8], &[u8])> = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let colon = line.iter().position(|&byte| byte == b':').unwrap();
            (&line[..colon], line[colon + 1..].trim_ascii())
        })
        .collect();
    let mut lenient = ParserConfig::default();
    lenient
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_space_before_first_header_name(true);
    // It leaves these to the parser behind, which refuses them.
    let refusable = !fields.iter().all(|(name, _)| is_token(name)) || std::str::from_utf8(start).is_err();
    for config in [ParserConfig::default(), lenient] {
        let mut room = [httparse::EMPTY_HEADER; 256];
        // All of it, so that a parser that goes on after the end is found out.
        let (parsed, found) = match whose {
            Whose::Request => {
                let mut request = httparse::Request::new(&mut room);
                let parsed = config.parse_request(&mut request, bytes);
                if parsed.is_ok() {
                    let words: Vec<_> = start.split(|&byte| byte == b' ').collect();
                    assert_eq!(request.method.unwrap().as_bytes(), words[0]);
                    assert_eq!(request.path.unwrap().as_bytes(), words[1]);
                    assert_eq!(request.version.unwrap(), start[start.len() - 1] - b'0');
                }
                (parsed, request.headers)
            }
            Whose::Response => {
                let mut response = httparse::Response::new(&mut room);
                let parsed = config.parse_response(&mut response, bytes);
                if parsed.is_ok() {
                    let status = std::str::from_utf8(&start[9..12]).unwrap();
                    assert_eq!(response.code.unwrap(), status.parse::<u16>().unwrap());
                }
                (parsed, response.headers)
            }
        };
        match parsed {
            Ok(Status::Complete(length)) => {
                assert_eq!(length, head.length);
                let found: Vec<_> = found
                    .iter()
                    .map(|Header { name, value }| (name.as_bytes(), value.trim_ascii()))
                    .collect();
                assert_eq!(found, fields);
                framed(whose, start, &fields, head);
            }
            Ok(Status::Partial) => panic!("the parser waits for more"),
            Err(error) => assert!(refusable, "{error}"),
        }
    }
}

/// The length is said once, and in one way.
fn framed(whose: Whose, start: &[u8], fields: &[(&[u8], &[u8])], head: Head) {
    let all = |name: &str| -> Vec<&[u8]> {
        let named = fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, value)| *value).collect()
    };
    let (codings, lengths) = (all("transfer-encoding"), all("content-length"));
    assert!(codings.is_empty() || lengths.is_empty());
    assert!(codings.len() < 2 && codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked")));
    let mut numbers: Vec<u64> = lengths
        .iter()
        .flat_map(|lengths| lengths.split(|&byte| byte == b','))
        .map(|length| {
            let length = length.trim_ascii();
            assert!(length.iter().all(u8::is_ascii_digit));
            std::str::from_utf8(length).unwrap().parse().unwrap()
        })
        .collect();
    numbers.dedup();
    assert!(numbers.len() < 2);
    let bodiless = matches!(whose, Whose::Response) && matches!(&start[9..12], [b'1', ..] | b"204" | b"304");
    assert_eq!(head.chunked, !codings.is_empty() && !bodiless);
}
