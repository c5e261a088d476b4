//! What a filter may do that none of the built-in ones does: wait, answer before a try, ask for another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use http::StatusCode;
use pillion_filters::{
    Attempt, AttemptResult, BuildError, Context, Exchange, Filter, Phases, Plugin, Refusal, Registry, Resume, Step,
    Tried, Turn, Verdict,
};
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::support::{App, GET, OK, Setup};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

/// Waits before every phase it may wait in, and retries 503 once.
struct Retry;

impl Plugin for Retry {
    const NAME: &'static str = "test_retry";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for Retry {
    fn phases(&self) -> Phases {
        Phases::REQUEST | Phases::ATTEMPT
    }
    fn request(&self, _: &mut Exchange) -> Step {
        wait(Step::Continue)
    }
    fn attempt(&self, _: &mut Exchange, _: &mut Attempt) -> Step {
        wait(Step::Continue)
    }
    fn attempt_done(&self, exchange: &mut Exchange, attempt: &Attempt, tried: Tried<'_>) -> Verdict {
        if attempt.number == 1 && tried.result == AttemptResult::Answered(StatusCode::SERVICE_UNAVAILABLE) {
            exchange.ledger.enter("test_retry", "retried");
            Verdict::Retry(Duration::ZERO)
        } else {
            Verdict::Keep
        }
    }
}

/// Refuses every try.
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
    fn attempt(&self, _: &mut Exchange, _: &mut Attempt) -> Step {
        let refusal = Refusal::denied(StatusCode::SERVICE_UNAVAILABLE, "open", "the breaker is open").retry_after(3);
        wait(Step::Refuse(refusal))
    }
}

/// Holds something for the length of each try.
struct Hold;

/// What is held now.
static HELD: AtomicI32 = AtomicI32::new(0);

impl Plugin for Hold {
    const NAME: &'static str = "test_hold";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for Hold {
    fn phases(&self) -> Phases {
        Phases::ATTEMPT
    }
    fn attempt(&self, _: &mut Exchange, _: &mut Attempt) -> Step {
        HELD.fetch_add(1, Ordering::SeqCst);
        Step::Continue
    }
    fn attempt_done(&self, _: &mut Exchange, _: &Attempt, tried: Tried<'_>) -> Verdict {
        assert_eq!(tried.result, AttemptResult::Abandoned);
        HELD.fetch_sub(1, Ordering::SeqCst);
        // Nobody tries again what was given up.
        Verdict::Retry(Duration::ZERO)
    }
}

/// Waits for ever.
struct Hang;

impl Plugin for Hang {
    const NAME: &'static str = "test_hang";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for Hang {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }
    fn request(&self, _: &mut Exchange) -> Step {
        Step::Wait(Box::pin(std::future::pending()))
    }
}

/// Replaces every response by a refusal.
struct Replace;

impl Plugin for Replace {
    const NAME: &'static str = "test_replace";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for Replace {
    fn phases(&self) -> Phases {
        Phases::RESPONSE
    }
    fn response(&self, exchange: &mut Exchange, _: &mut ResponseHeader) -> Turn {
        Turn::Replace(Refusal::denied(StatusCode::FORBIDDEN, "replaced", "not this").render(exchange))
    }
}

fn wait(step: Step) -> Step {
    let resume: Resume = Box::new(move |_| step);
    Step::Wait(Box::pin(async move {
        tokio::task::yield_now().await;
        resume
    }))
}

fn setup(app: &App, chain: &str) -> Setup {
    Setup::before(format!("http://{}", app.address()))
        .with(chain)
        .with_registry(
            Registry::builtin()
                .with::<Retry>()
                .with::<Refuse>()
                .with::<Hold>()
                .with::<Hang>()
                .with::<Replace>(),
        )
}

#[test]
fn a_filter_may_wait_and_ask_for_another_try() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [request_id, test_retry]").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut first = app.accept();
    first.read_head();
    first.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let mut second = app.accept();
    second.read_head();
    second.send(OK);
    let answer = client.read_answer();
    assert_eq!(answer.text(), "ok");
    assert!(answer.field("x-request-id").is_some());
}

#[test]
fn a_second_failure_is_the_clients() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [test_retry]").start();
    let mut client = sidecar.connect();
    client.send(GET);
    for _ in 0..2 {
        let mut tried = app.accept();
        tried.read_head();
        tried.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");
    }
    assert_eq!(client.read_answer().text(), "busy");
}

/// The try that opens it is not repeated, whatever a filter after the breaker wants.
#[test]
fn no_other_try_is_made_into_a_breaker_that_has_opened() {
    for (threshold, tries) in [(1, 1), (2, 2)] {
        let app = App::listen();
        let breaker = format!("circuit_breaker: {{ enabled: true, failures: {{ consecutive: {threshold} }} }}");
        let setup = setup(&app, "chain: [circuit_breaker, test_retry]").filters(&breaker);
        let sidecar = setup.start();
        let mut client = sidecar.connect();
        client.send(GET);
        for _ in 0..tries {
            let mut tried = app.accept();
            tried.read_head();
            tried.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");
        }
        assert_eq!(client.read_answer().text(), "busy");
        assert!(app.try_accept().is_none());
        let rejected = sidecar.metric("pillion_circuit_breaker_rejected_total");
        assert!(rejected < f64::EPSILON, "it was the app that answered");
    }
}

#[test]
fn a_request_is_tried_again_with_what_was_sent_of_its_body() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [test_retry]").start();
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let mut tried = app.accept();
    tried.read_until("hello\r\n");
    tried.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");
    let mut again = app.accept();
    again.read_head();
    client.send("5\r\nworld\r\n0\r\nX: y\r\n\r\n");
    assert_eq!(again.read_chunked(), (b"helloworld".to_vec(), "x: y\r\n".to_owned()));
    again.send(OK);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_request_with_more_body_than_is_kept_is_not_tried_again() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [test_retry]").start();
    let mut client = sidecar.connect();
    let body = "x".repeat(100_000);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{body}"
    ));
    let mut tried = app.accept();
    tried.read_head();
    tried.skip(body.len());
    tried.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy");
    assert_eq!(client.read_answer().text(), "busy");
    assert!(app.try_accept().is_none());
}

#[test]
fn an_answer_before_a_try_passes_the_filters_before_it() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [request_id, test_refuse]").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let answer = client.read_answer();
    assert_eq!(answer.json()["error"], "open");
    assert_eq!(answer.field("retry-after"), Some("3"));
    assert_eq!(answer.json()["request_id"], answer.field("x-request-id").unwrap());
    assert!(app.try_accept().is_none());
}

#[test]
fn who_was_called_before_a_try_hears_how_it_ended() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [metrics, test_hold]").start();
    // The client goes away.
    let mut client = sidecar.connect();
    client.send(GET);
    let mut origin = app.accept();
    origin.read_head();
    assert_eq!(HELD.load(Ordering::SeqCst), 1);
    drop(client);
    origin.expect_closed();
    sidecar.await_metric("pillion_failures_total", 1.0);
    assert_eq!(HELD.load(Ordering::SeqCst), 0);
    assert!(app.try_accept().is_none());
    // A filter after it answers.
    let sidecar = setup(&app, "chain: [test_hold, test_refuse]").start();
    let mut client = sidecar.connect();
    client.send(GET);
    assert_eq!(client.read_answer().status, 503);
    assert_eq!(HELD.load(Ordering::SeqCst), 0);
}

#[test]
fn a_wait_counts_against_the_exchange() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [test_hang]")
        .with("timeouts: { exchange: 100ms }")
        .start();
    let mut client = sidecar.connect();
    client.send(GET);
    assert_eq!(client.read_answer().json()["error"], "exchange_timeout");
}

#[test]
fn a_wait_ends_with_its_client() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [metrics, test_hang]").start();
    let mut client = sidecar.connect();
    client.send(GET);
    sidecar.await_metric("http_server_active_requests", 1.0);
    drop(client);
    sidecar.await_metric("http_server_active_requests", 0.0);
    sidecar.await_metric("pillion_failures_total", 1.0);
}

#[test]
fn a_switch_and_a_tunnel_may_be_replaced_like_any_response() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [test_replace]").start();
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let mut origin = app.accept();
    origin.read_head();
    origin.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.read_answer().json()["error"], "replaced");
    origin.expect_closed();
    let mut client = sidecar.connect_out();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", app.address()));
    assert_eq!(client.read_answer().json()["error"], "replaced");
}
