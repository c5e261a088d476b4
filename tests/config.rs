//! What a good configuration comes to: layers, overlays, variables, and how it is explained.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;

use pillion::config::{
    AppAddress, BUILT_IN, ConfigErrors, Environment, HealthProbe, Loaded, Loader, deserialize, explain, load_str,
    schema,
};
use pillion_filters::units::{HumanDuration, OrNone};
use pillion_filters::{Direction, Registry};
use serde_json::Value;

const KNOWN: [&str; 12] = [
    "request_id",
    "access_log",
    "tracing",
    "metrics",
    "deadline",
    "limits",
    "headers",
    "idempotency",
    "cache",
    "compression",
    "circuit_breaker",
    "retry",
];
const MINIMAL: &str = "service: api\ninbound: { listen: \"0.0.0.0:8000\", app: \"http://127.0.0.1:8080\" }\n";

fn environment() -> Environment {
    let variables = [
        ("PORT", "8000"),
        ("ADMIN_TOKEN", "123456"),
        ("API_KEY", "hunter2"),
        ("ENVIRONMENT", "staging"),
    ];
    Environment::Fixed(
        variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    )
}

fn files(names: &[&str]) -> Result<Loaded, ConfigErrors> {
    let files: Vec<PathBuf> = names
        .iter()
        .map(|name| format!("tests/config/good/{name}").into())
        .collect();
    Loader::new(&KNOWN).environment(environment()).files(&files)
}

fn service() -> Loaded {
    files(&["service.yaml"]).unwrap()
}

fn text(text: &str) -> Loaded {
    load_str("test.yaml", text, &KNOWN).unwrap()
}

fn names(loaded: &Loaded, direction: Direction, route: Option<usize>) -> Vec<String> {
    loaded
        .chain(direction, route)
        .into_iter()
        .map(|filter| filter.name)
        .collect()
}

#[test]
fn two_lines_are_a_configuration() {
    let known: Vec<&str> = Registry::builtin().entries().iter().map(|entry| entry.name).collect();
    let loaded = load_str("two.yaml", MINIMAL, &known).unwrap();
    let inbound = loaded.config.inbound.as_ref().unwrap();
    let app = AppAddress::Http1 {
        host: "127.0.0.1".to_owned(),
        port: 8080,
    };
    assert_eq!(inbound.app, app);
    assert_eq!(inbound.connections.max_connections.get(), 10_000);
    let chain = [
        "request_id",
        "access_log",
        "tracing",
        "metrics",
        "deadline",
        "limits",
        "headers",
        "compression",
        "retry",
    ];
    assert_eq!(names(&loaded, Direction::Inbound, None), chain);
}

#[test]
fn the_effective_configuration_is_explained_with_origins() {
    let told = explain(&service());
    let expectation = "tests/config/good/service.explain.yaml";
    if std::env::var_os("BLESS").is_some() {
        fs::write(expectation, &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(expectation).unwrap());
}

#[test]
fn what_is_explained_reads_as_the_same_configuration() {
    let loaded = text(&format!(
        "{MINIMAL}chain: [headers, cache]\nfilters: {{ cache: {{ ttl: 5m, 'a b': [1, x: {{ }}] }} }}\n\
         routes: [{{ name: 'a: b', match: {{ path: /* }}, timeouts: {{ exchange: none }} }}]\n"
    ));
    let without_origins = |loaded: &Loaded| -> Vec<String> {
        let told = explain(loaded);
        told.lines()
            .map(|line| line.split(" # ").next().unwrap_or_default().to_owned())
            .collect()
    };
    let again = text(&explain(&loaded));
    assert_eq!(without_origins(&again), without_origins(&loaded));
}

#[test]
fn secrets_are_shown_nowhere() {
    let loaded = service();
    assert_eq!(loaded.config.admin.token.as_ref().unwrap().expose(), "123456");
    let written = text(&format!(
        "{MINIMAL}admin: {{ token: hunter2, peers: [{{ name: b, url: 'http://b:1', token: hunter2 }}] }}\n"
    ));
    let json = serde_json::to_string(&loaded.config).unwrap();
    for shown in [
        explain(&loaded),
        explain(&written),
        format!("{loaded:?}{written:?}"),
        json,
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("123456"), "{shown}");
    }
}

#[test]
fn passwords_in_addresses_are_shown_nowhere() {
    let loaded = text(&format!(
        "{MINIMAL}chain: [cache]\nfilters: {{ cache: {{ store: 'redis://ops:hunter2@store:6379/1', \
         other: 'redis://ops:hunter2@${{STORE:-store}}/1' }} }}\n\
         telemetry: {{ resource: {{ registry: 'http://ops:hunter2@registry/x' }} }}\n"
    ));
    let told = explain(&loaded);
    assert!(told.contains("redis://[redacted]@store:6379/1"), "{told}");
    assert!(told.contains("redis://[redacted]@${STORE:-store}/1"), "{told}");
    assert!(told.contains("http://[redacted]@registry/x"), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("ops"), "{told}");
}

#[test]
fn a_later_file_lies_on_top() {
    let loaded = files(&["service.yaml", "override.yaml"]).unwrap();
    assert_eq!(loaded.config.service.as_str(), "api-gateway");
    assert_eq!(loaded.config.workers, Some(8));
    assert_eq!(loaded.config.timeouts.first_byte, HumanDuration::from_secs(10));
    assert_eq!(loaded.config.routes.len(), 1, "lists are replaced");
    assert_eq!(loaded.config.admin.token, None, "a null takes away what lies below");
    assert_eq!(loaded.config.admin.listen.to_string(), "127.0.0.1:9901");
}

#[test]
fn a_value_that_is_replaced_needs_no_variable() {
    let files: Vec<PathBuf> = ["service.yaml", "override.yaml"]
        .map(|name| format!("tests/config/good/{name}").into())
        .into();
    let variables = [
        ("API_KEY".to_owned(), "k".to_owned()),
        ("PORT".to_owned(), "1".to_owned()),
    ];
    let loader = Loader::new(&KNOWN).environment(Environment::Fixed(variables.into()));
    assert!(loader.files(&files).is_ok());
    let errors = loader.files(&files[..1]).unwrap_err();
    assert!(errors.to_string().contains("`ADMIN_TOKEN` is not set"), "{errors}");
}

#[test]
fn filters_are_laid_over_each_other_by_direction_and_route() {
    let loaded = service();
    assert_eq!(
        names(&loaded, Direction::Inbound, None),
        ["request_id", "access_log", "metrics", "headers", "cache"]
    );
    assert_eq!(
        names(&loaded, Direction::Outbound, None),
        ["request_id", "access_log", "metrics", "headers"]
    );
    assert_eq!(
        names(&loaded, Direction::Inbound, Some(0)),
        ["request_id", "access_log", "metrics", "cache"]
    );

    let ttl = |direction, route| {
        let node = loaded.filter(direction, route, "cache");
        let ttl = node.at(&["ttl"]).unwrap().clone();
        (
            deserialize::<HumanDuration>(&ttl, "").unwrap().to_string(),
            ttl.pos.to_string(),
        )
    };
    let shared = ("5m".to_owned(), "tests/config/good/parts/platform.yaml:6:33".to_owned());
    assert_eq!(ttl(Direction::Inbound, None), shared);
    let own = ("30m".to_owned(), "tests/config/good/service.yaml:21:21".to_owned());
    assert_eq!(ttl(Direction::Inbound, Some(0)), own);

    let settings = loaded.filter(Direction::Inbound, Some(0), "cache");
    let keys: Vec<&str> = settings.entries().iter().map(|(key, _)| key.name.as_str()).collect();
    assert_eq!(
        keys,
        ["ttl", "vary", "max_size", "key"],
        "`enabled` is not the plugin's"
    );
}

#[test]
fn a_plugin_can_stand_in_the_chain_twice() {
    let loaded = text(&format!(
        "{MINIMAL}chain: [first, limits]\nfilters: {{ first: {{ plugin: limits }} }}\n"
    ));
    let plugins: Vec<_> = loaded
        .chain(Direction::Inbound, None)
        .into_iter()
        .map(|filter| filter.plugin)
        .collect();
    assert_eq!(plugins, ["limits", "limits"]);
}

#[test]
fn a_route_changes_only_the_timeouts_it_names() {
    let loaded = service();
    let timeouts = loaded.config.timeouts.overlaid(&loaded.config.routes[1].timeouts);
    assert_eq!(timeouts.first_byte, HumanDuration::from_secs(300));
    assert_eq!(timeouts.exchange, HumanDuration::from_secs(600).into());
    assert_eq!(timeouts.connect, loaded.config.timeouts.connect);
    assert_eq!(
        loaded.config.timeouts.exchange,
        OrNone(None),
        "`none` lies over the platform's limit"
    );
}

#[test]
fn every_default_is_where_it_says() {
    let told = explain(&text(MINIMAL));
    for plugin in KNOWN {
        assert!(told.contains(&format!("  - {plugin} # {BUILT_IN}:")), "{told}");
    }
    assert!(told.contains("  first_byte: 1m # default\n"), "{told}");
}

#[test]
fn other_machines_may_use_the_outbound_side_if_that_is_said() {
    let remote = |said: &str| {
        let text = format!("service: api\noutbound: {{ listen: '0.0.0.0:15001', {said} }}\n");
        load_str("test.yaml", &text, &KNOWN).is_ok()
    };
    assert!(remote("allow_remote: true"));
    assert!(!remote("allow_remote: false"));
    assert!(!remote("allow_remote: null"));
}

#[test]
fn an_upstream_needs_no_more_than_an_address() {
    let text = format!(
        "{MINIMAL}upstreams:\n  app: {{ slow_start: 30s }}\n  orders: {{ endpoints: ['http://a:8080', {{ address: 'h2c://b:80', weight: 2 }}] }}\n  \
         reports:\n    dns: {{ address: 'http://reports:80' }}\n    hosts: [Reports]\n    \
         balance: {{ algorithm: consistent_hash, hash: {{ cookie: session }} }}\n    \
         health: {{ check: {{ http: {{ path: '/healthz?full' }} }} }}\n\
         routes: [{{ match: {{ path: /orders }}, upstream: orders }}, {{ match: {{ path: /x }}, upstream: app }}]\n"
    );
    let loaded = load_str("test.yaml", &text, &KNOWN).unwrap();
    let upstreams = &loaded.config.upstreams;
    let weights = upstreams["orders"].endpoints.iter().map(|endpoint| endpoint.weight);
    assert_eq!(weights.collect::<Vec<_>>(), [1, 2]);
    assert_eq!(upstreams["reports"].hosts[0].to_string(), "reports:80");
    assert!(upstreams["app"].outliers.enabled);
    let HealthProbe::Http(check) = &upstreams["reports"].health.as_ref().unwrap().check else {
        panic!("the check is by HTTP");
    };
    assert_eq!(check.path, "/healthz?full");
    assert_eq!(loaded.config.routes[0].upstream.as_deref(), Some("orders"));
    // What is told of it reads as the same.
    assert!(
        load_str("test.yaml", &explain(&loaded), &KNOWN).is_ok(),
        "{}",
        explain(&loaded)
    );
}

fn builtin_schema() -> Value {
    let registry = Registry::builtin();
    schema(&mut |generator| {
        let entries = registry.entries().iter();
        entries
            .map(|entry| (entry.name.to_owned(), entry.schema(generator)))
            .collect()
    })
}

#[test]
fn the_schema_knows_every_plugin_and_lets_variables_stand() {
    let schema = builtin_schema();
    let filters = &schema["properties"]["filters"]["properties"];
    for entry in Registry::builtin().entries() {
        let reference = filters[entry.name]["$ref"].as_str().unwrap();
        let plugin = schema.pointer(reference.trim_start_matches('#')).unwrap();
        assert!(plugin["properties"]["enabled"].is_object(), "{}", entry.name);
    }
    let workers = schema["properties"]["workers"].to_string();
    assert!(workers.contains(r#""pattern":"\\$\\{""#), "{workers}");
    assert!(schema.get("required").is_none(), "a layer may leave anything out");
}

#[test]
fn every_reference_in_the_schema_leads_somewhere() {
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let schema = builtin_schema();
    let mut found = Vec::new();
    references(&schema, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for reference in found {
        assert!(
            schema.pointer(reference.trim_start_matches('#')).is_some(),
            "{reference}"
        );
    }
}
