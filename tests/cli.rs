//! The command line: what is printed where, and with which exit code.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows these in tests; the helpers stand outside #[test]"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

const CONFIG: &str = "\
service: shop
inbound: { listen: \"127.0.0.1:8000\", app: \"http://127.0.0.1:8080\" }
timeouts: { first_byte: 10s }
routes:
  - match: { path: \"/api/users/{id}\", method: GET }
    timeouts: { first_byte: 2m, exchange: 5m }
    filters: { limits: { enabled: false } }
  - match: { path: /orders }
    name: orders
    filters: { headers: { request: { set: { x-a: \"1\" } } } }
";

/// What a command printed, and its exit code.
struct Done {
    code: i32,
    out: String,
    err: String,
}

fn pillion(arguments: &[&str]) -> Done {
    let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Done {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A configuration file for as long as a test needs it; the name is the test's own.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{name}.yaml", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn check_is_content_with_what_is_right() {
    let (one, two) = (File::new("right", CONFIG), File::new("right-too", CONFIG));
    let done = pillion(&["check", one.name(), two.name()]);
    assert_eq!((done.code, &*done.err), (0, ""));
    assert_eq!(done.out, format!("{}: ok\n{}: ok\n", one.name(), two.name()));
}

#[test]
fn check_shows_the_place_of_every_mistake() {
    let right = File::new("amid-wrong", CONFIG);
    let wrong = File::new(
        "wrong",
        "service: shop\ninbound: { listen: \"127.0.0.1:8000\", app: \"http://127.0.0.1:8080\" }\nfilters:\n  limits: { bdy: 3 }\n  \
         request_id: { header: a b }\n",
    );
    let done = pillion(&["check", wrong.name(), right.name()]);
    assert_eq!(done.code, 1);
    assert_eq!(done.out, format!("{}: ok\n", right.name()));
    let told = "\
error: unknown key `bdy` in filters.limits
 --> FILE:4:13
  |
4 |   limits: { bdy: 3 }
  |             ^
  = help: did you mean `body`?

error: filters.request_id: `a b` is not a header name
 --> FILE:5:15
  |
5 |   request_id: { header: a b }
  |               ^

2 errors
";
    assert_eq!(done.err.replace(wrong.name(), "FILE"), told);
}

#[test]
fn check_looks_at_filters_that_are_off_too() {
    let file = File::new(
        "off",
        "service: shop\ninbound:\n  listen: \"127.0.0.1:8000\"\n  app: \"http://127.0.0.1:8080\"\n  filters:\n    \
         access_log: { enabled: false, formt: json }\nchain: [request_id, access_log, limits]\nfilters:\n  \
         limits: { enabled: false, bdy: 3 }\n  headers: { enabled: false, request: { set: { \"a b\": x } } }\nroutes:\n  \
         - match: { path: /a }\n    filters: { request_id: { enabled: false, header: a b } }\n",
    );
    let done = pillion(&["check", file.name()]);
    assert_eq!(done.code, 1);
    for told in [
        "unknown key `formt` in inbound.filters.access_log",
        "unknown key `bdy` in filters.limits",
        "filters.headers",
        "routes[0].filters.request_id: `a b` is not a header name",
        "4 errors",
    ] {
        assert!(done.err.contains(told), "{told} is not in\n{}", done.err);
    }
}

#[test]
fn explain_tells_each_value_s_origin() {
    let file = File::new("explained", CONFIG);
    let done = pillion(&["explain", file.name()]);
    assert_eq!((done.code, &*done.err), (0, ""));
    for line in [
        format!("service: shop # {}:1:10", file.name()),
        format!("  first_byte: 10s # {}:3:25", file.name()),
        "  idle: 1m # default".to_owned(),
    ] {
        assert!(
            done.out.lines().any(|told| told == line),
            "{line} is not in\n{}",
            done.out
        );
    }
    // What it prints is a configuration again, and the same one.
    let values = |explained: &str| -> Vec<String> {
        let lines = explained.lines();
        lines.map(|line| line.split(" # ").next().unwrap().to_owned()).collect()
    };
    let again = File::new("explained-again", &done.out);
    let explained = pillion(&["explain", again.name()]);
    assert_eq!((explained.code, &*explained.err), (0, ""));
    assert_eq!(values(&explained.out), values(&done.out));
}

#[test]
fn explain_tells_what_a_request_would_meet() {
    let file = File::new("route", CONFIG);
    let done = pillion(&["explain", file.name(), "GET", "/api/users/7"]);
    assert_eq!((done.code, &*done.err), (0, ""));
    let told = "\
GET /api/users/7
service    shop
direction  inbound
route      /api/users/{id} # FILE:5:5
  because the path is `/api/users/{id}`
  because the method is GET
upstream   127.0.0.1:8080 (the app, HTTP/1.1)
filters, in the order requests meet them; what is not shown is as the filter's page says:
  request_id
  access_log
  tracing
  metrics
  deadline
  headers (nothing to do, as it is set)
  compression
  retry
filters that are off:
  limits # FILE:7:35
  idempotency # (built-in defaults):22:14
  cache # (built-in defaults):24:14
  circuit_breaker # (built-in defaults):26:14
timeouts:
  connect: 1s # default
  first_byte: 2m # FILE:6:29
  idle: 1m # default
  tunnel: 1h # default
  exchange: 5m # FILE:6:43
what the filters decide, with nothing stored and nothing counted yet:
  the request goes to the upstream
  a try that fails may be made again: GET may be repeated
";
    assert_eq!(done.out.replace(file.name(), "FILE"), told);
}

#[test]
fn explain_tells_settings_and_decisions_of_one_request() {
    let file = File::new(
        "decisions",
        "service: shop\ninbound: { listen: \"127.0.0.1:8000\", app: \"http://127.0.0.1:8080\" }\nfilters:\n  cache: { enabled: true, ttl: 5m, \
         key: { headers: [X-Tenant] } }\n  headers: { request: { set: { x-token: \"${PATH}\" } } }\n  limits: { uri_length: 20B }\nroutes:\n  \
         - match: { path: /api/*, host: api.example.com, headers: { x-beta: { present: true } } }\n    filters: { cache: { ttl: 1m } }\n",
    );
    let done = pillion(&[
        "explain",
        file.name(),
        "GET",
        "http://api.example.com/api/x",
        "-H",
        "x-beta: 1",
        "-H",
        "upgrade: x",
    ]);
    assert_eq!((done.code, &*done.err), (0, ""));
    for told in [
        "\n  because the path is `/api/*`\n  because the host is `api.example.com`\n  because there is a header `x-beta`\n",
        "\n  cache\n    ttl: 1m # FILE:9:30\n    key:\n      headers: [X-Tenant] # FILE:4:52\n",
        // What comes from the environment is not shown.
        "        x-token: \"${PATH}\" # FILE:5:41, from \"${PATH}\"\n",
        "\n  limits\n    uri_length: 20B # FILE:6:25\n",
        "\n  cache: left alone: the request wants another protocol\n  the request goes to the upstream\n",
    ] {
        let out = done.out.replace(file.name(), "FILE");
        assert!(out.contains(told), "{told:?} is not in\n{out}");
    }
    let done = pillion(&["explain", file.name(), "POST", "/a/path/that/is/too/long"]);
    for told in [
        ": the path is not `/api/*`, and the host is not `api.example.com`, and there is no header `x-beta` # ",
        "\n  limits: refused: the request target is longer than `uri_length` (20B)\n  the answer is 414 URI Too Long, and the upstream is not \
         asked\n  a try that fails is made again only if nothing was sent: POST is not safe to repeat\n",
    ] {
        assert!(done.out.contains(told), "{told:?} is not in\n{}", done.out);
    }
}

#[test]
fn explain_finds_the_route_by_all_its_conditions() {
    let file = File::new("routes", CONFIG);
    for (method, url, route, filters) in [
        (
            "POST",
            "/api/users/7",
            "unmatched",
            "metrics\n  deadline\n  limits\n  headers (nothing to do, as it is set)\n  compression\n  retry\nfilters that are off:",
        ),
        (
            "get",
            "http://example.com/orders?x=1",
            "orders",
            "limits\n  headers\n    request:\n      set:\n        x-a: \"1\" # ",
        ),
    ] {
        let done = pillion(&["explain", file.name(), method, url]);
        assert_eq!((done.code, &*done.err), (0, ""));
        assert!(done.out.contains(&format!("\nroute      {route}")), "{}", done.out);
        assert!(done.out.contains(filters), "{}", done.out);
        assert!(done.out.contains("\n  first_byte: 10s # "), "{}", done.out);
    }
}

#[test]
fn explain_says_what_it_cannot_answer() {
    let file = File::new("questions", CONFIG);
    for (arguments, code, told) in [
        (
            &["GET", "/", "--outbound"][..],
            1,
            "the configuration has no `outbound`",
        ),
        (&["GET", "http://a b/"][..], 1, "`http://a b/` is no URL or path"),
        (&["GE T", "/"][..], 1, "`GE T` is no method"),
        (&["GET", "/", "-H", "a b: c"][..], 1, "`a b` is no header"),
        (&["GET"][..], 2, "<URL>"),
    ] {
        let done = pillion(&[&["explain", file.name()], arguments].concat());
        assert_eq!((done.code, &*done.out), (code, ""), "{arguments:?}");
        assert!(done.err.contains(told), "{arguments:?}: {}", done.err);
    }
}

#[test]
fn schema_is_json_that_names_what_can_be_configured() {
    let done = pillion(&["schema"]);
    assert_eq!((done.code, &*done.err), (0, ""));
    let schema: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for key in ["service", "inbound", "chain", "filters", "routes", "include"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for arguments in [
        &["run", "--config", "nowhere.yaml"][..],
        &["check", "nowhere.yaml"],
        &["explain", "nowhere.yaml"],
    ] {
        let done = pillion(arguments);
        assert_eq!((done.code, &*done.out), (1, ""), "{arguments:?}");
        let told = "error: cannot read `nowhere.yaml`: no such file\n --> nowhere.yaml\n";
        assert!(done.err.starts_with(told), "{}", done.err);
    }
}

#[test]
fn help_lists_the_commands() {
    let done = pillion(&["--help"]);
    assert_eq!((done.code, &*done.err), (0, ""));
    for command in ["demo", "run", "check", "explain", "schema"] {
        assert!(done.out.contains(&format!("\n  {command} ")), "{}", done.out);
        let of_command = pillion(&[command, "--help"]);
        assert_eq!(of_command.code, 0);
        let usage = format!("Usage: pillion {command}");
        assert!(of_command.out.contains(&usage), "{}", of_command.out);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    for arguments in [&[][..], &["chekc"], &["check"], &["run"], &["schema", "more"]] {
        let done = pillion(arguments);
        assert_eq!((done.code, &*done.out), (2, ""), "{arguments:?}");
        assert!(done.err.contains("Usage: pillion"), "{arguments:?}: {}", done.err);
    }
}

/// As `pillion schema | head` does.
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let file = File::new("unread", CONFIG);
    for arguments in [
        &["schema"][..],
        &["check", file.name()],
        &["explain", file.name()],
        &["explain", file.name(), "GET", "/"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_pillion"))
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }
}
