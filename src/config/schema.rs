//! The JSON Schema of a configuration file, for editors.
//!
//! A file is a layer and may leave out what another has, so nothing at its top level is required. Where something other
//! than text is expected, an environment variable may stand as well.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::model::{Config, FilterSettings};

/// The JSON Schema of a configuration file. `filters` gives each plugin's schema, made with that generator.
pub fn schema(filters: &mut dyn FnMut(&mut SchemaGenerator) -> Vec<(String, Schema)>) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let plugins = filters(&mut generator);
    let mut root = Config::json_schema(&mut generator).to_value();
    let mut definitions = generator.take_definitions(true);

    let mut common = FilterSettings::json_schema(&mut generator).to_value();
    let common = take_object(&mut common, "properties");
    let mut properties = Map::new();
    for (name, plugin) in plugins {
        let definition = format!("filter_{name}");
        let plugin = inlined(plugin.to_value(), &definitions);
        definitions.insert(definition.clone(), with_common(plugin, &common));
        properties.insert(name, json!({ "$ref": format!("#/$defs/{definition}") }));
    }
    // A filter under a name of its own says which plugin it is; its settings are checked when the file is loaded.
    let named = json!({ "type": "object", "properties": common, "required": ["plugin"] });
    let services = json!({ "type": "object", "properties": properties.clone(), "additionalProperties": named });
    let overlays = json!({ "type": "object", "properties": properties });

    set(&mut root, "filters", services);
    for part in ["Inbound", "Outbound", "Route"] {
        if let Some(definition) = definitions.get_mut(part) {
            set(definition, "filters", overlays.clone());
        }
    }
    let include = json!({
        "description": "Files that lie beneath this one, relative to it: one name or a list, the first lowest.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
    });
    set(&mut root, "include", include);
    let part_of_a_layer = ["Inbound", "Outbound"];
    for (name, definition) in &mut definitions {
        if part_of_a_layer.contains(&name.as_str()) || name.starts_with("filter_") {
            remove(definition, "required");
        }
        allow_variables(definition);
    }
    remove(&mut root, "required");
    allow_variables(&mut root);
    if let Value::Object(root) = &mut root {
        root.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    root
}

/// A plugin's schema itself, where it is only a reference to a definition.
fn inlined(schema: Value, definitions: &Map<String, Value>) -> Value {
    let name = schema
        .get("$ref")
        .and_then(|reference| reference.as_str()?.strip_prefix("#/$defs/"));
    match name.and_then(|name| definitions.get(name)) {
        Some(definition) => definition.clone(),
        None => schema,
    }
}

fn with_common(mut plugin: Value, common: &Map<String, Value>) -> Value {
    for (key, schema) in common {
        set(&mut plugin, key, schema.clone());
    }
    plugin
}

/// Sets the schema of a property; its description stays.
fn set(schema: &mut Value, property: &str, mut to: Value) {
    let Value::Object(schema) = schema else { return };
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    let described = properties.get(property).and_then(|before| before.get("description"));
    if let (Some(description), Value::Object(to)) = (described, &mut to) {
        to.insert("description".to_owned(), description.clone());
    }
    if let Value::Object(properties) = properties {
        properties.insert(property.to_owned(), to);
    }
}

fn remove(schema: &mut Value, keyword: &str) {
    if let Value::Object(schema) = schema {
        schema.remove(keyword);
    }
}

fn take_object(schema: &mut Value, keyword: &str) -> Map<String, Value> {
    match schema.get_mut(keyword).map(Value::take) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// Lets `${VAR}` stand wherever a scalar of another form is expected.
fn allow_variables(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(allow_variables),
        Value::Object(object) => {
            for (keyword, value) in object.iter_mut() {
                match keyword.as_str() {
                    // Values, not schemas.
                    "default" | "const" | "examples" | "enum" | "required" => {}
                    "properties" | "$defs" => {
                        if let Value::Object(schemas) = value {
                            schemas.values_mut().for_each(allow_variables);
                        }
                    }
                    _ => allow_variables(value),
                }
            }
            if is_narrow_scalar(object) {
                let narrow = Value::Object(std::mem::take(object));
                object.insert(
                    "anyOf".to_owned(),
                    json!([narrow, { "type": "string", "pattern": r"\$\{" }]),
                );
                for shown in ["description", "default"] {
                    if let Some(text) = object["anyOf"][0].get(shown).cloned() {
                        object.insert(shown.to_owned(), text);
                    }
                }
            }
        }
        _ => {}
    }
}

fn is_narrow_scalar(schema: &Map<String, Value>) -> bool {
    let scalar = |name: &Value| matches!(name.as_str(), Some("boolean" | "integer" | "number"));
    let narrow_text = ["pattern", "enum", "const"]
        .iter()
        .any(|keyword| schema.contains_key(*keyword));
    let is_union = |types: &[Value]| types.iter().any(scalar);
    match schema.get("type") {
        Some(Value::Array(types)) => is_union(types),
        Some(name) => scalar(name) || (name == "string" && narrow_text),
        None => schema.contains_key("const") || schema.contains_key("enum"),
    }
}
