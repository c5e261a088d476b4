//! One stored response per coding: what is not stored yet is made from what is, without asking the app again.
//!
//! Works where a filter after the cache codes bodies (see [`Recoder`]). Clients are told apart by the coding they are to get
//! rather than by how they say what they accept, so a URL has as many variants as there are codings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderName};

use super::control::RequestControl;
use super::counters::Served;
use super::entry::Entry;
use super::lookup::{MOST_TRIES, Waits, Written};
use super::reuse::{self, Verdict};
use super::store::Slot;
use super::vary;
use super::{Inner, url_of};
use crate::{Exchange, Recoder, Resume, Step};

/// A larger body is recoded on a thread of its own: it would hold up the worker's other exchanges.
const AT_ONCE: usize = 32 * 1024;
/// A smaller body gains too little by a higher level.
const WORTH_IMPROVING: usize = 4 * 1024;
/// The use after which it is worth it.
const IMPROVED_AFTER: u32 = 2;

/// Bodies are improved one at a time: there is no hurry.
static IMPROVING: AtomicBool = AtomicBool::new(false);

impl Inner {
    pub(super) fn recoder(&self) -> Option<&Arc<dyn Recoder>> {
        self.recoder.get()
    }

    /// Writes what chooses among the variants of a URL; `coding` in place of the one the client is to get.
    pub(super) fn write_secondary(
        &self,
        names: &[HeaderName],
        headers: &HeaderMap,
        coding: Option<&str>,
        key: &mut Vec<u8>,
    ) {
        let Some(recoder) = self.recoder() else {
            return vary::write_secondary(names, headers, key);
        };
        for name in names {
            if *name == ACCEPT_ENCODING {
                vary::write_value(name, coding.unwrap_or_else(|| recoder.choose(headers)), key);
            } else {
                vary::write_secondary(std::slice::from_ref(name), headers, key);
            }
        }
    }

    /// Whether a client can read an entry that is stored for those who get the same coding as it does: the app may have coded
    /// the body in one of its own choice.
    pub(super) fn can_read(&self, entry: &Entry, headers: &HeaderMap) -> bool {
        let (Some(recoder), Some(coded)) = (self.recoder(), entry.field(&CONTENT_ENCODING)) else {
            return true;
        };
        coded == recoder.choose(headers) || recoder.accepts(headers, &coded)
    }

    /// Answers from an entry in another coding, if there is one that is fresh and may be recoded. `names` are the fields the
    /// URL varies by.
    pub(super) fn recode(
        self: &Arc<Self>,
        exchange: &mut Exchange,
        written: Written<'_>,
        names: &[HeaderName],
        asked: &RequestControl,
        waits: Waits,
    ) -> Option<Step> {
        let recoder = self.recoder()?.clone();
        let coding = recoder.choose(&exchange.request.headers);
        let now = exchange.timing.started + waits.took;
        let source = self.in_another_coding(exchange, written, names, asked, &*recoder, now)?;
        let key: Vec<u8> = written.key.to_vec();
        if source.body.len() <= AT_ONCE {
            let (headers, body) = recoder.recode(source.status, &source.headers(), &source.body, coding)?;
            let entry = self.keep_recoded(&key, &source, &headers, body);
            return Some(self.serve(exchange, &entry, now, Served::Hit, Some("recoded")));
        }
        let inner = self.clone();
        Some(Step::Wait(Box::pin(async move {
            let from = source.clone();
            let work = move || recoder.recode(from.status, &from.headers(), &from.body, coding);
            let recoded = tokio::task::spawn_blocking(work).await.ok().flatten();
            let resume: Resume = Box::new(move |exchange| match recoded {
                Some((headers, body)) => {
                    let entry = inner.keep_recoded(&key, &source, &headers, body);
                    inner.serve(exchange, &entry, now, Served::Hit, Some("recoded"))
                }
                None => inner.decide(
                    exchange,
                    None,
                    Waits {
                        tries: MOST_TRIES + 1,
                        ..waits
                    },
                ),
            });
            resume
        })))
    }

    fn in_another_coding(
        &self,
        exchange: &Exchange,
        written: Written<'_>,
        names: &[HeaderName],
        asked: &RequestControl,
        recoder: &dyn Recoder,
        now: Instant,
    ) -> Option<Arc<Entry>> {
        let headers = &exchange.request.headers;
        let coding = recoder.choose(headers);
        let others = recoder.names().iter().filter(|name| **name != coding);
        others
            .filter_map(|other| {
                let mut key = written.key.get(..written.primary)?.to_vec();
                self.write_secondary(names, headers, Some(other), &mut key);
                match self.store.get(&key)? {
                    Slot::Entry(entry) => Some(entry),
                    _ => None,
                }
            })
            .find(|entry| {
                entry.is_current(&self.cache.tags, url_of(written.key))
                    && reuse::judge(&entry.reuse, entry.age(now), asked, true) == Verdict::Fresh
            })
    }

    fn keep_recoded(&self, key: &[u8], source: &Entry, headers: &HeaderMap, body: Bytes) -> Arc<Entry> {
        let entry = Arc::new(source.recoded(headers, body));
        if entry.is_current(&self.cache.tags, url_of(key)) {
            self.store
                .put(key.into(), Slot::Entry(entry.clone()), self.lasts(&entry));
        }
        entry
    }

    /// Has the body of an entry that is used again made smaller, behind the answer.
    pub(super) fn improve(self: &Arc<Self>, entry: &Arc<Entry>, key: &[u8]) {
        if entry.hits() != IMPROVED_AFTER || entry.body.len() < WORTH_IMPROVING {
            return;
        }
        let Some(recoder) = self.recoder().cloned() else { return };
        if entry.field(&CONTENT_ENCODING).is_none() || IMPROVING.swap(true, Ordering::AcqRel) {
            return;
        }
        let (inner, entry) = (self.clone(), entry.clone());
        let key: Vec<u8> = key.to_vec();
        tokio::task::spawn_blocking(move || {
            let headers = entry.headers();
            if let Some(body) = recoder.improve(&headers, &entry.body) {
                let better = Arc::new(entry.recoded(&headers, body));
                better.inherit(&entry);
                // What has come in its place meanwhile stays.
                let is_there = matches!(inner.store.get(&key), Some(Slot::Entry(there)) if Arc::ptr_eq(&there, &entry));
                if is_there {
                    let lasts = inner.lasts(&better);
                    inner.store.put(key.into(), Slot::Entry(better), lasts);
                }
            }
            IMPROVING.store(false, Ordering::Release);
        });
    }
}
