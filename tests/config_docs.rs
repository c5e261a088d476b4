//! `docs/configuration.md` says what the code says.
//!
//! Its tables are the field docs of the model. To write the tables anew, run with `BLESS=1`. That its examples load is
//! told by `tests/plugins.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;

use pillion::config::{FilterSettings, schema};
use serde_json::{Value, json};

const PAGE: &str = "docs/configuration.md";

/// The schema of the model, by definition; `top` is the root.
fn definitions() -> Value {
    let mut common = Value::Null;
    let mut schema = schema(&mut |generator| {
        common = generator.root_schema_for::<FilterSettings>().to_value();
        Vec::new()
    });
    let mut definitions = schema["$defs"].take();
    definitions["top"] = json!({ "properties": schema["properties"] });
    definitions["FilterSettings"] = common;
    definitions
}

/// The table of a mapping's keys.
fn table(definition: &Value) -> String {
    let mut table = "| Key | |\n| --- | --- |\n".to_owned();
    for (key, schema) in definition["properties"].as_object().unwrap() {
        let description = schema["description"].as_str().unwrap_or_default();
        let words: Vec<&str> = description.split_whitespace().collect();
        assert!(!words.is_empty(), "`{key}` has no description");
        let _ = writeln!(table, "| `{key}` | {} |", words.join(" ").replace('|', "\\|"));
    }
    table
}

/// The page with its tables written anew, and the definitions they are of.
fn rewritten(page: &str, definitions: &Value) -> (String, Vec<String>) {
    let mut parts = page.split("<!-- keys: ");
    let mut written = parts.next().unwrap().to_owned();
    let mut shown = Vec::new();
    for part in parts {
        let (name, rest) = part.split_once(" -->").unwrap();
        let (_, rest) = rest.split_once("<!-- end -->").unwrap();
        let table = table(&definitions[name]);
        let _ = write!(written, "<!-- keys: {name} -->\n{table}<!-- end -->{rest}");
        shown.push(name.to_owned());
    }
    (written, shown)
}

#[test]
fn the_tables_are_the_field_docs() {
    let page = fs::read_to_string(PAGE).unwrap();
    let definitions = definitions();
    let (written, shown) = rewritten(&page, &definitions);
    if std::env::var_os("BLESS").is_some() {
        fs::write(PAGE, &written).unwrap();
    } else {
        assert!(written == page, "the tables of {PAGE} are old: run with BLESS=1");
    }
    // A route's timeouts are those of the top level, and the page says so.
    let mappings = definitions.as_object().unwrap().iter();
    for (name, _) in mappings.filter(|(name, schema)| schema["properties"].is_object() && *name != "TimeoutsOverlay") {
        assert!(shown.contains(name), "{name} is not in {PAGE}");
    }
}
