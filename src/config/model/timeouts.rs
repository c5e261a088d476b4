//! How long the sidecar waits for an upstream.

use pillion_filters::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long the sidecar waits for the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Until a connection is open; then the client gets a 504. Default: `1s`.
    pub connect: HumanDuration,
    /// From the end of the request to the response head; then the client gets a 504. Default: `60s`.
    pub first_byte: HumanDuration,
    /// Between two bytes of a body, either way; then the exchange is cut off. Default: `60s`.
    pub idle: HumanDuration,
    /// Without a byte in either direction on a connection that was switched to another protocol (WebSocket) or tunnelled
    /// (CONNECT); then it is closed. Default: `1h`.
    pub tunnel: HumanDuration,
    /// For the whole exchange, retries included, or `none`. Default: `none`, so that streams may last.
    #[serde(with = "limit")]
    #[schemars(schema_with = "limit::schema")]
    pub exchange: Option<HumanDuration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: HumanDuration::from_secs(1),
            first_byte: HumanDuration::from_secs(60),
            idle: HumanDuration::from_secs(60),
            tunnel: HumanDuration::from_secs(3600),
            exchange: None,
        }
    }
}

/// A route's own timeouts: only those that are named differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsOverlay {
    /// Until a connection is open. Default: `timeouts.connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<HumanDuration>,
    /// From the end of the request to the response head. Default: `timeouts.first_byte`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<HumanDuration>,
    /// Between two bytes of a body. Default: `timeouts.idle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<HumanDuration>,
    /// Without a byte on a switched or tunnelled connection. Default: `timeouts.tunnel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<HumanDuration>,
    /// For the whole exchange, or `none`. Default: `timeouts.exchange`.
    #[serde(skip_serializing_if = "Option::is_none", with = "limit::overlay")]
    #[schemars(schema_with = "limit::schema")]
    pub exchange: Option<Option<HumanDuration>>,
}

impl TimeoutsOverlay {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Timeouts {
    /// These, with a route's own over them.
    pub fn overlaid(&self, route: &TimeoutsOverlay) -> Self {
        Self {
            connect: route.connect.unwrap_or(self.connect),
            first_byte: route.first_byte.unwrap_or(self.first_byte),
            idle: route.idle.unwrap_or(self.idle),
            tunnel: route.tunnel.unwrap_or(self.tunnel),
            exchange: route.exchange.unwrap_or(self.exchange),
        }
    }
}

/// A duration or the word `none`: a null could not be told from a key that is not there.
mod limit {
    use std::fmt;

    use pillion_filters::units::{HumanDuration, UnitError};
    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::ser::Serializer;

    // serde's `with` passes the field by reference.
    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(limit: &Option<HumanDuration>, serializer: S) -> Result<S::Ok, S::Error> {
        match limit {
            Some(duration) => serializer.collect_str(duration),
            None => serializer.serialize_str("none"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HumanDuration>, D::Error> {
        struct DurationOrNone;
        impl Visitor<'_> for DurationOrNone {
            type Value = Option<HumanDuration>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 5m, or `none`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                if text == "none" {
                    return Ok(None);
                }
                let read: Result<HumanDuration, UnitError> = text.parse();
                let expected = |error: UnitError| format!("{}, or `none`", error.expected());
                read.map(Some)
                    .map_err(|error| E::invalid_value(Unexpected::Str(text), &expected(error).as_str()))
            }
        }
        deserializer.deserialize_any(DurationOrNone)
    }

    pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
        let duration = generator.subschema_for::<HumanDuration>();
        json_schema!({ "anyOf": [duration, { "const": "none" }] })
    }

    /// The same for a key that may be absent.
    pub(super) mod overlay {
        use super::{Deserializer, HumanDuration, Serializer};

        #[allow(clippy::ref_option, clippy::option_option)]
        pub(in super::super) fn serialize<S: Serializer>(
            limit: &Option<Option<HumanDuration>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            super::serialize(&limit.flatten(), serializer)
        }

        #[allow(clippy::option_option)]
        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Option<HumanDuration>>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
