//! What one configuration changes of another, value by value.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::effective::{Leaf, values};
use super::loaded::Loaded;

/// What one configuration changes of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// What it was; `None` for what is new.
    pub was: Option<String>,
    /// What it is; `None` for what is gone.
    pub is: Option<String>,
    /// Where what it is now was written; `None` for what is gone.
    pub origin: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = "(none)";
        let (was, is) = (self.was.as_deref(), self.is.as_deref());
        write!(f, "{}: {} -> {}", self.key, was.unwrap_or(none), is.unwrap_or(none))?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// What `new` changes of `old`, in the order of the keys of `new`, what is gone last. A value that only moved is the same.
pub fn differences(old: &Loaded, new: &Loaded) -> Vec<Difference> {
    let (old, new) = (named(values(old)), named(values(new)));
    let known: HashMap<&str, &Leaf> = old.iter().map(|leaf| (leaf.key.as_str(), leaf)).collect();
    let is: HashSet<&str> = new.iter().map(|leaf| leaf.key.as_str()).collect();
    let changed = new.iter().filter_map(|leaf| {
        let was = known.get(leaf.key.as_str());
        let is_same = was.is_some_and(|was| was.is_same_value(leaf));
        (!is_same).then(|| Difference {
            key: leaf.key.clone(),
            was: was.map(|was| was.value.clone()),
            is: Some(leaf.value.clone()),
            origin: Some(leaf.origin.clone()),
        })
    });
    let gone = old.iter().filter(|leaf| !is.contains(leaf.key.as_str()));
    let gone = gone.map(|leaf| Difference {
        key: leaf.key.clone(),
        was: Some(leaf.value.clone()),
        is: None,
        origin: None,
    });
    changed.chain(gone).collect()
}

/// Routes may share a name, as those for two methods of one path do. The second one gets a number.
fn named(mut leaves: Vec<Leaf>) -> Vec<Leaf> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for leaf in &mut leaves {
        let times = seen.entry(leaf.key.clone()).or_default();
        *times += 1;
        if *times > 1 {
            leaf.key = format!("{} (no. {times})", leaf.key);
        }
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    fn loaded(rest: &str) -> Loaded {
        let text = format!("service: a\ninbound: {{ listen: '127.0.0.1:0', app: 'http://127.0.0.1:1' }}\n{rest}");
        let names = ["headers", "cache"];
        let chain = "chain: [headers, cache]\n";
        load_str("a.yaml", &format!("{text}{chain}"), &names).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn told(old: &str, new: &str) -> Vec<String> {
        let differences = differences(&loaded(old), &loaded(new));
        differences.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn what_changed_is_told_by_key_and_place() {
        assert_eq!(told("", ""), Vec::<String>::new());
        let changed = told("workers: 1\n", "workers: 2\ntimeouts: { connect: 3s }\n");
        assert_eq!(
            changed,
            [
                "workers: 1 -> 2 (a.yaml:3:10)",
                "timeouts.connect: 1s -> 3s (a.yaml:4:22)"
            ]
        );
        // On another line, the same.
        assert_eq!(told("workers: 1\n", "\n\nworkers: 1\n"), Vec::<String>::new());
    }

    #[test]
    fn routes_go_by_their_names() {
        let one = "routes: [{ match: { path: /a }, filters: { cache: { ttl: 1m } } }]\n";
        let two = "routes: [{ match: { path: /b } }, { match: { path: /a }, filters: { cache: { ttl: 2m } } }]\n";
        let changed = told(one, two);
        assert!(
            changed.contains(&"routes[/a].filters.cache.ttl: 1m -> 2m (a.yaml:3:83)".to_owned()),
            "{changed:?}"
        );
        assert!(
            changed.iter().all(|line| !line.starts_with("routes[/a].match")),
            "{changed:?}"
        );
        assert!(
            changed
                .iter()
                .any(|line| line.starts_with("routes[/b].match.path: (none) -> /b")),
            "{changed:?}"
        );
        let turned = "routes: [{ match: { path: /a }, filters: { cache: { ttl: 2m } } }, { match: { path: /b } }]\n";
        assert_eq!(told(two, turned), ["routes: [/b, /a] -> [/a, /b] (a.yaml:3:9)"]);
    }

    #[test]
    fn a_secret_is_seen_to_change_and_not_seen() {
        let changed = told("admin: { token: one }\n", "admin: { token: two }\n");
        assert_eq!(changed, ["admin.token: \"[redacted]\" -> \"[redacted]\" (a.yaml:3:17)"]);
        let of = |token: &str| {
            format!("filters: {{ headers: {{ request: {{ set: {{ x-api-token: {token}, x-plain: {token} }} }} }} }}\n")
        };
        let changed = told(&of("one"), &of("two"));
        assert_eq!(changed.len(), 2, "{changed:?}");
        assert!(changed[0].starts_with("filters.headers.request.set.x-api-token: \"[redacted]\" -> \"[redacted]\""));
        assert!(changed[1].starts_with("filters.headers.request.set.x-plain: one -> two"));
    }

    #[test]
    fn a_secret_of_digits_is_not_seen_in_the_mistake_it_is() {
        let wrong = load_str("a.yaml", "service: a\nadmin: { token: 123456 }\n", &[]).map(|_| ());
        let wrong = wrong.unwrap_err().to_string();
        assert!(
            wrong.contains("admin.token: expected text, found something else; put quotes around it"),
            "{wrong}"
        );
        assert!(!wrong.contains("123456"), "{wrong}");
    }

    #[test]
    fn a_secret_is_not_seen_in_its_default_nor_beside_its_variable() {
        let told = told(
            "",
            "admin: { token: '${NO_SUCH:-hunter2}' }
filters: { headers: { request: { set: { authorization: 'Bearer hunter2${NO_SUCH:-hunter2}', x-auth: hunter2 } } } }
routes: [{ match: { path: /a, headers: { x-partner-key: hunter2, x-plain: shown } } }]
",
        );
        let told = told.join("\n");
        assert!(!told.contains("hunter2"), "{told}");
        for shown in [
            "from \"${NO_SUCH:-[redacted]}\"",
            "x-plain: (none) -> shown",
            "x-partner-key",
        ] {
            assert!(told.contains(shown), "{shown} is not in {told}");
        }
    }
}
