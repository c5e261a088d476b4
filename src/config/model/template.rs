//! Path templates such as `/api/users/{id}` and `/static/*`.

use std::fmt;
use std::str::FromStr;

use super::text::{Text, text_serde};

/// A template that request paths are matched against, segment by segment.
///
/// A `{name}` stands for one segment that is not empty, a `*` at the end for all that follows, be it nothing. Everything
/// else is compared byte by byte, as it came. A query is not part of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
    open: bool,
}

/// One segment of a template, between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any text; the name is for people.
    Parameter(String),
}

impl PathTemplate {
    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments, without the `*`.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends in `*`, so that any further segments match.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a request's path, without its query, fits.
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut parts = path.split('/');
        let fits = self.segments.iter().all(|segment| match (segment, parts.next()) {
            (Segment::Literal(literal), Some(part)) => literal == part,
            (Segment::Parameter(_), Some(part)) => !part.is_empty(),
            (_, None) => false,
        });
        // `/static/*` needs the slash after `static`: something, if only nothing, must be left over.
        fits && parts.next().is_some() == self.open
    }
}

impl FromStr for PathTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix('/').ok_or("does not begin with `/`")?;
        if text.contains(['?', '#']) {
            return Err("has a query or fragment, which are not part of the path".to_owned());
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("has a space or a control character in it".to_owned());
        }
        let (path, open) = match path.strip_suffix('*') {
            Some("") => {
                return Ok(Self {
                    text: text.to_owned(),
                    segments: Vec::new(),
                    open: true,
                });
            }
            Some(before) => match before.strip_suffix('/') {
                Some(before) => (before, true),
                None => return Err("has a `*` that is not a whole segment".to_owned()),
            },
            None => (path, false),
        };
        let mut segments = Vec::new();
        for part in path.split('/') {
            let segment = segment(part)?;
            if matches!(segment, Segment::Parameter(_)) && segments.contains(&segment) {
                return Err(format!("has `{part}` twice"));
            }
            segments.push(segment);
        }
        Ok(Self {
            text: text.to_owned(),
            segments,
            open,
        })
    }
}

fn segment(part: &str) -> Result<Segment, String> {
    if part.contains('*') {
        return Err("has a `*` before its end; only the last segment may be one".to_owned());
    }
    let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return if part.contains(['{', '}']) {
            Err(format!(
                "has braces inside the segment `{part}`; a `{{name}}` is a whole segment"
            ))
        } else {
            Ok(Segment::Literal(part.to_owned()))
        };
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!(
            "has `{part}`, whose name is not made of letters, digits and `_`"
        ));
    }
    Ok(Segment::Parameter(name.to_owned()))
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Text for PathTemplate {
    const EXPECTED: &'static str = "a path such as /api/users/{id}";
    const PATTERN: &'static str = r"^/[^\s?#]*$";
    const EXAMPLES: &'static [&'static str] = &["/api/users/{id}", "/static/*"];
}
text_serde!(PathTemplate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_paths() {
        for (template, path, fits) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/users/{id}", "/users/7", true),
            ("/users/{id}", "/users/", false),
            ("/users/{id}", "/users/7/orders", false),
            ("/users/{id}", "/users", false),
            ("/users/{id}/*", "/users/7/orders/1", true),
            ("/static/*", "/static/", true),
            ("/static/*", "/static", false),
            ("/static/*", "/statics/a", false),
            ("/a", "a", false),
            ("/a", "/A", false),
        ] {
            let parsed: PathTemplate = template.parse().unwrap();
            assert_eq!(parsed.matches(path), fits, "{template} {path}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "",
            "users",
            "/a*",
            "/*/b",
            "/{id}/{id}",
            "/{}",
            "/{a-b}",
            "/x{id}",
            "/a b",
            "/a?b",
            "/{id",
        ] {
            assert!(text.parse::<PathTemplate>().is_err(), "{text:?}");
        }
    }
}
