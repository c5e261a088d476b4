//! A record in words: its tries, its decisions, and the one sentence that says most.

use http::{Method, StatusCode};
use pillion_filters::words::{Told, took};
use pillion_filters::{AttemptRecord, AttemptResult, Dictionary, End, Entry, Fact, Failure, Ledger};

use super::record::Record;
use super::redact::cut;

/// The longest sentence, in bytes.
const SUMMARY: usize = 240;

/// What came of a try, as a word.
pub(super) fn result(result: AttemptResult) -> String {
    match result {
        AttemptResult::Answered(status) => status.as_u16().to_string(),
        AttemptResult::Failed(failure) => failure.reason().to_owned(),
        AttemptResult::Abandoned => "abandoned".to_owned(),
    }
}

/// What came of a try, in words.
pub(super) fn attempt(attempt: &AttemptRecord, words: &Dictionary, told: &Told<'_>) -> String {
    match attempt.result {
        AttemptResult::Answered(status) => format!("answered {}", status.as_u16()),
        AttemptResult::Failed(failure) => {
            let told = Told {
                endpoint: Some(&attempt.endpoint),
                ..*told
            };
            words.say(&of_engine(failure, Fact::None), &told)
        }
        AttemptResult::Abandoned => "given up".to_owned(),
    }
}

fn of_engine(failure: Failure, fact: Fact) -> Entry {
    Entry {
        filter: "engine",
        reason: failure.reason(),
        fact,
    }
}

/// Decisions in words, those of one filter that follow each other joined.
pub(super) fn decisions(ledger: &Ledger, words: &Dictionary, told: &Told<'_>) -> Vec<String> {
    let mut said: Vec<(&str, String)> = Vec::new();
    for entry in ledger.entries() {
        let text = words.say(entry, told);
        match said.last_mut() {
            Some((filter, before)) if *filter == entry.filter => {
                before.push_str(", ");
                before.push_str(&text);
            }
            _ => said.push((entry.filter, text)),
        }
    }
    said.into_iter()
        .map(|(filter, text)| format!("{filter}: {text}"))
        .collect()
}

impl Record {
    /// What words may tell of it.
    pub(super) fn told(&self) -> Told<'_> {
        Told {
            method: &self.method,
            endpoint: self.attempts.last().map(|attempt| &*attempt.endpoint),
            upstream: self.upstream.as_deref(),
            started_at: self.started_at,
        }
    }

    /// The sentence that says most.
    pub(super) fn summary(&self, words: &Dictionary) -> String {
        let told = self.told();
        let decided = |entry: &Entry| format!("{}: {}", entry.filter, words.say(entry, &told));
        let entries = self.ledger.entries();
        if let End::Failed(failure) = self.end {
            let entered = entries.iter().rev();
            let mut entered = entered.filter(|entry| entry.filter == "engine" && entry.reason == failure.reason());
            let entry = entered.next().copied().unwrap_or(of_engine(failure, Fact::None));
            return cut(decided(&entry), SUMMARY);
        }
        if self.end == End::ClientAborted && entries.is_empty() {
            return format!("the client went away after {}", took(self.duration));
        }
        let is_refused = self.attempts.is_empty() && self.status.is_some_and(|status| status.as_u16() >= 400);
        if is_refused && let Some(last) = entries.last() {
            return cut(decided(last), SUMMARY);
        }
        let mut said = Vec::new();
        let last = self.attempts.last();
        if let Some((attempt, status)) = last.zip(self.status).filter(|(_, status)| is_error(*status)) {
            said.push(format!("{} answered {}", attempt.endpoint, status.as_u16()));
        }
        said.extend(decisions(&self.ledger, words, &told));
        if self.end == End::ClientAborted {
            said.push(format!("the client went away after {}", took(self.duration)));
        }
        if said.is_empty() {
            let answered = |attempt: &AttemptRecord| match attempt.result {
                AttemptResult::Answered(status) => format!("{} answered {}", attempt.endpoint, status.as_u16()),
                _ => format!("{} was tried", attempt.endpoint),
            };
            said.push(match (last, self.is_tunnel()) {
                (Some(attempt), true) => format!("a tunnel to {}", attempt.endpoint),
                (Some(attempt), false) => answered(attempt),
                (None, _) => "answered by the sidecar".to_owned(),
            });
        }
        cut(said.join("; "), SUMMARY)
    }

    fn is_tunnel(&self) -> bool {
        match self.status {
            Some(StatusCode::SWITCHING_PROTOCOLS) => true,
            Some(status) => *self.method == *Method::CONNECT.as_str() && status.is_success(),
            None => false,
        }
    }
}

fn is_error(status: StatusCode) -> bool {
    status.is_server_error()
}
