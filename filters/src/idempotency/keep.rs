//! The way out: what becomes of a first try, and what is kept of its answer.

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use pingora_http::ResponseHeader;

use super::answer::Answer;
use super::counters::Came;
use super::store::{Lead, Reserved};
use super::{Inner, NAME};
use crate::{AttemptResult, Exchange, Fact, Tried};

/// A first try, from its claim to its answer. Dropped, its key is settled by what is known then.
pub(super) struct State {
    lead: Lead,
    /// Tries under way: two where one is hedged.
    trying: u32,
    /// The app may have acted on one that is over.
    acted: bool,
    receiving: Option<Receiving>,
}

/// The app's answer, as far as it is there.
struct Receiving {
    head: Answer,
    pieces: Vec<Bytes>,
    size: u64,
    expected: Option<u64>,
    reserved: Reserved,
    /// How far the app would be read ahead of the client if nothing was kept.
    read_ahead: usize,
}

impl State {
    pub(super) fn new(lead: Lead) -> Self {
        Self {
            lead,
            trying: 0,
            acted: false,
            receiving: None,
        }
    }
}

impl Inner {
    /// Before a try towards an endpoint. Until it is known what came of it, the app may be at work.
    #[allow(clippy::unused_self, reason = "stands with its siblings")]
    pub(super) fn attempt(&self, exchange: &mut Exchange) {
        if let Some(state) = exchange.state::<State>() {
            state.trying += 1;
            state.lead.acted = true;
        }
    }

    /// After it.
    pub(super) fn attempt_done(&self, exchange: &mut Exchange, tried: Tried<'_>) {
        if let Some(state) = exchange.state::<State>() {
            let acted = match tried.result {
                AttemptResult::Answered(status) => !self.rules.is_released_by(status),
                AttemptResult::Failed(_) | AttemptResult::Abandoned => !tried.unprocessed,
            };
            state.trying = state.trying.saturating_sub(1);
            state.acted |= acted;
            state.lead.acted = state.acted || state.trying > 0;
        }
    }

    /// The response head is there: the app's, or one that the sidecar made in place of it.
    pub(super) fn response(&self, exchange: &mut Exchange, head: &ResponseHeader) {
        let Some(mut state) = exchange.take_state::<State>() else {
            return;
        };
        let is_the_apps = exchange.timing.first_byte.is_some();
        if !is_the_apps || head.status == StatusCode::SWITCHING_PROTOCOLS || self.rules.is_released_by(head.status) {
            let reason = if state.lead.is_in_doubt() {
                "outcome_unknown"
            } else {
                "released"
            };
            return self.let_go(exchange, state, reason);
        }
        state.lead.acted = true;
        let expected = head
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if expected.is_some_and(|length: u64| length > self.rules.max_response) {
            return self.let_go(exchange, state, "answer_too_large");
        }
        let answer = Answer::of(head);
        let mut reserved = self.store().reserve();
        if !reserved.grow(answer.weight() + expected.unwrap_or(0)) {
            return self.let_go(exchange, state, "store_full");
        }
        // The app is done soon, however slow the client is.
        let most = usize::try_from(self.rules.max_response).unwrap_or(usize::MAX);
        let read_ahead = exchange.plan.read_ahead;
        exchange.plan.read_ahead = read_ahead.max(most);
        state.receiving = Some(Receiving {
            head: answer,
            pieces: Vec::new(),
            size: 0,
            expected,
            reserved,
            read_ahead,
        });
        exchange.set_state(state);
    }

    /// A piece of the body, or its end.
    pub(super) fn body(&self, exchange: &mut Exchange, chunk: Option<&Bytes>, end: bool) {
        let Some(state) = exchange.state::<State>() else {
            return;
        };
        let Some(receiving) = &mut state.receiving else {
            return;
        };
        if let Some(piece) = chunk.filter(|piece| !piece.is_empty()) {
            let length = piece.len() as u64;
            receiving.size += length;
            let has_room = receiving.expected.is_some() || receiving.reserved.grow(length);
            let reason = if receiving.size > self.rules.max_response {
                Some("answer_too_large")
            } else {
                (!has_room).then_some("store_full")
            };
            if let Some(reason) = reason {
                exchange.plan.read_ahead = receiving.read_ahead;
                if let Some(state) = exchange.take_state::<State>() {
                    self.let_go(exchange, state, reason);
                }
                return;
            }
            // A piece may be a small part of a large buffer.
            receiving.pieces.push(Bytes::copy_from_slice(piece));
        }
        if end && let Some(state) = exchange.take_state::<State>() {
            self.received(exchange, state);
        }
    }

    /// The answer is there as a whole.
    fn received(&self, exchange: &mut Exchange, mut state: State) {
        let Some(receiving) = state.receiving.take() else {
            return;
        };
        let is_bodiless = matches!(receiving.head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !is_bodiless && receiving.expected.is_some_and(|expected| expected != receiving.size) {
            return self.let_go(exchange, state, "outcome_unknown");
        }
        let mut pieces = receiving.pieces;
        let body = match pieces.pop() {
            Some(only) if pieces.is_empty() => only,
            Some(last) => {
                pieces.push(last);
                Bytes::from(pieces.concat())
            }
            None => Bytes::new(),
        };
        // Given back first, or the answer would count twice for a moment.
        drop(receiving.reserved);
        state.lead.answered(receiving.head.with_body(body));
        self.counters.came(Came::Stored);
        exchange.ledger.enter_with(NAME, "stored", Fact::Time(self.rules.ttl));
    }

    /// There is nothing to keep.
    fn let_go(&self, exchange: &mut Exchange, state: State, reason: &'static str) {
        let fact = match reason {
            "answer_too_large" => Fact::Size(self.rules.max_response),
            _ => Fact::None,
        };
        exchange.ledger.enter_with(NAME, reason, fact);
        self.settle(state);
    }

    /// Settles a key by what is known.
    pub(super) fn settle(&self, state: State) {
        self.counters.came(if state.lead.is_in_doubt() {
            Came::Lost
        } else {
            Came::Released
        });
        drop(state);
    }
}
