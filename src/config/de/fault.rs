//! Errors on their way out of serde, and their wording.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::At;
use crate::config::error::{ConfigError, quoted, suggest};
use crate::config::mask;
use crate::config::node::{Kind, Node, Position};

/// An error of serde's, with its place once it has one.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    what: Box<What>,
    pub(super) place: Option<Box<Place>>,
}

impl From<What> for Fault {
    fn from(what: What) -> Self {
        Self {
            what: Box::new(what),
            place: None,
        }
    }
}

#[derive(Clone, Debug)]
enum What {
    UnknownKey {
        written: String,
        allowed: &'static [&'static str],
    },
    MissingKey(&'static str),
    NotOneOf {
        found: String,
        allowed: &'static [&'static str],
    },
    Wrong {
        expected: String,
        found: String,
        help: Option<String>,
    },
    Other(String),
}

/// Where an error belongs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The path of keys to the node.
    pub(super) path: String,
    /// The path of what it stands in.
    pub(super) inside: String,
    /// Where the value stands.
    pub(super) value: Position,
    /// Where its key stands; the value's own place if it has none.
    pub(super) key: Position,
    /// The node's identity.
    pub(super) node: usize,
    /// The identity of the mapping or list it stands in.
    pub(super) parent: usize,
    /// The key it stands under in there.
    pub(super) step: String,
}

impl Fault {
    pub(super) fn other(message: String) -> Self {
        What::Other(message).into()
    }

    /// The error, belonging to a node. What it says of a value from the environment is taken back.
    pub(super) fn at(mut self, at: &At<'_, '_>) -> Self {
        self.place = Some(Box::new(at.place()));
        *self.what = self.what.about(at.node);
        self
    }

    pub(super) fn unknown_key(&self) -> Option<(&str, &'static [&'static str])> {
        match &*self.what {
            What::UnknownKey { written, allowed } => Some((written, allowed)),
            _ => None,
        }
    }

    /// Whether the error came only of what was left out of its own node.
    pub(super) fn follows_from(&self, left_out: Option<&[String]>) -> bool {
        match (&*self.what, left_out) {
            (What::MissingKey(name), Some(names)) => names.iter().any(|left| left == name),
            (What::Other(_), Some(_)) => true,
            _ => false,
        }
    }

    /// The error in words; `None` while it has no place. `common` are keys that were allowed as well.
    pub(super) fn report(&self, common: &[&str]) -> Option<ConfigError> {
        let place = self.place.as_ref()?;
        let path = &place.path;
        let error = |position: &Position, message: String| ConfigError::new(position.clone(), message).with_path(path);
        let report = match &*self.what {
            What::UnknownKey { written, allowed } => {
                let inside = match place.inside.as_str() {
                    "" => "at the top level".to_owned(),
                    inside => format!("in {inside}"),
                };
                error(&place.key, format!("unknown key `{written}` {inside}"))
                    .with_help(suggest(written, allowed.iter().chain(common).copied()))
            }
            What::MissingKey(name) => {
                let inside = if path.is_empty() {
                    String::new()
                } else {
                    format!(" in {path}")
                };
                ConfigError {
                    missing: true,
                    ..error(&place.key, format!("missing key `{name}`{inside}"))
                }
            }
            What::NotOneOf { found, allowed } => {
                let help = suggest(found.trim_matches('`'), allowed.iter().copied());
                error(&place.value, prefixed(path, &format!("{found} is not known here"))).with_help(help)
            }
            What::Wrong { expected, found, help } => {
                let name = path.rsplit('.').next().unwrap_or_default();
                // A secret of digits alone is no text before it has quotes.
                let is_shown = !mask::names_a_secret(name) || found.starts_with("a ") || found == "nothing";
                let found = if is_shown { found } else { "something else" };
                let message = prefixed(path, &format!("expected {expected}, found {found}"));
                ConfigError {
                    help: help.clone(),
                    ..error(&place.value, message)
                }
            }
            What::Other(message) => error(&place.value, prefixed(path, message)),
        };
        Some(report)
    }
}

fn prefixed(path: &str, message: &str) -> String {
    if path.is_empty() {
        message.to_owned()
    } else {
        format!("{path}: {message}")
    }
}

impl What {
    /// Adjusts an error to the node it belongs to.
    fn about(self, node: &Node) -> Self {
        let from_environment = node.variables.as_ref();
        match self {
            Self::Wrong { expected, found, help } => Self::Wrong {
                help: help.or_else(|| advice(&expected, node)),
                found: from_environment.map_or(found, |variables| format!("the value of `{}`", variables.written)),
                expected,
            },
            Self::NotOneOf { allowed, found } => match from_environment {
                Some(variables) => Self::Wrong {
                    expected: format!("one of {}", quoted(allowed)),
                    found: format!("the value of `{}`", variables.written),
                    help: None,
                },
                None => Self::NotOneOf { found, allowed },
            },
            Self::Other(message) => match from_environment {
                Some(variables) if variables.leak_in(&message) => {
                    Self::Other(format!("the value of `{}` is not accepted here", variables.written))
                }
                _ => Self::Other(message),
            },
            same => same,
        }
    }
}

/// What to write instead of a value of the wrong type.
fn advice(expected: &str, node: &Node) -> Option<String> {
    let Node { kind, plain, .. } = node;
    let numeric = expected.contains("number");
    match kind {
        Kind::Int(number) if expected.starts_with("a duration") => Some(format!("add a unit, such as `{number}s`")),
        Kind::Int(_) | Kind::Float(_) | Kind::Bool(_) if expected.starts_with("text") => {
            Some("put quotes around it".to_owned())
        }
        Kind::Str(text) if expected == "true or false" && !plain && matches!(text.as_str(), "true" | "false") => {
            Some("take the quotes away".to_owned())
        }
        Kind::Str(text) if expected == "true or false" => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => Some("write `true`".to_owned()),
            "no" | "off" | "n" => Some("write `false`".to_owned()),
            _ => None,
        },
        Kind::Str(text) if numeric && !plain && text.parse::<f64>().is_ok() => Some("take the quotes away".to_owned()),
        _ => None,
    }
}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::other(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        What::Wrong {
            expected: in_words(&expected.to_string()),
            found: described(found),
            help: None,
        }
        .into()
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        What::Wrong {
            expected: in_words(&expected.to_string()),
            found: format!("{length} of them"),
            help: None,
        }
        .into()
    }

    fn unknown_variant(variant: &str, allowed: &'static [&'static str]) -> Self {
        What::NotOneOf {
            found: described(Unexpected::Str(variant)),
            allowed,
        }
        .into()
    }

    fn unknown_field(field: &str, allowed: &'static [&'static str]) -> Self {
        What::UnknownKey {
            written: field.to_owned(),
            allowed,
        }
        .into()
    }

    fn missing_field(field: &'static str) -> Self {
        What::MissingKey(field).into()
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::other(format!("`{field}` is given twice, under two of its names"))
    }
}

/// serde's name of a type in a person's words.
fn in_words(expected: &str) -> String {
    let words = match expected {
        "a string" | "a borrowed string" | "string" | "str" => "text",
        "a boolean" => "true or false",
        "a map" => "a mapping",
        "a sequence" => "a list",
        "a character" => "one character",
        "unit" => "nothing",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" | "u128" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "a whole number",
        "f32" | "f64" => "a number",
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number, 1 or more"
        }
        _ if expected.starts_with("struct ") || expected.starts_with("map") => "a mapping",
        _ if expected.starts_with("tuple ") || expected.starts_with("an array ") => "a list",
        other => other,
    };
    words.to_owned()
}

fn described(found: Unexpected<'_>) -> String {
    // Before it is cut off: half a password could not be told for one.
    let masked = match found {
        Unexpected::Str(text) => mask::value(text),
        _ => Cow::Borrowed(""),
    };
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Char(value) => format!("`{value}`"),
        Unexpected::Str("") => "empty text".to_owned(),
        Unexpected::Str(_) if masked.chars().count() > 60 => {
            format!("`{}…`", masked.chars().take(59).collect::<String>())
        }
        Unexpected::Str(_) => format!("`{masked}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map | Unexpected::NewtypeStruct | Unexpected::StructVariant => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.what {
            What::UnknownKey { written, .. } => write!(f, "unknown key `{written}`"),
            What::MissingKey(name) => write!(f, "missing key `{name}`"),
            What::NotOneOf { found, .. } => write!(f, "{found} is not known here"),
            What::Wrong { expected, found, .. } => write!(f, "expected {expected}, found {found}"),
            What::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}
