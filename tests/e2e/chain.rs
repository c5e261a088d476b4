//! What a filter may do that none of the built-in ones does: wait, answer before a try, ask for another one.

use std::sync::Arc;

use http::StatusCode;
use pillion_filters::{
    Attempt, AttemptResult, BuildError, Context, Exchange, Filter, Phases, Plugin, Refusal, Registry, Resume, Step,
    Verdict,
};
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
    fn attempt_done(&self, exchange: &mut Exchange, attempt: &Attempt, result: AttemptResult) -> Verdict {
        if attempt.number == 1 && result == AttemptResult::Answered(StatusCode::SERVICE_UNAVAILABLE) {
            exchange.ledger.enter("test_retry", "retried");
            Verdict::Retry
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
        .with_registry(Registry::builtin().with::<Retry>().with::<Refuse>())
}

#[test]
fn a_filter_may_wait_and_ask_for_another_try() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [request_id, test_retry]").start();
    let mut client = sidecar.connect();
    client.send(GET);
    let mut first = app.accept();
    first.read_head();
    first.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
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

#[test]
fn a_request_whose_body_is_under_way_is_not_tried_again() {
    let app = App::listen();
    let sidecar = setup(&app, "chain: [test_retry]").start();
    let mut client = sidecar.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let mut tried = app.accept();
    tried.read_until("hello");
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
