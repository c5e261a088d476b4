//! Durations and sizes as people write them.
//!
//! [`HumanDuration`] reads `5m`, `1h30m` and `250ms`. A number without a unit is refused: nobody can tell seconds from
//! milliseconds by looking at it. So is more than [`HumanDuration::LONGEST`]. [`ByteSize`] reads `64KiB` (1024 bytes each) and
//! `10MB` (1000 times 1000 bytes); a plain integer is a number of bytes. Both are written back in the same form, and what is
//! written reads as the same value. [`OrNone`] reads either of them, or `none` where there is to be no limit.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod or_none;
mod share;
pub use or_none::{Measure, OrNone};
pub use share::Share;

const EXPECTED_DURATION: &str = "a duration such as 5m";
const EXPECTED_SHORTER: &str = "a duration of at most 365d";
const EXPECTED_SHARE: &str = "a share, from 0 to 1";
const EXPECTED_SIZE: &str = "a size such as 64KiB";
const EXPECTED_SMALLER: &str = "a smaller whole number";

/// A duration, written with units: `5m`, `1h30m`, `250ms`. At most 365 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// The longest that is read. Whatever is added to a point in time must not lead past what a clock can hold.
    pub const LONGEST: Self = Self::from_secs(365 * 86_400);

    /// So many whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

/// A number of bytes, written `64KiB`, `10MB` or plainly `65536`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Why something is no duration, no size and no limit: what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct UnitError(&'static str);

impl UnitError {
    /// What was expected, such as `a duration such as 5m`.
    pub fn expected(self) -> &'static str {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        // humantime takes a bare 0; here every duration has its unit.
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(UnitError(EXPECTED_DURATION));
        }
        match humantime::parse_duration(text) {
            Ok(duration) if duration <= Self::LONGEST.0 => Ok(Self(duration)),
            Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err(UnitError(EXPECTED_SHORTER)),
            Err(_) => Err(UnitError(EXPECTED_DURATION)),
        }
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = UnitError(EXPECTED_SIZE);
        let size = text.parse::<bytesize::ByteSize>().map_err(|_| refused)?.as_u64();
        // bytesize saturates where a product does not fit; no real size is that large.
        if size == u64::MAX { Err(refused) } else { Ok(Self(size)) }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let (seconds, nanos) = (self.0.as_secs(), u64::from(self.0.subsec_nanos()));
        let parts = [
            (seconds / 86_400, "d"),
            (seconds / 3_600 % 24, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (nanos / 1_000_000, "ms"),
            (nanos / 1_000 % 1_000, "us"),
            (nanos % 1_000, "ns"),
        ];
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count}{unit}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 8] = [
            (1 << 40, "TiB"),
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
            (1_000_000_000_000, "TB"),
            (1_000_000_000, "GB"),
            (1_000_000, "MB"),
            (1_000, "kB"),
        ];
        let exact = UNITS
            .into_iter()
            .find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit));
        match exact {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED_DURATION)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<HumanDuration, E> {
                let read: Result<HumanDuration, UnitError> = text.parse();
                read.map_err(|error| E::invalid_value(Unexpected::Str(text), &error.expected()))
            }
        }
        // Not `deserialize_str`: a number must come here to be refused in this type's words.
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrInteger;
        impl Visitor<'_> for TextOrInteger {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED_SIZE)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
            }
        }
        deserializer.deserialize_any(TextOrInteger)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit, such as `5m`, `1h30m` or `250ms`; at most `365d`.",
            "type": "string",
            "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*[a-zA-Zµ]+\s*)+$",
            "examples": ["250ms", "5m", "1h30m"],
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A size such as `64KiB` or `10MB`; a plain integer is a number of bytes.",
            "type": ["string", "integer"],
            "pattern": r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpPeE][iI]?)?[bB]?$",
            "minimum": 0,
            "examples": ["64KiB", "10MB", 65536],
        })
    }
}

impl Deref for HumanDuration {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl Deref for ByteSize {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.0
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_in_the_same_form() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
        ] {
            let duration: HumanDuration = text.parse().unwrap();
            assert_eq!(duration, HumanDuration::from_millis(millis), "{text}");
            assert_eq!(duration.to_string(), text);
        }
        let odd = HumanDuration(Duration::new(3_725, 4_005_006));
        assert_eq!(odd.to_string(), "1h2m5s4ms5us6ns");
        assert_eq!(odd.to_string().parse(), Ok(odd));
        assert_eq!("1.5s".parse(), Ok(HumanDuration::from_millis(1_500)));
    }

    #[test]
    fn a_duration_without_a_unit_is_refused() {
        for text in ["", "0", "12", "5 parsecs", "-1s", "m"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text:?}");
        }
        let error = serde_json::from_str::<HumanDuration>("12").unwrap_err().to_string();
        assert!(error.contains("expected a duration such as 5m"), "{error}");
    }

    #[test]
    fn a_duration_no_clock_can_hold_is_refused() {
        assert_eq!("365d".parse(), Ok(HumanDuration::LONGEST));
        for text in [
            "365d1ns",
            "1000000000y",
            "99999999999999999999s",
            "18446744073709551615s",
        ] {
            let error = text.parse::<HumanDuration>().unwrap_err().to_string();
            assert_eq!(error, "expected a duration of at most 365d", "{text}");
        }
        let error = serde_json::from_str::<HumanDuration>("\"2y\"").unwrap_err().to_string();
        assert!(error.contains("`2y`") || error.contains("\"2y\""), "{error}");
        assert!(error.contains("expected a duration of at most 365d"), "{error}");
    }

    #[test]
    fn sizes_are_read_and_written_in_the_same_form() {
        for (text, bytes) in [
            ("0B", 0),
            ("1500B", 1_500),
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("3GiB", 3 << 30),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size, ByteSize(bytes), "{text}");
            assert_eq!(size.to_string(), text);
        }
        assert_eq!(serde_json::from_str::<ByteSize>("4096").unwrap(), ByteSize(4_096));
        assert_eq!("1.5KiB".parse(), Ok(ByteSize(1_536)));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "big", "10 elephants", "-1KiB", "99999999999EiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        for json in ["-1", "1.5", "true"] {
            assert!(serde_json::from_str::<ByteSize>(json).is_err(), "{json}");
        }
    }
}
