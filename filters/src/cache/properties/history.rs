//! All that happened between the cache and the origin, and what could be made of it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};

use super::policy::Policy;
use super::rfc::{self, Control};

/// A moment, by three clocks: one that never jumps, the wall's, and the order of events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Duration,
    pub(super) wall: SystemTime,
    pub(super) order: usize,
}

/// A request, as its client sent it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) began: Moment,
}

/// An exchange with the origin.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) asked: Asked,
    /// When the origin was asked: later than the cache was, if the request waited first.
    pub(super) began: Moment,
    /// The request fields that the origin saw.
    pub(super) sent: HeaderMap,
    pub(super) heard: Option<Heard>,
    /// When the body had arrived, whole and known to be.
    pub(super) whole: Option<Moment>,
}

/// A response of the origin's.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) at: Moment,
}

/// What ended stored responses.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Url(String),
    Prefix(String),
    Tag(String),
    Everything,
}

/// A purge, or an unsafe request that was not refused.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) what: Ended,
    pub(super) order: usize,
    /// What is stored may be used once it has been validated (section 4.4); what was purged is gone.
    pub(super) heals: bool,
}

#[derive(Default)]
pub(super) struct History {
    pub(super) told: Vec<Told>,
    pub(super) ends: Vec<End>,
}

/// A response with a body, and those without that say more of it: something that a cache may have stored.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) base: usize,
    pub(super) updates: Vec<usize>,
    /// As a cache must store them.
    pub(super) headers: HeaderMap,
}

impl Version {
    pub(super) fn last(&self) -> usize {
        *self.updates.last().unwrap_or(&self.base)
    }
}

impl History {
    pub(super) fn heard(&self, id: usize) -> &Heard {
        self.told[id].heard.as_ref().unwrap()
    }

    /// When a response arrived, by the wall clock as it was when it was asked for.
    pub(super) fn arrived(&self, id: usize) -> SystemTime {
        let began = self.told[id].asked.began;
        began.wall + self.heard(id).at.at.saturating_sub(began.at)
    }

    /// All versions of a URL that there may be by now.
    pub(super) fn versions(&self, url: &str, policy: &Policy) -> Vec<Version> {
        let of_url = |id: &usize| self.told[*id].asked.url == url && self.told[*id].heard.is_some();
        let mut ids: Vec<usize> = (0..self.told.len()).filter(of_url).collect();
        ids.sort_by_key(|id| self.heard(*id).at.order);
        let mut versions: Vec<Version> = Vec::new();
        for id in ids {
            let updated = versions.iter().filter(|version| self.updates(id, version, policy));
            let updated: Vec<_> = updated.map(|version| self.updated(version, id, policy)).collect();
            versions.extend(updated);
            let method = &self.told[id].asked.method;
            if *method == Method::GET && ![304, 206].contains(&self.heard(id).status) {
                let version = Version {
                    base: id,
                    updates: Vec::new(),
                    headers: self.stored_fields(id, self.mixes(id, policy), policy),
                };
                versions.push(version);
            }
        }
        versions
    }

    /// Whether callers mix in what is stored of this exchange: unless it is stored by who asked.
    pub(super) fn mixes(&self, id: usize, policy: &Policy) -> bool {
        let headers = &self.told[id].asked.headers;
        !policy.identity.iter().any(|name| headers.contains_key(name))
    }

    /// Whether what is meant for shared caches is meant for this one, as far as that version goes.
    pub(super) fn is_shared(&self, version: &Version, policy: &Policy) -> bool {
        policy.shared || self.mixes(version.base, policy)
    }

    /// Section 3.1.
    fn stored_fields(&self, id: usize, mixes: bool, policy: &Policy) -> HeaderMap {
        let heard = self.heard(id);
        let control = Control::of_response(&heard.headers, policy);
        let mut stored = heard.headers.clone();
        for name in heard.headers.keys() {
            if rfc::forbidden(name, &heard.headers, &control, mixes) || name == "content-length" {
                stored.remove(name);
            }
        }
        stored
    }

    /// Whether a response without a body may be used to update a version (sections 4.3.4 and 4.3.5), and the result be
    /// stored.
    fn updates(&self, id: usize, version: &Version, policy: &Policy) -> bool {
        let (told, heard) = (&self.told[id], self.heard(id));
        let applies = match told.asked.method {
            Method::GET | Method::HEAD if heard.status == 304 => self.validates(id, version),
            Method::HEAD => heard.status == 200 && self.is_head_of(id, version),
            _ => false,
        };
        let updated = self.updated(version, id, policy);
        applies
            && self.is_whole(version, heard.at.order)
            && self.selected(version, &told.asked, policy)
            && self.may_be_stored(&updated, policy).is_ok()
    }

    /// Whether a 304 says that a version is still good.
    pub(super) fn validates(&self, id: usize, version: &Version) -> bool {
        let (sent, said) = (&self.told[id].sent, &self.heard(id).headers);
        self.names(id, version)
            && match (rfc::text(said, "etag"), rfc::text(&version.headers, "etag")) {
                (Some(said), stored) if said.starts_with("W/") => stored.is_some_and(|stored| rfc::weak(said, stored)),
                (Some(said), stored) => stored.is_some_and(|stored| rfc::strong(said, stored)),
                (None, _) => {
                    let modified = rfc::text(said, "last-modified");
                    let is_older = |said| rfc::text(&version.headers, "last-modified") == Some(said);
                    sent.contains_key("if-none-match") || modified.is_none_or(is_older)
                }
            }
    }

    /// Whether a request's conditions are of that version.
    pub(super) fn names(&self, id: usize, version: &Version) -> bool {
        let sent = &self.told[id].sent;
        if sent.contains_key("if-none-match") {
            let tag = rfc::text(&version.headers, "etag");
            let named = rfc::members(sent, "if-none-match");
            return tag.is_some_and(|tag| named.iter().any(|named| rfc::weak(named, tag)));
        }
        let modified = rfc::text(&version.headers, "last-modified");
        modified.is_some() && modified == rfc::text(sent, "if-modified-since")
    }

    fn is_head_of(&self, id: usize, version: &Version) -> bool {
        let said = &self.heard(id).headers;
        let same = |name: &str| {
            let said = rfc::text(said, name);
            said.is_none() || said == rfc::text(&version.headers, name)
        };
        let length = rfc::text(said, "content-length").map(|length| length.parse().unwrap());
        self.heard(version.base).status == 200
            && same("etag")
            && same("last-modified")
            && length.is_none_or(|length: usize| length == self.heard(version.base).body.len())
    }

    /// Section 3.2.
    pub(super) fn updated(&self, version: &Version, id: usize, policy: &Policy) -> Version {
        const OF_THE_BODY: [&str; 4] = ["content-encoding", "content-location", "content-range", "content-type"];
        let mut updated = version.clone();
        updated.updates.push(id);
        let newer = self.stored_fields(id, self.mixes(id, policy), policy);
        for name in newer.keys().filter(|name| !OF_THE_BODY.contains(&name.as_str())) {
            updated.headers.remove(name);
            for value in newer.get_all(name) {
                updated.headers.append(name, value.clone());
            }
        }
        let control = Control::of_response(&updated.headers, policy);
        let names: Vec<HeaderName> = updated.headers.keys().cloned().collect();
        for name in names {
            if rfc::forbidden(&name, &updated.headers, &control, self.mixes(version.base, policy)) {
                updated.headers.remove(&name);
            }
        }
        updated
    }

    /// Whether all of its body had arrived.
    pub(super) fn is_whole(&self, version: &Version, by: usize) -> bool {
        self.told[version.base].whole.is_some_and(|whole| whole.order <= by)
    }

    /// Whether a request may be answered with it: the same caller where that counts, the same fields that it varies by.
    pub(super) fn selected(&self, version: &Version, asked: &Asked, policy: &Policy) -> bool {
        let original = &self.told[version.base].asked.headers;
        let same = |name: &HeaderName| rfc::text(original, name.as_str()) == rfc::text(&asked.headers, name.as_str());
        policy.identity.iter().all(same) && rfc::selects(&version.headers, original, &asked.headers)
    }

    /// Sections 3 and 3.5.
    pub(super) fn may_be_stored(&self, version: &Version, policy: &Policy) -> Result<(), &'static str> {
        let status = self.heard(version.base).status;
        let control = Control::of_response(&version.headers, policy);
        let last = &self.told[version.last()].asked;
        let mixes = self.mixes(version.base, policy) || self.mixes(version.last(), policy);
        let shared = self.is_shared(version, policy);
        let (_, overridden) = rfc::lifetime(status, &version.headers, last.began.wall, policy, shared);
        let authorized =
            control.has("public") || (!overridden && (control.has("must-revalidate") || control.has("s-maxage")));
        let understood = (200..=599).contains(&status) && ![206, 304, 599].contains(&status);
        let explicit = control.has("public")
            || (!mixes && control.has("private"))
            || control.has("max-age")
            || (shared && control.has("s-maxage"))
            || (!control.targeted && version.headers.contains_key("expires"))
            || rfc::cacheable_by_default(status)
            || rfc::configured(status, policy).is_some();
        let rules = [
            (
                "the request says no-store",
                Control::of_request(&last.headers, policy).has("no-store"),
            ),
            (
                "no-store",
                control.has("no-store") && !(control.has("must-understand") && understood),
            ),
            ("must-understand", control.has("must-understand") && !understood),
            ("private", mixes && control.whole("private")),
            (
                "Authorization",
                mixes && last.headers.contains_key("authorization") && !authorized,
            ),
            ("nothing allows it", !explicit),
        ];
        match rules.iter().find(|(_, broken)| *broken) {
            Some((rule, _)) => Err(rule),
            None => Ok(()),
        }
    }

    /// What ended a version for requests that begin now, if anything did.
    pub(super) fn ended(&self, version: &Version, asked: &Asked, policy: &Policy) -> Option<&End> {
        self.ends
            .iter()
            .filter(|end| end.order < asked.began.order)
            .find(|end| {
                let healed = |id: &usize| self.heard(*id).status == 304 && self.told[*id].began.order > end.order;
                self.meets(end, version, asked, policy) && !(end.heals && version.updates.iter().any(healed))
            })
    }

    /// Whether it was there, or on its way, and what was to end.
    fn meets(&self, end: &End, version: &Version, asked: &Asked, policy: &Policy) -> bool {
        let began = |id: usize| self.told[id].began.order < end.order;
        let heard = |id: &usize| self.heard(*id).at.order < end.order;
        match &end.what {
            Ended::Url(url) => *url == asked.url && began(version.base),
            Ended::Prefix(prefix) => asked.url.starts_with(prefix) && began(version.base),
            Ended::Everything => began(version.base),
            Ended::Tag(tag) => {
                let tagged = |headers: &HeaderMap| rfc::members(headers, "cache-tag").contains(tag);
                let mut then = Version {
                    base: version.base,
                    updates: Vec::new(),
                    headers: self.heard(version.base).headers.clone(),
                };
                for id in version.updates.iter().filter(|id| heard(id)) {
                    then = self.updated(&then, *id, policy);
                }
                let on_its_way = |id: usize| began(id) && !heard(&id) && tagged(&self.heard(id).headers);
                (heard(&version.base) && tagged(&then.headers))
                    || on_its_way(version.base)
                    || version.updates.iter().any(|id| on_its_way(*id))
            }
        }
    }
}
