//! Who decided what and why, in one exchange.
//!
//! Every decision that changes what the client sees is entered here, as static strings: nothing is formatted on the hot
//! path. The ledger feeds `Proxy-Status`, span attributes, the access log and the explanation of a request.

/// One decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The filter's plugin name, or `engine`.
    pub filter: &'static str,
    /// A stable reason such as `body_too_large`.
    pub reason: &'static str,
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
        if self.entries.len() < KEPT {
            self.entries.push(Entry { filter, reason });
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The decisions, first made first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
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
    }
}
