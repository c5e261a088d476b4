//! Compiles a configuration: filters are built, chains linked, routes grouped.

use std::num::NonZeroU32;
use std::sync::Arc;

use pillion_filters::{
    BuildError, Chain, Context, Direction, Dispatcher, Filter, Link, Matches, NoBackground, Phases, Plan, Registry,
    Remark, Route, SharedState, Telemetry, Timeouts, Warnings,
};

use super::routes::{Conditions, RouteTable};
use super::upstreams::{APP, Destinations, endpoint};
use super::{CompiledRoute, Side, Snapshot, Upstream};
use crate::config::{
    self, ConfigError, ConfigErrors, ConfigWarnings, ConfiguredFilter, ForwardedStyle, HeaderMatch, Loaded, Node,
    OutboundProtocol, Position, suggest,
};
use crate::engine::{Forwarding, PoolLimits, Style};
use crate::explain::Recorder;
use crate::upstream::{Endpoint, Protocol, Upstreams};

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
    /// What is remembered of exchanges.
    pub(crate) recorder: Arc<Recorder>,
    /// The groups of the configuration in force.
    pub(crate) upstreams: Arc<Upstreams>,
}

/// Compiles a configuration and tells what filters warn of, or everything that is wrong with them.
pub(crate) fn build(loaded: &Loaded, ground: &Ground) -> Result<(Snapshot, ConfigWarnings), ConfigErrors> {
    let mut builder = Builder {
        loaded,
        ground,
        destinations: Destinations::new(&loaded.config, &ground.upstreams),
        errors: Vec::new(),
        warnings: Vec::new(),
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
        let warnings = std::mem::take(&mut builder.warnings).into_iter().map(Warned::told);
        let warnings = warnings.chain(loaded.forgotten()).collect();
        let warnings = ConfigWarnings::new(warnings, loaded.sources.clone());
        let destinations = builder.destinations;
        let snapshot = Snapshot {
            inbound,
            outbound,
            explain: (&config.explain).into(),
            destinations,
        };
        Ok((snapshot, warnings))
    } else {
        Err(ConfigErrors::new(builder.errors, loaded.sources.clone()))
    }
}

/// A filter, and the name of its plugin.
type Built = (&'static str, Arc<dyn Filter>);

struct Builder<'a> {
    loaded: &'a Loaded,
    ground: &'a Ground,
    destinations: Destinations,
    errors: Vec<ConfigError>,
    warnings: Vec<Warned>,
}

/// A warning, and all that give rise to it: settings that routes inherit are warned of once.
struct Warned {
    position: Position,
    remark: Remark,
    /// The filters' settings: `filters.cache`, `routes[2].filters.cache`.
    settings: Vec<String>,
}

impl Warned {
    fn told(self) -> ConfigError {
        let key = self.remark.path();
        let Remark { message, help, .. } = self.remark;
        let paths = self.settings.iter().map(|settings| format!("{settings}.{key}"));
        let paths: Vec<String> = paths.collect();
        let error = ConfigError::new(self.position, format!("{}: {message}", paths.join(", ")));
        ConfigError { help, ..error }.with_path(paths.into_iter().next().unwrap_or_default())
    }
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
        let app_group = app.is_some().then(|| self.destinations.get(APP)).flatten();
        let upstream = app_group
            .cloned()
            .map_or(Upstream::Authority(protocol), Upstream::Named);
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
                max_lifetime: config.pool.max_lifetime.0.map(|limit| limit.0),
                max_requests: config.pool.max_requests.0.map(NonZeroU32::get),
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
        let named = configured.and_then(|route| self.destinations.get(route.upstream.as_deref()?));
        let upstream = named.map_or_else(|| upstream.clone(), |named| Upstream::Named(named.clone()));
        let timeouts = configured.map_or_else(
            || config.timeouts.clone(),
            |route| config.timeouts.overlaid(&route.timeouts),
        );
        let name = match (configured, index) {
            (Some(_), Some(index)) => self.loaded.route_name(index),
            _ => UNMATCHED.to_owned(),
        };
        let route = Arc::new(Route {
            service: Arc::from(config.service.as_str()),
            name: Arc::from(name),
            matched: configured.is_some(),
            direction,
            upstream: match &upstream {
                Upstream::Named(destination) => Some(destination.group.name().clone()),
                Upstream::Authority(_) => None,
            },
            error_format: config.errors.format.into(),
            plan: Plan {
                timeouts: Timeouts {
                    connect: Some(timeouts.connect.0),
                    attempt: None,
                    first_byte: Some(timeouts.first_byte.0),
                    idle: Some(timeouts.idle.0),
                    tunnel: Some(timeouts.tunnel.0),
                    exchange: timeouts.exchange.0.map(|limit| limit.0),
                },
                ..Plan::default()
            },
        });
        let matches = configured.map_or_else(Matches::default, |route| told(&route.matches));
        let filters = self.loaded.chain(direction, index);
        let links = filters.iter();
        let links = links
            .filter_map(|filter| self.link(filter, index, &route, &matches))
            .collect();
        self.off(direction, index, &route);
        CompiledRoute {
            route,
            chain: Chain::new(links),
            upstream,
        }
    }

    fn link(
        &mut self,
        filter: &ConfiguredFilter,
        index: Option<usize>,
        route: &Arc<Route>,
        matches: &Matches,
    ) -> Option<Link> {
        let warnings = Warnings::default();
        let upstreams = self.destinations.names();
        let context = Context {
            filter: &filter.name,
            route,
            matches,
            telemetry: &self.ground.telemetry,
            state: &self.ground.state,
            background: &self.ground.background,
            warnings: &warnings,
            upstreams: Some(&upstreams),
        };
        let built = self.filter(filter, &context);
        self.warn(filter, index, warnings);
        match built {
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
        // Nor is there anything to warn of in what does nothing.
        let warnings = Warnings::default();
        let upstreams = self.destinations.names();
        for filter in self.loaded.off(direction, index) {
            let context = Context {
                filter: &filter.name,
                route,
                matches: &Matches::default(),
                telemetry: &telemetry,
                state: &state,
                background: &background,
                warnings: &warnings,
                upstreams: Some(&upstreams),
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
            Err(BuildError::Meaning(message)) => Ok(Err(vec![error(format!("{}: {message}", filter.path))])),
            Err(BuildError::Mistakes(mistakes)) => Ok(Err(mistakes
                .into_iter()
                .map(|mistake| remarked(filter, mistake))
                .collect())),
        });
        built?.map(|built| (entry.name, built))
    }

    /// Takes note of what a filter warns of.
    fn warn(&mut self, filter: &ConfiguredFilter, index: Option<usize>, warnings: Warnings) {
        let settings = index.map_or_else(
            || filter.path.clone(),
            |index| format!("routes[{index}].filters.{}", filter.name),
        );
        for remark in warnings.into_remarks() {
            let position = place(&filter.settings, &remark).pos.clone();
            let mut known = self.warnings.iter_mut();
            match known.find(|known| known.position == position && known.remark == remark) {
                Some(known) => known.settings.push(settings.clone()),
                None => self.warnings.push(Warned {
                    position,
                    remark,
                    settings: vec![settings.clone()],
                }),
            }
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

/// A mistake, at the setting it is about. What it says of a value from the environment is taken back.
fn remarked(filter: &ConfiguredFilter, mistake: Remark) -> ConfigError {
    let node = place(&filter.settings, &mistake);
    let path = format!("{}.{}", filter.path, mistake.path());
    let Remark {
        message, help, missing, ..
    } = mistake;
    let message = node.without_variables(message);
    let error = ConfigError::new(node.pos.clone(), format!("{path}: {message}"));
    ConfigError { help, missing, ..error }.with_path(path)
}

/// The value that a remark is about, or the nearest mapping around it that is written.
fn place<'n>(settings: &'n Node, remark: &Remark) -> &'n Node {
    let keys: Vec<&str> = remark.key.split('.').collect();
    let written = (0..=keys.len()).rev().find_map(|length| settings.at(&keys[..length]));
    let node = written.unwrap_or(settings);
    let element = remark.element.and_then(|index| node.elements().get(index));
    element.unwrap_or(node)
}

/// A route's conditions as plugins are told them.
fn told(conditions: &config::Match) -> Matches {
    let headers = conditions.headers.iter();
    let present = headers.filter(|(_, wanted)| !matches!(wanted, HeaderMatch::Present { present: false }));
    Matches {
        path: conditions.path.as_ref().map(|path| path.as_str().to_owned()),
        methods: conditions.allowed_methods(),
        headers: present.filter_map(|(name, _)| name.parse().ok()).collect(),
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
            recorder: Arc::new(Recorder::new(&Registry::empty())),
            registry: Registry::empty().with::<Needy>(),
            telemetry: Telemetry::default(),
            state: SharedState::default(),
            background: Arc::new(NoBackground),
            upstreams: Arc::default(),
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
