//! The admin API as its `OpenAPI` document has it: what it refuses, and that it answers what it says.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::support::{Answer, App, Peer, Sidecar, eventually};

const TOKEN: &str = "hunter2-hunter2";

fn sidecar(app: &App) -> Sidecar {
    let setup = Sidecar::setup(app).filters("cache: { enabled: true }, circuit_breaker: { enabled: true }");
    setup
        .with("upstreams: { other: { endpoints: ['http://127.0.0.1:9'] } }")
        .with("explain: { sample: 1 }")
        .start()
}

fn guarded(app: &App) -> Sidecar {
    let yaml = Sidecar::setup(app).yaml();
    let listen = "admin: { listen: '127.0.0.1:0' }";
    assert!(yaml.contains(listen));
    Sidecar::of(&yaml.replace(listen, &format!("admin: {{ listen: '127.0.0.1:0', token: {TOKEN} }}")))
}

/// Sends a request with these fields; `Host: localhost` unless they have one.
fn ask(sidecar: &Sidecar, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut admin = Peer::connect(sidecar.admin());
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if !fields.iter().any(|(name, _)| *name == "Host") {
        head.push_str("Host: localhost\r\n");
    }
    for (name, value) in fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    admin.send(format!("{head}\r\n{body}"));
    admin.read_answer()
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// One request that the document describes.
struct Operation {
    method: String,
    path: String,
    described: Value,
}

impl Operation {
    /// Every operation; names in paths stand for a filter.
    fn all(document: &Value) -> Vec<Self> {
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(|(method, described)| Self {
                method: method.to_uppercase(),
                path: path.replace("{name}", "headers").replace("{id}", "0"),
                described: described.clone(),
            })
        });
        operations.collect()
    }

    fn is_open(&self) -> bool {
        self.described["security"] == Value::Array(Vec::new())
    }

    fn has_body(&self) -> bool {
        self.described["requestBody"].is_object()
    }

    fn shown(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

fn document(sidecar: &Sidecar, fields: &[(&str, &str)]) -> Value {
    ask(sidecar, "GET", "/openapi.json", fields, "").json()
}

#[test]
fn without_the_token_nothing_but_the_probes_is_answered() {
    let app = App::listen();
    let sidecar = guarded(&app);
    let bearer = format!("Bearer {TOKEN}");
    let document = document(&sidecar, &[("Authorization", &bearer)]);
    let operations = Operation::all(&document);
    assert!(operations.len() > 15);
    for operation in &operations {
        for fields in [
            &[][..],
            &[("Authorization", "Bearer hunter2")],
            &[("Authorization", "Basic aHVudGVyMg==")],
            &[("Cookie", "token=hunter2-hunter2")],
        ] {
            let answer = ask(&sidecar, &operation.method, &operation.path, fields, "");
            let refused = answer.status == 401;
            assert_eq!(refused, !operation.is_open(), "{}: {}", operation.shown(), answer.head);
            assert!(!answer.text().contains(TOKEN));
        }
    }
    // Nor is it shown to who has it.
    for path in ["/config", "/config/values", "/config/history", "/filters"] {
        let answer = ask(&sidecar, "GET", path, &[("Authorization", &bearer)], "");
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains(TOKEN), "{path}");
    }
}

#[test]
fn a_name_that_is_not_this_machines_is_refused_everywhere() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    for operation in Operation::all(&document(&sidecar, &[])) {
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example"] {
            let answer = ask(&sidecar, &operation.method, &operation.path, &[("Host", host)], "");
            assert_eq!(answer.status, 403, "{} {host}", operation.shown());
        }
    }
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    let before = ask(&sidecar, "GET", "/config/history", &[], "").json();
    for operation in Operation::all(&document(&sidecar, &[])) {
        for origin in ["http://evil.example", "null", "http://localhost:1"] {
            let answer = ask(
                &sidecar,
                &operation.method,
                &operation.path,
                &[JSON, ("Origin", origin)],
                "{}",
            );
            let refused = answer.status == 403;
            assert_eq!(
                refused,
                operation.method != "GET",
                "{} from {origin}: {}",
                operation.shown(),
                answer.head
            );
            assert_eq!(answer.field("access-control-allow-origin"), None);
        }
        // A form of another site has no JSON.
        if operation.has_body() {
            for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
                let answer = ask(
                    &sidecar,
                    &operation.method,
                    &operation.path,
                    &[("Content-Type", form)],
                    "{}",
                );
                assert_eq!(answer.status, 415, "{} as {form}", operation.shown());
            }
        }
    }
    assert_eq!(ask(&sidecar, "GET", "/config/history", &[], "").json(), before);
}

#[test]
fn bodies_that_are_too_large_or_have_unknown_keys_are_refused() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    let large = format!("{{\"reason\": \"{}\"}}", "x".repeat(64 * 1024));
    let mut tried = 0;
    for operation in Operation::all(&document(&sidecar, &[]))
        .iter()
        .filter(|operation| operation.has_body())
    {
        for (body, status) in [
            (large.as_str(), 413),
            ("{\"unheard_of\": 1}", 422),
            ("{", 422),
            ("[]", 422),
            ("", 422),
        ] {
            let answer = ask(&sidecar, &operation.method, &operation.path, &[JSON], body);
            assert_eq!(answer.status, status, "{}: {}", operation.shown(), answer.text());
        }
        let answer = ask(
            &sidecar,
            &operation.method,
            &operation.path,
            &[JSON],
            "{\"unheard_of\": 1}",
        );
        assert!(
            answer.text().contains("unheard_of"),
            "{}: {}",
            operation.shown(),
            answer.text()
        );
        tried += 1;
    }
    assert!(tried >= 4);
    for path in ["/cache?topp=3", "/cache?top=many"] {
        assert_eq!(ask(&sidecar, "GET", path, &[], "").status, 422, "{path}");
    }
}

#[test]
fn what_an_operator_does_is_in_the_history() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    for (method, path, body, told) in [
        ("POST", "/drain", "{\"drain\": true}", "draining"),
        ("POST", "/drain", "{\"drain\": false}", "no longer draining"),
        (
            "PUT",
            "/log",
            "{\"level\": \"warn\", \"ttl\": \"1m\"}",
            "log level warn for 1m",
        ),
        ("DELETE", "/log", "", "log level as configured"),
        (
            "POST",
            "/cache/purge",
            "{\"prefix\": \"/a?secret=1\"}",
            "purged 0 stored responses, those that begin with /a",
        ),
    ] {
        let answer = ask(&sidecar, method, path, &[JSON], body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let newest = ask(&sidecar, "GET", "/config/history", &[], "").json()["entries"][0].take();
        assert_eq!(newest["trigger"], "action");
        let action = newest["action"].as_str().unwrap();
        assert!(action.contains(told) && !action.contains("secret"), "{action}");
    }
}

#[test]
fn it_answers_as_its_document_says() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    // So that there is something to tell: a response that is stored, and a change of a filter.
    let mut client = sidecar.connect();
    client.send("GET /stored HTTP/1.1\r\nHost: app\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.read_answer().status, 200);
    let change =
        "{\"settings\": {\"response\": {\"set\": {\"x-a\": \"1\"}}}, \"direction\": \"inbound\", \"ttl\": \"1h\"}";
    assert_eq!(ask(&sidecar, "PATCH", "/filters/headers", &[JSON], change).status, 200);
    let mut id = None;
    eventually("the exchange is remembered", || {
        let remembered = ask(&sidecar, "GET", "/requests", &[], "").json();
        id = remembered["requests"][0]["id"].as_str().map(str::to_owned);
        id.is_some()
    });
    let id = id.unwrap();
    let document = document(&sidecar, &[]);
    for operation in Operation::all(&document)
        .iter()
        .filter(|operation| operation.method == "GET")
    {
        let path = operation.path.replace("/requests/0", &format!("/requests/{id}"));
        let answer = ask(&sidecar, "GET", &path, &[], "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let described = &operation.described["responses"][answer.status.to_string()];
        assert!(described.is_object(), "{} has no {}", operation.shown(), answer.status);
        let Some(content) = described["content"].as_object() else {
            continue;
        };
        let (media, content) = content.iter().next().unwrap();
        let told = answer.field("content-type").unwrap_or_default();
        assert!(told.starts_with(media.as_str()), "{}: {told}", operation.shown());
        if media == "application/json" {
            let mut wrong = Vec::new();
            check(&answer.json(), &content["schema"], &document, "", &mut wrong);
            assert!(wrong.is_empty(), "{}: {wrong:#?}\n{}", operation.shown(), answer.text());
        }
    }
    // A method it does not have is told apart from a path it does not have.
    assert_eq!(ask(&sidecar, "DELETE", "/config", &[], "").status, 405);
    assert_eq!(ask(&sidecar, "GET", "/nothing", &[], "").status, 404);
}

/// What is wrong with a value by that schema, as far as the document uses the language of schemas.
fn check(value: &Value, schema: &Value, document: &Value, path: &str, wrong: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        return check(value, target.unwrap(), document, path, wrong);
    }
    if let Some(either) = schema["oneOf"].as_array() {
        let fits = |schema: &&Value| {
            let mut wrong = Vec::new();
            check(value, schema, document, path, &mut wrong);
            wrong.is_empty()
        };
        if either.iter().filter(fits).count() != 1 {
            wrong.push(format!("{path}: fits none of several: {value}"));
        }
        return;
    }
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        _ => return,
    };
    let is = |kind: &&str| match *kind {
        "string" => value.is_string(),
        "number" => value.is_number(),
        // 1.0 is one, too.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        kind => panic!("{kind}"),
    };
    if !kinds.iter().any(is) {
        return wrong.push(format!("{path}: no {kinds:?}: {value}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !value.is_null()
        && !allowed.contains(value)
    {
        wrong.push(format!("{path}: none of {allowed:?}: {value}"));
    }
    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
        check(element, &schema["items"], document, &format!("{path}[{index}]"), wrong);
    }
    let Some(entries) = value.as_object() else { return };
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    for name in schema["required"].as_array().into_iter().flatten() {
        if !entries.contains_key(name.as_str().unwrap()) {
            wrong.push(format!("{path}: no {name}"));
        }
    }
    for (name, value) in entries {
        let path = format!("{path}.{name}");
        match properties.get(name).unwrap_or(&schema["additionalProperties"]) {
            Value::Bool(false) => wrong.push(format!("{path}: not in the document")),
            schema => check(value, schema, document, &path, wrong),
        }
    }
}
