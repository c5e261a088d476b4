//! Filters that an operator turns off and on, and tunes, by the admin API.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{self, Answer, App, JSON, OK, Peer, Sidecar};

/// What the admin API says to a request, and its status.
fn ask(sidecar: &Sidecar, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    support::ask(sidecar.admin(), &format!("{method} {path}"), JSON, &body)
}

fn sidecar(app: &App) -> Sidecar {
    let own = "{ match: { path: /own }, filters: { headers: { enabled: true, response: { set: { x-own: 'yes' } } } } }";
    let setup = Sidecar::setup(app).filters("headers: { response: { set: { x-added: 'yes' } } }");
    setup.with(&format!("routes: [{own}]\n")).start()
}

/// Which of the fields a response has.
fn added(client: &mut Peer, origin: &mut Option<Peer>, app: &App, path: &str) -> (bool, bool) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: app\r\n\r\n"));
    let origin = origin.get_or_insert_with(|| app.accept());
    origin.read_head();
    origin.send(OK);
    let answer = client.read_answer();
    let has = |name: &str| answer.field(name).is_some();
    (has("x-added"), has("x-own"))
}

#[test]
fn a_filter_is_turned_off_everywhere_and_back_on_without_a_connection_lost() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    let (mut client, mut origin) = (sidecar.connect(), None);
    let mut both = || {
        let plain = added(&mut client, &mut origin, &app, "/");
        (plain, added(&mut client, &mut origin, &app, "/own"))
    };
    assert_eq!(both(), ((true, false), (true, true)));
    let off = ask(
        &sidecar,
        "PATCH",
        "/filters/headers",
        &json!({ "enabled": false, "by": "ann", "reason": "try" }),
    );
    assert_eq!(off.status, 200, "{}", off.text());
    let off = off.json();
    assert_eq!(
        (&off["enabled"], &off["overridden"]),
        (&json!(false), &json!(true)),
        "{off:#}"
    );
    assert_eq!(both(), ((false, false), (false, false)));
    let entry = ask(&sidecar, "GET", "/config/history", &Value::Null).json()["entries"][0].take();
    let told = [&entry["trigger"], &entry["by"], &entry["reason"]];
    assert_eq!(told, ["override", "ann", "try"], "{entry:#}");
    let back = ask(&sidecar, "DELETE", "/filters/headers?by=ann", &Value::Null);
    assert_eq!(back.status, 200, "{}", back.text());
    assert_eq!(both(), ((true, false), (true, true)));
    assert_eq!(ask(&sidecar, "DELETE", "/filters/headers", &Value::Null).status, 404);
}

#[test]
fn a_cache_that_was_off_begins_anew() {
    let app = App::listen();
    let setup = Sidecar::setup(&app).filters("cache: { enabled: true, ttl: 5m }");
    let sidecar = setup.start();
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send(OK);
    assert_eq!(client.read_answer().status, 200);
    let entries = || ask(&sidecar, "GET", "/cache", &Value::Null).json()["caches"][0]["entries"].take();
    assert_eq!(entries(), 1);
    for on in [false, true] {
        let turned = ask(&sidecar, "PATCH", "/filters/cache", &json!({ "enabled": on }));
        assert_eq!(turned.status, 200, "{}", turned.text());
    }
    // It did not see what was changed meanwhile.
    assert_eq!(entries(), 0);
}

#[test]
fn it_is_back_when_its_time_is_over() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    let (mut client, mut origin) = (sidecar.connect(), None);
    let began = Instant::now();
    let off = ask(
        &sidecar,
        "PATCH",
        "/filters/headers",
        &json!({ "enabled": false, "ttl": "1s" }),
    );
    assert!(off.json()["overrides"][0]["until"].is_string(), "{}", off.text());
    while !added(&mut client, &mut origin, &app, "/").0 {
        assert!(began.elapsed() < Duration::from_secs(10), "it stays off");
    }
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "it was off for {:?}",
        began.elapsed()
    );
    let filter = ask(&sidecar, "GET", "/filters/headers", &Value::Null).json();
    assert_eq!(filter["overrides"], json!([]), "{filter:#}");
    let entry = ask(&sidecar, "GET", "/config/history", &Value::Null).json()["entries"][0].take();
    assert_eq!(entry["trigger"], "override_ended", "{entry:#}");
}

#[test]
fn settings_are_tuned_for_one_route_and_say_where_they_come_from() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    let (mut client, mut origin) = (sidecar.connect(), None);
    let tune =
        json!({ "route": "/own", "settings": { "response": { "remove": ["x-own"], "set": { "x-own": null } } } });
    let tuned = ask(&sidecar, "PATCH", "/filters/headers", &tune);
    assert_eq!(tuned.status, 200, "{}", tuned.text());
    assert_eq!(added(&mut client, &mut origin, &app, "/own"), (true, false));
    assert_eq!(added(&mut client, &mut origin, &app, "/"), (true, false));
    let tuned = tuned.json();
    let settings = &tuned["places"][1]["settings"];
    let mine = json!({ "key": "response.remove", "value": "[x-own]", "origin": "(admin API)" });
    assert!(settings.as_array().unwrap().contains(&mine), "{tuned:#}");
    // For all, the route's own word would stand; that is said.
    let all = ask(
        &sidecar,
        "PATCH",
        "/filters/headers",
        &json!({ "settings": { "response": { "set": { "x-own": "no" } } } }),
    );
    assert_eq!(
        all.json()["shadowed"],
        json!(["routes[0].filters.headers.response.set.x-own"])
    );
}

#[test]
fn what_makes_no_sense_is_refused_in_words_and_changes_nothing() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    let before = ask(&sidecar, "GET", "/filters", &Value::Null).json();
    for (path, body, status, why) in [
        (
            "/filters/heders",
            json!({ "enabled": false }),
            404,
            "the chain has no filter `heders`; did you mean `headers`?",
        ),
        (
            "/filters/headers",
            json!({ "enabled": false, "route": "/won" }),
            404,
            "there is no route `/won`; did you mean `/own`?",
        ),
        ("/filters/headers", json!({}), 422, "say `enabled`, or `settings`"),
        (
            "/filters/headers",
            json!({ "enable": false }),
            422,
            "unknown field `enable`",
        ),
        (
            "/filters/headers",
            json!({ "enabled": "no" }),
            422,
            "expected a boolean",
        ),
        (
            "/filters/headers",
            json!({ "enabled": false, "ttl": "soon" }),
            422,
            "ttl",
        ),
        (
            "/filters/headers",
            json!({ "enabled": false, "ttl": "0s" }),
            422,
            "must be longer than 0s",
        ),
        (
            "/filters/headers",
            json!({ "settings": { "respones": {} } }),
            422,
            "did you mean `response`?",
        ),
        (
            "/filters/headers",
            json!({ "settings": { "plugin": "cache" } }),
            422,
            "`plugin` is no setting",
        ),
        (
            "/filters/headers",
            json!({ "settings": { "response": { "set": { "a b": "c" } } } }),
            422,
            "(admin API)",
        ),
        (
            "/filters/headers",
            json!({ "enabled": false, "reason": "x".repeat(201) }),
            422,
            "at most 200 characters",
        ),
    ] {
        let answer = ask(&sidecar, "PATCH", path, &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(why), "{body}: {}", answer.text());
    }
    let after = ask(&sidecar, "GET", "/filters", &Value::Null).json();
    assert_eq!(after, before);
}

#[test]
fn who_takes_a_change_back_is_named_in_as_few_words() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    let off = json!({ "enabled": false });
    assert_eq!(ask(&sidecar, "PATCH", "/filters/headers", &off).status, 200);
    let path = format!("/filters/headers?by={}", "x".repeat(201));
    let refused = ask(&sidecar, "DELETE", &path, &Value::Null);
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (422, "by, reason: at most 200 characters\n")
    );
    assert_eq!(
        ask(&sidecar, "DELETE", "/filters/headers?by=x", &Value::Null).status,
        200
    );
}

#[test]
fn what_holds_is_bounded_and_outlives_a_reload() {
    let app = App::listen();
    let sidecar = sidecar(&app);
    for number in 0..64 {
        let set = json!({ "settings": { "response": { "set": { format!("x-{number}"): "1" } } } });
        assert_eq!(ask(&sidecar, "PATCH", "/filters/headers", &set).status, 200);
    }
    let more = ask(
        &sidecar,
        "PATCH",
        "/filters/headers",
        &json!({ "settings": { "response": { "set": { "x-a": "1" } } } }),
    );
    assert_eq!(more.status, 409, "{}", more.text());
    // Said again, a change takes the place of the one before.
    let again = json!({ "settings": { "response": { "set": { "x-63": "2" } } } });
    assert_eq!(ask(&sidecar, "PATCH", "/filters/headers", &again).status, 200);
    assert_eq!(ask(&sidecar, "POST", "/reload", &Value::Null).status, 200);
    let filter = ask(&sidecar, "GET", "/filters/headers", &Value::Null).json();
    assert_eq!(filter["overrides"].as_array().unwrap().len(), 64);
}
