//! Header values with variables, compiled when the filter is built.
//!
//! `${name}` is a variable, `$${` a literal `${`, any other `$` itself. What the route settles (`${route}`, `${service}`)
//! is filled in at once; a value without anything left to fill in is cloned for each exchange, which copies nothing.

use std::io::Write;

use http::HeaderValue;

use crate::exchange::{Exchange, Route};

/// A header value.
#[derive(Debug)]
pub(super) enum Template {
    /// The same in every exchange.
    Fixed(HeaderValue),
    /// Text and variables, in order.
    Varying(Box<[Piece]>),
}

#[derive(Debug)]
pub(super) enum Piece {
    Text(Box<[u8]>),
    Variable(Variable),
}

/// What differs from exchange to exchange.
#[derive(Clone, Copy, Debug)]
pub(super) enum Variable {
    ClientIp,
    Host,
    Method,
    Path,
    RequestId,
    TraceId,
}

/// Why there is no value in this exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// A variable has none.
    Absent,
    /// It holds bytes that no header may (RFC 9110, section 5.5).
    Invalid,
}

impl Template {
    /// Compiles a value for a route. The error is for the person who wrote it.
    pub(super) fn compile(text: &str, route: &Route) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, from) = rest.split_at(start);
            let after = &from[2..];
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = after;
                continue;
            }
            literal.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                return Err("`${` is not closed; write `$${` for the two characters themselves".to_owned());
            };
            rest = after;
            let variable = match name {
                "client_ip" => Variable::ClientIp,
                "host" => Variable::Host,
                "method" => Variable::Method,
                "path" => Variable::Path,
                "request_id" => Variable::RequestId,
                "trace_id" => Variable::TraceId,
                "route" | "service" => {
                    literal.push_str(if name == "route" { &route.name } else { &route.service });
                    continue;
                }
                _ => {
                    return Err(format!(
                        "unknown variable `${{{name}}}`; known are client_ip, host, method, path, request_id, route, \
                         service, trace_id"
                    ));
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal).into_bytes().into()));
            }
            pieces.push(Piece::Variable(variable));
        }
        literal.push_str(rest);
        // All of the fixed text is checked here, so only variables can spoil a value later.
        let fixed = HeaderValue::from_str(&literal).map_err(|_| not_a_value())?;
        if pieces.is_empty() {
            return Ok(Self::Fixed(fixed));
        }
        for piece in &pieces {
            if let Piece::Text(text_piece) = piece {
                HeaderValue::from_bytes(text_piece).map_err(|_| not_a_value())?;
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into_bytes().into()));
        }
        Ok(Self::Varying(pieces.into()))
    }

    /// The value in this exchange. `buffer` is scratch space.
    pub(super) fn render(&self, exchange: &Exchange, buffer: &mut Vec<u8>) -> Result<HeaderValue, Unusable> {
        let pieces = match self {
            Self::Fixed(value) => return Ok(value.clone()),
            Self::Varying(pieces) => pieces,
        };
        buffer.clear();
        for piece in pieces {
            match piece {
                Piece::Text(text) => buffer.extend_from_slice(text),
                Piece::Variable(variable) => variable.write(exchange, buffer).ok_or(Unusable::Absent)?,
            }
        }
        HeaderValue::from_bytes(buffer).map_err(|_| Unusable::Invalid)
    }
}

#[cfg(test)]
impl Template {
    /// One whose value no header may hold. None of today's variables can bring such a value about: the HTTP parser has
    /// refused it before.
    pub(super) fn invalid() -> Self {
        Self::Varying(Box::new([Piece::Text(Box::from(*b"a\r\nb: c"))]))
    }
}

/// Without the value: it may be a secret, and a line end in a mounted file is the likeliest mistake.
fn not_a_value() -> String {
    "the value holds characters that no header value may, such as the end of a line".to_owned()
}

impl Variable {
    /// Appends the value, unless there is none.
    fn write(self, exchange: &Exchange, buffer: &mut Vec<u8>) -> Option<()> {
        let value = match self {
            Self::ClientIp => {
                // An IPv4 client of a listener on `[::]` is shown as IPv4.
                let address = exchange.connection.client?.ip().to_canonical();
                return write!(buffer, "{address}").ok();
            }
            Self::Host => exchange.authority.as_ref()?.as_bytes(),
            Self::Method => exchange.request.method.as_str().as_bytes(),
            Self::Path => exchange.request.uri.path().as_bytes(),
            Self::RequestId => exchange.request_id.as_ref()?.as_bytes(),
            Self::TraceId => &exchange.trace.as_ref()?.trace_id_hex,
        };
        buffer.extend_from_slice(value);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Direction, SpanId, TraceContext, TraceId, testing};

    fn compile(text: &str) -> Result<Template, String> {
        Template::compile(text, &testing::route(Direction::Inbound, "/users/{id}"))
    }

    fn render(text: &str, exchange: &Exchange) -> Result<String, Unusable> {
        let value = compile(text).unwrap().render(exchange, &mut Vec::new())?;
        Ok(String::from_utf8(value.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn every_variable_has_its_value() {
        let mut exchange = testing::exchange("PUT", "/users/7?secret=1");
        exchange.request_id = Some(HeaderValue::from_static("abc"));
        exchange.trace = Some(TraceContext {
            trace_id: TraceId::from(1),
            span_id: SpanId::from(2),
            parent: None,
            sampled: true,
            tracestate: None,
            trace_id_hex: *b"00000000000000000000000000000001",
        });
        for (text, value) in [
            ("${client_ip}", "192.0.2.7"),
            ("${host}", "example.com"),
            ("${method}", "PUT"),
            ("${path}", "/users/7"),
            ("${request_id}", "abc"),
            ("${route}", "/users/{id}"),
            ("${service}", "test"),
            ("${trace_id}", "00000000000000000000000000000001"),
            ("for=${client_ip};host=${host}", "for=192.0.2.7;host=example.com"),
            ("", ""),
        ] {
            assert_eq!(render(text, &exchange), Ok(value.to_owned()), "{text}");
        }
    }

    #[test]
    fn dollars_can_be_written() {
        let exchange = testing::exchange("GET", "/");
        for (text, value) in [
            ("$5", "$5"),
            ("$${method}", "${method}"),
            ("$${${method}}", "${GET}"),
            ("a$$b}", "a$$b}"),
            ("$", "$"),
        ] {
            assert_eq!(render(text, &exchange), Ok(value.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_the_route_settles_is_fixed() {
        for text in ["plain", "${service} at ${route}", "$${host}"] {
            assert!(matches!(compile(text), Ok(Template::Fixed(_))), "{text}");
        }
        assert!(matches!(compile("${host}"), Ok(Template::Varying(_))));
    }

    #[test]
    fn a_variable_without_a_value_leaves_no_half_a_value() {
        let mut exchange = testing::exchange("GET", "/");
        exchange.connection.client = None;
        for text in ["for=${client_ip}", "${trace_id}", "id ${request_id} of ${method}"] {
            assert_eq!(render(text, &exchange), Err(Unusable::Absent), "{text}");
        }
    }

    #[test]
    fn a_line_break_makes_no_value() {
        let rendered = Template::invalid().render(&testing::exchange("GET", "/"), &mut Vec::new());
        assert_eq!(rendered, Err(Unusable::Invalid));
    }

    #[test]
    fn an_ipv4_client_is_shown_as_ipv4() {
        let mut exchange = testing::exchange("GET", "/");
        exchange.connection.client = Some("[::ffff:192.0.2.9]:1".parse().unwrap());
        assert_eq!(render("${client_ip}", &exchange), Ok("192.0.2.9".to_owned()));
        exchange.connection.client = Some("[2001:db8::1]:1".parse().unwrap());
        assert_eq!(render("${client_ip}", &exchange), Ok("2001:db8::1".to_owned()));
    }

    #[test]
    fn mistakes_are_told_when_the_filter_is_built() {
        for (text, problem) in [
            (
                "${clientip}",
                "unknown variable `${clientip}`; known are client_ip, host",
            ),
            ("${}", "unknown variable `${}`"),
            ("a ${host", "`${` is not closed"),
            ("a\r\nb: c", "holds characters that no header value may"),
            ("a\0 ${host}", "holds characters that no header value may"),
        ] {
            let error = compile(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
