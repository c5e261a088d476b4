//! Compiles a configuration: filters are built, chains linked, routes grouped.

use std::num::NonZeroU32;
use std::sync::Arc;

use pillion_filters::{
    BuildError, Chain, Context, Direction, Dispatcher, Filter, Link, NoBackground, Phases, Plan, Registry, Route,
    SharedState, Telemetry, Timeouts,
};

use super::routes::{Conditions, RouteTable};
use super::{CompiledRoute, Side, Snapshot};
use crate::config::{
    self, AppAddress, ConfigError, ConfigErrors, ConfiguredFilter, ForwardedStyle, Loaded, OutboundProtocol, suggest,
};
use crate::engine::{Forwarding, PoolLimits, Style};
use crate::upstream::{Address, Endpoint, Protocol, Upstream};

/// The name of the route for what no route matches; its path never becomes a label.
const UNMATCHED: &str = "unmatched";

/// What snapshots are built on, and outlives them.
pub(crate) struct Ground {
    /// The plugins.
    pub(crate) registry: Registry,
    /// Where filters report to.
    pub(crate) telemetry: Telemetry,
    /// What filters remember across snapshots.
    pub(crate) state: SharedState,
    /// Runs exchanges that no client asked for.
    pub(crate) background: Arc<dyn Dispatcher>,
}

/// Compiles a configuration, or tells everything that is wrong with its filters.
pub(crate) fn build(loaded: &Loaded, ground: &Ground) -> Result<Snapshot, ConfigErrors> {
    let mut builder = Builder {
        loaded,
        ground,
        errors: Vec::new(),
    };
    let config = &loaded.config;
    let inbound = config.inbound.as_ref().map(|inbound| {
        let app = Arc::new(endpoint(&inbound.app));
        builder.side(Direction::Inbound, &inbound.connections, Some(app))
    });
    let outbound = config
        .outbound
        .as_ref()
        .map(|outbound| builder.side(Direction::Outbound, &outbound.connections, None));
    if builder.errors.is_empty() {
        Ok(Snapshot { inbound, outbound })
    } else {
        Err(ConfigErrors::new(builder.errors, loaded.sources.clone()))
    }
}

/// A filter, and the name of its plugin.
type Built = (&'static str, Arc<dyn Filter>);

struct Builder<'a> {
    loaded: &'a Loaded,
    ground: &'a Ground,
    errors: Vec<ConfigError>,
}

impl Builder<'_> {
    fn side(&mut self, direction: Direction, limits: &config::ConnectionLimits, app: Option<Arc<Endpoint>>) -> Side {
        let config = &self.loaded.config;
        let protocol = config
            .outbound
            .as_ref()
            .map_or(Protocol::Http1, |outbound| match outbound.protocol {
                OutboundProtocol::Http1 => Protocol::Http1,
                OutboundProtocol::H2c => Protocol::H2c,
                OutboundProtocol::Auto => Protocol::Auto,
            });
        let upstream = app.clone().map_or(Upstream::Authority(protocol), Upstream::App);
        let routes = config
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| Direction::from(route.direction) == direction)
            .map(|(index, route)| {
                let conditions = Conditions::new(&route.matches);
                (conditions, self.route(direction, Some(index), &upstream))
            })
            .collect();
        let unmatched = self.route(direction, None, &upstream);
        Side {
            limits: limits.into(),
            pool: PoolLimits {
                max_idle: config.pool.max_idle,
                idle_timeout: config.pool.idle_timeout.0,
                max_lifetime: config.pool.max_lifetime.map(|limit| limit.0),
                max_requests: config.pool.max_requests.map(NonZeroU32::get),
            },
            forwarding: Forwarding {
                style: match config.forwarded.style {
                    ForwardedStyle::XForwarded => Style::XForwarded,
                    ForwardedStyle::Forwarded => Style::Forwarded,
                    ForwardedStyle::Off => Style::Off,
                },
                trust: config.forwarded.trust.clone(),
            },
            app,
            routes: RouteTable::new(routes, unmatched),
        }
    }

    fn route(&mut self, direction: Direction, index: Option<usize>, upstream: &Upstream) -> CompiledRoute {
        let config = &self.loaded.config;
        let configured = index.and_then(|index| config.routes.get(index));
        let timeouts = configured.map_or_else(
            || config.timeouts.clone(),
            |route| config.timeouts.overlaid(&route.timeouts),
        );
        let name = match (configured, index) {
            (Some(route), Some(index)) => route_name(route, index),
            _ => UNMATCHED.to_owned(),
        };
        let route = Arc::new(Route {
            service: Arc::from(config.service.as_str()),
            name: Arc::from(name),
            matched: configured.is_some(),
            direction,
            error_format: config.errors.format.into(),
            plan: Plan {
                timeouts: Timeouts {
                    connect: Some(timeouts.connect.0),
                    first_byte: Some(timeouts.first_byte.0),
                    idle: Some(timeouts.idle.0),
                    tunnel: Some(timeouts.tunnel.0),
                    exchange: timeouts.exchange.map(|limit| limit.0),
                },
                ..Plan::default()
            },
        });
        let filters = self.loaded.chain(direction, index);
        let links = filters.iter().filter_map(|filter| self.link(filter, &route)).collect();
        self.off(direction, index, &route);
        CompiledRoute {
            route,
            chain: Chain::new(links),
            upstream: upstream.clone(),
        }
    }

    fn link(&mut self, filter: &ConfiguredFilter, route: &Arc<Route>) -> Option<Link> {
        let context = Context {
            filter: &filter.name,
            route,
            telemetry: &self.ground.telemetry,
            state: &self.ground.state,
            background: &self.ground.background,
        };
        match self.filter(filter, &context) {
            // One that takes part in nothing costs nothing.
            Ok((_, built)) if built.phases() == Phases::NONE => None,
            Ok((plugin, built)) => Some(Link {
                plugin,
                name: Arc::from(filter.name.as_str()),
                filter: built,
            }),
            Err(errors) => {
                self.report(errors);
                None
            }
        }
    }

    /// Tells the mistakes in the settings of filters that are off: they would come to light when one is turned on, by somebody
    /// else at another time.
    fn off(&mut self, direction: Direction, index: Option<usize>, route: &Arc<Route>) {
        // What is built here for nothing leaves no metric and no state behind.
        let (telemetry, state) = (Telemetry::default(), SharedState::default());
        let background: Arc<dyn Dispatcher> = Arc::new(NoBackground);
        for filter in self.loaded.off(direction, index) {
            let context = Context {
                filter: &filter.name,
                route,
                telemetry: &telemetry,
                state: &state,
                background: &background,
            };
            if let Err(mut errors) = self.filter(&filter, &context) {
                // What is still missing may come with `enabled: true`, from another layer.
                errors.retain(|error| !error.missing);
                self.report(errors);
            }
        }
    }

    fn filter(&self, filter: &ConfiguredFilter, context: &Context<'_>) -> Result<Built, Vec<ConfigError>> {
        let error = |message: String| ConfigError::new(filter.settings.pos.clone(), message).with_path(&*filter.path);
        let Some(entry) = self.ground.registry.get(&filter.plugin) else {
            let known = self.ground.registry.entries().iter().map(|entry| entry.name);
            let error = error(format!("unknown plugin `{}`", filter.plugin));
            return Err(vec![error.with_help(suggest(&filter.plugin, known))]);
        };
        let built = config::deserialize_erased(&filter.settings, &filter.path, &mut |deserializer| match entry
            .build(deserializer, context)
        {
            Ok(built) => Ok(Ok(built)),
            Err(BuildError::Shape(error)) => Err(error),
            Err(BuildError::Meaning(message)) => Ok(Err(message)),
        });
        match built? {
            Ok(built) => Ok((entry.name, built)),
            Err(message) => Err(vec![error(format!("{}: {message}", filter.path))]),
        }
    }

    /// A mistake in a service's settings shows in every route that inherits them; it is told once.
    fn report(&mut self, errors: Vec<ConfigError>) {
        for error in errors {
            if !self.errors.iter().any(|known| known.to_string() == error.to_string()) {
                self.errors.push(error);
            }
        }
    }
}

/// A route's name: given, or its template, or its place.
fn route_name(route: &config::Route, index: usize) -> String {
    let template = route.matches.path.as_ref().map(|path| path.as_str().to_owned());
    route
        .name
        .clone()
        .or(template)
        .unwrap_or_else(|| format!("route-{index}"))
}

/// The app's address as the engine uses it.
fn endpoint(app: &AppAddress) -> Endpoint {
    match app {
        AppAddress::Http1 { host, port } => Endpoint::http1(host, *port),
        AppAddress::Http2 { host, port } => Endpoint::tcp(Protocol::H2c, host, *port),
        AppAddress::Auto { host, port } => Endpoint::tcp(Protocol::Auto, host, *port),
        AppAddress::Unix(path) => Endpoint {
            name: Arc::from(format!("unix:{}", path.display())),
            address: Address::Unix(path.clone()),
            protocol: Protocol::Http1,
        },
    }
}

#[cfg(test)]
mod tests {
    use pillion_filters::Plugin;
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    /// Cannot do without one of its keys.
    struct Needy;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read, to see what is refused")]
    struct Needs {
        ttl: u32,
        size: Option<u32>,
    }

    impl Filter for Needy {
        fn phases(&self) -> Phases {
            Phases::NONE
        }
    }

    impl Plugin for Needy {
        const NAME: &'static str = "needy";
        type Config = Needs;

        fn build(_: Needs, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
            Ok(Arc::new(Self))
        }
    }

    fn errors(settings: &str) -> String {
        let text = format!(
            "service: a\ninbound: {{ listen: '127.0.0.1:0', app: 'http://127.0.0.1:1' }}\nchain: [needy]\n\
             filters: {{ needy: {{ {settings} }} }}\n"
        );
        let loaded = config::load_str("a.yaml", &text, &[Needy::NAME]).unwrap();
        let ground = Ground {
            registry: Registry::empty().with::<Needy>(),
            telemetry: Telemetry::default(),
            state: SharedState::default(),
            background: Arc::new(NoBackground),
        };
        build(&loaded, &ground)
            .err()
            .map(|errors| errors.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_filter_that_is_off_may_be_unfinished_but_not_wrong() {
        assert_eq!(errors("enabled: false"), "");
        assert_eq!(errors("enabled: false, size: 3"), "");
        assert!(errors("enabled: true, size: 3").contains("missing key `ttl`"));
        for wrong in ["enabled: false, size: big", "enabled: false, ttl: 1, size: big"] {
            let told = errors(wrong);
            assert!(told.contains("filters.needy.size: expected a whole number"), "{told}");
            assert!(!told.contains('\n'), "{told}");
        }
        assert!(errors("enabled: false, sise: 3").contains("did you mean `size`?"));
    }
}
