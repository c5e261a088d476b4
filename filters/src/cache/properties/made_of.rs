//! Whether an answer is made of a stored response, and of nothing else.

use http::{HeaderMap, Method};

use super::history::{Asked, Version};
use super::oracle::{Oracle, Sent, Verdict, must};
use super::rfc::{self, Control};

impl Oracle<'_> {
    /// Whether the answer is made of that version: status, fields and bytes.
    pub(super) fn matches(&self, version: &Version, stored: &Version, asked: &Asked, sent: &Sent<'_>) -> Verdict {
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
