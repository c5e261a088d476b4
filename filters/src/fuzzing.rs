//! What `fuzz/` reaches into; compiled for it alone.

use http::{HeaderMap, HeaderName, HeaderValue};

pub use crate::cache::fuzzing::judge as judge_cache_fields;
pub use crate::compression::fuzzing::{decode, negotiate};

/// Header fields from lines of `name: value`; what is none is left out.
pub fn headers(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|&byte| byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}
