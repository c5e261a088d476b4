//! What operators changed by the admin API, and until when.

use std::time::{Duration, Instant, SystemTime};

use super::history::Author;
use crate::config::Override;

/// Changes that may hold at once.
pub(crate) const MOST: usize = 64;

/// A change that holds.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) change: Override,
    pub(crate) author: Author,
    pub(crate) since: SystemTime,
    /// The same moment on either clock: one does not jump, the other can be told.
    pub(crate) until: Option<(Instant, SystemTime)>,
}

impl Active {
    /// A change from now on, for so long or until it is taken back.
    pub(super) fn new(change: Override, author: Author, ttl: Option<Duration>) -> Self {
        let now = SystemTime::now();
        let until = ttl.and_then(|ttl| Some((Instant::now().checked_add(ttl)?, now.checked_add(ttl)?)));
        Self {
            change,
            author,
            since: now,
            until,
        }
    }

    /// Whether it holds at least as long as the other.
    fn outlasts(&self, other: &Self) -> bool {
        match (self.until, other.until) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((own, _)), Some((others, _))) => own >= others,
        }
    }
}

/// The changes that hold, in the order they were made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides(Vec<Active>);

impl Overrides {
    /// The same with one more, which takes the place of those it leaves nothing of.
    pub(super) fn with(&self, new: &Active) -> Self {
        let gone = |old: &&Active| new.change.covers(&old.change) && new.outlasts(old);
        let stay = self.0.iter().filter(|old| !gone(old)).cloned();
        Self(stay.chain(std::iter::once(new.clone())).collect())
    }

    /// The same without those that `leaves` says of.
    pub(super) fn without(&self, leaves: impl Fn(&Active) -> bool) -> Self {
        Self(self.0.iter().filter(|active| !leaves(active)).cloned().collect())
    }

    /// The same without those whose time is over.
    pub(super) fn at(&self, now: Instant) -> Self {
        self.without(|active| active.until.is_some_and(|(until, _)| until <= now))
    }

    /// The filters of those whose time is over.
    pub(super) fn ended(&self, now: Instant) -> impl Iterator<Item = &str> {
        let is_over = move |active: &&Active| active.until.is_some_and(|(until, _)| until <= now);
        let ended = self.0.iter().filter(is_over);
        ended.map(|active| active.change.filter.as_str())
    }

    /// When the time of the next one is over.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let ends = self.0.iter().filter_map(|active| active.until);
        ends.map(|(until, _)| until).min()
    }

    pub(crate) fn all(&self) -> &[Active] {
        &self.0
    }

    /// What they change.
    pub(super) fn changes(&self) -> Vec<Override> {
        self.0.iter().map(|active| active.change.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(enabled: bool, seconds: Option<u64>) -> Active {
        let change = Override {
            filter: "cache".to_owned(),
            direction: None,
            route: None,
            enabled: Some(enabled),
            settings: None,
        };
        Active::new(change, Author::default(), seconds.map(Duration::from_secs))
    }

    #[test]
    fn one_that_says_the_same_for_longer_takes_the_place() {
        let ten = Overrides::default().with(&active(false, Some(10)));
        assert_eq!(ten.with(&active(true, Some(20))).all().len(), 1);
        assert_eq!(ten.with(&active(true, None)).all().len(), 1);
        // When the shorter one is over, the longer one is back.
        assert_eq!(ten.with(&active(true, Some(5))).all().len(), 2);
        let always = Overrides::default().with(&active(false, None));
        assert_eq!(always.with(&active(true, Some(5))).all().len(), 2);
    }

    #[test]
    fn each_ends_when_its_time_is_over() {
        let both = Overrides::default()
            .with(&active(false, None))
            .with(&active(true, Some(10)));
        let end = both.next_end().unwrap();
        assert_eq!(both.at(Instant::now()).all().len(), 2);
        let left = both.at(end);
        assert_eq!(left.changes(), [active(false, None).change]);
        assert_eq!(left.next_end(), None);
    }
}
