//! serde's view of a [`Node`].

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::fault::Fault;
use super::variant::{Name, Variant};
use super::{At, Path, Shared, Step, address};
use crate::config::node::{Key, Kind, Node};

/// Reads one node.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'n, 'p> {
    pub(super) at: At<'n, 'p>,
    pub(super) shared: &'p Shared,
}

impl<'n> NodeDeserializer<'n, '_> {
    fn map<V: Visitor<'n>>(&self, visitor: V, known: Option<&'static [&'static str]>) -> Result<V::Value, Fault> {
        let entries = match &self.at.node.kind {
            Kind::Map(entries) => entries.as_slice(),
            // A key without a value, all of whose own keys are commented out, say.
            Kind::Null => &[],
            _ => return Err(Fault::invalid_type(self.unexpected(), &visitor)),
        };
        visitor.visit_map(Entries {
            rest: entries.iter(),
            current: None,
            known,
            of: *self,
        })
    }

    fn list<V: Visitor<'n>>(&self, visitor: V, elements: &'n [Node]) -> Result<V::Value, Fault> {
        visitor.visit_seq(Elements {
            elements: elements.iter().enumerate(),
            of: *self,
        })
    }

    fn unexpected(&self) -> Unexpected<'n> {
        match &self.at.node.kind {
            Kind::Null => Unexpected::Unit,
            Kind::Bool(value) => Unexpected::Bool(*value),
            Kind::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => Unexpected::Unsigned(value),
                (_, Ok(value)) => Unexpected::Signed(value),
                _ => Unexpected::Other("a number that is too large"),
            },
            Kind::Float(value) => Unexpected::Float(*value),
            Kind::Str(text) => Unexpected::Str(text),
            Kind::Seq(_) => Unexpected::Seq,
            Kind::Map(_) => Unexpected::Map,
        }
    }

    pub(super) fn located<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| self.shared.locate(fault, &self.at))
    }
}

impl<'n> Deserializer<'n> for NodeDeserializer<'n, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.at.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => Err(Fault::invalid_value(self.unexpected(), &visitor)),
            },
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Str(text) => visitor.visit_borrowed_str(text),
            Kind::Seq(elements) => self.list(visitor, elements),
            Kind::Map(_) => self.map(visitor, None),
        };
        self.located(result)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match self.at.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        };
        self.located(result)
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        let result = visitor.visit_newtype_struct(self);
        self.located(result)
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = self.map(visitor, None);
        self.located(result)
    }

    /// Never a list, though serde's derived visitors would take the fields in order.
    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = self.map(visitor, Some(fields));
        self.located(result)
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let result = match &self.at.node.kind {
            Kind::Str(text) => visitor.visit_enum(Variant {
                name: text,
                content: None,
                of: self,
            }),
            Kind::Map(entries) if entries.len() == 1 => visitor.visit_enum(Variant {
                name: entries.first().map_or("", |(key, _)| &key.name),
                content: entries.first(),
                of: self,
            }),
            _ => {
                let expected = format!("one of {}", crate::config::error::quoted(variants));
                Err(Fault::invalid_type(self.unexpected(), &expected.as_str()))
            }
        };
        self.located(result)
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    /// Where text is wanted, a variable's value is text, even if a token happens to be all digits.
    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        match (&self.at.node.variables, &self.at.node.kind) {
            (Some(variables), Kind::Int(_) | Kind::Float(_) | Kind::Bool(_)) => {
                self.located(visitor.visit_borrowed_str(&variables.expanded))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    forward_to_deserialize_any! {
        <N: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier
    }
}

struct Elements<'n, 'p> {
    elements: std::iter::Enumerate<std::slice::Iter<'n, Node>>,
    of: NodeDeserializer<'n, 'p>,
}

impl<'n> SeqAccess<'n> for Elements<'n, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let NodeDeserializer { at, shared } = self.of;
        let Some((index, node)) = self.elements.find(|(_, node)| !shared.is_skipped(node)) else {
            return Ok(None);
        };
        let path = Path {
            parent: Some(at.path),
            step: Step::Index(index),
        };
        let element = NodeDeserializer {
            at: At {
                node,
                key: None,
                is_key: false,
                parent: address(at.node),
                path: &path,
            },
            shared,
        };
        element.located(seed.deserialize(element)).map(Some)
    }
}

struct Entries<'n, 'p> {
    rest: std::slice::Iter<'n, (Key, Node)>,
    current: Option<&'n (Key, Node)>,
    /// The keys a struct has. A null leaves a known key at its default, while an unknown one is a mistake all the same.
    known: Option<&'static [&'static str]>,
    of: NodeDeserializer<'n, 'p>,
}

impl<'n> Entries<'n, '_> {
    fn is_absent(&self, (key, value): &(Key, Node)) -> bool {
        let unset = value.kind == Kind::Null && self.known.is_none_or(|known| known.contains(&key.name.as_str()));
        unset || self.of.shared.is_skipped(value)
    }

    fn read<T>(
        &self,
        (key, node): &'n (Key, Node),
        is_key: bool,
        read: impl FnOnce(NodeDeserializer<'n, '_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let NodeDeserializer { at, shared } = self.of;
        let path = Path {
            parent: Some(at.path),
            step: Step::Key(&key.name),
        };
        let value = NodeDeserializer {
            at: At {
                node,
                key: Some(key),
                is_key,
                parent: address(at.node),
                path: &path,
            },
            shared,
        };
        value.located(read(value))
    }
}

impl<'n> MapAccess<'n> for Entries<'n, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.current = loop {
            match self.rest.next() {
                Some(entry) if self.is_absent(entry) => {}
                next => break next,
            }
        };
        let Some(entry) = self.current else {
            return Ok(None);
        };
        self.read(entry, true, |of| {
            seed.deserialize(Name {
                name: &entry.0.name,
                of,
            })
        })
        .map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        match self.current.take() {
            Some(entry) => self.read(entry, false, |value| seed.deserialize(value)),
            None => Err(Fault::other("a value was asked for before its key".to_owned())),
        }
    }
}
