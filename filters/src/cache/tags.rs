//! What is purged, and since when: a purge is a number, and whatever was fetched before it is gone at once.
//!
//! Every purge takes the next number of one sequence. A response is *born* with the number that stood when its fetch
//! began, so a response that was on its way while its tag was purged is gone too. A tag, and a URL, remembers the number of
//! its last purge; a response holds its tags, so a hit asks them without a lookup. Prefixes, of which there are few, are
//! kept in a list that only responses born before its newest look through, once.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Locks, so that workers that store do not wait for each other.
const SHARDS: usize = 16;
/// Purged tags that are remembered though no stored response has them: one may be on its way.
const REMEMBERED: usize = 1024;
/// Prefixes that are remembered; the oldest give way to a purge of everything older than they are.
const PREFIXES: usize = 256;

/// A tag or a URL that stored responses have.
#[derive(Debug)]
pub(super) struct Tag {
    hash: u64,
    purged: AtomicU64,
    home: Weak<Tags>,
}

impl Tag {
    /// Whether it was purged after that.
    pub(super) fn is_purged_since(&self, born: u64) -> bool {
        self.purged.load(Ordering::Acquire) > born
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            let mut shard = home.shard(self.hash);
            // Another of that name may have come meanwhile.
            if shard.get(&self.hash).is_some_and(|tag| tag.strong_count() == 0) {
                shard.remove(&self.hash);
            }
        }
    }
}

type Shard = HashMap<u64, Weak<Tag>>;

/// All tags, and all purges.
#[derive(Debug, Default)]
pub(super) struct Tags {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// The number of the last purge.
    last: AtomicU64,
    /// The number of the last purge by prefix or of everything.
    wide: AtomicU64,
    everything: AtomicU64,
    prefixes: RwLock<Vec<(Box<[u8]>, u64)>>,
    recent: Mutex<VecDeque<Arc<Tag>>>,
    /// Purges of tags up to this number are forgotten.
    forgotten: AtomicU64,
}

impl Tags {
    /// The number a response that is fetched from now on is born with.
    pub(super) fn now(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    fn shard(&self, hash: u64) -> std::sync::MutexGuard<'_, Shard> {
        let index = (hash as usize) % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tag of that name.
    pub(super) fn get(self: &Arc<Self>, name: &[u8]) -> Arc<Tag> {
        let hash = self.hasher.hash_one(name);
        let mut shard = self.shard(hash);
        if let Some(tag) = shard.get(&hash).and_then(Weak::upgrade) {
            return tag;
        }
        let tag = Arc::new(Tag {
            hash,
            purged: AtomicU64::new(0),
            home: Arc::downgrade(self),
        });
        shard.insert(hash, Arc::downgrade(&tag));
        tag
    }

    /// Purges what has that name now, or has it on its way; false if nothing has. For URLs, whose fetches hold their tag
    /// from the beginning.
    pub(super) fn purge_known(&self, name: &[u8]) -> bool {
        let hash = self.hasher.hash_one(name);
        let known = self.shard(hash).get(&hash).and_then(Weak::upgrade);
        if let Some(tag) = &known {
            tag.purged.store(self.next(), Ordering::Release);
        }
        known.is_some()
    }

    /// Purges a tag, also of responses on their way, whose tags nobody knows yet.
    pub(super) fn purge_tag(self: &Arc<Self>, name: &[u8]) {
        let tag = self.get(name);
        tag.purged.store(self.next(), Ordering::Release);
        let forgotten = {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.push_back(tag);
            if recent.len() > REMEMBERED {
                recent.pop_front()
            } else {
                None
            }
        };
        if let Some(tag) = forgotten {
            self.forgotten
                .fetch_max(tag.purged.load(Ordering::Acquire), Ordering::AcqRel);
        }
    }

    /// Purges every URL that begins so, or, where the prefix is a path, every one whose path does.
    pub(super) fn purge_prefix(&self, prefix: &[u8]) {
        let number = self.next();
        {
            let mut prefixes = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
            prefixes.retain(|(known, _)| &**known != prefix);
            if prefixes.len() >= PREFIXES {
                // What is older than the oldest prefix is gone with it: more than was asked for, never less.
                let (_, oldest) = prefixes.remove(0);
                self.everything.fetch_max(oldest, Ordering::AcqRel);
            }
            prefixes.push((prefix.into(), number));
        }
        self.wide.fetch_max(number, Ordering::AcqRel);
    }

    /// Purges everything.
    pub(super) fn purge_everything(&self) {
        let number = self.next();
        self.everything.fetch_max(number, Ordering::AcqRel);
        self.wide.fetch_max(number, Ordering::AcqRel);
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether a response born then has outlived all purges by prefix and of everything.
    pub(super) fn has_outlived(&self, born: u64, url: &[u8]) -> bool {
        if self.wide.load(Ordering::Acquire) <= born {
            return true;
        }
        if self.everything.load(Ordering::Acquire) > born {
            return false;
        }
        let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
        !prefixes
            .iter()
            .rev()
            .take_while(|(_, number)| *number > born)
            .any(|(prefix, _)| begins(url, prefix))
    }

    /// The number of the last purge by prefix or of everything: a response that has outlived it need not be asked again.
    pub(super) fn wide(&self) -> u64 {
        self.wide.load(Ordering::Acquire)
    }

    /// Whether it is still known which tags were purged since a response was born.
    pub(super) fn remembers(&self, born: u64) -> bool {
        self.forgotten.load(Ordering::Acquire) <= born
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

fn begins(url: &[u8], prefix: &[u8]) -> bool {
    if !prefix.starts_with(b"/") {
        return url.starts_with(prefix);
    }
    let authority = url.windows(3).position(|bytes| bytes == b"://").map_or(0, |at| at + 3);
    let path = url[authority..].iter().position(|&byte| byte == b'/');
    path.is_some_and(|path| url[authority + path..].starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_is_of_what_was_born_before_it() {
        let tags = Arc::new(Tags::default());
        let tag = tags.get(b"orders");
        let born = tags.now();
        assert!(!tag.is_purged_since(born));
        tags.purge_tag(b"orders");
        assert!(tag.is_purged_since(born));
        assert!(!tag.is_purged_since(tags.now()));
        assert!(!tags.get(b"users").is_purged_since(born));
    }

    #[test]
    fn a_tag_purged_while_a_response_is_on_its_way_counts() {
        let tags = Arc::new(Tags::default());
        let born = tags.now();
        tags.purge_tag(b"orders");
        assert!(tags.get(b"orders").is_purged_since(born));
        assert!(tags.remembers(born));
        for number in 0..=REMEMBERED {
            tags.purge_tag(format!("{number}").as_bytes());
        }
        assert!(!tags.remembers(born));
        assert!(tags.remembers(tags.now()));
    }

    #[test]
    fn prefixes_and_everything() {
        let tags = Tags::default();
        let born = tags.now();
        tags.purge_prefix(b"http://a/x");
        assert!(!tags.has_outlived(born, b"http://a/x/1"));
        assert!(tags.has_outlived(born, b"http://a/y"));
        assert!(tags.has_outlived(tags.now(), b"http://a/x/1"));
        let born = tags.now();
        tags.purge_prefix(b"/y");
        assert!(!tags.has_outlived(born, b"https://b:1/y/2"));
        assert!(tags.has_outlived(born, b"https://b:1/x/y"));
        let later = tags.now();
        tags.purge_everything();
        assert!(!tags.has_outlived(later, b"http://a/y"));
    }

    #[test]
    fn more_prefixes_than_are_kept_purge_more_rather_than_less() {
        let tags = Tags::default();
        let born = tags.now();
        tags.purge_prefix(b"first");
        for number in 0..PREFIXES {
            tags.purge_prefix(format!("p{number}").as_bytes());
        }
        assert!(!tags.has_outlived(born, b"first/1"));
        assert!(tags.prefixes.read().unwrap().len() <= PREFIXES);
    }

    #[test]
    fn tags_that_nobody_has_are_gone() {
        let tags = Arc::new(Tags::default());
        drop(tags.get(b"a"));
        assert_eq!(tags.len(), 0);
        assert!(!tags.purge_known(b"a"));
        let held = tags.get(b"a");
        assert!(Arc::ptr_eq(&held, &tags.get(b"a")));
        assert!(tags.purge_known(b"a"));
        assert_eq!(tags.len(), 1);
    }
}
