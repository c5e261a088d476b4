//! Records as the admin API shows them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use pillion_filters::{Dictionary, End, Failure};
use serde_json::{Value, json};

use super::phases::phases;
use super::record::Record;
use super::told;
use crate::config::TraceUrl;

/// A record in a line of a list.
pub(crate) fn in_short(record: &Record, words: &Dictionary) -> Value {
    json!({
        "id": id(record), "at": at(record.started_at), "direction": record.route.direction.as_str(),
        "route": &*record.route.name, "method": &*record.method, "target": &*record.target,
        "status": record.status.map(|status| status.as_u16()), "end": end(record.end),
        "failure": failure(record.end).map(Failure::reason), "kept_because": record.why.as_str(),
        "background": record.background, "duration_ms": millis(record.duration), "summary": record.summary(words),
    })
}

/// All there is of a record.
pub(crate) fn in_full(record: &Record, words: &Dictionary, trace_url: Option<&TraceUrl>) -> Value {
    let told = record.told();
    let since = |moment: std::time::Instant| millis(moment.saturating_duration_since(record.started));
    let phases = phases(record).into_iter().map(
        |phase| json!({ "name": phase.name, "start_ms": millis(phase.start), "duration_ms": millis(phase.duration) }),
    );
    let attempts = record.attempts.iter().enumerate().map(|(index, attempt)| {
        let connect = attempt
            .connected
            .map(|at| millis(at.saturating_duration_since(attempt.started)));
        json!({
            "number": index + 1, "endpoint": &*attempt.endpoint, "start_ms": since(attempt.started),
            "connect_ms": connect, "duration_ms": millis(attempt.ended.saturating_duration_since(attempt.started)),
            "reused": attempt.reused, "result": told::result(attempt.result),
            "words": told::attempt(attempt, words, &told),
        })
    });
    let ledger = record
        .ledger
        .entries()
        .iter()
        .map(|entry| json!({ "filter": entry.filter, "reason": entry.reason, "words": words.say(entry, &told) }));
    let headers = record.headers.lines().filter_map(|line| line.split_once(": "));
    let headers: Vec<Value> = headers.map(|(name, value)| json!([name, value])).collect();
    let trace = record.trace.as_deref();
    let trace_id = trace.map(|trace| String::from_utf8_lossy(&trace.trace_id).into_owned());
    // Of a trace that is not sampled there is nothing to look at.
    let link = trace
        .filter(|trace| trace.sampled)
        .and(trace_url)
        .zip(trace_id.as_ref());
    let more = json!({
        "authority": record.authority, "version": format!("{:?}", record.version),
        "client": record.client.map(|client| client.to_string()), "service": &*record.route.service,
        "upstream": record.upstream.as_deref(), "request_id": record.request_id, "trace_id": trace_id,
        "span_id": trace.map(|trace| &*trace.span_id), "sampled": trace.map(|trace| trace.sampled),
        "trace_url": link.map(|(url, trace_id)| url.of(trace_id)), "phases": phases.collect::<Vec<_>>(),
        "attempts": attempts.collect::<Vec<_>>(), "ledger": ledger.collect::<Vec<_>>(),
        "ledger_dropped": record.ledger.dropped(), "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes, "request_headers": headers,
    });
    let mut shown = in_short(record, words);
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// What a list may be narrowed down to.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) route: Option<String>,
    pub(crate) direction: Option<pillion_filters::Direction>,
    pub(crate) status: Option<Statuses>,
    pub(crate) method: Option<String>,
    pub(crate) min_duration: Option<Duration>,
    pub(crate) filter: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) trace: Option<String>,
}

/// One status, or a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statuses {
    One(u16),
    Class(u16),
}

impl Statuses {
    fn contains(self, status: u16) -> bool {
        match self {
            Self::One(one) => status == one,
            Self::Class(class) => status / 100 == class,
        }
    }
}

impl Wanted {
    /// Whether a record is.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let entries = record.ledger.entries();
        let decided = || {
            let mut entries = entries.iter();
            entries.any(|entry| is(&self.filter, entry.filter) && is(&self.reason, entry.reason))
        };
        let trace = record.trace.as_deref().map(|trace| trace.trace_id);
        is(&self.route, &record.route.name)
            && self
                .direction
                .is_none_or(|direction| direction == record.route.direction)
            && self
                .status
                .is_none_or(|wanted| record.status.is_some_and(|status| wanted.contains(status.as_u16())))
            && self
                .method
                .as_ref()
                .is_none_or(|method| method.eq_ignore_ascii_case(&record.method))
            && self.min_duration.is_none_or(|least| record.duration >= least)
            && self
                .trace
                .as_ref()
                .is_none_or(|wanted| trace.is_some_and(|id| id == wanted.as_bytes()))
            && (self.filter.is_none() && self.reason.is_none() || decided())
    }
}

fn id(record: &Record) -> String {
    format!("{:x}", record.id)
}

fn end(end: End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::ClientAborted => "client_aborted",
        End::Failed(_) => "failed",
    }
}

fn failure(end: End) -> Option<Failure> {
    match end {
        End::Failed(failure) => Some(failure),
        _ => None,
    }
}

/// To the microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// RFC 3339 with milliseconds, in UTC.
fn at(moment: SystemTime) -> String {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let mut text = format!("{year:04}-{month:02}-{day:02}T");
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let _ = write!(
        text,
        "{hours:02}:{minutes:02}:{:02}.{:03}Z",
        seconds % 60,
        since.subsec_millis()
    );
    text
}

/// Year, month and day of so many days after 1970-01-01, by the Gregorian calendar, whose eras of 400 years begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_calendar() {
        for (seconds, millis, text) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, 5, "2000-02-29T00:00:00.005Z"),
            (1_709_251_199, 999, "2024-02-29T23:59:59.999Z"),
            (1_795_262_671, 123, "2026-11-21T12:04:31.123Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
        ] {
            let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis);
            assert_eq!(at(moment), text);
        }
    }
}
