//! Whether the sidecars that the page shows make sense together.

use super::Report;
use crate::config::model::{AdminPeer, Secret};
use crate::config::node::Node;

/// Each is asked about once a second while somebody looks.
const MOST: usize = 64;

pub(super) fn check(report: &mut Report<'_>, peers: &[AdminPeer]) {
    if peers.len() > MOST {
        let message = format!("expected at most {MOST} peers, found {}", peers.len());
        report.add(&["admin", "peers"], &message);
    }
    // One that could not be read was left out, and the rest would be told at the wrong places.
    let tree = report.tree;
    let elements = tree.at(&["admin", "peers"]).map(Node::elements);
    let Some(elements) = elements.filter(|elements| elements.len() == peers.len()) else {
        return;
    };
    for (index, (peer, node)) in peers.iter().zip(elements).enumerate() {
        let name = peer.name.as_str();
        if peers[..index].iter().any(|earlier| earlier.name == peer.name) {
            let place = node.at(&["name"]).unwrap_or(node);
            let message = format!("`{name}` is the name of an earlier peer");
            report.at(place, &format!("admin.peers[{index}].name"), &message);
        }
        let Some(token) = peer.token.as_ref().map(Secret::expose) else {
            continue;
        };
        let wrong = if token.trim().is_empty() {
            Some("is empty")
        } else if http::HeaderValue::from_str(token).is_err() {
            Some("the value has characters that no header may have")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let place = node.at(&["token"]).unwrap_or(node);
            report.at(place, &format!("admin.peers[{index}].token"), wrong);
        }
    }
}
