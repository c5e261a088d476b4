//! What operators do with a cache: configure, look, purge, warm, reload.

use std::time::{Duration, Instant};

use super::scene::{Scene, admin, response, send, setup};
use crate::support::{App, Peer, Process};

fn purged(scene: &Scene, what: &str) -> u64 {
    let answer = scene.admin("POST /cache/purge", what);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["purged"].as_u64().unwrap()
}

#[test]
fn a_purge_is_of_a_url_a_prefix_a_tag_or_everything() {
    let scene = Scene::with("key: { query: { exclude: [utm_*] } }", "");
    let fill = || {
        scene.store("/a", "Cache-Tag: one, two", "a");
        scene.store("/a/b?x=1", "Surrogate-Key: two three", "b");
        scene.store("/c", "", "c");
    };
    for (what, gone) in [
        (
            r#"{"url": "http://A.test:80/a/b?x=1&utm_source=mail"}"#,
            &["/a/b?x=1"][..],
        ),
        (r#"{"prefix": "http://a.test/a"}"#, &["/a", "/a/b?x=1"]),
        (r#"{"prefix": "/a/"}"#, &["/a/b?x=1"]),
        (r#"{"tag": "one"}"#, &["/a"]),
        (r#"{"tag": "two"}"#, &["/a", "/a/b?x=1"]),
        (r#"{"tag": "tw"}"#, &[]),
        (r#"{"everything": true}"#, &["/a", "/a/b?x=1", "/c"]),
    ] {
        purged(&scene, r#"{"everything": true}"#);
        fill();
        assert_eq!(purged(&scene, what), gone.len() as u64, "{what}");
        for target in ["/a", "/a/b?x=1", "/c"] {
            assert_eq!(scene.is_gone(target), gone.contains(&target), "{what} {target}");
        }
    }
}

#[test]
fn a_purge_that_makes_no_sense_is_refused() {
    let scene = Scene::with("", "");
    for (what, why) in [
        ("{}", "say one of"),
        (r#"{"url": "http://a.test/", "tag": "a"}"#, "say one of"),
        (r#"{"url": "/a"}"#, "whole URL"),
        (r#"{"prefix": "a"}"#, "whole URL"),
        (r#"{"tags": "a"}"#, "unknown field `tags`"),
        ("nothing", "Failed to parse"),
    ] {
        let answer = scene.admin("POST /cache/purge", what);
        assert_eq!(answer.status, 422, "{what}");
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    let answer = scene.admin("POST /cache/purge", r#"{"tag": "a", "filter": "other"}"#);
    assert_eq!(answer.status, 404);
}

#[test]
fn the_admin_api_tells_what_is_held_and_done() {
    let scene = Scene::with("", "routes: [{ match: { path: '/items/{id}' } }]");
    scene.store("/items/1", "", "x");
    scene.hit("GET /items/1", "");
    let told = scene.admin("GET /cache", "").json();
    let inbound = &told["caches"][0];
    assert_eq!(
        (&inbound["direction"], &inbound["filter"]),
        (&"inbound".into(), &"cache".into())
    );
    assert_eq!(inbound["entries"], 1);
    assert_eq!(inbound["capacity_bytes"], 64 * 1024 * 1024);
    let routes = inbound["routes"].as_array().unwrap();
    let route = routes.iter().find(|route| route["route"] == "/items/{id}").unwrap();
    assert_eq!(
        (&route["requests"]["hit"], &route["requests"]["miss"]),
        (&2.into(), &1.into())
    );
    assert!(route["hit_ratio"].as_f64().unwrap() > 0.6);
    let top = &inbound["top"][0];
    assert_eq!(
        (&top["url"], &top["hits"]),
        (&"http://a.test/items/1".into(), &2.into())
    );
}

#[test]
fn unsafe_requests_purge_what_their_route_names() {
    let routes = "routes:\n- match: { path: /orders, method: POST }\n  filters: { cache: { invalidate: { tags: [stock], \
                  prefixes: [/reports/] } } }\n";
    let scene = Scene::with("", routes);
    scene.store("/products", "Cache-Tag: stock", "p");
    scene.store("/reports/today", "", "r");
    scene.store("/about", "", "a");
    scene.miss("POST /orders", "Content-Length: 0\r\n", "", "");
    assert!(scene.is_gone("/products"));
    assert!(scene.is_gone("/reports/today"));
    assert!(!scene.is_gone("/about"));
}

#[test]
fn a_route_has_a_ttl_of_its_own() {
    let routes = "routes:\n- match: { path: /says-nothing }\n  filters: { cache: { ttl: 90s } }\n- match: { path: /says }\n  \
                  filters: { cache: { ttl: 90s, override: true } }\n- match: { path: /query }\n  filters: { cache: { class: \
                  query } }\n- match: { path: /gone }\n  filters: { cache: { negative: { '404': 7s } } }\n";
    let scene = Scene::with("", routes);
    let ttl = |target: &str| {
        let answer = scene.hit(&format!("GET {target}"), "");
        let status = answer.field("cache-status").unwrap();
        status.rsplit('=').next().unwrap().parse::<u64>().unwrap()
    };
    scene.miss("GET /says-nothing", "", "", "x");
    assert!((88..=90).contains(&ttl("/says-nothing")));
    scene.miss("GET /says", "", "Cache-Control: max-age=5", "x");
    assert!((88..=90).contains(&ttl("/says")));
    scene.miss("GET /query", "", "", "x");
    assert!((598..=600).contains(&ttl("/query")));
    let mut client = scene.ask("GET /gone", "");
    let mut app = scene.app.accept();
    app.read_head();
    app.send("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.read_answer().status, 404);
    assert!(ttl("/gone") <= 7);
    scene.miss("GET /else", "", "", "x");
    assert!(scene.is_gone("/else"), "no ttl, nothing said");
}

#[test]
fn callers_are_told_apart_by_who_they_are() {
    let routes = "routes:\n- match: { path: /me }\n  filters: { cache: { class: user_profile } }\n";
    let scene = Scene::with("", routes);
    let token = |name: &str| format!("Authorization: Bearer {name}\r\n");
    for name in ["ada", "bob"] {
        let (answer, _) = scene.miss("GET /me", &token(name), "Cache-Control: private", name);
        assert!(
            answer.field("cache-status").unwrap().contains("stored"),
            "{}",
            answer.head
        );
    }
    for name in ["ada", "bob"] {
        assert_eq!(scene.hit("GET /me", &token(name)).text(), name);
    }
    let (answer, _) = scene.miss("GET /me", "", "Cache-Control: no-store", "nobody");
    assert_eq!(answer.text(), "nobody");
    // No credential is shown.
    assert!(!scene.admin("GET /cache", "").text().contains("ada"));
}

#[test]
fn who_does_not_say_who_he_is_gets_nothing_of_others() {
    let routes = "routes:\n- match: { path: /private }\n  filters: { cache: { shared: false, key: { identity: [Authorization] } } }\n- \
                  match: { path: /ttl }\n  filters: { cache: { ttl: 1m } }\n- match: { path: /for-all }\n  filters: { cache: { \
                  ttl: 1m, shared: true } }\n- match: { path: /tenant }\n  filters: { cache: { key: { identity: [X-Tenant] } } }\n";
    let scene = Scene::with("", routes);
    let stored = |target: &str, lines: &str, head: &str| {
        let (answer, _) = scene.miss(&format!("GET {target}"), lines, head, "x");
        answer.field("cache-status").unwrap().to_owned()
    };
    let cookie = "Cookie: s=ada\r\n";
    assert!(stored("/private", cookie, "Cache-Control: private, max-age=60").contains("detail=private"));
    assert!(stored("/ttl", cookie, "").contains("detail=cookie"));
    assert!(stored("/ttl", "", "").contains("stored"));
    assert!(stored("/for-all", cookie, "").contains("stored"));
    // A tenant has many who may not see each other's.
    let lines = "X-Tenant: t\r\nAuthorization: Bearer ada\r\n";
    assert!(stored("/tenant", lines, "Cache-Control: max-age=60").contains("detail=authorization"));
    assert!(stored("/tenant", "X-Tenant: t\r\n", "Cache-Control: max-age=60").contains("stored"));
}

#[test]
fn a_search_is_known_by_its_body() {
    let routes = "routes:\n- match: { path: /search }\n  filters: { cache: { methods: [POST], max_request_body: 100B, ttl: 1m } }\n";
    let scene = Scene::with("", routes);
    let search = |body: &str| {
        let mut client = scene.sidecar.connect();
        let length = body.len();
        send(&mut client, "POST /search", &format!("Content-Length: {length}\r\n"));
        client.send(body);
        client
    };
    let answered = |body: &str, with: &str| {
        let mut client = search(body);
        let mut app = scene.app.accept();
        let head = app.read_head();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert_eq!(app.read_exactly(body.len()), body.as_bytes());
        app.send(response("", with));
        client.read_answer()
    };
    assert_eq!(answered("q=a", "about a").text(), "about a");
    assert_eq!(answered("q=b", "about b").text(), "about b");
    for (body, expected) in [("q=a", "about a"), ("q=b", "about b")] {
        let answer = search(body).read_answer();
        assert_eq!(answer.text(), expected);
        assert!(answer.field("cache-status").unwrap().contains("hit"), "{}", answer.head);
    }
    // One that is too long goes to the app as it is.
    let long = "q=".repeat(100);
    let answer = answered(&long, "long");
    let status = answer.field("cache-status").unwrap();
    assert!(
        status.contains("bypass") && status.contains("request_body_too_large"),
        "{status}"
    );
}

#[test]
fn stored_answers_survive_a_reload_and_another_size() {
    let app = App::listen();
    let yaml = setup(&app, "", "").yaml();
    let mut sidecar = Process::run(&yaml);
    let inbound = sidecar.inbound();
    let ask = || {
        let mut client = Peer::connect(inbound);
        send(&mut client, "GET /", "");
        client
    };
    let mut client = ask();
    let mut connection = app.accept();
    connection.read_head();
    connection.send(response("Cache-Control: max-age=600", "kept"));
    client.read_answer();
    for yaml in [yaml.clone(), setup(&app, "max_size: 32MiB", "").yaml()] {
        sidecar.configure(&yaml);
        assert_eq!(sidecar.reload().status, 200);
        assert_eq!(ask().read_answer().text(), "kept");
    }
    let told = admin(sidecar.admin(), "GET /cache", "").json();
    assert_eq!(told["caches"][0]["capacity_bytes"], 32 * 1024 * 1024);
    sidecar.stop();
}

#[test]
fn it_is_warm_before_anybody_asks() {
    let app = App::listen();
    let settings =
        "warm: { urls: ['http://a.test/front', 'http://a.test/second?x=1'], rate: 100 }, refetch: { top: 1 }";
    let sidecar = setup(&app, settings, "").start();
    let scene = Scene { app, sidecar };
    for target in ["/front", "/second?x=1"] {
        let asked = scene.answer("Cache-Control: max-age=600", target);
        assert!(
            asked.starts_with(&format!("GET {target} ")) && asked.contains("Host: a.test"),
            "{asked}"
        );
    }
    scene.await_stored("/second?x=1");
    assert_eq!(scene.hit("GET /front", "").text(), "/front");
    scene.hit("GET /front", "");
    // On command.
    let answer = scene.admin("POST /cache/warm", r#"{"urls": ["http://a.test/third"]}"#);
    assert_eq!(answer.json()["queued"], 1, "{}", answer.text());
    scene.answer("Cache-Control: max-age=600", "third");
    scene.await_stored("/third");
    // And the most used again after a purge.
    assert_eq!(purged(&scene, r#"{"prefix": "/"}"#), 3);
    let asked = scene.answer("Cache-Control: max-age=600", "again");
    assert!(asked.starts_with("GET /front "), "{asked}");
    let answer = scene.admin("POST /cache/warm", r#"{"urls": ["/third"]}"#);
    assert_eq!(answer.status, 422);
}

#[test]
fn what_is_much_asked_for_is_fetched_anew_before_it_is_stale() {
    let scene = Scene::with("refresh: { ahead: 0.9, min_hits: 3 }", "");
    let (answer, _) = scene.miss("GET /", "", "Cache-Control: max-age=10\r\nAge: 5\r\nETag: \"a\"", "one");
    assert_eq!(answer.status, 200);
    for _ in 0..4 {
        assert_eq!(scene.hit("GET /", "").text(), "one");
    }
    let asked = scene.answer("Cache-Control: max-age=600\r\nETag: \"b\"", "two");
    assert!(asked.to_lowercase().contains("if-none-match: \"a\""), "{asked}");
    let deadline = Instant::now() + Duration::from_secs(5);
    while scene.hit("GET /", "").text() == "one" {
        assert!(Instant::now() < deadline);
    }
    scene.sidecar.await_metric("pillion_cache_refreshes_total", 1.0);
}

#[test]
fn an_app_that_is_gone_is_answered_for() {
    let scene = Scene::with("stale_if_error: 10m", "");
    scene.miss(
        "GET /",
        "",
        "Cache-Control: max-age=1\r\nAge: 5\r\nETag: \"a\"",
        "still here",
    );
    let Scene { app, sidecar } = scene;
    drop(app);
    let mut client = sidecar.connect();
    send(&mut client, "GET /", "");
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "still here"));
    let status = answer.field("cache-status").unwrap();
    assert!(
        status.contains("fwd=stale; fwd-status=502; detail=stale_if_error"),
        "{status}"
    );
    send(&mut client, "GET /never-seen", "");
    assert_eq!(client.read_answer().status, 502);
}

#[test]
fn the_apps_own_calls_are_cached_too() {
    let scene = Scene::with("", "");
    let mut client = scene.sidecar.connect_out();
    let host = scene.app.address();
    let request = format!("GET http://{host}/rates HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.send(&request);
    scene.answer("Cache-Control: max-age=600", "1.08");
    assert_eq!(client.read_answer().text(), "1.08");
    client.send(&request);
    let answer = client.read_answer();
    assert_eq!(answer.text(), "1.08");
    assert!(answer.field("cache-status").unwrap().contains("hit"), "{}", answer.head);
    let told = scene.admin("GET /cache", "").json();
    assert_eq!(told["caches"][1]["direction"], "outbound");
    assert_eq!(told["caches"][1]["entries"], 1);
}

fn html(times: usize) -> String {
    "<p>hello</p>".repeat(times)
}

#[test]
fn a_body_is_fetched_once_for_all_codings() {
    for times in [500, 10_000] {
        let scene = Scene::with("", "");
        let body = html(times);
        let head = "Cache-Control: max-age=600\r\nContent-Type: text/html\r\nETag: \"a\"";
        let (answer, _) = scene.miss("GET /", "Accept-Encoding: gzip, deflate, br\r\n", head, &body);
        assert_eq!(answer.field("content-encoding"), Some("br"));
        // However they say it, whoever gets the same shares it, and others get theirs made of it.
        for (accepted, coding) in [
            ("br;q=1.0, gzip;q=0.8", "br"),
            ("gzip", "gzip"),
            ("gzip;q=0.5, *;q=0", "gzip"),
            ("gzip, br, zstd", "zstd"),
            ("identity", "identity"),
            ("", "identity"),
        ] {
            let lines = match accepted {
                "" => String::new(),
                accepted => format!("Accept-Encoding: {accepted}\r\n"),
            };
            let answer = scene.hit("GET /", &lines);
            assert_eq!(
                answer.field("content-encoding").unwrap_or("identity"),
                coding,
                "{accepted}"
            );
            assert_eq!(answer.field("etag"), Some("W/\"a\""));
            let plain = match coding {
                "identity" => answer.body,
                coding => pillion_filters::compression::decode(coding, &answer.body).unwrap(),
            };
            assert_eq!(plain, body.as_bytes(), "{accepted}");
        }
        let told = scene.admin("GET /cache", "").json();
        // One per coding, and the note of what they vary by.
        assert_eq!(told["caches"][0]["entries"], 5);
    }
}

#[test]
fn a_client_that_cannot_read_what_the_app_made_gets_it_otherwise() {
    let scene = Scene::with(
        "",
        "routes: [{ match: { path: '/*' }, filters: { compression: { codings: [br] } } }]",
    );
    let mut coded = Vec::new();
    let body = html(500);
    std::io::Read::read_to_end(
        &mut flate2::read::GzEncoder::new(body.as_bytes(), flate2::Compression::new(6)),
        &mut coded,
    )
    .unwrap();
    let mut client = scene.ask("GET /", "Accept-Encoding: br, gzip\r\n");
    let mut app = scene.app.accept();
    app.read_head();
    app.send(format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\nCache-Control: max-age=600\r\nContent-Type: text/html\r\n\
         Content-Encoding: gzip\r\n\r\n",
        coded.len()
    ));
    app.send(&coded);
    assert_eq!(client.read_answer().field("content-encoding"), Some("gzip"));
    assert_eq!(scene.hit("GET /", "Accept-Encoding: br, gzip\r\n").body, coded);
    // This one gets the same, were it not for the app's choice.
    let (answer, _) = scene.miss(
        "GET /",
        "Accept-Encoding: br\r\n",
        "Cache-Control: max-age=600\r\nContent-Type: text/html",
        &body,
    );
    assert_eq!(answer.field("content-encoding"), Some("br"));
}

#[test]
fn what_is_revalidated_stays_stored_whatever_its_type() {
    // The 304 that the cache is given says that it may vary: it does not tell the type.
    for kind in ["text/html", "image/png"] {
        let scene = Scene::with("", "");
        let head = format!("Cache-Control: max-age=1\r\nAge: 5\r\nContent-Type: {kind}\r\nETag: \"a\"");
        let (first, _) = scene.miss("GET /", "Accept-Encoding: br\r\n", &head, &html(500));
        for _ in 0..2 {
            let mut client = scene.ask("GET /", "Accept-Encoding: br\r\n");
            let mut app = scene.app.accept();
            let asked = app.read_head();
            assert!(asked.contains("\"a\""), "{asked}");
            app.send("HTTP/1.1 304 Not Modified\r\nConnection: close\r\nCache-Control: max-age=1\r\nAge: 5\r\nETag: \"a\"\r\n\r\n");
            let answer = client.read_answer();
            assert_eq!((answer.status, &answer.body), (200, &first.body), "{kind}");
            assert_eq!(answer.field("vary"), first.field("vary"), "{kind}");
        }
        assert_eq!(first.field("vary").is_some(), kind == "text/html");
    }
}

#[test]
fn what_is_asked_for_again_is_made_smaller_behind_the_answer() {
    let scene = Scene::with("", "");
    let items: Vec<String> = (0..3000)
        .map(|number| format!("<li id={}>{}</li>", number * 7, number % 13))
        .collect();
    let br = "Accept-Encoding: br\r\n";
    let head = "Cache-Control: max-age=600\r\nContent-Type: text/html";
    let (first, _) = scene.miss("GET /", br, head, &items.concat());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = scene.hit("GET /", br);
        assert_eq!(
            pillion_filters::compression::decode("br", &answer.body).unwrap(),
            items.concat().as_bytes()
        );
        if answer.body.len() < first.body.len() {
            break;
        }
        assert!(Instant::now() < deadline, "it stays as large as it was");
    }
}
