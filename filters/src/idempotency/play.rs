//! Plays the engine, the clients and the app for tests: one exchange after the other, or many at once.

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, StatusCode};
use pingora_http::ResponseHeader;

use super::{Config, Idempotency};
use crate::{
    Attempt, AttemptResult, Body, BuildError, Chain, Exchange, Failure, Link, Plugin, Refusal, Response, SharedState,
    Telemetry, Tried, Waiting, Way, testing,
};

/// A chain of the filter alone, with what it counts.
pub(super) struct Stage {
    pub(super) chain: Chain,
    telemetry: Telemetry,
}

/// How far an exchange has come.
pub(super) enum At {
    /// It waits for another.
    Waiting(Waiting),
    /// It goes to the app.
    App,
    /// It was answered without.
    Answered(Response),
}

pub(super) struct Live {
    pub(super) exchange: Exchange,
    pub(super) at: At,
}

/// A request to pay.
pub(super) fn request(key: Option<&str>) -> Exchange {
    let mut exchange = testing::exchange("POST", "/pay");
    if let Some(key) = key {
        exchange.request.insert_header("idempotency-key", key).unwrap();
    }
    exchange
}

impl Stage {
    pub(super) fn new(config: &str) -> Self {
        Self::try_new(config).unwrap()
    }

    pub(super) fn try_new(config: &str) -> Result<Self, BuildError> {
        let telemetry = Telemetry::default();
        let config: Config = serde_json::from_str(config).unwrap();
        let filter = testing::with_context("idempotency", &telemetry, |context| {
            // The store belongs to this state, and outlives it.
            let state = SharedState::default();
            Idempotency::build(
                config,
                &crate::Context {
                    state: &state,
                    ..*context
                },
            )
        })?;
        let link = Link {
            plugin: Idempotency::NAME,
            name: Idempotency::NAME.into(),
            filter,
        };
        Ok(Self {
            chain: Chain::new(vec![link]),
            telemetry,
        })
    }

    /// What was counted under that name, all labels together.
    pub(super) fn counted(&self, name: &str, label: &str) -> u64 {
        let families = self.telemetry.metrics.registry().gather();
        let metrics = families
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(prometheus::proto::MetricFamily::get_metric);
        metrics
            .filter(|metric| label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label))
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum::<f64>()
            .round() as u64
    }

    /// A request comes in.
    pub(super) fn send(&self, mut exchange: Exchange, body: &[u8]) -> Live {
        exchange.has_body = !body.is_empty();
        let mut way = self.chain.request(&mut exchange);
        if let Way::Body(most, resume) = way {
            let read = (body.len() <= most).then(|| Bytes::copy_from_slice(body));
            let step = resume(&mut exchange, read);
            way = self.chain.resume(&mut exchange, step);
        }
        let at = self.arrived(&mut exchange, way);
        Live { exchange, at }
    }

    fn arrived(&self, exchange: &mut Exchange, way: Way) -> At {
        match way {
            Way::Through => {
                self.attempt(exchange);
                At::App
            }
            Way::Answer(response) => At::Answered(response),
            Way::Wait(waiting) => At::Waiting(waiting),
            Way::Body(..) => panic!("it wants the body twice"),
        }
    }

    pub(super) fn attempt(&self, exchange: &mut Exchange) {
        assert!(matches!(self.chain.attempt(exchange, &mut attempt()), Way::Through));
    }

    /// One that waits looks whether it is over.
    pub(super) fn look(&self, live: &mut Live) {
        let At::Waiting(waiting) = &mut live.at else {
            return;
        };
        if let Some(resume) = waiting.now_or_never() {
            let step = resume(&mut live.exchange);
            let way = self.chain.resume(&mut live.exchange, step);
            live.at = self.arrived(&mut live.exchange, way);
        }
    }

    /// The same, and it is over.
    pub(super) fn goes_on(&self, mut live: Live) -> Live {
        self.look(&mut live);
        assert!(!matches!(live.at, At::Waiting(_)), "it still waits");
        live
    }

    /// A second try beside the first comes to nothing.
    pub(super) fn fails_beside(&self, exchange: &mut Exchange, unprocessed: bool) {
        let tried = Tried {
            result: AttemptResult::Abandoned,
            head: None,
            took: std::time::Duration::ZERO,
            unprocessed,
            whole: false,
            beside: false,
        };
        self.chain.attempt_done_beside(exchange, &attempt(), tried);
    }

    fn tried(&self, exchange: &mut Exchange, result: AttemptResult, unprocessed: bool) {
        let tried = Tried {
            result,
            head: None,
            took: std::time::Duration::ZERO,
            unprocessed,
            whole: true,
            beside: false,
        };
        self.chain.attempt_done(exchange, &attempt(), tried);
    }

    /// The app's head, and so much of its body; with the end if it is to end.
    pub(super) fn answers(&self, mut live: Live, status: u16, body: &str, ends: bool) {
        let mut head = Box::new(ResponseHeader::build(status, None).unwrap());
        self.tried(&mut live.exchange, AttemptResult::Answered(head.status), false);
        live.exchange.timing.first_byte = Some(std::time::Instant::now());
        assert!(self.chain.response(&mut live.exchange, &mut head).is_none());
        for piece in body.as_bytes().chunks(3) {
            let mut piece = Some(Bytes::copy_from_slice(piece));
            self.chain.response_body(&mut live.exchange, &mut piece, false).unwrap();
            assert!(piece.is_some());
        }
        if ends {
            self.chain.response_body(&mut live.exchange, &mut None, true).unwrap();
        }
        self.over(live);
    }

    /// No head comes; the sidecar answers.
    pub(super) fn fails(&self, mut live: Live, failure: Failure, unprocessed: bool) {
        self.tried(&mut live.exchange, AttemptResult::Failed(failure), unprocessed);
        let mut response = Refusal::from(failure).render(&live.exchange);
        self.chain.response(&mut live.exchange, &mut response.head);
        self.over(live);
    }

    /// A try fails, and another is made.
    pub(super) fn is_tried_again(&self, live: &mut Live, failure: Failure, unprocessed: bool) {
        self.tried(&mut live.exchange, AttemptResult::Failed(failure), unprocessed);
        self.attempt(&mut live.exchange);
    }

    /// It is over, as far as it came.
    pub(super) fn over(&self, mut live: Live) {
        self.chain.complete(&mut live.exchange, &testing::outcome(200));
    }
}

fn attempt() -> Attempt {
    Attempt {
        number: 1,
        endpoint: "app".into(),
    }
}

/// Status, error and body of an answer; `error` for the sidecar's own.
pub(super) fn told(response: &Response) -> (StatusCode, Option<String>, String) {
    let body = match &response.body {
        Body::Full(body) => String::from_utf8(body.to_vec()).unwrap(),
        Body::Empty => String::new(),
        Body::Stream(_) => panic!("a stream"),
    };
    let replayed = response.head.headers.get("idempotent-replayed") == Some(&HeaderValue::from_static("true"));
    let error = (!replayed).then(|| {
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        told["error"].as_str().unwrap().to_owned()
    });
    (response.head.status, error, body)
}

impl Live {
    pub(super) fn is_at_the_app(&self) -> bool {
        matches!(self.at, At::App)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.at, At::Waiting(_))
    }

    /// The sidecar's refusal: status, error, `Retry-After`.
    pub(super) fn refusal(&self) -> (u16, String, Option<String>) {
        let At::Answered(response) = &self.at else {
            panic!("not refused");
        };
        let (status, error, _) = told(response);
        let after = response.head.headers.get("retry-after");
        let after = after.map(|after| after.to_str().unwrap().to_owned());
        (status.as_u16(), error.expect("a refusal"), after)
    }

    /// The first answer, given again.
    pub(super) fn replay(&self) -> (u16, String) {
        let At::Answered(response) = &self.at else {
            panic!("not answered");
        };
        let (status, error, body) = told(response);
        assert_eq!(error, None);
        (status.as_u16(), body)
    }

    pub(super) fn reasons(&self) -> Vec<&'static str> {
        let entries = self.exchange.ledger.entries().iter();
        entries.map(|entry| entry.reason).collect()
    }
}
