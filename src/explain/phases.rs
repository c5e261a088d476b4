//! Where the time of an exchange went.

use std::time::{Duration, Instant};

use super::record::Record;

/// A part of an exchange's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    /// `queue` until the try that counted began, `connect`, `first_byte` until its response head, `body` from there on.
    pub(super) name: &'static str,
    pub(super) start: Duration,
    pub(super) duration: Duration,
}

/// The phases of a record, without gaps. Where a filter answered there is no try: only `queue`, and `body` where the answer took its
/// time to be taken.
pub(super) fn phases(record: &Record) -> Vec<Phase> {
    let at = |moment: Instant| moment.saturating_duration_since(record.started);
    let mut marks: Vec<(&'static str, Duration)> = vec![("queue", Duration::ZERO)];
    match record.attempts.last() {
        Some(last) => {
            // With two at once, the one that was answered is the one that counted.
            let answered = record.attempts.iter().rev().find(|attempt| attempt.is_answered());
            let counted = answered.unwrap_or(last);
            marks.push(("connect", at(counted.started)));
            if let Some(connected) = counted.connected {
                marks.push(("first_byte", at(connected)));
            }
            if let Some(head) = record.first_byte {
                marks.push(("body", at(head)));
            } else if !counted.is_answered() {
                // What follows a failure is the sidecar's own answer.
                marks.push(("body", at(counted.ended)));
            }
        }
        None => marks.extend(record.answered.map(|answered| ("body", at(answered)))),
    }
    let ends = marks.iter().skip(1).map(|(_, start)| *start).chain([record.duration]);
    let pairs = marks.iter().zip(ends.collect::<Vec<_>>());
    let phase = |((name, start), end): (&(&'static str, Duration), Duration)| Phase {
        name,
        start: *start,
        duration: end.saturating_sub(*start),
    };
    pairs.map(phase).collect()
}
