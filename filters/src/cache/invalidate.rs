//! Requests that may have changed something end what is stored of their URL (RFC 9111, section 4.4).

use http::HeaderName;
use http::header::{CONTENT_LOCATION, LOCATION};
use http::uri::{PathAndQuery, Uri};
use pingora_http::ResponseHeader;

use super::key::origin;
use super::{Inner, NAME, url_of};
use crate::Exchange;

impl Inner {
    /// After an unsafe request that was not refused: what is stored of its URL is gone, of those its response names on the
    /// same origin, and what the route's configuration names.
    pub(super) fn invalidate(&self, exchange: &mut Exchange, head: &ResponseHeader) {
        if !head.status.is_success() && !head.status.is_redirection() {
            return;
        }
        let mut key = Vec::new();
        self.rules.key.write(exchange, None, &mut key);
        let tags = &self.cache.tags;
        let mut purged = tags.purge_known(url_of(&key));
        for name in [LOCATION, CONTENT_LOCATION] {
            if let Some(target) = self.same_origin(exchange, head, &name) {
                purged |= tags.purge_known(&target);
            }
        }
        for tag in &self.rules.invalidate_tags {
            tags.purge_tag(tag.as_bytes());
            purged = true;
        }
        let (scheme, authority) = origin(exchange);
        for prefix in &self.rules.invalidate_prefixes {
            let mut url = Vec::new();
            self.rules.key.write_url(scheme, authority, prefix.as_bytes(), &mut url);
            tags.purge_prefix(&url);
            purged = true;
        }
        if purged {
            exchange.ledger.enter(NAME, "invalidated");
        }
    }

    /// The URL a header names, as keys have it, if it is of the same origin: nobody may end what belongs to others.
    fn same_origin(&self, exchange: &Exchange, head: &ResponseHeader, name: &HeaderName) -> Option<Vec<u8>> {
        let named = head.headers.get(name)?.to_str().ok()?;
        let (scheme, authority) = origin(exchange);
        let mut own = Vec::new();
        self.rules.key.write_url(scheme, authority, b"/", &mut own);
        let target = match named.parse::<Uri>() {
            Ok(uri) if uri.scheme().is_some() => {
                let host = uri.authority()?.as_str();
                let mut other = Vec::new();
                self.rules
                    .key
                    .write_url(uri.scheme_str()?, host.as_bytes(), b"/", &mut other);
                if other != own {
                    return None;
                }
                uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
            }
            _ if named.starts_with("//") => return None,
            _ if named.starts_with('/') => named.split('#').next()?.to_owned(),
            // Relative to the request's path (RFC 3986, section 5.2); dot segments are left to those who send them.
            _ => {
                let path = exchange.request.uri.path();
                let folder = &path[..=path.rfind('/')?];
                format!("{folder}{}", named.split('#').next()?)
            }
        };
        let mut url = Vec::new();
        self.rules.key.write_url(scheme, authority, target.as_bytes(), &mut url);
        Some(url)
    }
}
