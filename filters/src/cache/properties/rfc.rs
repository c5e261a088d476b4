//! The rules of RFC 9111 once more, written from its text, simply: directives, lifetimes, ages, selection.
//!
//! Nothing here comes from the plugin. Where the text leaves a choice, both are allowed, or the plugin's documented one.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};

use super::alphabet::CDN;
use super::policy::Policy;

/// Directives of a field, names in lower case, arguments without quotes.
#[derive(Clone, Debug, Default)]
pub(super) struct Control {
    directives: Vec<(String, Option<String>)>,
    /// A targeted field said so; `Expires` does not count.
    pub(super) targeted: bool,
}

impl Control {
    /// Section 5.2.
    pub(super) fn of(headers: &HeaderMap, name: &str) -> Self {
        let members = lines(headers, name).flat_map(|line| split(&line, ','));
        let directives = members.map(|member| {
            let (name, argument) = match member.split_once('=') {
                Some((name, argument)) => (name, Some(argument.trim_matches('"').to_owned())),
                None => (&*member, None),
            };
            (name.trim().to_ascii_lowercase(), argument)
        });
        Self {
            directives: directives.collect(),
            targeted: false,
        }
    }

    /// What counts in a response: the targeted field, if it is there and valid (RFC 9213), or else `Cache-Control`.
    pub(super) fn of_response(headers: &HeaderMap, policy: &Policy) -> Self {
        let valid = |value: &str| !matches!(value, "&&" | "max-age=\"3\"" | "");
        if policy.targeted && lines(headers, CDN.as_str()).any(|line| valid(&line)) {
            let mut control = Self::of(headers, CDN.as_str());
            control.targeted = true;
            return control;
        }
        Self::of(headers, "cache-control")
    }

    /// What counts in a request; `Pragma` only in place of `Cache-Control` (section 5.4).
    pub(super) fn of_request(headers: &HeaderMap, policy: &Policy) -> Self {
        if !policy.client_directives {
            Self::default()
        } else if headers.contains_key("cache-control") {
            Self::of(headers, "cache-control")
        } else {
            Self::of(headers, "pragma")
        }
    }

    /// Whether it is there, whatever its argument.
    pub(super) fn has(&self, name: &str) -> bool {
        self.directives.iter().any(|(found, _)| found == name)
    }

    /// Whether it is there without field names: it is meant for the whole response.
    pub(super) fn whole(&self, name: &str) -> bool {
        self.directives
            .iter()
            .any(|(found, fields)| found == name && fields.is_none())
    }

    /// The fields that `no-cache` or `private` names.
    pub(super) fn names(&self, name: &str, field: &str) -> bool {
        let lists = self.directives.iter().filter(|(found, _)| found == name);
        let mut fields = lists
            .filter_map(|(_, fields)| fields.as_deref())
            .flat_map(|list| list.split(','));
        fields.any(|named| named.trim().eq_ignore_ascii_case(field))
    }

    /// A number of seconds: of several the first, and what is none is nothing (section 4.2.1).
    pub(super) fn seconds(&self, name: &str) -> Option<Duration> {
        let (_, argument) = self.directives.iter().find(|(found, _)| found == name)?;
        let argument = argument.as_deref().unwrap_or_default();
        let digits = !argument.is_empty() && argument.bytes().all(|byte| byte.is_ascii_digit());
        Some(Duration::from_secs(if digits {
            argument.parse().unwrap_or(u64::MAX)
        } else {
            0
        }))
    }

    /// `max-stale`: without an argument, however stale.
    pub(super) fn max_stale(&self) -> Option<Duration> {
        if self.whole("max-stale") {
            Some(Duration::MAX)
        } else {
            self.seconds("max-stale")
        }
    }
}

/// The lines of a field.
pub(super) fn lines(headers: &HeaderMap, name: &str) -> impl Iterator<Item = String> {
    let lines = headers.get_all(name).iter();
    lines.map(|line| line.to_str().unwrap().to_owned())
}

/// The members of a list. Separators between quotes do not count.
pub(super) fn split(line: &str, at: char) -> Vec<String> {
    let (mut members, mut member, mut quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        quoted ^= character == '"';
        if character == at && !quoted {
            members.push(std::mem::take(&mut member));
        } else {
            member.push(character);
        }
    }
    members.push(member);
    let members = members.iter().map(|member| member.trim().to_owned());
    members.filter(|member| !member.is_empty()).collect()
}

pub(super) fn members(headers: &HeaderMap, name: &str) -> Vec<String> {
    lines(headers, name).flat_map(|line| split(&line, ',')).collect()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

pub(super) fn date(headers: &HeaderMap, name: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, name)?).ok()
}

/// RFC 9110, section 15.1.
pub(super) fn cacheable_by_default(status: u16) -> bool {
    [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501].contains(&status)
}

/// Whether the operator says how long responses of a status are fresh.
pub(super) fn configured(status: u16, policy: &Policy) -> Option<Duration> {
    let negative = policy.negative.iter().find(|(of, _)| *of == status);
    let ttl = policy.ttl.filter(|_| cacheable_by_default(status));
    negative.map(|(_, time)| *time).or(ttl)
}

/// Section 4.2.1 and 4.2.2: how long a response is fresh, and whether the operator said so against its own word.
pub(super) fn lifetime(
    status: u16,
    headers: &HeaderMap,
    generated: SystemTime,
    policy: &Policy,
    shared: bool,
) -> (Duration, bool) {
    let control = Control::of_response(headers, policy);
    let configured = configured(status, policy);
    if let Some(time) = configured.filter(|_| policy.overrides) {
        return (time, true);
    }
    let since = |later: SystemTime, earlier| later.duration_since(earlier).unwrap_or_default();
    let expires = text(headers, "expires").filter(|_| !control.targeted);
    let for_shared = control.seconds("s-maxage").filter(|_| shared);
    let time = if let Some(time) = for_shared.or(control.seconds("max-age")) {
        time
    } else if let Some(expires) = expires {
        httpdate::parse_http_date(expires).map_or(Duration::ZERO, |expires| since(expires, generated))
    } else if let Some(time) = configured {
        time
    } else if let (Some(most), Some(modified)) = (policy.heuristic, date(headers, "last-modified"))
        && (control.has("public") || cacheable_by_default(status))
    {
        (since(generated, modified) / 10).min(most)
    } else {
        Duration::ZERO
    };
    (time, false)
}

/// Section 4.2.3: the age on arrival, `took` after the request was sent. A `Date` has whole seconds.
pub(super) fn initial_age(headers: &HeaderMap, generated: SystemTime, heard: SystemTime, took: Duration) -> Duration {
    let apparent = heard.duration_since(generated).unwrap_or_default();
    let said = members(headers, "age").first().and_then(|age| age.parse().ok());
    let corrected = Duration::from_secs(said.unwrap_or(0)) + took;
    corrected.max(Duration::from_secs(apparent.as_secs()))
}

/// Section 4.1: whether two requests are the same to a response with that `Vary`.
pub(super) fn selects(varying: &HeaderMap, original: &HeaderMap, request: &HeaderMap) -> bool {
    members(varying, "vary").iter().all(|name| {
        let said = |headers: &HeaderMap| headers.contains_key(&**name).then(|| members(headers, name));
        name != "*" && said(original) == said(request)
    })
}

/// RFC 9110, section 8.8.3.2.
pub(super) fn strong(one: &str, other: &str) -> bool {
    one == other && !one.starts_with("W/")
}

pub(super) fn weak(one: &str, other: &str) -> bool {
    one.trim_start_matches("W/") == other.trim_start_matches("W/")
}

/// Whether a client with these conditions has that response of 200 already (RFC 9110, section 13.2.2).
pub(super) fn has_it(conditions: &HeaderMap, response: &HeaderMap) -> bool {
    if conditions.contains_key("if-none-match") {
        let tag = text(response, "etag");
        return members(conditions, "if-none-match")
            .iter()
            .any(|member| member == "*" || tag.is_some_and(|tag| weak(member, tag)));
    }
    let modified = date(response, "last-modified").or(date(response, "date"));
    match (date(conditions, "if-modified-since"), modified) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

/// The bytes that a `Range` asks for (RFC 9110, section 14.1.2): `Err` where there are none.
pub(super) fn range(range: &str, length: usize) -> Result<std::ops::Range<usize>, ()> {
    let (first, last) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .ok_or(())?;
    let range = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => first..(last + 1).min(length),
        (Ok(first), Err(_)) => first..length,
        (Err(_), Ok(suffix)) => length.saturating_sub(suffix)..length,
        (Err(_), Err(_)) => return Err(()),
    };
    if range.start < length { Ok(range) } else { Err(()) }
}

/// Fields that are of the connection (RFC 9110, section 7.6.1) or that the directives keep from being served, where callers
/// mix or not (RFC 9111, sections 3.1, 5.2.2.4 and 5.2.2.7).
pub(super) fn forbidden(name: &HeaderName, headers: &HeaderMap, control: &Control, mixes: bool) -> bool {
    let hop = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    // Where the whole is meant, so that it is for one request alone, no field needs to be left out of it.
    let names = |directive| control.names(directive, name.as_str()) && !control.whole(directive);
    hop.contains(&name.as_str())
        || members(headers, "connection")
            .iter()
            .any(|option| option.eq_ignore_ascii_case(name.as_str()))
        || names("no-cache")
        || (mixes && (names("private") || name.as_str() == "set-cookie"))
}
