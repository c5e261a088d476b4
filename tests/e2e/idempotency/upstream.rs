//! Keys added to what the app sends, and requests sent again because of them.

use std::sync::Arc;

use http::StatusCode;
use pillion_filters::{Attempt, BuildError, Context, Exchange, Filter, Phases, Plugin, Refusal, Registry, Step};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PAID, closing, read};
use crate::support::{App, Peer, Setup, Sidecar, fields};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

/// Refuses the tries of requests that say so.
struct Refuse;

impl Plugin for Refuse {
    const NAME: &'static str = "test_refuse";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for Refuse {
    fn phases(&self) -> Phases {
        Phases::ATTEMPT
    }
    fn attempt(&self, exchange: &mut Exchange, attempt: &mut Attempt) -> Step {
        let from = exchange.request.headers.get("x-refuse-from");
        let from: Option<u32> = from.and_then(|from| from.to_str().unwrap().parse().ok());
        if from.is_some_and(|from| attempt.number >= from) {
            let open = Refusal::denied(StatusCode::SERVICE_UNAVAILABLE, "open", "the breaker is open");
            Step::Refuse(open)
        } else {
            Step::Continue
        }
    }
}

fn sidecar(settings: &str) -> Sidecar {
    Setup::before("http://127.0.0.1:1")
        .with_registry(Registry::builtin().with::<Refuse>())
        .with("chain: [request_id, idempotency, retry, test_refuse]")
        .filters(&format!(
            "idempotency: {{ enabled: true, {settings} }}, retry: {{ on: [reset], backoff: {{ base: 1ms }} }}, \
             access_log: {{ enabled: false }}"
        ))
        .start()
}

fn step(app: &App, saga: &str, body: &str) -> String {
    let (host, length) = (app.address(), body.len());
    format!("POST /reserve HTTP/1.1\r\nHost: {host}\r\nX-Saga: {saga}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn key(head: &str) -> String {
    let keys = fields(head, "idempotency-key");
    assert_eq!(keys.len(), 1, "{head}");
    keys[0].to_owned()
}

/// Sends a request whose first try dies; the heads that the app got.
fn dies_once(sidecar: &Sidecar, app: &App, request: &str, body: &str) -> [String; 2] {
    let mut client = sidecar.connect_out();
    client.send(request);
    let (origin, first) = read(app, body);
    origin.reset();
    let (mut origin, second) = read(app, body);
    origin.send(closing(PAID));
    assert_eq!(client.read_answer().text(), "paid");
    [first, second]
}

#[test]
fn a_random_key_is_the_same_for_all_tries_and_no_two_requests() {
    let app = App::listen();
    let sidecar = sidecar("add: { from: random }");
    // More than is kept of a body of which nobody asks.
    let body = "x".repeat(20_000);
    let of_requests = [(); 2].map(|()| {
        let heads = dies_once(&sidecar, &app, &step(&app, "1", &body), &body);
        assert_eq!(key(&heads[0]), key(&heads[1]));
        key(&heads[0])
    });
    assert_ne!(of_requests[0], of_requests[1]);
    assert!(
        of_requests[0].starts_with('"') && of_requests[0].len() == 38,
        "{}",
        of_requests[0]
    );
}

#[test]
fn a_key_of_the_content_is_the_same_when_the_app_repeats_its_step() {
    let app = App::listen();
    // The upstream knows repeats by the key, so that it is asked again.
    let sidecar = sidecar("replay: false, add: { from: content, fields: [X-Saga] }");
    let keys = ["1", "1", "2"].map(|saga| {
        let heads = dies_once(&sidecar, &app, &step(&app, saga, "reserve"), "reserve");
        assert_eq!(key(&heads[0]), key(&heads[1]));
        key(&heads[0])
    });
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
}

#[test]
fn a_repeated_step_is_answered_here_where_the_upstream_knows_no_keys() {
    let app = App::listen();
    let sidecar = sidecar("add: { from: content, fields: [X-Saga] }, upstream_honours: false");
    let mut client = sidecar.connect_out();
    client.send(step(&app, "1", "reserve"));
    read(&app, "reserve").0.send(closing(PAID));
    assert_eq!(client.read_answer().text(), "paid");
    client.send(step(&app, "1", "reserve"));
    assert_eq!(client.read_answer().field("idempotent-replayed"), Some("true"));
    // Nor is it sent twice.
    let mut client = sidecar.connect_out();
    client.send(step(&app, "2", "reserve"));
    read(&app, "reserve").0.reset();
    assert_eq!(client.read_answer().status, 502);
    assert!(app.try_accept().is_none());
}

#[test]
fn a_key_of_the_apps_own_is_sent_again_where_it_is_honoured() {
    let app = App::listen();
    let request = step(&app, "1", "reserve").replace("X-Saga", "Idempotency-Key: k\r\nX-Saga");
    let honours = sidecar("upstream_honours: true");
    let heads = dies_once(&honours, &app, &request, "reserve");
    assert_eq!(heads.each_ref().map(|head| key(head)), ["k", "k"]);
    let not = sidecar("");
    let mut client = not.connect_out();
    client.send(&request);
    read(&app, "reserve").0.reset();
    assert_eq!(client.read_answer().status, 502);
    assert!(app.try_accept().is_none());
}

#[test]
fn a_key_whose_tries_were_refused_here_is_free_unless_one_was_sent() {
    let app = App::listen();
    let sidecar = sidecar("upstream_honours: true, unknown: conflict");
    let request =
        |key: &str| step(&app, "1", "reserve").replace("X-Saga", &format!("Idempotency-Key: {key}\r\nX-Saga"));
    let refused_from =
        |key: &str, from: u32| request(key).replace("X-Saga", &format!("X-Refuse-From: {from}\r\nX-Saga"));
    let error = |client: &mut Peer| client.read_answer().json()["error"].as_str().unwrap().to_owned();
    let mut client = sidecar.connect_out();
    // An open breaker: nothing was sent.
    client.send(refused_from("free", 1));
    assert_eq!(error(&mut client), "open");
    client.send(request("free"));
    read(&app, "reserve").0.send(closing(PAID));
    assert_eq!(client.read_answer().field("idempotent-replayed"), None);
    // It opens before the second try: the first was sent.
    client.send(refused_from("lost", 2));
    read(&app, "reserve").0.reset();
    assert_eq!(error(&mut client), "open");
    client.send(request("lost"));
    assert_eq!(error(&mut client), "idempotency_outcome_unknown");
    assert!(app.try_accept().is_none());
}
