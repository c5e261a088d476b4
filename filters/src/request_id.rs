//! Gives every request an id, which logs, traces and error bodies share.
//!
//! - A client's own id is kept when `trust` is on and it is valid: sent once, 1 to 128 visible ASCII characters without
//!   quotes and commas. So it can be logged, quoted and put in a list without escaping.
//! - Otherwise a new one is made, a random UUID (RFC 9562, version 4). It replaces whatever the client sent, and the
//!   ledger says so: `replaced_invalid`, or `replaced_untrusted` with `trust` off.
//! - The app gets the id in the request, the client in the response, refusals and errors included. An id that the app
//!   sets on its response is replaced.
//!
//! Ids tell requests apart. They are not secrets: who has seen one may guess others.

use std::sync::Arc;

use http::HeaderValue;
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::own_header::OwnHeader;
use crate::{BuildError, Context, Exchange, Filter, Phases, Plugin, Step, Turn};

/// Gives every request an id, which logs, traces and error bodies share.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The header the id travels in, to the app and back to the client.
    pub header: String,
    /// Whether a valid id from the client is kept. Turn it off where clients are strangers.
    pub trust: bool,
    /// Whether the client gets the id with the response.
    pub response: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header: "x-request-id".to_owned(),
            trust: true,
            response: true,
        }
    }
}

/// The `request_id` plugin.
pub struct RequestId;

impl Plugin for RequestId {
    const NAME: &'static str = "request_id";
    const WORDS: crate::Words = &[
        (
            "replaced_invalid",
            &["the request's id was replaced: it was not one of at most 128 plain characters"],
        ),
        ("replaced_untrusted", &["the request's id was replaced: `trust` is off"]),
    ];
    type Config = Config;

    fn build(config: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Identify {
            header: OwnHeader::new(config.header, "the request id")?,
            trust: config.trust,
            response: config.response,
        }))
    }
}

struct Identify {
    header: OwnHeader,
    trust: bool,
    response: bool,
}

impl Filter for Identify {
    fn phases(&self) -> Phases {
        if self.response {
            Phases::REQUEST | Phases::RESPONSE
        } else {
            Phases::REQUEST
        }
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        let mut received = exchange.request.headers.get_all(&self.header.name).iter();
        match choose(self.trust, received.next(), received.next().is_some()) {
            Choice::Keep(id) => {
                exchange.request_id = Some(id.clone());
                return Step::Continue;
            }
            Choice::Make => {}
            Choice::Replace(reason) => exchange.ledger.enter(RequestId::NAME, reason),
        }
        // Hexadecimal digits and hyphens always make a header value.
        if let Ok(id) = HeaderValue::from_bytes(&uuid(fastrand::u128(..), 4)) {
            self.header.write_request(&mut exchange.request, id.clone());
            exchange.request_id = Some(id);
        }
        Step::Continue
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHeader) -> Turn {
        if let Some(id) = &exchange.request_id {
            self.header.write_response(head, id.clone());
        }
        Turn::Keep
    }
}

/// What becomes of the id a client sent, or did not.
#[derive(Debug, PartialEq)]
enum Choice<'a> {
    Keep(&'a HeaderValue),
    Make,
    Replace(&'static str),
}

/// Several ids (`more`) are as good as none: logs before and after the sidecar might pick different ones.
fn choose(trust: bool, received: Option<&HeaderValue>, more: bool) -> Choice<'_> {
    match received {
        None => Choice::Make,
        Some(_) if !trust => Choice::Replace("replaced_untrusted"),
        Some(id) if !more && is_valid(id.as_bytes()) => Choice::Keep(id),
        Some(_) => Choice::Replace("replaced_invalid"),
    }
}

/// 1 to 128 visible ASCII characters without quotes and commas.
fn is_valid(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id
            .iter()
            .all(|byte| matches!(byte, b'!'..=b'~') && !b"\"',".contains(byte))
}

/// A UUID of that version, 4 for random bits and 8 for others, written in lower case (RFC 9562, sections 4, 5.4 and 5.8).
pub(crate) fn uuid(bits: u128, version: u8) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // Where the two digits of each byte stand.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let version_and_variant = u128::from(version) << 76 | 0x8000_0000_0000_0000;
    let bits = bits & !0xf000_c000_0000_0000_0000 | version_and_variant;
    let mut text = [b'-'; 36];
    for (byte, place) in bits.to_be_bytes().into_iter().zip(PLACES) {
        text[place] = DIGITS[usize::from(byte >> 4)];
        text[place + 1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Telemetry, testing};

    fn filter(config: &str) -> Result<Arc<dyn Filter>, BuildError> {
        let config = serde_json::from_str(config).unwrap();
        testing::with_context("request_id", &Telemetry::default(), |context| {
            RequestId::build(config, context)
        })
    }

    fn asked_with(config: &str, ids: &[&'static str]) -> Exchange {
        let mut exchange = testing::exchange("GET", "/");
        for id in ids {
            exchange.request.append_header("X-Request-ID", *id).unwrap();
        }
        assert!(matches!(filter(config).unwrap().request(&mut exchange), Step::Continue));
        exchange
    }

    fn reasons(exchange: &Exchange) -> Vec<&str> {
        exchange.ledger.entries().iter().map(|entry| entry.reason).collect()
    }

    #[test]
    fn a_valid_id_is_kept_as_it_was_sent() {
        let exchange = asked_with("{}", &["abc-123"]);
        assert_eq!(exchange.request_id.as_ref().unwrap(), "abc-123");
        assert_eq!(exchange.request.headers["x-request-id"], "abc-123");
        assert!(reasons(&exchange).is_empty());
    }

    #[test]
    fn a_missing_id_is_made_and_sent_on() {
        let exchange = asked_with("{}", &[]);
        let id = exchange.request_id.as_ref().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(exchange.request.headers["x-request-id"], id);
        assert!(reasons(&exchange).is_empty());
        assert_ne!(asked_with("{}", &[]).request_id.as_ref(), Some(id));
    }

    #[test]
    fn an_invalid_an_untrusted_and_a_doubled_id_are_replaced() {
        for (config, ids, reason) in [
            ("{}", &["two words"][..], "replaced_invalid"),
            ("{}", &["one", "two"][..], "replaced_invalid"),
            (r#"{"trust": false}"#, &["abc"][..], "replaced_untrusted"),
        ] {
            let exchange = asked_with(config, ids);
            let sent: Vec<_> = exchange.request.headers.get_all("x-request-id").iter().collect();
            assert_eq!(sent, [exchange.request_id.as_ref().unwrap()]);
            assert_eq!(sent[0].len(), 36);
            assert_eq!(reasons(&exchange), [reason]);
        }
    }

    #[test]
    fn valid_are_visible_ascii_characters_that_need_no_quoting() {
        let longest = "x".repeat(128);
        for id in ["a", "01HZ;=/+_.~!", &longest] {
            assert!(is_valid(id.as_bytes()), "{id}");
        }
        let too_long = "x".repeat(129);
        for id in ["", "a b", "a,b", "a\"", "a'", "a\tb", "ä", "\u{7f}", &too_long] {
            assert!(!is_valid(id.as_bytes()), "{id}");
        }
    }

    #[test]
    fn uuids_carry_version_and_variant() {
        assert_eq!(&uuid(0, 4), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid(u128::MAX, 4), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
        let counted = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(&uuid(counted, 4), b"01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn the_client_gets_the_id_unless_told_not_to() {
        let mut exchange = asked_with("{}", &["abc"]);
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header("x-request-id", "the app's own").unwrap();
        filter("{}").unwrap().response(&mut exchange, &mut head);
        assert_eq!(head.headers["x-request-id"], "abc");

        let silent = filter(r#"{"response": false}"#).unwrap();
        assert_eq!(silent.phases(), Phases::REQUEST);
    }

    #[test]
    fn a_header_that_cannot_hold_an_id_is_refused() {
        let error = filter(r#"{"header": "Content-Length"}"#).err().unwrap().to_string();
        assert!(
            error.contains("`content-length`") && error.contains("request id"),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let error = serde_json::from_str::<Config>(r#"{"thrust": true}"#).unwrap_err();
        assert!(error.to_string().contains("thrust"), "{error}");
    }
}
