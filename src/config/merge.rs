//! Lays one tree over another.
//!
//! Mappings merge key by key, to any depth. Everything else, lists too, is replaced by what lies above. A null above takes
//! the value below away, so that the default holds again. Each value keeps the place it was written at, and a key
//! that both have keeps the order of the one below and the place of the one above.

use super::node::{Kind, Node};

/// The tree that `upper` makes of `lower`.
pub(super) fn merge(lower: Node, upper: Node) -> Node {
    match (lower.kind, upper.kind) {
        (Kind::Map(mut entries), Kind::Map(over)) => {
            for (key, value) in over {
                match entries.iter().position(|(existing, _)| existing.name == key.name) {
                    Some(index) => {
                        let (_, below) = entries.remove(index);
                        entries.insert(index, (key, merge(below, value)));
                    }
                    None => entries.push((key, value)),
                }
            }
            Node::new(Kind::Map(entries), upper.pos)
        }
        (_, kind) => Node { kind, ..upper },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::source::parse;

    fn merged(lower: &str, upper: &str) -> Node {
        let read = |text, name: &str| parse(text, &Arc::from(name)).unwrap();
        merge(read(lower, "lower"), read(upper, "upper"))
    }

    #[test]
    fn maps_merge_deep_lists_and_scalars_are_replaced() {
        let tree = merged(
            "a: { b: 1, c: [1, 2], d: { e: 1 } }\n",
            "a: { b: 2, c: [3], d: { f: 2 } }\ng: 1\n",
        );
        assert_eq!(
            format!("{tree:?}"),
            r#"{"a": {"b": 2, "c": [3], "d": {"e": 1, "f": 2}}, "g": 1}"#
        );
    }

    #[test]
    fn a_null_takes_away_what_lies_below() {
        let tree = merged("a: { b: 1, c: 2 }\n", "a: { b: null }\n");
        assert_eq!(tree.at(&["a", "b"]), None);
        assert!(tree.at(&["a", "c"]).is_some());
    }

    #[test]
    fn each_value_keeps_its_origin() {
        let tree = merged("a: { b: 1, c: 2 }\n", "a: { c: 3 }\n");
        let file = |path: &[&str]| tree.at(path).unwrap().pos.file.to_string();
        assert_eq!(file(&["a", "b"]), "lower");
        assert_eq!(file(&["a", "c"]), "upper");
        let (key, _) = tree.at(&["a"]).unwrap().entry("c").unwrap();
        assert_eq!(&*key.pos.file, "upper");
    }
}
