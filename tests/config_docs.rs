//! `docs/configuration.md` says what the code says.
//!
//! Its tables are the field docs of the model, and its examples load. To write the tables anew, run with `BLESS=1`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;

use pillion::config::{Environment, FilterSettings, Loader, schema};
use pillion_filters::Registry;
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

#[test]
fn the_examples_load() {
    let page = fs::read_to_string(PAGE).unwrap();
    let known: Vec<&str> = Registry::builtin().entries().iter().map(|entry| entry.name).collect();
    let loader = Loader::new(&known).environment(Environment::Fixed([].into()));
    let mut loaded = 0;
    for (before, rest) in page
        .match_indices("```yaml\n")
        .map(|(start, fence)| page.split_at(start + fence.len()))
    {
        if before
            .trim_end_matches("```yaml\n")
            .trim_end()
            .ends_with("<!-- not loaded: includes a file -->")
        {
            continue;
        }
        let (example, _) = rest.split_once("```").unwrap();
        // A layer is not whole without the service that lies over it.
        let service = "service: api\ninbound: { listen: \"0.0.0.0:8000\", app: \"http://127.0.0.1:8080\" }\n";
        let whole = if example.contains("service:") {
            example.to_owned()
        } else {
            format!("{service}{example}")
        };
        loader.text("example.yaml", &whole).unwrap();
        loaded += 1;
    }
    assert!(loaded >= 3, "only {loaded} examples were found");
}
