//! Edits of a head: checked and compiled when the filter is built, then applied to each exchange.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use pingora_http::ResponseHeader;

use super::template::{Template, Unusable};
use super::{Edits, Headers, OneOrMore};
use crate::exchange::{Exchange, Route};
use crate::filter::Plugin;

/// Whether a header frames the message, belongs to one connection or names the destination, so that only the sidecar
/// itself may write it.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [HeaderName; 7] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    RESERVED.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Which heads are edited.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Way {
    Request,
    Response,
}

/// One header to write. What is fixed is settled here; per exchange only variables are filled in.
struct Write {
    name: HeaderName,
    /// The name in the case it was configured in, as HTTP/1 sends it.
    written: Bytes,
    value: Template,
    /// Beside headers of the same name, not instead of them.
    beside: bool,
}

/// The edits of one way, for one route.
pub(super) struct Compiled {
    remove: Box<[HeaderName]>,
    write: Box<[Write]>,
}

/// Compiles edits; what is wrong with them joins the `problems`.
pub(super) fn compile(edits: Edits, way: Way, route: &Route, problems: &mut Vec<String>) -> Compiled {
    let mut remove = Vec::new();
    for text in &edits.remove {
        match editable(text, false) {
            Ok(name) => remove.push(name),
            Err(problem) => problems.push(problem),
        }
    }
    let set = edits.set.into_iter().map(|(name, value)| (name, value, false));
    let add = edits.add.into_iter().flat_map(|(name, values)| {
        let values = match values {
            OneOrMore::One(value) => vec![value],
            OneOrMore::More(values) => values,
        };
        values.into_iter().map(move |value| (name.clone(), value, true))
    });
    let mut write: Vec<Write> = Vec::new();
    for (text, value, beside) in set.chain(add) {
        let name = editable(&text, way == Way::Request && !beside);
        let value = Template::compile(&value, route).map_err(|problem| format!("`{text}`: {problem}"));
        match (name, value) {
            (Ok(name), Ok(value)) => {
                if !beside && write.iter().any(|other| other.name == name) {
                    problems.push(format!("`{name}` is set twice"));
                }
                write.push(Write {
                    name,
                    written: Bytes::from(text),
                    value,
                    beside,
                });
            }
            (name, value) => problems.extend(name.err().into_iter().chain(value.err())),
        }
    }
    Compiled {
        remove: remove.into(),
        write: write.into(),
    }
}

fn editable(text: &str, host_too: bool) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("`{text}` is not a header name"))?;
    if name == header::HOST && !host_too {
        return Err("`host` can only be set, and only on requests".to_owned());
    }
    if name != header::HOST && is_reserved(&name) {
        return Err(format!(
            "`{name}` belongs to the connection; only the sidecar itself writes it"
        ));
    }
    Ok(name)
}

impl Compiled {
    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.write.is_empty()
    }

    pub(super) fn apply(&self, exchange: &mut Exchange, head: &mut Head<'_>) {
        for name in &self.remove {
            head.remove(exchange, name);
        }
        // Shared by all values with variables; one that is fixed needs none.
        let mut buffer = Vec::new();
        for write in &self.write {
            let value = write.value.render(exchange, &mut buffer);
            if let Err(Unusable::Invalid) = value {
                exchange.ledger.enter(Headers::NAME, "invalid_value");
            }
            match value {
                Ok(value) if write.beside => head.append(exchange, write.written.clone(), value),
                Ok(value) => head.insert(exchange, write.written.clone(), value),
                Err(_) if write.beside => {}
                Err(_) => head.remove(exchange, &write.name),
            }
        }
    }
}

/// The head that is edited. The request's stands in the exchange, whose other parts the values are made of.
pub(super) enum Head<'a> {
    Request,
    Response(&'a mut ResponseHeader),
}

impl Head<'_> {
    fn remove(&mut self, exchange: &mut Exchange, name: &HeaderName) {
        match self {
            Self::Request => exchange.request.remove_header(name),
            Self::Response(head) => head.remove_header(name),
        };
    }

    // Writing fails only on more header fields than a map can hold (32768); then the header is left out.

    fn insert(&mut self, exchange: &mut Exchange, name: Bytes, value: HeaderValue) {
        let _ = match self {
            Self::Request => exchange.request.insert_header(name, value),
            Self::Response(head) => head.insert_header(name, value),
        };
    }

    fn append(&mut self, exchange: &mut Exchange, name: Bytes, value: HeaderValue) {
        let _ = match self {
            Self::Request => exchange.request.append_header(name, value),
            Self::Response(head) => head.append_header(name, value),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_invalid_value_is_left_out_and_in_the_ledger() {
        let write = |name: &'static str, beside| Write {
            name: HeaderName::from_static(name),
            written: Bytes::from_static(name.as_bytes()),
            value: Template::invalid(),
            beside,
        };
        let compiled = Compiled {
            remove: Box::default(),
            write: Box::new([write("x-set", false), write("x-added", true)]),
        };
        let mut exchange = testing::exchange("GET", "/");
        for name in ["x-set", "x-added"] {
            exchange.request.insert_header(name, "from the client").unwrap();
        }
        compiled.apply(&mut exchange, &mut Head::Request);
        assert!(!exchange.request.headers.contains_key("x-set"));
        assert_eq!(exchange.request.headers.get_all("x-added").iter().count(), 1);
        let entries: Vec<_> = exchange.ledger.entries().iter().map(|e| (e.filter, e.reason)).collect();
        assert_eq!(entries, [("headers", "invalid_value"); 2]);
    }
}
