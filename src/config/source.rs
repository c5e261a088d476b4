//! Reads YAML text into a [`Node`] tree.
//!
//! A configuration is one YAML 1.2 document, at most 1 MiB and nested at most 64 deep, and its top level is a mapping.
//! Plain scalars are typed by what they look like; quoted ones are text. Refused, because each makes a file mean something
//! else than it seems to say: duplicate keys, keys that are no text, tags, anchors and aliases (`include` shares what
//! files have in common), and more than one document.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::error::ConfigError;
use super::node::{Key, Kind, Node, Position};
use super::scalar::typed;

/// The longest document that is read, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// How deep mappings and lists may nest.
const MAX_DEPTH: usize = 64;

/// Reads one document. `file` is the name errors show.
pub(super) fn parse(text: &str, file: &Arc<str>) -> Result<Node, ConfigError> {
    if text.len() > MAX_BYTES {
        return Err(ConfigError::new(
            Position::whole(file),
            "a configuration file is at most 1 MiB",
        ));
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        file,
    };
    reader.document()
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    file: &'t Arc<str>,
}

impl<'t> Reader<'t> {
    fn document(&mut self) -> Result<Node, ConfigError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_none() => {
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 0)?);
                }
                _ => {
                    return Err(self.refuse(
                        span.start,
                        "a configuration file holds one document; this is a second one",
                    ));
                }
            }
        }
        let start = Position {
            line: 1,
            column: 1,
            ..Position::whole(self.file)
        };
        match root {
            None => Ok(Node::new(Kind::Map(Vec::new()), start)),
            Some(root) => match root.kind {
                Kind::Map(_) => Ok(root),
                Kind::Null => Ok(Node::new(Kind::Map(Vec::new()), start)),
                _ => Err(ConfigError::new(
                    root.pos,
                    "a configuration is a mapping, such as `service: my-service`",
                )),
            },
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, ConfigError> {
        let pos = self.position(span.start);
        if depth > MAX_DEPTH {
            return Err(ConfigError::new(pos, "nested more than 64 deep"));
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) | Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                (*anchor, tag.is_some())
            }
            Event::Alias(id) => (*id, false),
            _ => (0, false),
        };
        if tag {
            return Err(ConfigError::new(pos, "tags such as `!name` are not supported"));
        }
        if anchor != 0 {
            return Err(ConfigError::new(pos, "anchors and aliases are not supported")
                .with_help("put what files share into one file and `include` it"));
        }
        match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => Ok(Node {
                kind: typed(&text),
                pos,
                plain: true,
                variables: None,
            }),
            Event::Scalar(text, ..) => Ok(Node::new(Kind::Str(text.into_owned()), pos)),
            Event::SequenceStart(..) => Ok(Node::new(Kind::Seq(self.sequence(depth)?), pos)),
            Event::MappingStart(..) => Ok(Node::new(Kind::Map(self.mapping(depth)?), pos)),
            // The parser's grammar lets nothing else stand here.
            _ => Err(ConfigError::new(pos, "expected a value")),
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, ConfigError> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(elements),
                (event, span) => elements.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, ConfigError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let key = self.key(event, span)?;
            if let Some(line) = lines.insert(key.name.clone(), key.pos.line) {
                let message = format!("duplicate key `{}`, first written on line {line}", key.name);
                return Err(ConfigError::new(key.pos, message));
            }
            let (event, span) = self.next()?;
            let mut value = self.node(event, span, depth + 1)?;
            // An absent value has its mark wherever the next token stands.
            if value.kind == Kind::Null && span.is_empty() {
                value.pos = key.pos.clone();
            }
            entries.push((key, value));
        }
    }

    fn key(&mut self, event: Event<'t>, span: Span) -> Result<Key, ConfigError> {
        if matches!(event, Event::MappingStart(..) | Event::SequenceStart(..)) {
            return Err(self.refuse(span.start, "a key is text"));
        }
        let written = match &event {
            Event::Scalar(text, ..) => Some(text.to_string()),
            _ => None,
        };
        let key = self.node(event, span, 0)?;
        match key.kind {
            Kind::Str(name) => Ok(Key { name, pos: key.pos }),
            // Such as a status. One that has other spellings, `0x10` or `007`, may have been meant as another number.
            Kind::Int(number) if written.as_deref() == Some(number.to_string().as_str()) => Ok(Key {
                name: number.to_string(),
                pos: key.pos,
            }),
            _ => Err(ConfigError::new(key.pos, "a key is text").with_help("put quotes around it")),
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), ConfigError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn syntax(&self, error: &ScanError) -> ConfigError {
        let shown = ConfigError::new(
            self.position(*error.marker()),
            format!("not valid YAML: {}", error.info()),
        );
        if error.info().contains("tab") {
            shown.with_help("indent with spaces")
        } else {
            shown
        }
    }

    fn refuse(&self, mark: Marker, message: &str) -> ConfigError {
        ConfigError::new(self.position(mark), message)
    }

    fn position(&self, mark: Marker) -> Position {
        Position {
            file: Arc::clone(self.file),
            line: mark.line(),
            column: mark.col() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, ConfigError> {
        parse(text, &Arc::from("test.yaml"))
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let root = read("a: 1\nb:\n  - x\n  - { c: 'd' }\ne:\n").unwrap();
        let place = |node: &Node| (node.pos.line, node.pos.column);
        assert_eq!(place(root.at(&["a"]).unwrap()), (1, 4));
        let list = root.at(&["b"]).unwrap().elements();
        assert_eq!(place(&list[0]), (3, 5));
        let (key, value) = list[1].entry("c").unwrap();
        assert_eq!((key.pos.line, key.pos.column), (4, 7));
        assert_eq!((place(value), value.plain), ((4, 10), false));
        let (key, absent) = root.entry("e").unwrap();
        assert!(absent.kind == Kind::Null && absent.pos == key.pos);
    }

    #[test]
    fn a_whole_number_is_a_key() {
        let root = read("404: a\n\"405\": b\n").unwrap();
        assert_eq!(root.at(&["404"]).and_then(Node::as_str), Some("a"));
        assert_eq!(root.at(&["405"]).and_then(Node::as_str), Some("b"));
        assert!(
            read("404: a\n\"404\": b\n")
                .unwrap_err()
                .message
                .contains("duplicate key `404`")
        );
        for text in ["0x10: a", "007: a", "+1: a", "1.5: a", "true: a", "~: a", "[a]: b"] {
            assert!(read(text).unwrap_err().message.contains("a key is text"), "{text}");
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        for text in ["", "# nothing\n", "---\n"] {
            assert!(read(text).unwrap().entries().is_empty(), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(64)).is_ok());
        assert!(read(&nested(65)).unwrap_err().message.contains("64 deep"));
        assert!(read(&nested(100_000)).is_err());
    }

    #[test]
    fn a_huge_document_is_refused_unread() {
        let text = "#".repeat(MAX_BYTES + 1);
        assert!(read(&text).unwrap_err().message.contains("1 MiB"));
    }
}
