//! Who decided what and why, in one exchange.
//!
//! Every decision that changes what the client sees is entered here, as static strings and plain numbers: nothing is formatted
//! on the hot path. The ledger feeds `Proxy-Status`, span attributes and the access log, which take filter and reason; what
//! explains a request to people puts them and the numbers into [words](crate::words).

use std::time::Duration;

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The filter's plugin name, or `engine`.
    pub filter: &'static str,
    /// A stable reason such as `body_too_large`.
    pub reason: &'static str,
    /// What explains it.
    pub fact: Fact,
}

/// What explains a decision beside its reason, put into words only when somebody reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fact {
    /// The reason says it all.
    #[default]
    None,
    /// How long, or after how long.
    Time(Duration),
    /// Two of them.
    Times(Duration, Duration),
    /// How many.
    Count(u64),
    /// So many of so many.
    Of(u64, u64),
    /// How many bytes.
    Size(u64),
    /// How many bytes, and how many there may be.
    Sizes(u64, u64),
    /// A status.
    Status(u16),
    /// A kind of this reason, which has words of its own under `reason.kind`.
    Kind(&'static str),
    /// Words as they are.
    Text(&'static str),
    /// What happened so long before the exchange began: words in which `{}` stands for the numbers, one after another.
    Event {
        /// How long before.
        ago: Duration,
        /// What it was.
        text: &'static str,
        /// Its numbers.
        numbers: [u32; 2],
    },
}

/// Entries beyond this many are counted, not kept: an exchange's memory is bounded.
const KEPT: usize = 16;

/// The decisions of one exchange, in the order they were made. Most exchanges have none, which costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    dropped: u32,
}

impl Ledger {
    /// Enters a decision.
    pub fn enter(&mut self, filter: &'static str, reason: &'static str) {
        self.enter_with(filter, reason, Fact::None);
    }

    /// Enters a decision and what explains it.
    pub fn enter_with(&mut self, filter: &'static str, reason: &'static str, fact: Fact) {
        #[cfg(test)]
        crate::words::assert_known(filter, reason, fact);
        if self.entries.len() < KEPT {
            self.entries.push(Entry { filter, reason, fact });
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The decisions, first made first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether that was decided.
    pub fn has(&self, filter: &str, reason: &str) -> bool {
        let is_it = |entry: &Entry| entry.filter == filter && entry.reason == reason;
        self.entries.iter().any(is_it)
    }

    /// Bytes it has in memory beside itself.
    pub fn size(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// How many decisions were made after the ledger was full.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_entries_and_counts_the_rest() {
        let mut ledger = Ledger::default();
        for _ in 0..KEPT + 2 {
            ledger.enter("limits", "body_too_large");
        }
        assert_eq!(ledger.entries().len(), KEPT);
        assert_eq!(ledger.dropped(), 2);
        assert!(ledger.has("limits", "body_too_large"));
        assert!(!ledger.has("cache", "body_too_large"));
    }

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Entry>() <= 72, "{}", size_of::<Entry>());
    }
}
