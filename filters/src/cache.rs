//! Keeps responses and answers with them, as RFC 9111 has it.
//!
//! | the request, and what is stored | what happens |
//! | --- | --- |
//! | GET or HEAD, fresh | answered from the store |
//! | stale, with leave to serve it | answered from the store, fetched anew behind |
//! | stale | the app is asked whether it is still good |
//! | nothing | fetched; others who ask meanwhile share the fetch |
//! | PUT, DELETE, POST and the like | to the app; if that does not refuse, what is stored of the URL is gone |
//!
//! A response is stored when the RFC allows it and its body is complete: never one that was cut short, or whose end only
//! the connection's end tells. What is stored is bounded by bytes. A dead app is answered for with what is stale, for as
//! long as that is allowed.
//!
//! The filter stands before those whose work is to be done once for all who ask, such as compression, and after those that
//! see every request, such as metrics.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pingora_http::ResponseHeader;

use crate::{BuildError, Context, Dispatcher, Exchange, Failure, Filter, Link, Phases, Plugin, Recoder, Step, Turn};

mod answer;
#[cfg(test)]
mod cases;
mod conditional;
mod config;
mod control;
mod counters;
mod entry;
mod fetch;
mod fill;
mod freshness;
mod invalidate;
mod key;
mod lookup;
mod personal;
#[cfg(test)]
mod properties;
mod range;
mod recoding;
mod reuse;
mod rules;
mod shared;
mod status;
mod statuses;
mod storable;
mod store;
mod syntax;
mod tags;
mod update;
mod vary;
mod warm;
mod words;

pub use config::{Config, Side};
pub(crate) use key::{cookie, names, origin};
pub use shared::{Cache, EntryReport, Purge, Report, RouteReport};

use counters::{Counters, StoreMetrics};
use fetch::Fetch;
use rules::Rules;
use status::Forward;
use store::Store;
use warm::Warmer;

const NAME: &str = "cache";

/// The `cache` plugin.
pub struct CachePlugin;

impl Plugin for CachePlugin {
    const NAME: &'static str = NAME;
    type Config = Config;
    const WORDS: crate::Words = words::WORDS;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let rules = Rules::new(&config)?;
        if let Some(warning) = personal::warning(&config, context.matches) {
            context.warn(warning);
        }
        let metrics = StoreMetrics::of(context)?;
        let warmer = || Warmer::new(context.route.direction, context.filter, context.background.clone());
        let cache = context.shared(|| Cache::new(metrics, warmer()));
        cache.configure(&config).map_err(BuildError::Meaning)?;
        let counters = Arc::new(Counters::of(context)?);
        cache.knows(&context.route.name, counters.clone(), &rules.key);
        Ok(Arc::new(CacheFilter(Arc::new(Inner {
            store: cache.store(config.max_size.0),
            cache,
            counters,
            rules,
            filter: Arc::from(context.filter),
            background: context.background.clone(),
            recoder: OnceLock::new(),
        }))))
    }
}

/// What a route's cache works with.
struct Inner {
    cache: Arc<Cache>,
    store: Arc<Store>,
    counters: Arc<Counters>,
    rules: Rules,
    filter: Arc<str>,
    background: Arc<dyn Dispatcher>,
    /// What a filter after this one makes of stored bodies.
    recoder: OnceLock<Arc<dyn Recoder>>,
}

/// What the way in leaves for the way out.
enum State {
    /// The cache leaves the request alone.
    Bypass(&'static str),
    /// The method is none that is stored, and changes nothing.
    Method,
    /// The method may change something.
    Unsafe,
    /// The request went to the app.
    Fetch(Box<Fetch>),
}

struct CacheFilter(Arc<Inner>);

impl Filter for CacheFilter {
    fn phases(&self) -> Phases {
        Phases::REQUEST | Phases::RESPONSE | Phases::RESPONSE_BODY
    }

    fn linked(&self, after: &[Link]) {
        if let Some(recoder) = after.iter().find_map(|link| link.filter.recoder()) {
            // A chain is compiled once.
            let _ = self.0.recoder.set(recoder);
        }
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        self.0.request(exchange)
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHeader) -> Turn {
        let Some(mut state) = exchange.take_state::<State>() else {
            return Turn::Keep;
        };
        let turn = match &mut state {
            State::Bypass(reason) => {
                status::forwarded(head, Forward::Bypass, None, false, Some(reason));
                Turn::Keep
            }
            State::Method => {
                status::forwarded(head, Forward::Method, None, false, None);
                Turn::Keep
            }
            State::Unsafe => {
                self.0.invalidate(exchange, head);
                status::forwarded(head, Forward::Method, None, false, None);
                Turn::Keep
            }
            State::Fetch(fetch) => self.0.response(exchange, head, fetch),
        };
        if let State::Fetch(fetch) = state {
            exchange.set_state(State::Fetch(fetch));
        }
        turn
    }

    fn response_body(&self, exchange: &mut Exchange, chunk: &mut Option<Bytes>, end: bool) -> Result<(), Failure> {
        if let Some(State::Fetch(mut fetch)) = exchange.take_state::<State>() {
            self.0.body(exchange, chunk, end, &mut fetch);
            exchange.set_state(State::Fetch(fetch));
        }
        Ok(())
    }
}

/// The URL in a key.
fn url_of(key: &[u8]) -> &[u8] {
    let key = key.get(1..).unwrap_or_default();
    let end = key.iter().position(|&byte| byte == 0).unwrap_or(key.len());
    &key[..end]
}

/// For `fuzz/`.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderName, Method, StatusCode};

    use super::control::{RequestControl, ResponseControl};
    use super::freshness::{self, Heuristic, Policy};
    use super::reuse::{self, Stored};
    use super::storable::{self, Asked};
    use super::vary::{self, Vary};
    use super::{conditional, range};

    /// Takes all the cache's decisions on a request and a response.
    ///
    /// # Panics
    /// When one contradicts another.
    pub fn judge(request: &HeaderMap, response: &HeaderMap, status: u16, seconds: u32) {
        let Ok(status) = StatusCode::from_u16(status) else {
            return;
        };
        let policy = Policy {
            shared: true,
            heuristic: Some(Heuristic {
                fraction: 0.1,
                max: Duration::from_secs(86_400),
            }),
            ..Policy::default()
        };
        let targeted = [HeaderName::from_static("cdn-cache-control")];
        let control = ResponseControl::of(response, &targeted);
        let asked = RequestControl::of(request);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(seconds));
        let lifetime = freshness::lifetime(status, response, &control, &policy, now);
        let age = freshness::initial_age(response, now, now + Duration::from_secs(1));
        let about = Asked {
            method: &Method::GET,
            authorization: request.contains_key("authorization"),
            no_store: asked.no_store,
        };
        let may = storable::may_store(&about, status, response, &control, lifetime, &policy);
        if may.is_ok() {
            assert!(
                !control.no_store || control.must_understand,
                "stored in spite of no-store"
            );
            assert!(!asked.no_store, "stored in spite of the request");
            assert!(Vary::of(response) != Vary::Any, "stored in spite of Vary: *");
        }
        let stored = Stored::of(&control, lifetime, &policy);
        let verdict = reuse::judge(&stored, age, &asked, true);
        if asked.no_cache || stored.no_cache {
            assert!(matches!(verdict, reuse::Verdict::Revalidate(_)), "{verdict:?}");
        }
        let _ = reuse::usable_on_error(&stored, age, &asked);
        let _ = storable::fields_to_drop(&control, &policy, response);
        if let Vary::Names(names) = Vary::of(response) {
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            vary::write_secondary(&names, request, &mut once);
            vary::write_secondary(&names, request, &mut twice);
            assert_eq!(once, twice);
        }
        let etag = response.get("etag").map(|tag| tag.as_bytes());
        let modified = response.get("last-modified").map(|date| date.as_bytes());
        let _ = conditional::evaluate(request, &Method::GET, etag, modified, Some(now));
        let length = u64::from(seconds);
        if let range::Ranged::Part { first, last } = range::evaluate(request, &Method::GET, length, etag, modified) {
            assert!(first <= last && last < length, "{first}-{last} of {length}");
        }
    }
}
