//! What one request would meet: its route and why that one, the filters with their settings, and what they decide as far as that
//! can be told without a client and an app.

use std::fmt::Write as _;
use std::net::SocketAddr;

use http::header::HOST;
use pillion_filters::words::{Dictionary, Told};
use pillion_filters::{Connection, Direction, Exchange, Registry, Timing, Way};
use pingora_http::RequestHeader;

use crate::config::{self, Loaded, Node};
use crate::engine;
use crate::snapshot::{CompiledRoute, Snapshot};

/// A client's address, for those filters that look at it.
const CLIENT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

pub(super) fn explain(
    loaded: &Loaded,
    snapshot: &Snapshot,
    registry: &Registry,
    direction: Direction,
    head: RequestHeader,
) -> Result<String, String> {
    let side = snapshot
        .side(direction)
        .ok_or_else(|| format!("the configuration has no `{}`", direction.as_str()))?;
    let authority = head.headers.get(HOST).cloned();
    let told = side.told(&head, authority.as_ref());
    let route = side.route(&head, authority.as_ref());
    // Routes are told in the order of the configuration, those of the other direction left out.
    let places: Vec<usize> = (loaded.config.routes.iter().enumerate())
        .filter(|(_, route)| Direction::from(route.direction) == direction)
        .map(|(place, _)| place)
        .collect();
    let place = route
        .route
        .matched
        .then(|| told.len() - 1)
        .and_then(|last| places.get(last).copied());

    let mut page = Page(String::new());
    page.line(&format!("{} {}", head.method, head.uri));
    page.line(&format!("service    {}", route.route.service));
    page.line(&format!("direction  {}", direction.as_str()));
    let written = |place: usize| node_of_route(loaded, place).map(|node| format!(" # {}", node.pos));
    let origin = place.and_then(written).unwrap_or_default();
    page.line(&format!("route      {}{origin}", route.route.name));
    if let Some((_, held)) = told.last().filter(|_| route.route.matched) {
        for (condition, _) in held {
            page.line(&format!("  because {condition}"));
        }
    } else {
        page.line("  because no other route matches");
    }
    let passed = told.len() - usize::from(route.route.matched);
    if passed > 0 {
        page.line("routes before it, which do not match:");
    }
    for (index, (other, held)) in told.iter().take(passed).enumerate() {
        let failed: Vec<String> = held
            .iter()
            .filter(|(_, holds)| !holds)
            .map(|(said, _)| negated(said))
            .collect();
        let origin = places.get(index).and_then(|place| written(*place)).unwrap_or_default();
        page.line(&format!("  {}: {}{origin}", other.route.name, failed.join(", and ")));
    }
    page.line(&format!("upstream   {}", route.upstream));
    page.filters(loaded, direction, place, route);
    page.timeouts(loaded, place, route);
    page.decisions(registry, route, head);
    Ok(page.0)
}

fn node_of_route(loaded: &Loaded, place: usize) -> Option<&Node> {
    loaded.tree.at(&["routes"])?.elements().get(place)
}

/// A condition that does not hold.
fn negated(condition: &str) -> String {
    for (is, is_not) in [
        (" is no ", " is a "),
        (" is a ", " is no "),
        (" begins with ", " does not begin with "),
        (" is ", " is not "),
    ] {
        if condition.contains(is) {
            return condition.replacen(is, is_not, 1);
        }
    }
    format!("not: {condition}")
}

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// The filters with what was written for them, then those that are off and by whose word.
    fn filters(&mut self, loaded: &Loaded, direction: Direction, place: Option<usize>, route: &CompiledRoute) {
        self.line("filters, in the order requests meet them; what is not shown is as the filter's page says:");
        let filters = loaded.chain(direction, place);
        if filters.is_empty() {
            self.line("  (none)");
        }
        for filter in &filters {
            let idle = route.chain.position(&filter.name).is_none();
            let idle = if idle { " (nothing to do, as it is set)" } else { "" };
            let plugin = if filter.plugin == filter.name {
                String::new()
            } else {
                format!(" ({})", filter.plugin)
            };
            self.line(&format!("  {}{plugin}{idle}", filter.name));
            self.0.push_str(&config::explain_settings(&filter.settings, 4));
        }
        let on = |name: &&String| filters.iter().any(|filter| filter.name == **name);
        let off: Vec<&String> = loaded.config.chain.iter().filter(|name| !on(name)).collect();
        if !off.is_empty() {
            self.line("filters that are off:");
        }
        for name in off {
            let origin = switched_off(loaded, direction, place, name);
            self.line(&format!(
                "  {name}{}",
                origin.map(|origin| format!(" # {origin}")).unwrap_or_default()
            ));
        }
    }

    fn timeouts(&mut self, loaded: &Loaded, place: Option<usize>, route: &CompiledRoute) {
        self.line("timeouts:");
        let timeouts = route.route.plan.timeouts;
        for (key, limit) in [
            ("connect", timeouts.connect),
            ("first_byte", timeouts.first_byte),
            ("idle", timeouts.idle),
            ("tunnel", timeouts.tunnel),
            ("exchange", timeouts.exchange),
        ] {
            let limit = limit.map_or("none".to_owned(), |limit| {
                pillion_filters::units::HumanDuration(limit).to_string()
            });
            let own = place.and_then(|place| node_of_route(loaded, place)?.at(&["timeouts", key]));
            let node = own.or_else(|| loaded.tree.at(&["timeouts", key]));
            let origin = node.map_or("default".to_owned(), |node| node.pos.to_string());
            self.line(&format!("  {key}: {limit} # {origin}"));
        }
    }

    /// Sends the request down the chain, as far as that goes without a client and an app.
    fn decisions(&mut self, registry: &Registry, route: &CompiledRoute, head: RequestHeader) {
        let connection = Connection {
            client: Some(SocketAddr::from(CLIENT)),
            local: None,
            scheme: "http",
            version: head.version,
        };
        let mut exchange = Exchange::new(route.route.clone(), connection, Box::new(head), Timing::now());
        exchange.authority = exchange.request.headers.get(HOST).cloned();
        let has = |name| exchange.request.headers.contains_key(name);
        exchange.has_body = has(http::header::CONTENT_LENGTH) || has(http::header::TRANSFER_ENCODING);
        self.line("what the filters decide, with nothing stored and nothing counted yet:");
        let came = match route.chain.request(&mut exchange) {
            Way::Through => "the request goes to the upstream".to_owned(),
            Way::Answer(response) => format!("the answer is {}, and the upstream is not asked", response.head.status),
            Way::Wait(_) => "a filter waits for something outside".to_owned(),
            Way::Body(limit, _) => format!("a filter reads the request body first, up to {limit} bytes"),
        };
        let dictionary = Dictionary::of(registry).with("engine", engine::WORDS);
        let told = Told {
            method: exchange.request.method.as_str(),
            endpoint: None,
            upstream: exchange.upstream().map(|name| &**name),
            started_at: exchange.timing.started_at,
        };
        for entry in exchange.ledger.entries() {
            let words = dictionary.say(entry, &told);
            let _ = writeln!(self.0, "  {}: {words}", entry.filter);
        }
        self.line(&format!("  {came}"));
        if route.chain.links().iter().any(|link| link.plugin == "retry") {
            let method = &exchange.request.method;
            self.line(&if exchange.is_repeatable() {
                format!("  a try that fails may be made again: {method} may be repeated")
            } else {
                format!("  a try that fails is made again only if nothing was sent: {method} is not safe to repeat")
            });
        }
    }
}

/// By whose word a filter is off: the highest level that says so.
fn switched_off(loaded: &Loaded, direction: Direction, place: Option<usize>, name: &str) -> Option<String> {
    let of_route = place.and_then(|place| node_of_route(loaded, place)?.at(&["filters", name, "enabled"]));
    let of_side = loaded.tree.at(&[direction.as_str(), "filters", name, "enabled"]);
    let of_all = loaded.tree.at(&["filters", name, "enabled"]);
    let said = of_route.or(of_side).or(of_all)?;
    Some(said.pos.to_string())
}
