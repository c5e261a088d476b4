//! What is entered in the ledger, in words that a person reads.
//!
//! Each plugin says in its own place what its reasons mean ([`Plugin::WORDS`](crate::Plugin::WORDS)): a reason, and the ways to
//! put it. Of these the first is taken whose blanks can all be filled:
//!
//! | blank | filled with |
//! | --- | --- |
//! | `{0}`, `{1}` | the numbers of the entry's [`Fact`]; of an event the time of day, and what it was |
//! | `{method}` | the method of the request |
//! | `{endpoint}` | the endpoint that was tried last |
//! | `{upstream}` | the upstream the request went to |
//!
//! A reason without words is read as it is written, its underscores as spaces: a plugin need not have any.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use crate::ledger::{Entry, Fact};
use crate::registry::Registry;
use crate::units::ByteSize;

mod spell;
#[cfg(test)]
mod tests;

pub use spell::{time_of_day, took};

/// Reasons, each with the ways to put it, the most telling first. `reason.kind` puts a kind of that reason.
pub type Words = &'static [(&'static str, &'static [&'static str])];

/// What words may tell of an exchange beside an entry itself.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// The endpoint that was tried last.
    pub endpoint: Option<&'a str>,
    /// The upstream it went to.
    pub upstream: Option<&'a str>,
    /// When it began.
    pub started_at: SystemTime,
}

/// The words of all plugins.
#[derive(Clone, Debug, Default)]
pub struct Dictionary(Vec<(&'static str, Words)>);

impl Dictionary {
    /// The words of these plugins.
    pub fn of(registry: &Registry) -> Self {
        let entries = registry.entries().iter();
        Self(entries.map(|entry| (entry.name, entry.words)).collect())
    }

    /// With the words of one more.
    #[must_use]
    pub fn with(mut self, filter: &'static str, words: Words) -> Self {
        self.0.push((filter, words));
        self
    }

    /// All words, by filter.
    pub fn all(&self) -> &[(&'static str, Words)] {
        &self.0
    }

    /// What an entry says.
    pub fn say(&self, entry: &Entry, told: &Told<'_>) -> String {
        let ways = self.ways(entry).unwrap_or_default();
        let said = ways.iter().find_map(|way| filled(way, entry.fact, told));
        said.unwrap_or_else(|| match entry.fact {
            Fact::Text(text) => text.to_owned(),
            Fact::Kind(kind) => format!("{}: {}", plain(entry.reason), plain(kind)),
            _ => plain(entry.reason),
        })
    }

    fn ways(&self, entry: &Entry) -> Option<&'static [&'static str]> {
        let (_, words) = self.0.iter().find(|(filter, _)| *filter == entry.filter)?;
        ways(words, entry.reason, entry.fact)
    }
}

/// The ways to put a reason.
fn ways(words: Words, reason: &str, fact: Fact) -> Option<&'static [&'static str]> {
    let is_it = |known: &str| match fact {
        Fact::Kind(kind) => known.strip_prefix(reason).and_then(|rest| rest.strip_prefix('.')) == Some(kind),
        _ => known == reason,
    };
    let (_, ways) = words.iter().find(|(known, _)| is_it(known))?;
    Some(ways)
}

fn plain(reason: &str) -> String {
    reason.replace('_', " ")
}

/// A way to put something with its blanks filled, if they all can be.
fn filled(way: &str, fact: Fact, told: &Told<'_>) -> Option<String> {
    let mut parts = way.split('{');
    let mut said = parts.next()?.to_owned();
    for part in parts {
        let (blank, rest) = part.split_once('}')?;
        let filling = match blank {
            "0" => fact_in_words(fact, 0, told)?,
            "1" => fact_in_words(fact, 1, told)?,
            "method" => told.method.into(),
            "endpoint" => told.endpoint?.into(),
            "upstream" => told.upstream?.into(),
            _ => return None,
        };
        said.push_str(&filling);
        said.push_str(rest);
    }
    Some(said)
}

/// A number of a fact.
fn fact_in_words<'a>(fact: Fact, place: usize, told: &Told<'_>) -> Option<Cow<'a, str>> {
    let size = |bytes: u64| ByteSize(bytes).to_string();
    Some(match (fact, place) {
        (Fact::Time(time) | Fact::Times(time, _), 0) | (Fact::Times(_, time), 1) => took(time).into(),
        (Fact::Count(count) | Fact::Of(count, _), 0) | (Fact::Of(_, count), 1) => count.to_string().into(),
        (Fact::Size(bytes) | Fact::Sizes(bytes, _), 0) | (Fact::Sizes(_, bytes), 1) => size(bytes).into(),
        (Fact::Status(status), 0) => status.to_string().into(),
        (Fact::Text(text), 0) => text.into(),
        (Fact::Event { ago, .. }, 0) => time_of_day(told.started_at.checked_sub(ago).unwrap_or(told.started_at)).into(),
        (Fact::Event { text, numbers, .. }, 1) => numbered(text, numbers).into(),
        _ => return None,
    })
}

/// A text with numbers in its blanks.
fn numbered(text: &str, numbers: [u32; 2]) -> String {
    let mut parts = text.split("{}");
    let mut said = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        said.push_str(&numbers.get(index).copied().unwrap_or_default().to_string());
        said.push_str(part);
    }
    said
}

/// How long, as a fact that a test or a tool makes.
impl From<Duration> for Fact {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

/// A reason of a built-in plugin that has no words fails the test that enters it.
#[cfg(test)]
pub(crate) fn assert_known(filter: &str, reason: &str, fact: Fact) {
    let registry = Registry::builtin();
    let Some(plugin) = registry.get(filter) else { return };
    let known = ways(plugin.words, reason, fact);
    assert!(known.is_some(), "`{filter}` has no words for `{reason}` with {fact:?}");
}
