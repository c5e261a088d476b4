//! Finds the route of a request: the first of the list whose conditions all hold.
//!
//! Routes are grouped by the first segment of their path, so the cost does not grow with routes that begin differently.

use std::collections::HashMap;

use http::{HeaderName, HeaderValue, Method};
use pingora_http::RequestHeader;

use super::CompiledRoute;
use crate::config::{HeaderMatch, HostPattern, Match, PathTemplate, Segment};

/// The conditions of a route, ready to be asked.
pub(super) struct Conditions {
    path: Option<PathTemplate>,
    methods: Vec<Method>,
    host: Option<HostPattern>,
    headers: Vec<(HeaderName, HeaderMatch)>,
}

/// A condition in words, and whether a request meets it.
pub(crate) type Held = (String, bool);

impl Conditions {
    /// The conditions of a configured route. Header names were checked with the configuration.
    pub(super) fn new(matches: &Match) -> Self {
        Self {
            path: matches.path.clone(),
            methods: matches.allowed_methods(),
            host: matches.host.clone(),
            headers: matches
                .headers
                .iter()
                .filter_map(|(name, value)| Some((name.parse().ok()?, value.clone())))
                .collect(),
        }
    }

    fn hold(&self, head: &RequestHeader, path: &str, authority: Option<&HeaderValue>) -> bool {
        // The same as `told`, which is asked when somebody wants to know.
        self.path.as_ref().is_none_or(|template| template.matches(path))
            && (self.methods.is_empty() || self.methods.contains(&head.method))
            && self.host.as_ref().is_none_or(|host| host_holds(host, authority))
            && self
                .headers
                .iter()
                .all(|(name, wanted)| header_holds(head, name, wanted))
    }

    /// Each condition, and whether it holds.
    fn told(&self, head: &RequestHeader, path: &str, authority: Option<&HeaderValue>) -> Vec<Held> {
        let mut told = Vec::new();
        if let Some(template) = &self.path {
            told.push((format!("the path is `{template}`"), template.matches(path)));
        }
        if !self.methods.is_empty() {
            let names: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
            let holds = self.methods.contains(&head.method);
            told.push((format!("the method is {}", names.join(" or ")), holds));
        }
        if let Some(host) = &self.host {
            told.push((format!("the host is `{host}`"), host_holds(host, authority)));
        }
        for (name, wanted) in &self.headers {
            let condition = match wanted {
                HeaderMatch::Present { present: true } => format!("there is a header `{name}`"),
                HeaderMatch::Present { present: false } => format!("there is no header `{name}`"),
                HeaderMatch::Exact(text) => format!("the header `{name}` is `{text}`"),
                HeaderMatch::Prefix { prefix } => format!("the header `{name}` begins with `{prefix}`"),
            };
            told.push((condition, header_holds(head, name, wanted)));
        }
        told
    }

    /// The literal text its path begins with, if it does.
    fn first_segment(&self) -> Option<&str> {
        match self.path.as_ref()?.segments().first()? {
            Segment::Literal(text) => Some(text),
            Segment::Parameter(_) => None,
        }
    }
}

fn host_holds(host: &HostPattern, authority: Option<&HeaderValue>) -> bool {
    let asked = authority.and_then(|authority| authority.to_str().ok());
    asked.is_some_and(|asked| host.matches(without_port(asked)))
}

fn header_holds(head: &RequestHeader, name: &HeaderName, wanted: &HeaderMatch) -> bool {
    let mut values = head.headers.get_all(name).into_iter();
    match wanted {
        HeaderMatch::Present { present } => values.next().is_some() == *present,
        HeaderMatch::Exact(text) => values.any(|value| value.as_bytes() == text.as_bytes()),
        HeaderMatch::Prefix { prefix } => values.any(|value| value.as_bytes().starts_with(prefix.as_bytes())),
    }
}

fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(authority, |(host, _)| host);
    }
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

/// The routes of one direction.
pub(super) struct RouteTable {
    routes: Vec<(Conditions, CompiledRoute)>,
    /// Places in `routes`, ascending, of those whose path begins with a literal segment, and with them all that do not.
    by_first: HashMap<Box<str>, Box<[usize]>>,
    /// Places of those whose path may begin with anything.
    rest: Box<[usize]>,
    unmatched: CompiledRoute,
}

impl RouteTable {
    /// A table of routes in order of preference.
    pub(super) fn new(routes: Vec<(Conditions, CompiledRoute)>, unmatched: CompiledRoute) -> Self {
        let places = |wanted: Option<&str>| -> Box<[usize]> {
            let fits = |first: Option<&str>| first.is_none() || first == wanted;
            let numbered = routes.iter().enumerate();
            numbered
                .filter(|(_, (conditions, _))| fits(conditions.first_segment()))
                .map(|(place, _)| place)
                .collect()
        };
        let by_first = routes
            .iter()
            .filter_map(|(conditions, _)| conditions.first_segment())
            .map(|first| (Box::from(first), places(Some(first))))
            .collect();
        Self {
            rest: places(None),
            by_first,
            routes,
            unmatched,
        }
    }

    /// The first route that matches.
    pub(super) fn find(&self, head: &RequestHeader, authority: Option<&HeaderValue>) -> &CompiledRoute {
        if self.routes.is_empty() {
            return &self.unmatched;
        }
        let path = head.uri.path();
        let first = path
            .strip_prefix('/')
            .map(|rest| rest.split('/').next().unwrap_or(rest));
        let places = first.and_then(|first| self.by_first.get(first)).unwrap_or(&self.rest);
        let candidates = places.iter().filter_map(|&place| self.routes.get(place));
        candidates
            .into_iter()
            .find(|(conditions, _)| conditions.hold(head, path, authority))
            .map_or(&self.unmatched, |(_, route)| route)
    }

    /// Every route up to the one that is taken, with its conditions and whether they hold: those before it, whose conditions do not
    /// all, and that one, unless none is.
    pub(super) fn told(
        &self,
        head: &RequestHeader,
        authority: Option<&HeaderValue>,
    ) -> Vec<(&CompiledRoute, Vec<Held>)> {
        let mut told = Vec::new();
        for (conditions, route) in &self.routes {
            let held = conditions.told(head, head.uri.path(), authority);
            let all = held.iter().all(|(_, holds)| *holds);
            told.push((route, held));
            if all {
                break;
            }
        }
        told
    }

    /// The route of what none of the others matches.
    pub(super) fn unmatched(&self) -> &CompiledRoute {
        &self.unmatched
    }

    /// How many routes there are, `unmatched` not counted.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.routes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pillion_filters::{Chain, Direction};

    use super::*;
    use crate::snapshot::Upstream;
    use crate::upstream::Protocol;

    fn compiled(name: &str) -> CompiledRoute {
        CompiledRoute {
            route: pillion_filters::testing::route(Direction::Inbound, name),
            chain: Chain::default(),
            upstream: Upstream::Authority(Protocol::Http1),
        }
    }

    fn table(yaml: &[(&str, &str)]) -> RouteTable {
        let routes = yaml.iter().map(|(name, matches)| {
            let text = format!(
                "service: a\ninbound: {{ listen: 127.0.0.1:0, app: http://127.0.0.1:1 }}\nroutes: [{{ match: {matches} }}]"
            );
            let registry = pillion_filters::Registry::builtin();
            let known: Vec<&str> = registry.entries().iter().map(|entry| entry.name).collect();
            let loaded = crate::config::load_str("test", &text, &known)
            .unwrap_or_else(|errors| panic!("{errors}"));
            (Conditions::new(&loaded.config.routes[0].matches), compiled(name))
        });
        RouteTable::new(routes.collect(), compiled("unmatched"))
    }

    fn name(table: &RouteTable, method: &str, target: &str, fields: &[(&'static str, &'static str)]) -> Arc<str> {
        let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        let authority = head.headers.get("host").cloned();
        table.find(&head, authority.as_ref()).route.name.clone()
    }

    #[test]
    fn the_first_that_matches_is_taken() {
        let table = table(&[
            ("post", "{ path: '/api/users/{id}', method: POST }"),
            ("user", "{ path: '/api/users/{id}' }"),
            ("any", "{ path: '/{what}' }"),
            ("api", "{ path: '/api/*' }"),
        ]);
        assert_eq!(table.len(), 4);
        assert_eq!(&*name(&table, "POST", "/api/users/7", &[]), "post");
        assert_eq!(&*name(&table, "GET", "/api/users/7?x=1", &[]), "user");
        assert_eq!(&*name(&table, "GET", "/api/orders/7", &[]), "api");
        assert_eq!(&*name(&table, "GET", "/other", &[]), "any");
        assert_eq!(&*name(&table, "GET", "/other/more", &[]), "unmatched");
    }

    #[test]
    fn what_is_told_is_what_is_done() {
        let table = table(&[
            ("post", "{ path: '/api/*', method: POST }"),
            ("host", "{ host: '*.example.com', headers: { x-a: { prefix: b } } }"),
            ("any", "{ path: '/{what}' }"),
        ]);
        for (method, target, fields, tried) in [
            ("POST", "/api/x", &[][..], 1),
            ("GET", "/api/x", &[("host", "a.example.com"), ("x-a", "bc")][..], 2),
            ("GET", "/a", &[][..], 3),
            ("GET", "/a/b", &[][..], 3),
        ] {
            let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
            for (name, value) in fields {
                head.append_header(*name, *value).unwrap();
            }
            let authority = head.headers.get("host").cloned();
            let told = table.told(&head, authority.as_ref());
            assert_eq!(told.len(), tried, "{method} {target}");
            let (last, held) = told.last().unwrap();
            let all = held.iter().all(|(_, holds)| *holds);
            let found = table.find(&head, authority.as_ref());
            assert_eq!(all, last.route.name == found.route.name, "{method} {target}");
        }
        let head = RequestHeader::build("GET", b"/api/x", None).unwrap();
        let told = table.told(&head, None);
        let expected = [
            ("the path is `/api/*`".to_owned(), true),
            ("the method is POST".to_owned(), false),
        ];
        assert_eq!(told[0].1, expected);
    }

    #[test]
    fn hosts_and_headers_are_conditions_too() {
        let table = table(&[
            ("beta", "{ headers: { x-beta: { present: true } } }"),
            ("host", "{ host: '*.example.com' }"),
        ]);
        assert_eq!(&*name(&table, "GET", "/", &[("x-beta", "1")]), "beta");
        assert_eq!(&*name(&table, "GET", "/", &[("host", "a.example.com:8000")]), "host");
        assert_eq!(&*name(&table, "GET", "/", &[("host", "example.org")]), "unmatched");
    }
}
