//! Several sidecars side by side: this one, and those that `admin.peers` names.
//!
//! The sidecar asks them itself, so a browser needs no leave of theirs and sees no token. Only what is configured is ever
//! asked, and what was heard is remembered for a second: ten open pages ask no more than one.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::stats::{self, Stats};
use super::{AdminSource, client};
use crate::config::{AdminPeer, Secret};

/// A peer that has not answered by then is told as one that does not.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Peers {
    peers: Vec<PeerStats>,
}

#[derive(Serialize)]
struct PeerStats {
    name: String,
    url: Option<String>,
    reachable: bool,
    error: Option<String>,
    stats: Option<Stats>,
}

/// What was heard last, as JSON, and when.
#[derive(Default)]
pub(super) struct Heard(Mutex<Option<(Instant, Bytes)>>);

impl Heard {
    pub(super) async fn show(&self, source: &dyn AdminSource) -> Response {
        match self.json(source).await {
            Ok(json) => {
                let media = HeaderValue::from_static("application/json");
                ([(header::CONTENT_TYPE, media)], json).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    }

    /// Whoever comes while peers are being asked waits for the same answers.
    async fn json(&self, source: &dyn AdminSource) -> serde_json::Result<Bytes> {
        let mut heard = self.0.lock().await;
        if let Some((at, json)) = &*heard
            && at.elapsed() < FRESH
        {
            return Ok(json.clone());
        }
        let json = Bytes::from(serde_json::to_vec(&ask_all(source).await)?);
        *heard = Some((Instant::now(), json.clone()));
        Ok(json)
    }
}

async fn ask_all(source: &dyn AdminSource) -> Peers {
    let configured = source.peers();
    let (own, others) = tokio::join!(stats::of(source), join_all(configured.iter().map(ask)));
    let own = PeerStats {
        name: own.service.clone(),
        url: None,
        reachable: true,
        error: None,
        stats: Some(own),
    };
    Peers {
        peers: std::iter::once(own).chain(others).collect(),
    }
}

async fn ask(peer: &AdminPeer) -> PeerStats {
    let token = peer.token.as_ref().map(Secret::expose);
    let answer = client::get(&peer.url, "/stats", token, ANSWER_WITHIN).await;
    let stats = answer
        .map_err(|error| error.to_string())
        .and_then(|body| Stats::read(&body).ok_or_else(|| "what it answered is no sidecar's numbers".to_owned()));
    let (stats, error) = match stats {
        Ok(stats) => (Some(stats), None),
        Err(error) => (None, Some(error)),
    };
    PeerStats {
        name: peer.name.to_string(),
        url: Some(peer.url.to_string()),
        reachable: stats.is_some(),
        error,
        stats,
    }
}
