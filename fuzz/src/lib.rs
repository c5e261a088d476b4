//! What the fuzz targets share: a reading of HTTP/1 that owes nothing to the one under test.

/// Cuts bytes every so many, which the first byte says; also gives them whole.
pub fn cut(data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let Some((&by, bytes)) = data.split_first() else {
        return (Vec::new(), data);
    };
    let pieces = bytes.chunks(usize::from(by).max(1)).collect();
    (pieces, bytes)
}

/// A line without its CRLF, and what follows; none if its LF has not come. An error if it has no CR.
pub fn line(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>, &'static str> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let (line, rest) = bytes.split_at(end + 1);
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(Some((line, rest))),
        None => Err("a bare LF"),
    }
}

/// RFC 9110, section 5.6.2.
pub fn is_token(bytes: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(token)
}

/// Characters of fields and extensions: neither CR nor LF nor another control character, but tabs.
pub fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

/// A chunked body as RFC 9112, section 7.1 has it, read from one buffer: its decoded bytes and its length with all that
/// frames it, none when more is to come.
pub fn dechunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let (mut rest, mut body) = (bytes, Vec::new());
    loop {
        let Some((size, after)) = line(rest)? else {
            return Ok(None);
        };
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extensions) = size.split_at(digits);
        let extended = extensions.trim_ascii_start().starts_with(b";");
        if !(extensions.is_empty() || extended && is_text(extensions)) {
            return Err("an extension that is none");
        }
        let digits = std::str::from_utf8(digits).map_err(|_| "no digits")?;
        let size = u64::from_str_radix(digits, 16).map_err(|_| "no size")?;
        rest = after;
        if size == 0 {
            break;
        }
        let Some((data, after)) = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size)) else {
            return Ok(None);
        };
        rest = match after {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(None),
            _ => return Err("a chunk without an end"),
        };
        body.extend_from_slice(data);
    }
    loop {
        let Some((field, after)) = line(rest)? else {
            return Ok(None);
        };
        rest = after;
        if field.is_empty() {
            return Ok(Some((body, bytes.len() - rest.len())));
        }
        let colon = field.iter().position(|&byte| byte == b':').ok_or("no field")?;
        if !is_token(&field[..colon]) || !is_text(&field[colon..]) {
            return Err("no field");
        }
    }
}
