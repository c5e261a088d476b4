//! A part of a whole.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{EXPECTED_SHARE, UnitError};

/// A part of a whole, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Share(pub f64);

impl Share {
    /// That share.
    ///
    /// # Errors
    /// What was expected, if it is none.
    pub(super) fn of(number: f64) -> Result<Self, UnitError> {
        if (0.0..=1.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(UnitError(EXPECTED_SHARE))
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED_SHARE)
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Share, E> {
                Share::of(number).map_err(|_| E::invalid_value(Unexpected::Float(number), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Share, E> {
                Share::of(number as f64).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Share, E> {
                Share::of(number as f64).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A part of a whole, from 0 to 1.",
            "type": "number",
            "minimum": 0,
            "maximum": 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_between_nothing_and_all() {
        for (json, share) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("1.0", 1.0)] {
            assert_eq!(serde_json::from_str::<Share>(json).unwrap(), Share(share), "{json}");
        }
        for json in ["1.01", "2", "-1", "-0.1", "\"50%\"", "50"] {
            let error = serde_json::from_str::<Share>(json).unwrap_err().to_string();
            assert!(error.contains("expected a share, from 0 to 1"), "{json}: {error}");
        }
    }
}
