//! How this hop names itself in `Via`.

use http::Version;

/// The member of `Via` for a message that came in by that protocol version (RFC 9110, section 7.6.3).
pub fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2 pillion",
        Version::HTTP_10 => "1.0 pillion",
        _ => "1.1 pillion",
    }
}
