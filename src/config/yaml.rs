//! Writes scalars as YAML that reads as the same value.

use super::node::Kind;
use super::scalar::typed;

/// A text, with quotes where without them it would be something else.
pub(super) fn text(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    // A colon means a mapping only at an end or before a space; addresses and URLs read better without quotes.
    let colons = text
        .split(':')
        .skip(1)
        .all(|after| after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/'));
    let is_text = matches!(typed(text), Kind::Str(_));
    if is_text && colons && text.chars().all(|c| safe(c) || c == ':') && !text.starts_with(['-', '.', ':']) {
        text.to_owned()
    } else {
        // JSON's escapes are YAML's.
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::source::parse;

    #[test]
    fn what_is_written_reads_as_the_same_text() {
        for value in [
            "plain",
            "",
            "true",
            "12",
            "0x1F",
            "a: b",
            "a:",
            "a:b",
            ":a",
            "http://h:80/x",
            "- a",
            "#x",
            "it's \"so\"",
            "é\n\t\u{7f}",
            "5m",
            "---",
            ".5",
        ] {
            let written = format!("key: {}\n", text(value));
            let root = parse(&written, &Arc::from("test.yaml")).unwrap();
            assert_eq!(root.at(&["key"]).unwrap().as_str(), Some(value), "{written}");
        }
    }
}
