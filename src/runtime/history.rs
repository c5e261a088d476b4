//! What was changed while the sidecar ran: by whom, when, from which file, and what came of it. Bounded.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::config::Difference;

/// Entries kept, and about how many bytes of them; the oldest goes first.
const KEPT: usize = 200;
const BYTES: usize = 1024 * 1024;
/// Warnings kept of one entry.
const WARNINGS: usize = 20;
/// Changes kept of one entry.
const CHANGES: usize = 100;
/// Characters kept of a value, and of what is wrong with a configuration.
const VALUE: usize = 200;
const ERROR: usize = 4096;

/// What made somebody look at the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The process started.
    Start,
    /// A file changed.
    File,
    /// SIGHUP.
    Signal,
    /// `POST /reload`.
    Api,
    /// `PATCH /filters/{name}`.
    Override,
    /// The time of an override is over.
    OverrideEnded,
    /// `DELETE /filters/{name}`.
    OverrideRemoved,
    /// Something else that an operator did by the admin API, which left the configuration as it was.
    Action,
}

impl Trigger {
    /// The word for it, in the log as in the admin API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::File => "file",
            Self::Signal => "signal",
            Self::Api => "api",
            Self::Override => "override",
            Self::OverrideEnded => "override_ended",
            Self::OverrideRemoved => "override_removed",
            Self::Action => "action",
        }
    }
}

impl Serialize for Trigger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It holds.
    Applied,
    /// It holds, and says what was said before. Or the configuration was not what it was about.
    Unchanged,
    /// It does not hold; what was before does.
    Refused,
}

/// Who wants a change and why, in their own words.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Author {
    pub(crate) by: Option<String>,
    pub(crate) reason: Option<String>,
}

/// One look at the configuration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) at: String,
    pub(crate) trigger: Trigger,
    pub(crate) result: Outcome,
    /// The snapshot that is in force from then on.
    pub(crate) generation: u64,
    #[serde(flatten)]
    pub(crate) author: Author,
    /// What an operator did, in words.
    pub(crate) action: Option<String>,
    pub(crate) files: Vec<String>,
    pub(crate) changes: Vec<Change>,
    pub(crate) more_changes: usize,
    pub(crate) survived: Vec<String>,
    pub(crate) needs_restart: Vec<&'static str>,
    pub(crate) warnings: Vec<String>,
    pub(crate) error: Option<String>,
    pub(crate) took_ms: f64,
}

/// One changed value.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Change {
    key: String,
    was: Option<String>,
    is: Option<String>,
    origin: Option<String>,
}

impl From<&Difference> for Change {
    fn from(difference: &Difference) -> Self {
        let cut = |text: &String| shortened(text, VALUE);
        Self {
            key: cut(&difference.key),
            was: difference.was.as_ref().map(cut),
            is: difference.is.as_ref().map(cut),
            origin: difference.origin.as_ref().map(cut),
        }
    }
}

impl Entry {
    /// An entry of something that was looked at just now.
    pub(super) fn new(trigger: Trigger, author: Author, result: Outcome, took: Duration) -> Self {
        Self {
            id: 0,
            at: text(SystemTime::now()),
            trigger,
            result,
            generation: 0,
            author,
            action: None,
            files: Vec::new(),
            changes: Vec::new(),
            more_changes: 0,
            survived: Vec::new(),
            needs_restart: Vec::new(),
            warnings: Vec::new(),
            error: None,
            took_ms: took.as_secs_f64() * 1000.0,
        }
    }

    /// The same of something that an operator did.
    pub(super) fn of_action(action: &str) -> Self {
        Self {
            action: Some(shortened(action, VALUE)),
            ..Self::new(Trigger::Action, Author::default(), Outcome::Unchanged, Duration::ZERO)
        }
    }

    /// The same with what changed, as far as that is kept.
    pub(super) fn with_changes(mut self, differences: &[Difference]) -> Self {
        self.changes = differences.iter().take(CHANGES).map(Change::from).collect();
        self.more_changes = differences.len().saturating_sub(CHANGES);
        self
    }

    /// The same with what may be a mistake, as far as that is kept: all of it is in the log.
    pub(super) fn with_warnings(mut self, warnings: &[String]) -> Self {
        let kept = warnings.iter().take(WARNINGS);
        self.warnings = kept.map(|warning| shortened(warning, ERROR)).collect();
        self
    }

    /// Bytes of text it has.
    fn size(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let all = |texts: &[String]| texts.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
        let of_change = |change: &Change| {
            let Change { key, was, is, origin } = change;
            size_of::<Change>() + key.len() + optional(was) + optional(is) + optional(origin)
        };
        size_of::<Self>()
            + optional(&self.author.by)
            + optional(&self.author.reason)
            + optional(&self.error)
            + all(&self.files)
            + all(&self.survived)
            + all(&self.warnings)
            + self.changes.iter().map(of_change).sum::<usize>()
    }

    /// The same with why it was refused.
    pub(super) fn with_error(mut self, error: &str) -> Self {
        self.error = Some(shortened(error, ERROR));
        self
    }
}

/// The latest entries.
#[derive(Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
    next: u64,
}

impl History {
    pub(super) fn add(&mut self, mut entry: Entry) {
        self.next += 1;
        entry.id = self.next;
        self.bytes += entry.size();
        while (self.entries.len() >= KEPT || self.bytes > BYTES)
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.size();
        }
        self.entries.push_back(entry);
    }

    /// The newest first.
    pub(super) fn newest_first(&self) -> Vec<Entry> {
        self.entries.iter().rev().cloned().collect()
    }
}

/// A moment as the admin API writes it: RFC 3339, UTC, with milliseconds.
pub(crate) fn text(moment: SystemTime) -> String {
    humantime::format_rfc3339_millis(moment).to_string()
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_numbered() {
        let mut history = History::default();
        for _ in 0..KEPT + 5 {
            let took = Duration::from_millis(2);
            history.add(Entry::new(Trigger::File, Author::default(), Outcome::Applied, took));
        }
        let entries = history.newest_first();
        assert_eq!((entries.len(), entries[0].id), (KEPT, KEPT as u64 + 5));
        assert_eq!(entries[KEPT - 1].id, 6);
    }

    #[test]
    fn what_is_kept_of_large_configurations_is_bounded() {
        let difference = |key: usize| Difference {
            key: format!("filters.{key}"),
            was: Some("a".repeat(VALUE)),
            is: Some("b".repeat(VALUE)),
            origin: None,
        };
        let differences: Vec<Difference> = (0..CHANGES).map(difference).collect();
        let warnings = vec!["w".repeat(100); 1000];
        let mut history = History::default();
        for _ in 0..KEPT {
            let entry = Entry::new(Trigger::File, Author::default(), Outcome::Applied, Duration::ZERO);
            history.add(entry.with_changes(&differences).with_warnings(&warnings));
        }
        let entries = history.newest_first();
        assert!(entries.len() > 10 && entries.len() < KEPT, "{}", entries.len());
        assert_eq!((entries[0].id, entries[0].warnings.len()), (KEPT as u64, WARNINGS));
        let bytes: usize = entries.iter().map(Entry::size).sum();
        assert!(bytes <= BYTES && bytes == history.bytes, "{bytes}");
    }

    #[test]
    fn what_is_long_is_cut() {
        let difference = |key: usize| Difference {
            key: format!("filters.{key}"),
            was: None,
            is: Some("é".repeat(VALUE + 1)),
            origin: None,
        };
        let differences: Vec<Difference> = (0..CHANGES + 3).map(difference).collect();
        let entry = Entry::new(Trigger::Api, Author::default(), Outcome::Applied, Duration::ZERO);
        let entry = entry.with_changes(&differences);
        assert_eq!((entry.changes.len(), entry.more_changes), (CHANGES, 3));
        assert_eq!(entry.changes[0].is.as_ref().unwrap().chars().count(), VALUE + 1);
    }
}
