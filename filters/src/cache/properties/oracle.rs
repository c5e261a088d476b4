//! Whether an answer that is not the origin's word was allowed: some response of the history must justify it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method};

use super::history::{Asked, Heard, History, Moment, Version};
use super::policy::Policy;
use super::rfc::{self, Control};

/// By what right a stored response is served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Right {
    /// The origin was not asked.
    Unasked,
    /// The origin was not asked for this one, but is still answering another.
    Following,
    /// This exchange's 304 says that it is still good.
    Validated(usize),
    /// The origin failed.
    Failed,
}

/// What a client was sent.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
    /// None where it is not known yet.
    pub(super) body: Option<&'a [u8]>,
}

type Verdict = Result<(), String>;

fn broken(rule: impl Into<String>) -> Verdict {
    Err(rule.into())
}

fn must(holds: bool, rule: &str) -> Verdict {
    if holds { Ok(()) } else { broken(rule) }
}

pub(super) struct Oracle<'a> {
    pub(super) history: &'a History,
    pub(super) policy: &'a Policy,
}

impl Oracle<'_> {
    /// The versions that justify an answer; or why none does.
    pub(super) fn justify(
        &self,
        right: Right,
        asked: &Asked,
        now: Moment,
        sent: &Sent<'_>,
    ) -> Result<Vec<usize>, String> {
        let versions = self.history.versions(&asked.url, self.policy);
        let mut why = Vec::new();
        let mut justified = Vec::new();
        for version in &versions {
            match self.judge(right, version, asked, now, sent) {
                Ok(()) if right == Right::Unasked && !self.is_most_recent(version, &versions, asked, now) => {
                    why.push((false, "a newer one is there".to_owned(), version));
                }
                Ok(()) => justified.push(version.base),
                Err(rule) => why.push((!self.is_likely(right, version, sent), rule, version)),
            }
        }
        if !justified.is_empty() {
            return Ok(justified);
        }
        // The response it was most likely made of comes first.
        why.sort_by_key(|(unlikely, ..)| *unlikely);
        let why = why
            .iter()
            .map(|(_, rule, version)| format!("{rule} ({} {:?})", version.base, version.updates));
        Err(why
            .reduce(|all, rule| format!("{all}\n  {rule}"))
            .unwrap_or_else(|| "nothing was there".to_owned()))
    }

    /// Whether an answer seems to be made of that version, for whoever reads of a failure.
    fn is_likely(&self, right: Right, version: &Version, sent: &Sent<'_>) -> bool {
        let last = match right {
            Right::Validated(id) => id,
            _ => version.last(),
        };
        let body = &self.history.heard(version.base).body;
        let same = sent
            .body
            .is_none_or(|sent| sent.is_empty() || body.windows(sent.len()).any(|part| part == sent));
        let id = rfc::text(sent.headers, "x-id").map(str::to_owned);
        same && id.is_none_or(|id| id == last.to_string())
    }

    fn judge(&self, right: Right, version: &Version, asked: &Asked, now: Moment, sent: &Sent<'_>) -> Verdict {
        // What the client is sent after a 304 is what that makes of the stored response.
        let updated = match right {
            Right::Validated(id) => {
                must(!version.updates.contains(&id), "counted without the update")?;
                must(self.history.names(id, version), "the 304 is of something else")?;
                self.history.updated(version, id, self.policy)
            }
            _ => version.clone(),
        };
        // A 304 that names another version tells nothing of this one but that it is still good.
        let shown = match right {
            Right::Validated(id) if !self.history.validates(id, version) => version,
            _ => &updated,
        };
        self.matches(shown, version, asked, sent)?;
        let ages = self.allowed(right, version, &updated, shown, asked, now)?;
        let Some(least) = ages.into_iter().min().filter(|_| sent.status != 416) else {
            return Ok(());
        };
        let said = rfc::text(sent.headers, "age").and_then(|age| age.parse().ok());
        let Some(said) = said.map(Duration::from_secs) else {
            return broken("no Age");
        };
        let holds = said + Duration::from_secs(1) >= Duration::from_secs(least.as_secs());
        must(holds, "an Age below the truth").map_err(|rule| format!("{rule}: {said:?}, {least:?}"))
    }

    /// Whether a version may be served at all, and how old it is, by each way to read its dates that allows it.
    fn allowed(
        &self,
        right: Right,
        version: &Version,
        updated: &Version,
        shown: &Version,
        asked: &Asked,
        now: Moment,
    ) -> Result<Vec<Duration>, String> {
        let whole = self.history.is_whole(version, now.order) || right == Right::Following;
        must(whole, "cut short, or not known to be whole")?;
        let selected = self.history.selected(version, asked, self.policy);
        must(selected, "another caller's, or of other request fields")?;
        if let Err(rule) = self.history.may_be_stored(version, self.policy) {
            return Err(format!("may not be stored: {rule}"));
        }
        if let Some(end) = self.history.ended(updated, asked, self.policy) {
            return Err(format!("gone since {end:?}"));
        }
        let readings = self
            .generated(shown)
            .map(|generated| self.reusable(right, shown, generated, asked, now));
        match readings {
            [Err(rule), Err(_)] => Err(rule),
            readings => Ok(readings.into_iter().flatten().collect()),
        }
    }

    /// Whether, of several that may be served, it is the most recent (section 4): no other that varies by the same fields
    /// has come after it. Not said where that other may not be there any more: in a small store, or after a third; nor of
    /// what a cookie keeps from being stored.
    fn is_most_recent(&self, version: &Version, versions: &[Version], asked: &Asked, now: Moment) -> bool {
        let vary = |version: &Version| rfc::members(&version.headers, "vary").join(",").to_ascii_lowercase();
        let heard = |version: &Version| self.history.heard(version.last()).at.at;
        let generated = |version: &Version| self.generated(version).into_iter().max();
        let is_newer = |other: &Version| heard(other) > heard(version) && generated(other) > generated(version);
        let is_last = |id: usize| {
            let whole = self.history.told[id].whole;
            let since = |heard: &Heard| whole.is_some_and(|whole| heard.at.order > whole.order);
            let others = self.history.told.iter().filter(|told| told.asked.url == asked.url);
            !others.filter_map(|told| told.heard.as_ref()).any(since)
        };
        let may_be_there = |other: &Version| {
            let has_cookie = self.history.told[other.base].asked.headers.contains_key("cookie");
            other.updates.is_empty() && is_last(other.base) && !has_cookie
        };
        self.policy.max_size < 100_000
            || self.policy.max_body < 100
            || !versions.iter().any(|other| {
                is_newer(other)
                    && may_be_there(other)
                    && vary(other) == vary(version)
                    && self.allowed(Right::Unasked, other, other, other, asked, now).is_ok()
            })
    }

    /// When a version was generated: by its own `Date`, or, if the last response that said something of it had none, when
    /// that arrived (RFC 9110, section 6.6.1).
    fn generated(&self, version: &Version) -> [SystemTime; 2] {
        let heard = self.history.heard(version.last());
        let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let arrived = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds(self.arrived(version)));
        let own = rfc::date(&version.headers, "date").unwrap_or(arrived);
        [own, rfc::date(&heard.headers, "date").unwrap_or(arrived)]
    }

    /// When its last word arrived, by the wall clock as it was when it was asked for.
    fn arrived(&self, version: &Version) -> SystemTime {
        self.history.arrived(version.last())
    }

    fn reusable(
        &self,
        right: Right,
        version: &Version,
        generated: SystemTime,
        asked: &Asked,
        now: Moment,
    ) -> Result<Duration, String> {
        let (told, heard) = (&self.history.told[version.last()], self.history.heard(version.last()));
        let took = heard.at.at.saturating_sub(told.began.at);
        let initial = rfc::initial_age(&heard.headers, generated, self.arrived(version), took);
        let age = initial + now.at.saturating_sub(heard.at.at);
        let base_status = self.history.heard(version.base).status;
        let shared = self.history.is_shared(version, self.policy);
        let (lifetime, overridden) = rfc::lifetime(base_status, &version.headers, generated, self.policy, shared);
        self.may_be_reused(right, version, asked, age, (lifetime, overridden))
            .map_err(|rule| format!("{rule}: age {age:?}, lifetime {lifetime:?}"))?;
        Ok(age)
    }

    /// Sections 4, 4.2.4 and 5.2.1; RFC 5861; RFC 8246.
    fn may_be_reused(
        &self,
        right: Right,
        version: &Version,
        asked: &Asked,
        age: Duration,
        (lifetime, overridden): (Duration, bool),
    ) -> Verdict {
        let control = Control::of_response(&version.headers, self.policy);
        let wants = Control::of_request(&asked.headers, self.policy);
        let demand = |name| control.has(name) && !overridden;
        let strict = demand("must-revalidate")
            || (self.history.is_shared(version, self.policy) && (demand("proxy-revalidate") || demand("s-maxage")));
        let no_cache = control.whole("no-cache") && !overridden;
        let fresh = age < lifetime;
        let past = age.saturating_sub(lifetime);
        match right {
            Right::Validated(_) => Ok(()),
            Right::Failed => {
                let forced = wants.has("no-cache");
                let own = control.seconds("stale-if-error").unwrap_or(self.policy.stale_if_error);
                let windows = [
                    Some(own).filter(|_| !forced),
                    wants.max_stale().filter(|_| !forced),
                    wants.seconds("stale-if-error"),
                ];
                let within = windows.iter().flatten().any(|window| past <= *window);
                must(!no_cache && (fresh || !strict), "must be validated")?;
                must((fresh && !forced) || within, "too stale to stand in")
            }
            Right::Unasked | Right::Following => {
                must(!no_cache, "no-cache")?;
                must(!wants.has("no-cache"), "the request says no-cache")?;
                let max_age = wants.seconds("max-age");
                let settled = fresh && control.has("immutable");
                must(
                    settled || max_age.is_none_or(|most| age <= most && !most.is_zero()),
                    "older than max-age",
                )?;
                if fresh {
                    let least = wants.seconds("min-fresh").unwrap_or_default();
                    return must(age + least <= lifetime, "not fresh for min-fresh");
                }
                must(!strict && !wants.has("min-fresh"), "stale")?;
                let accepted = wants.max_stale().is_some_and(|most| past <= most);
                let window = control
                    .seconds("stale-while-revalidate")
                    .or(self.policy.stale_while_revalidate);
                let behind = window.is_some_and(|window| past < window) && max_age.is_none();
                must(accepted || behind, "stale")
            }
        }
    }

    /// Whether the answer is made of that version: status, fields and bytes.
    fn matches(&self, version: &Version, stored: &Version, asked: &Asked, sent: &Sent<'_>) -> Verdict {
        let heard = self.history.heard(version.base);
        let mixes = self.history.mixes(version.base, self.policy);
        let control = Control::of_response(&version.headers, self.policy);
        for name in sent.headers.keys() {
            let spared = name == "set-cookie" && self.is_own_cookie(asked, sent);
            let forbidden = rfc::forbidden(name, &heard.headers, &control, mixes);
            must(spared || !forbidden, &format!("the field {name}"))?;
        }
        let conditional = heard.status == 200 && rfc::has_it(&asked.headers, &self.dated(version));
        match sent.status {
            304 => {
                must(
                    conditional || (heard.status == 200 && rfc::has_it(&asked.headers, &self.dated(stored))),
                    "a 304",
                )?;
                must(sent.body.is_none_or(<[u8]>::is_empty), "a body with a 304")?;
                let kept = ["cache-control", "content-location", "date", "etag", "expires", "vary"];
                same_fields(version, sent, |name| kept.contains(&name))
            }
            416 => {
                let range = rfc::text(&asked.headers, "range").unwrap_or("");
                must(
                    rfc::range(range, heard.body.len()).is_err() && if_range(version, asked),
                    "a 416",
                )
            }
            206 if heard.status == 200 => {
                let range = rfc::text(&asked.headers, "range").ok_or("a 206 to no Range")?;
                let range = rfc::range(range, heard.body.len()).map_err(|()| "a 206 of nothing")?;
                must(
                    if_range(version, asked),
                    "a 206 although If-Range names another version",
                )?;
                must(asked.method == Method::GET, "a 206 to another method")?;
                let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, heard.body.len());
                must(
                    rfc::text(sent.headers, "content-range") == Some(&content_range),
                    "Content-Range",
                )?;
                must(sent.body == Some(&heard.body[range]), "other bytes")?;
                same_fields(version, sent, |_| true)
            }
            status => {
                must(status == heard.status, "another status")?;
                must(!conditional, "sent whole though the client has it")?;
                must(sent.body.is_none_or(|body| body == heard.body), "another body")?;
                same_fields(version, sent, |_| true)
            }
        }
    }

    /// The fields as they are when a missing `Date` is filled in.
    fn dated(&self, version: &Version) -> HeaderMap {
        let mut headers = version.headers.clone();
        if !headers.contains_key("date") {
            let arrived = self.history.arrived(version.base);
            super::alphabet::set(&mut headers, "date", &super::alphabet::date(arrived));
        }
        headers
    }

    /// A cookie that the origin set with this very exchange's 304.
    fn is_own_cookie(&self, asked: &Asked, sent: &Sent<'_>) -> bool {
        let own = self
            .history
            .told
            .iter()
            .filter(|told| told.asked.began.order == asked.began.order);
        let said = own
            .filter_map(|told| told.heard.as_ref())
            .filter(|heard| heard.status == 304);
        let cookies: Vec<_> = said
            .filter_map(|heard| rfc::text(&heard.headers, "set-cookie"))
            .collect();
        rfc::lines(sent.headers, "set-cookie").all(|cookie| cookies.contains(&&*cookie))
    }
}

/// Whether the fields of a version, but for those that every answer has of its own, are all there, and no others.
fn same_fields(version: &Version, sent: &Sent<'_>, kept: impl Fn(&str) -> bool) -> Verdict {
    const OWN: [&str; 8] = [
        "via",
        "age",
        "cache-status",
        "content-length",
        "content-range",
        "date",
        "set-cookie",
        "accept-ranges",
    ];
    let names = version.headers.keys().chain(sent.headers.keys());
    for name in names.filter(|name| kept(name.as_str()) && !OWN.contains(&name.as_str())) {
        let same = rfc::lines(&version.headers, name.as_str()).eq(rfc::lines(sent.headers, name.as_str()));
        must(same, &format!("the field {name} is not as it was stored"))?;
    }
    Ok(())
}

/// Whether the client has the beginning of this very version, or does not care (RFC 9110, section 13.1.5).
fn if_range(version: &Version, asked: &Asked) -> bool {
    let tag = rfc::text(&version.headers, "etag");
    rfc::text(&asked.headers, "if-range").is_none_or(|named| tag.is_some_and(|tag| rfc::strong(named, tag)))
}
