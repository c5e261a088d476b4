//! Types that are written as text: one place for how they are read, written and described.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{Schema, json_schema};
use serde::de::{Deserializer, Error, Visitor};

use crate::config::mask;

/// A type written as text. Its `FromStr` error completes a sentence that begins with the text: "`x` has no port".
pub(super) trait Text: FromStr<Err = String> + fmt::Display {
    /// What is expected, for whoever wrote something that is no text.
    const EXPECTED: &'static str;
    /// What editors check.
    const PATTERN: &'static str;
    /// What editors offer.
    const EXAMPLES: &'static [&'static str];
}

/// Gives a [`Text`] type serde's traits and a schema.
macro_rules! text_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::model::text::read(deserializer)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::config::model::text::schema::<Self>()
            }
        }
    };
}
pub(super) use text_serde;

/// Reads the type from text.
pub(super) fn read<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct TextVisitor<T>(PhantomData<T>);
    impl<T: Text> Visitor<'_> for TextVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse()
                .map_err(|reason| E::custom(format_args!("`{}` {reason}", mask::value(text))))
        }
    }
    deserializer.deserialize_str(TextVisitor(PhantomData))
}

/// Describes the type to editors.
pub(super) fn schema<T: Text>() -> Schema {
    let examples: Vec<Cow<'static, str>> = T::EXAMPLES.iter().copied().map(Cow::from).collect();
    json_schema!({ "type": "string", "pattern": T::PATTERN, "examples": examples })
}
