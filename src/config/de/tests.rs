use std::collections::BTreeMap;
use std::sync::Arc;

use pillion_filters::units::{ByteSize, HumanDuration};
use serde::Deserialize;

use super::*;
use crate::config::source::parse;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    ttl: HumanDuration,
    #[serde(default)]
    store: Store,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    limits: BTreeMap<String, ByteSize>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Store {
    #[default]
    Memory,
    Redis {
        url: String,
    },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    path: String,
    #[serde(default)]
    ttl: Option<HumanDuration>,
}

/// What is told of a text, read directly and through `erased_serde`: the same, but for the keys every filter takes.
fn told(text: &str) -> Vec<String> {
    let node = parse(text, &Arc::from("a.yaml")).unwrap();
    let lines = |errors: Vec<ConfigError>| -> Vec<String> { errors.iter().map(ToString::to_string).collect() };
    let direct = lines(deserialize::<Settings>(&node, "cache").unwrap_err());
    let erased = deserialize_erased(&node, "cache", &mut |deserializer| {
        erased_serde::deserialize::<Settings>(deserializer)
    });
    let erased = lines(erased.unwrap_err()).into_iter();
    let erased: Vec<String> = erased.map(|line| line.replace(", `enabled`, `plugin`", "")).collect();
    assert_eq!(erased, direct);
    direct
}

fn read(text: &str) -> Settings {
    deserialize(&parse(text, &Arc::from("a.yaml")).unwrap(), "").unwrap()
}

#[test]
fn a_filter_is_offered_the_keys_that_every_filter_takes() {
    let offered = |text: &str| {
        let node = parse(text, &Arc::from("a.yaml")).unwrap();
        let erased = deserialize_erased(&node, "filters.cache", &mut |deserializer| {
            erased_serde::deserialize::<Rule>(deserializer)
        });
        erased.unwrap_err()[0].to_string()
    };
    let slip = "a.yaml:1:1: unknown key `enabeld` in filters.cache; did you mean `enabled`?";
    assert_eq!(offered("enabeld: false\npath: /a\n"), slip);
    let stranger = "expected one of `path`, `ttl`, `enabled`, `plugin`";
    assert!(offered("colour: red\npath: /a\n").ends_with(stranger));
}

#[test]
fn the_same_mistake_in_two_places_is_told_at_each() {
    assert_eq!(
        told("ttl: 5\nrules:\n  - { path: /a, ttl: 5 }\n  - { path: /b, ttl: 5 }\n"),
        [
            "a.yaml:1:6: cache.ttl: expected a duration such as 5m, found 5; add a unit, such as `5s`",
            "a.yaml:3:22: cache.rules[0].ttl: expected a duration such as 5m, found 5; add a unit, such as `5s`",
            "a.yaml:4:22: cache.rules[1].ttl: expected a duration such as 5m, found 5; add a unit, such as `5s`",
        ]
    );
}

#[test]
fn what_follows_from_a_mistake_is_not_told() {
    // `ttl` is missing because it is misspelt, `rules` because its element has no path.
    assert_eq!(
        told("tll: 5m\nrules:\n  - { pth: /a }\n"),
        [
            "a.yaml:1:1: unknown key `tll` in cache; did you mean `ttl`?",
            "a.yaml:3:7: unknown key `pth` in cache.rules[0]; did you mean `path`?",
        ]
    );
}

#[test]
fn elements_after_one_that_is_left_out_keep_their_places() {
    assert_eq!(
        told("ttl: 5m\nrules: [1, { path: /a }, { path: 2 }]\n"),
        [
            "a.yaml:2:9: cache.rules[0]: expected a mapping, found 1",
            "a.yaml:2:34: cache.rules[2].path: expected text, found 2; put quotes around it",
        ]
    );
}

#[test]
fn variants_with_and_without_keys_of_their_own() {
    assert_eq!(read("ttl: 5m\nstore: memory\n").store, Store::Memory);
    let url = "redis://cache".to_owned();
    assert_eq!(
        read("ttl: 5m\nstore: { redis: { url: redis://cache } }\n").store,
        Store::Redis { url }
    );
    for (store, error) in [
        (
            "mempry",
            "a.yaml:2:8: cache.store: `mempry` is not known here; did you mean `memory`?",
        ),
        (
            "{ redis: { url: 1 } }",
            "a.yaml:2:24: cache.store.redis.url: expected text, found 1; put quotes around it",
        ),
        ("{ redis: {} }", "a.yaml:2:10: missing key `url` in cache.store.redis"),
        (
            "redis",
            "a.yaml:2:8: cache.store: `redis` needs to say more: write `{ redis: … }`",
        ),
        (
            "{ memory: 1 }",
            "a.yaml:2:8: cache.store: write just `memory`: it has no keys of its own",
        ),
        (
            "5",
            "a.yaml:2:8: cache.store: expected one of `memory`, `redis`, found 5",
        ),
    ] {
        assert_eq!(told(&format!("ttl: 5m\nstore: {store}\n")), [error]);
    }
}

#[test]
fn a_hundred_mistakes_are_enough() {
    let lines: Vec<String> = (0..1_000).map(|index| format!("key{index}: 1")).collect();
    assert_eq!(told(&lines.join("\n")).len(), MAX_ERRORS);
}

#[test]
fn a_mapping_is_not_read_from_a_list() {
    assert_eq!(
        told("ttl: 5m\nrules: [[/a, 5m]]\n"),
        ["a.yaml:2:9: cache.rules[0]: expected a mapping, found a list"]
    );
}

#[test]
fn keys_of_a_free_mapping_are_named() {
    assert_eq!(
        told("ttl: 5m\nlimits: { a: 1KiB, b: huge }\n"),
        ["a.yaml:2:23: cache.limits.b: expected a size such as 64KiB, found `huge`"]
    );
}

#[test]
fn a_key_without_a_value_is_at_its_default_unless_it_is_unknown() {
    let settings = read("ttl: 5m\nstore:\nrules: null\nlimits: { a: ~ }\n");
    assert_eq!(
        (settings.store, settings.rules.len(), settings.limits.len()),
        (Store::Memory, 0, 0)
    );
    assert_eq!(
        told("ttl: 5m\nstroe:\n"),
        ["a.yaml:2:1: unknown key `stroe` in cache; did you mean `store`?"]
    );
}
