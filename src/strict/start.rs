//! Start lines (RFC 9112, sections 3 and 4).

use super::Flaw;
use super::fields::is_token;

/// What of a start line matters for what follows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    /// Of a response.
    pub(super) status: u16,
    pub(super) is_http_1_0: bool,
}

/// `method SP request-target SP HTTP-version`, with one space each.
pub(super) fn request(line: &[u8]) -> Result<Start, Flaw> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, parts.next()) else {
        return Err(Flaw::Malformed("a request line that is not of three words"));
    };
    if !is_token(method) {
        return Err(Flaw::Malformed("a method that is no token"));
    }
    // Bytes beyond ASCII are no control characters to anybody, and some clients send paths in UTF-8. A fragment is not for the
    // server; who keeps it and who cuts it off would see different targets.
    let valid = |byte: &u8| (byte.is_ascii_graphic() && *byte != b'#') || !byte.is_ascii();
    if target.is_empty() || !target.iter().all(valid) {
        return Err(Flaw::Malformed("a character in the target that may not be there"));
    }
    Ok(Start {
        status: 0,
        is_http_1_0: is_http_1_0(version)?,
    })
}

/// `HTTP-version SP status-code [ SP reason-phrase ]`: the last space is owed, and left out by many.
pub(super) fn response(line: &[u8]) -> Result<Start, Flaw> {
    let no_status = Flaw::Malformed("no status line");
    let (version, rest) = line.split_at_checked(8).ok_or(no_status)?;
    let is_http_1_0 = is_http_1_0(version)?;
    let (status, reason) = rest.split_at_checked(4).ok_or(no_status)?;
    let [b' ', digits @ ..] = status else {
        return Err(no_status);
    };
    let spaced = reason.first().is_none_or(|first| *first == b' ');
    if !digits.iter().all(u8::is_ascii_digit) || digits.starts_with(b"0") || !spaced {
        return Err(no_status);
    }
    let status = digits
        .iter()
        .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    Ok(Start { status, is_http_1_0 })
}

fn is_http_1_0(version: &[u8]) -> Result<bool, Flaw> {
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Flaw::Malformed("a version that is not HTTP/1.0 or HTTP/1.1")),
    }
}
