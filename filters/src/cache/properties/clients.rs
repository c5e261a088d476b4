//! Exchanges as their clients see them: what the cache does with each, step by step.

use std::task::{Context as TaskContext, Poll, Waker};

use super::alphabet;
use super::live::{Live, Stage};
use super::oracle::{Oracle, Right, Sent};
use super::rfc::{self, Control};
use super::world::{Checked, World};
use crate::{Body, BodyStream, Response, Way, testing};

impl World {
    /// Follows the way that the filter led to.
    pub(super) fn take(&mut self, mut live: Live, way: Way) -> Checked {
        match way {
            Way::Through => self.forward(&mut live)?,
            Way::Wait(waiting) => {
                self.note("  waits");
                live.stage = Stage::Waiting(waiting, self.start.elapsed());
                self.live.push(live);
                // The time it waits begins when it is first polled.
                return self.go_on_with(self.live.len() - 1);
            }
            Way::Answer(response) => self.answer(&mut live, response)?,
            Way::Body(..) => return Err("a body is asked for".to_owned()),
        }
        if matches!(live.stage, Stage::Over) {
            self.chain.complete(&mut live.exchange, &testing::outcome(200));
        } else {
            self.live.push(live);
        }
        Ok(())
    }

    /// The cache answered by itself.
    fn answer(&mut self, live: &mut Live, response: Response) -> Checked {
        let head = &response.head;
        self.note(format!("  answered {} {:?}", head.status, head.headers));
        live.stage = Stage::Over;
        if live.background {
            return if head.status == 204 {
                Ok(())
            } else {
                Err("nobody asked".to_owned())
            };
        }
        if head.status == 504 && !head.headers.contains_key(alphabet::X_ID) {
            let wants = Control::of_request(&live.asked.headers, &self.policy);
            let refused = wants.has("only-if-cached");
            return if refused {
                Ok(())
            } else {
                Err("refused without only-if-cached".to_owned())
            };
        }
        let status = rfc::text(&head.headers, "cache-status").unwrap_or_default();
        let right = if status.contains("collapsed") {
            Right::Following
        } else {
            Right::Unasked
        };
        let sources = self.justify(right, live, &response)?;
        if let Body::Stream(stream) = response.body {
            live.stage = Stage::Following(stream, Vec::new(), sources);
        }
        Ok(())
    }

    pub(super) fn justify(&mut self, right: Right, live: &Live, response: &Response) -> Result<Vec<usize>, String> {
        let now = self.moment();
        let body = match &response.body {
            Body::Full(body) => Some(&body[..]),
            Body::Empty => Some(&b""[..]),
            Body::Stream(_) => None,
        };
        let sent = Sent {
            status: response.head.status.as_u16(),
            headers: &response.head.headers,
            // The engine sends none to a HEAD.
            body: body.filter(|_| live.asked.method != http::Method::HEAD),
        };
        let oracle = Oracle {
            history: &self.history,
            policy: &self.policy,
        };
        oracle.justify(right, &live.asked, now, &sent)
    }

    /// An exchange goes on.
    pub(super) fn go_on(&mut self) -> Checked {
        if self.live.is_empty() {
            return Ok(());
        }
        let which = self.rng.usize(..self.live.len());
        self.go_on_with(which)
    }

    pub(super) fn go_on_with(&mut self, which: usize) -> Checked {
        let mut live = self.live.remove(which);
        match std::mem::replace(&mut live.stage, Stage::Over) {
            Stage::Begun | Stage::Over => {}
            Stage::Waiting(mut waiting, since) => {
                let mut context = TaskContext::from_waker(Waker::noop());
                match waiting.as_mut().poll(&mut context) {
                    Poll::Ready(resume) => {
                        let step = resume(&mut live.exchange);
                        self.note(format!("{} goes on after its wait", live.asked.url));
                        let way = self.chain.resume(&mut live.exchange, step);
                        return self.take(live, way);
                    }
                    Poll::Pending
                        if self
                            .policy
                            .collapse
                            .is_some_and(|most| self.start.elapsed() > since + most) =>
                    {
                        return Err("it waits longer than it may".to_owned());
                    }
                    Poll::Pending => live.stage = Stage::Waiting(waiting, since),
                }
            }
            Stage::Sent => self.hear(&mut live)?,
            Stage::Body(script) => self.pass_body(&mut live, script)?,
            Stage::Following(stream, got, sources) => self.follow(&mut live, stream, got, sources)?,
        }
        if !matches!(live.stage, Stage::Over) {
            self.live.insert(which.min(self.live.len()), live);
        } else if live.told.is_none() {
            self.chain.complete(&mut live.exchange, &testing::outcome(200));
        }
        Ok(())
    }

    fn follow(
        &mut self,
        live: &mut Live,
        mut stream: BodyStream,
        mut got: Vec<u8>,
        mut sources: Vec<usize>,
    ) -> Checked {
        let mut context = TaskContext::from_waker(Waker::noop());
        let polled = stream.as_mut().poll_next(&mut context);
        let body = |id: &usize| &self.history.heard(*id).body[..];
        let whole = |id: &usize| self.history.told[*id].whole.is_some();
        match polled {
            Poll::Ready(Some(Ok(piece))) => {
                got.extend_from_slice(&piece);
                sources.retain(|id| body(id).starts_with(&got));
                live.stage = Stage::Following(stream, got, sources.clone());
            }
            Poll::Ready(None) => sources.retain(|id| whole(id) && body(id) == got),
            Poll::Ready(Some(Err(_))) => sources.retain(|id| !whole(id)),
            Poll::Pending => {
                sources.retain(|id| self.live.iter().any(|live| live.told == Some(*id)));
                live.stage = Stage::Following(stream, got, sources.clone());
            }
        }
        if sources.is_empty() {
            return Err(format!("a follower of {} did not get what was fetched", live.asked.url));
        }
        Ok(())
    }

    /// A client leaves.
    pub(super) fn vanish(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let which = self.rng.usize(..self.live.len());
        if self.live[which].exchange.plan.is_wanted() {
            return;
        }
        let mut live = self.live.remove(which);
        self.note(format!("a client leaves {}", live.asked.url));
        self.chain.complete(&mut live.exchange, &testing::outcome(200));
    }
}
