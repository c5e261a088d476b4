//! Names, and variants that are chosen by name.

use serde::de::{DeserializeSeed, EnumAccess, VariantAccess, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use super::access::NodeDeserializer;
use super::fault::Fault;
use super::{At, Path, Step, address};
use crate::config::node::{Key, Node};

/// Reads a key or the name of a variant.
pub(super) struct Name<'n, 'p> {
    pub(super) name: &'n str,
    pub(super) of: NodeDeserializer<'n, 'p>,
}

impl<'n> Deserializer<'n> for Name<'n, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.of.located(visitor.visit_borrowed_str(self.name))
    }

    forward_to_deserialize_any! {
        <N: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Reads a variant: a name alone, or a mapping of the name to what it holds.
pub(super) struct Variant<'n, 'p> {
    pub(super) name: &'n str,
    pub(super) content: Option<&'n (Key, Node)>,
    pub(super) of: NodeDeserializer<'n, 'p>,
}

impl<'n> EnumAccess<'n> for Variant<'n, '_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'n>>(self, seed: T) -> Result<(T::Value, Self), Fault> {
        let name = Name {
            name: self.name,
            of: self.of,
        };
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'n> Variant<'n, '_> {
    fn content<T>(self, read: impl FnOnce(NodeDeserializer<'n, '_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let Some((key, node)) = self.content else {
            return Err(Fault::other(format!(
                "`{0}` needs to say more: write `{{ {0}: … }}`",
                self.name
            )));
        };
        if self.of.shared.is_skipped(node) {
            // Never told: it follows from what was told of the content. It has the variant left out in turn.
            return Err(Fault::other(format!("`{}` cannot be read", self.name)));
        }
        let path = Path {
            parent: Some(self.of.at.path),
            step: Step::Key(&key.name),
        };
        let content = NodeDeserializer {
            at: At {
                node,
                key: Some(key),
                parent: address(self.of.at.node),
                path: &path,
                is_key: false,
            },
            shared: self.of.shared,
        };
        content.located(read(content))
    }
}

impl<'n> VariantAccess<'n> for Variant<'n, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Fault::other(format!(
                "write just `{}`: it has no keys of its own",
                self.name
            ))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, seed: T) -> Result<T::Value, Fault> {
        self.content(|value| seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.content(|value| value.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'n>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.content(|value| value.deserialize_struct("", fields, visitor))
    }
}
