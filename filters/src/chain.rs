//! The ordered filters of one direction and route, compiled so that each phase calls only who takes part in it.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use pingora_http::ResponseHeader;

use crate::exchange::Exchange;
use crate::failure::{Failure, Refusal};
use crate::filter::{Attempt, Filter, Phases, ResumeWithBody, Step, Tried, Turn, Verdict, Waiting};
use crate::outcome::Outcome;
use crate::response::Response;

/// A filter and what it is called.
#[derive(Clone)]
pub struct Link {
    /// The plugin's name, for the ledger.
    pub plugin: &'static str,
    /// The filter's configured name.
    pub name: Arc<str>,
    /// The filter.
    pub filter: Arc<dyn Filter>,
}

/// Where the way in led.
pub enum Way {
    /// Through: the engine carries the plan out.
    Through,
    /// A filter answered.
    Answer(Response),
    /// A filter waits. Hand what the future gives to [`Chain::resume`].
    Wait(Waiting),
    /// A filter wants the request body, up to so many bytes. Hand what the function gives to [`Chain::resume`].
    Body(usize, ResumeWithBody),
}

/// Filters in order. Requests run down it, responses back up.
#[derive(Default)]
pub struct Chain {
    links: Box<[Link]>,
    request: Box<[usize]>,
    request_body: Box<[usize]>,
    attempt: Box<[usize]>,
    response: Box<[usize]>,
    response_body: Box<[usize]>,
    complete: Box<[usize]>,
}

impl Chain {
    /// Compiles a chain from its filters, first to last.
    pub fn new(links: Vec<Link>) -> Self {
        for (position, link) in links.iter().enumerate() {
            link.filter.linked(links.get(position + 1..).unwrap_or_default());
        }
        let taking_part = |phase: Phases| -> Box<[usize]> {
            links
                .iter()
                .enumerate()
                .filter(|(_, link)| link.filter.phases().contains(phase))
                .map(|(position, _)| position)
                .collect()
        };
        let backwards = |phase: Phases| -> Box<[usize]> {
            let mut positions = taking_part(phase);
            positions.reverse();
            positions
        };
        Self {
            request: taking_part(Phases::REQUEST),
            request_body: taking_part(Phases::REQUEST_BODY),
            attempt: taking_part(Phases::ATTEMPT),
            response: backwards(Phases::RESPONSE),
            response_body: backwards(Phases::RESPONSE_BODY),
            complete: taking_part(Phases::COMPLETE),
            links: links.into(),
        }
    }

    /// No filters.
    pub fn empty() -> &'static Self {
        static EMPTY: LazyLock<Chain> = LazyLock::new(Chain::default);
        &EMPTY
    }

    /// The filters, first to last.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The place of the filter of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.links.iter().position(|link| *link.name == *name)
    }

    /// Whether any filter looks at request bodies.
    pub fn reads_request_body(&self) -> bool {
        !self.request_body.is_empty()
    }

    /// Whether any filter looks at response bodies.
    pub fn reads_response_body(&self) -> bool {
        !self.response_body.is_empty()
    }

    fn at(&self, exchange: &mut Exchange, position: usize) -> Option<&Link> {
        exchange.position = position;
        self.links.get(position)
    }

    /// The way in.
    pub fn request(&self, exchange: &mut Exchange) -> Way {
        self.request_from(exchange, exchange.first)
    }

    /// Goes on after a wait, with what came of it.
    pub fn resume(&self, exchange: &mut Exchange, step: Step) -> Way {
        let position = exchange.position;
        match self.taken(exchange, position, step) {
            Some(way) => way,
            None => self.request_from(exchange, position + 1),
        }
    }

    fn request_from(&self, exchange: &mut Exchange, from: usize) -> Way {
        for &position in self.request.iter().filter(|&&position| position >= from) {
            let Some(link) = self.at(exchange, position) else {
                continue;
            };
            exchange.entered = position + 1;
            let step = link.filter.request(exchange);
            if let Some(way) = self.taken(exchange, position, step) {
                return way;
            }
        }
        exchange.entered = self.links.len();
        exchange.turned = self.links.len();
        Way::Through
    }

    /// Where a step leads, unless on to the next filter.
    fn taken(&self, exchange: &mut Exchange, position: usize, step: Step) -> Option<Way> {
        let response = match step {
            Step::Continue => return None,
            Step::Wait(waiting) => {
                // A filter before the one that waits must still see an error that ends the wait.
                exchange.turned = position;
                exchange.position = position;
                return Some(Way::Wait(waiting));
            }
            Step::Body(limit, resume) => {
                exchange.turned = position;
                exchange.position = position;
                return Some(Way::Body(limit, resume));
            }
            Step::Respond(response) => response,
            Step::Refuse(refusal) => self.refused(exchange, position, refusal),
        };
        exchange.turned = position;
        Some(Way::Answer(response))
    }

    fn refused(&self, exchange: &mut Exchange, position: usize, refusal: Refusal) -> Response {
        if let Some(link) = self.links.get(position) {
            exchange
                .ledger
                .enter_with(link.plugin, refusal.reason, refusal.explained());
        }
        refusal.render(exchange)
    }

    /// A piece of the request body on its way to the app. A refusal is in the ledger already.
    pub fn request_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Refusal> {
        for &position in &self.request_body {
            if position < exchange.first {
                continue;
            }
            let Some(link) = self.at(exchange, position) else {
                continue;
            };
            if let Err(refusal) = link.filter.request_body(exchange, chunk, end) {
                exchange
                    .ledger
                    .enter_with(link.plugin, refusal.reason, refusal.explained());
                // The answer passes those before the filter that refused.
                exchange.turned = position;
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Before a try. Waiting and answering work as on the way in; after a wait, go on with
    /// [`resume_attempt`](Self::resume_attempt).
    pub fn attempt(&self, exchange: &mut Exchange, attempt: &mut Attempt) -> Way {
        self.attempt_from(exchange, attempt, exchange.first)
    }

    /// Goes on before a try after a wait, with what came of it.
    pub fn resume_attempt(&self, exchange: &mut Exchange, attempt: &mut Attempt, step: Step) -> Way {
        let position = exchange.position;
        match self.taken(exchange, position, step) {
            Some(way) => way,
            None => self.attempt_from(exchange, attempt, position + 1),
        }
    }

    fn attempt_from(&self, exchange: &mut Exchange, attempt: &mut Attempt, from: usize) -> Way {
        for &position in self.attempt.iter().filter(|&&position| position >= from) {
            let Some(link) = self.at(exchange, position) else {
                continue;
            };
            exchange.attempted = position + 1;
            let step = link.filter.attempt(exchange, attempt);
            if let Some(way) = self.taken(exchange, position, step) {
                return way;
            }
        }
        // Whatever was answered or waited for in an earlier try, this one's response passes all filters.
        exchange.turned = self.links.len();
        Way::Through
    }

    /// Before a try beside one that is under way, which is only made if all filters let it through at once. Otherwise it is as if
    /// nobody had asked: what comes of the first, all hear who were called before that.
    pub fn attempt_beside(&self, exchange: &mut Exchange, attempt: &mut Attempt) -> bool {
        let (attempted, turned) = (exchange.attempted, exchange.turned);
        let is_through = matches!(self.attempt(exchange, attempt), Way::Through);
        if !is_through {
            let tried = Tried {
                beside: true,
                ..Tried::abandoned(true)
            };
            let _ = self.attempt_done(exchange, attempt, tried);
            exchange.turned = turned;
        }
        exchange.attempted = attempted;
        is_through
    }

    /// After a try, however it went: every filter that was called before it hears of it.
    pub fn attempt_done(&self, exchange: &mut Exchange, attempt: &Attempt, tried: Tried<'_>) -> Verdict {
        let attempted = std::mem::take(&mut exchange.attempted);
        let mut wanted = Verdict::Keep;
        let first = exchange.first;
        let called = |position: usize| (first..attempted).contains(&position);
        for &position in self.attempt.iter().rev().filter(|&&position| called(position)) {
            let Some(link) = self.at(exchange, position) else {
                continue;
            };
            match (wanted, link.filter.attempt_done(exchange, attempt, tried)) {
                (_, Verdict::Stop) => wanted = Verdict::Stop,
                (Verdict::Keep, verdict) => wanted = verdict,
                _ => {}
            }
        }
        wanted
    }

    /// After one of two tries that were under way at once; the other one's end is still to come.
    pub fn attempt_done_beside(&self, exchange: &mut Exchange, attempt: &Attempt, tried: Tried<'_>) {
        let attempted = exchange.attempted;
        let _ = self.attempt_done(exchange, attempt, tried);
        exchange.attempted = attempted;
    }

    /// The way out of a response head. A replacement is seen by the filters before the one that made it.
    pub fn response(&self, exchange: &mut Exchange, head: &mut Box<ResponseHeader>) -> Option<Response> {
        let mut replacement: Option<Response> = None;
        for &position in &self.response {
            if !(exchange.first..exchange.turned).contains(&position) {
                continue;
            }
            let Some(link) = self.at(exchange, position) else {
                continue;
            };
            let current = replacement.as_mut().map_or(&mut *head, |response| &mut response.head);
            if let Turn::Replace(response) = link.filter.response(exchange, current) {
                replacement = Some(response);
                // The replacement's body has not passed the filters after this one, and must not.
                exchange.turned = position;
            }
        }
        replacement
    }

    /// A piece of the response body on its way to the client.
    pub fn response_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Failure> {
        for &position in &self.response_body {
            if !(exchange.first..exchange.turned).contains(&position) {
                continue;
            }
            let Some(link) = self.at(exchange, position) else {
                continue;
            };
            link.filter.response_body(exchange, chunk, end)?;
        }
        Ok(())
    }

    /// The exchange is over. Every filter that was entered hears of it, once.
    pub fn complete(&self, exchange: &mut Exchange, outcome: &Outcome) {
        for &position in &self.complete {
            if !(exchange.first..exchange.entered).contains(&position) {
                continue;
            }
            let Some(link) = self.at(exchange, position) else {
                continue;
            };
            link.filter.complete(exchange, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::StatusCode;

    use super::*;
    use crate::testing;

    type Log = Arc<Mutex<Vec<String>>>;

    struct Probe {
        name: &'static str,
        log: Log,
        refuse: bool,
        wait: bool,
    }

    impl Filter for Probe {
        fn phases(&self) -> Phases {
            Phases::REQUEST | Phases::RESPONSE | Phases::RESPONSE_BODY | Phases::COMPLETE
        }
        fn request(&self, exchange: &mut Exchange) -> Step {
            self.log.lock().unwrap().push(format!("request {}", self.name));
            exchange.set_state(self.name);
            if self.refuse {
                return Step::Refuse(Refusal::denied(StatusCode::FORBIDDEN, "no", "no"));
            }
            if self.wait {
                let resume: crate::Resume = Box::new(|_| Step::Continue);
                return Step::Wait(Box::pin(async { resume }));
            }
            Step::Continue
        }
        fn response(&self, exchange: &mut Exchange, _: &mut ResponseHeader) -> Turn {
            assert_eq!(exchange.state::<&str>(), Some(&mut { self.name }));
            self.log.lock().unwrap().push(format!("response {}", self.name));
            Turn::Keep
        }
        fn response_body(&self, _: &mut Exchange, _: &mut Option<Bytes>, _: bool) -> Result<(), Failure> {
            self.log.lock().unwrap().push(format!("body {}", self.name));
            Ok(())
        }
        fn complete(&self, _: &mut Exchange, _: &Outcome) {
            self.log.lock().unwrap().push(format!("complete {}", self.name));
        }
    }

    fn chain(log: &Log, refuse: Option<&'static str>, wait: Option<&'static str>) -> Chain {
        Chain::new(
            ["a", "b", "c"]
                .into_iter()
                .map(|name| Link {
                    plugin: name,
                    name: Arc::from(name),
                    filter: Arc::new(Probe {
                        name,
                        log: log.clone(),
                        refuse: refuse == Some(name),
                        wait: wait == Some(name),
                    }),
                })
                .collect(),
        )
    }

    fn run(chain: &Chain, log: &Log) -> Vec<String> {
        let mut exchange = testing::exchange("GET", "/");
        let mut way = chain.request(&mut exchange);
        while let Way::Wait(waiting) = way {
            let resume = futures_util::FutureExt::now_or_never(waiting).unwrap();
            let step = resume(&mut exchange);
            way = chain.resume(&mut exchange, step);
        }
        let mut head = match way {
            Way::Answer(response) => response.head,
            _ => Box::new(ResponseHeader::build(200, None).unwrap()),
        };
        chain.response(&mut exchange, &mut head);
        chain.response_body(&mut exchange, &mut None, true).unwrap();
        chain.complete(&mut exchange, &testing::outcome(200));
        std::mem::take(&mut *log.lock().unwrap())
    }

    #[test]
    fn requests_run_down_and_responses_back_up() {
        let log = Log::default();
        assert_eq!(
            run(&chain(&log, None, None), &log),
            [
                "request a",
                "request b",
                "request c",
                "response c",
                "response b",
                "response a",
                "body c",
                "body b",
                "body a",
                "complete a",
                "complete b",
                "complete c"
            ]
        );
    }

    #[test]
    fn an_answer_passes_only_the_filters_before_it() {
        let log = Log::default();
        assert_eq!(
            run(&chain(&log, Some("b"), None), &log),
            [
                "request a",
                "request b",
                "response a",
                "body a",
                "complete a",
                "complete b"
            ]
        );
    }

    #[test]
    fn an_exchange_may_enter_in_the_middle() {
        let log = Log::default();
        let chain = chain(&log, None, None);
        let mut exchange = testing::exchange("GET", "/");
        exchange.enter_at(chain.position("b").unwrap(), Box::new("state"));
        assert!(matches!(chain.request(&mut exchange), Way::Through));
        let mut head = Box::new(ResponseHeader::build(200, None).unwrap());
        chain.response(&mut exchange, &mut head);
        chain.response_body(&mut exchange, &mut None, true).unwrap();
        chain.complete(&mut exchange, &testing::outcome(200));
        let story = std::mem::take(&mut *log.lock().unwrap());
        assert_eq!(story.len(), 8, "{story:?}");
        assert!(story.iter().all(|step| !step.ends_with('a')), "{story:?}");
    }

    #[test]
    fn a_wait_goes_on_where_it_left_off() {
        let log = Log::default();
        let story = run(&chain(&log, None, Some("b")), &log);
        assert_eq!(story[..3], ["request a", "request b", "request c"]);
        assert_eq!(story.len(), 12);
    }

    /// Lets the first try through and no other; counts what it hears of.
    struct Once(&'static str, Log);

    impl Filter for Once {
        fn phases(&self) -> Phases {
            Phases::ATTEMPT | Phases::RESPONSE
        }

        fn attempt(&self, _: &mut Exchange, attempt: &mut Attempt) -> Step {
            if attempt.number > 1 && self.0 == "b" {
                return Step::Refuse(Refusal::denied(StatusCode::FORBIDDEN, "no", "no"));
            }
            Step::Continue
        }

        fn attempt_done(&self, _: &mut Exchange, attempt: &Attempt, tried: Tried<'_>) -> Verdict {
            let beside = if tried.beside { " beside" } else { "" };
            self.1
                .lock()
                .unwrap()
                .push(format!("{} {}{beside}", attempt.number, self.0));
            Verdict::Keep
        }

        fn response(&self, _: &mut Exchange, _: &mut ResponseHeader) -> Turn {
            self.1.lock().unwrap().push(format!("response {}", self.0));
            Turn::Keep
        }
    }

    #[test]
    fn a_try_that_is_refused_beside_another_leaves_no_trace_on_that() {
        let log = Log::default();
        let link = |name| Link {
            plugin: name,
            name: Arc::from(name),
            filter: Arc::new(Once(name, log.clone())),
        };
        let chain = Chain::new(["a", "b", "c"].map(link).into());
        let mut exchange = testing::exchange("GET", "/");
        let attempt = |number| Attempt {
            number,
            endpoint: Arc::from("192.0.2.1:80"),
        };
        assert!(matches!(chain.request(&mut exchange), Way::Through));
        assert!(matches!(chain.attempt(&mut exchange, &mut attempt(1)), Way::Through));
        assert!(!chain.attempt_beside(&mut exchange, &mut attempt(2)));
        assert_eq!(*log.lock().unwrap(), ["2 b beside", "2 a beside"]);
        log.lock().unwrap().clear();
        chain.attempt_done(&mut exchange, &attempt(1), Tried::abandoned(false));
        chain.response(&mut exchange, &mut Box::new(ResponseHeader::build(200, None).unwrap()));
        let all = ["1 c", "1 b", "1 a", "response c", "response b", "response a"];
        assert_eq!(*log.lock().unwrap(), all);
    }
}
