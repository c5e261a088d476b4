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

use std::sync::Arc;

use bytes::Bytes;
use pingora_http::ResponseHeader;

use crate::{BuildError, Context, Dispatcher, Exchange, Failure, Filter, Phases, Plugin, Step, Turn};

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

pub use config::{Config, Side};
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
