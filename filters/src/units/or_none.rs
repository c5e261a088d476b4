//! A limit that can be lifted.

use std::fmt;
use std::marker::PhantomData;
use std::num::{NonZeroU32, NonZeroUsize};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ByteSize, EXPECTED_DURATION, EXPECTED_SHARE, EXPECTED_SIZE, EXPECTED_SMALLER, HumanDuration, Share, UnitError,
};

const NONE: &str = "none";

/// A limit, or the word `none`. For settings that have a limit unless something else is said: a null is no way to lift it,
/// because in layered configuration that takes away what was set, and the default holds again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

/// What a limit can be: something that is written as a text or as a whole number.
pub trait Measure: Sized {
    /// What is expected, such as `a size such as 64KiB`.
    const EXPECTED: &'static str;

    /// Reads a text.
    ///
    /// # Errors
    /// What was expected, if it is something else.
    fn of_text(text: &str) -> Result<Self, UnitError>;

    /// Reads a whole number.
    ///
    /// # Errors
    /// What was expected, if a number is not enough.
    fn of_number(number: u64) -> Result<Self, UnitError>;

    /// Reads a number with a fraction.
    ///
    /// # Errors
    /// What was expected, if there can be no fraction of it.
    fn of_fraction(_: f64) -> Result<Self, UnitError> {
        Err(UnitError(Self::EXPECTED))
    }
}

impl Measure for HumanDuration {
    const EXPECTED: &'static str = EXPECTED_DURATION;

    fn of_text(text: &str) -> Result<Self, UnitError> {
        text.parse()
    }

    fn of_number(_: u64) -> Result<Self, UnitError> {
        Err(UnitError(EXPECTED_DURATION))
    }
}

impl Measure for ByteSize {
    const EXPECTED: &'static str = EXPECTED_SIZE;

    fn of_text(text: &str) -> Result<Self, UnitError> {
        text.parse()
    }

    fn of_number(number: u64) -> Result<Self, UnitError> {
        Ok(Self(number))
    }
}

impl Measure for Share {
    const EXPECTED: &'static str = EXPECTED_SHARE;

    fn of_text(_: &str) -> Result<Self, UnitError> {
        Err(UnitError(EXPECTED_SHARE))
    }

    fn of_number(number: u64) -> Result<Self, UnitError> {
        Self::of(number as f64)
    }

    fn of_fraction(number: f64) -> Result<Self, UnitError> {
        Self::of(number)
    }
}

macro_rules! measure_counts {
    ($($count:ty: $least:literal, of $whole:ty;)*) => {$(
        impl Measure for $count {
            const EXPECTED: &'static str = concat!("a whole number, ", $least, " or more");

            fn of_text(_: &str) -> Result<Self, UnitError> {
                Err(UnitError(Self::EXPECTED))
            }

            fn of_number(number: u64) -> Result<Self, UnitError> {
                let count = <$whole>::try_from(number).map_err(|_| UnitError(EXPECTED_SMALLER))?;
                Self::try_from(count).map_err(|_| UnitError(Self::EXPECTED))
            }
        }
    )*};
}

measure_counts! {
    u32: "0", of u32;
    NonZeroU32: "1", of u32;
    NonZeroUsize: "1", of usize;
}

impl<T> From<T> for OrNone<T> {
    fn from(limit: T) -> Self {
        Self(Some(limit))
    }
}

impl<'de, T: Measure> Deserialize<'de> for OrNone<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitOrNone<T>(PhantomData<T>);
        impl<T: Measure> Visitor<'_> for LimitOrNone<T> {
            type Value = OrNone<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or `{NONE}`", T::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OrNone<T>, E> {
                if text == NONE {
                    return Ok(OrNone(None));
                }
                read(T::of_text(text), Unexpected::Str(text))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<OrNone<T>, E> {
                read(T::of_number(number), Unexpected::Unsigned(number))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<OrNone<T>, E> {
                read(T::of_fraction(number), Unexpected::Float(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<OrNone<T>, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(LimitOrNone(PhantomData))
    }
}

fn read<T, E: Error>(limit: Result<T, UnitError>, found: Unexpected<'_>) -> Result<OrNone<T>, E> {
    limit.map(OrNone::from).map_err(|error| {
        let expected = format!("{}, or `{NONE}`", error.expected());
        E::invalid_value(found, &expected.as_str())
    })
}

impl<T: Serialize> Serialize for OrNone<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(limit) => limit.serialize(serializer),
            None => serializer.serialize_str(NONE),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OrNone<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}OrNone", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let limit = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [limit, { "const": NONE }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Measure>(json: &str) -> Result<OrNone<T>, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_limit_and_none_are_read_and_written_in_the_same_form() {
        for json in ["\"64KiB\"", "\"none\""] {
            let limit = read::<ByteSize>(json).unwrap();
            assert_eq!(serde_json::to_string(&limit).unwrap(), json);
        }
        assert_eq!(read("\"5m\""), Ok(OrNone(Some(HumanDuration::from_secs(300)))));
        assert_eq!(read("4096"), Ok(OrNone(Some(ByteSize(4096)))));
        assert_eq!(read("0"), Ok(OrNone(Some(0_u32))));
        assert_eq!(read::<u32>("\"none\""), Ok(OrNone(None)));
        assert_eq!(read("0.5"), Ok(OrNone(Some(Share(0.5)))));
        assert_eq!(read("1"), Ok(OrNone(Some(Share(1.0)))));
        assert_eq!(read("1"), Ok(OrNone(Some(NonZeroU32::MIN))));
    }

    #[test]
    fn what_is_neither_is_told_what_could_be_there() {
        let size = "a size such as 64KiB, or `none`";
        for json in ["\"huge\"", "-1", "true", "null", "[]", "\"None\""] {
            let error = read::<ByteSize>(json).unwrap_err();
            assert!(error.contains(&format!("expected {size}")), "{json}: {error}");
        }
        for (json, expected) in [
            ("5", "a duration such as 5m, or `none`"),
            ("\"2y\"", "a duration of at most 365d, or `none`"),
        ] {
            let error = read::<HumanDuration>(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        for (json, expected) in [
            ("1.5", "a share, from 0 to 1, or `none`"),
            ("2", "a share, from 0 to 1, or `none`"),
            ("-1", "a share, from 0 to 1, or `none`"),
            ("\"half\"", "a share, from 0 to 1, or `none`"),
        ] {
            let error = read::<Share>(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        for (json, expected) in [
            ("\"12\"", "a whole number, 0 or more, or `none`"),
            ("1.5", "a whole number, 0 or more, or `none`"),
            ("4294967296", "a smaller whole number, or `none`"),
        ] {
            let error = read::<u32>(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let error = read::<NonZeroUsize>("0").unwrap_err();
        assert!(error.contains("a whole number, 1 or more, or `none`"), "{error}");
    }

    #[test]
    fn the_schema_has_both() {
        let schema = SchemaGenerator::default().into_root_schema_for::<OrNone<ByteSize>>();
        let schema = schema.to_value();
        assert_eq!(schema["anyOf"][0]["$ref"], "#/$defs/ByteSize");
        assert_eq!(schema["anyOf"][1]["const"], NONE);
    }
}
