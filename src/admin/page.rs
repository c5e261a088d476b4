//! The page for people: a few hand-written files, compiled in, that ask the admin API for all they show.
//!
//! They hold no data, so they need no token; the page asks for one where the API does. Whatever they show comes from
//! strangers (paths, header values), so the page may run nothing but its own files and speak to nobody but this API.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, HeaderValue, header};

use super::AdminSource;

/// A file of the page.
struct Asset {
    path: &'static str,
    media: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($($path:literal = $media:ident $file:literal,)*) => {
        &[$(Asset { path: $path, media: $media, text: include_str!(concat!("page/", $file)) }),*]
    };
}

const ASSETS: &[Asset] = assets! {
    "/" = HTML "index.html",
    "/page.css" = CSS "page.css",
    "/page.js" = SCRIPT "page.js",
    "/page/api.js" = SCRIPT "api.js",
    "/page/cache.js" = SCRIPT "cache.js",
    "/page/chart.js" = SCRIPT "chart.js",
    "/page/configuration.js" = SCRIPT "configuration.js",
    "/page/dialog.js" = SCRIPT "dialog.js",
    "/page/dom.js" = SCRIPT "dom.js",
    "/page/filters.js" = SCRIPT "filters.js",
    "/page/format.js" = SCRIPT "format.js",
    "/page/icon.svg" = SVG "icon.svg",
    "/page/overview.js" = SCRIPT "overview.js",
    "/page/parts.js" = SCRIPT "parts.js",
    "/page/peers.js" = SCRIPT "peers.js",
    "/page/requests.js" = SCRIPT "requests.js",
    "/page/series.js" = SCRIPT "series.js",
    "/page/upstreams.js" = SCRIPT "upstreams.js",
};

/// Only files of ours, nobody may frame them, and nothing that they show is sent on as a referrer.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

pub(super) fn router() -> Router<Arc<dyn AdminSource>> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        router.route(asset.path, get(async move || asset.answer()))
    })
}

impl Asset {
    fn answer(&self) -> Response {
        let media = [(header::CONTENT_TYPE, HeaderValue::from_static(self.media))];
        (media, HEADERS, self.text).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of the page, as it is sent: nothing compresses it.
    const MOST: usize = 100 * 1024;

    #[test]
    fn the_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes < MOST, "{bytes} bytes");
    }

    #[test]
    fn every_file_is_served_and_every_import_there() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/page");
        let files = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(files, ASSETS.len());
        for asset in ASSETS.iter().filter(|asset| asset.media == SCRIPT) {
            for line in asset.text.lines().filter(|line| line.starts_with("import ")) {
                let name = line.split('"').nth(1).unwrap().trim_start_matches("./");
                let is_there = ASSETS
                    .iter()
                    .any(|asset| asset.path.ends_with(&format!("/{name}")) || asset.path == format!("/{name}"));
                assert!(is_there, "{}: {line}", asset.path);
            }
        }
    }

    /// What would make a script of data, or ask somebody else.
    #[test]
    fn nothing_in_it_runs_data_or_leaves_this_origin() {
        for asset in ASSETS {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
                "localStorage.setItem(\"token",
            ] {
                assert!(!asset.text.contains(word), "{}: {word}", asset.path);
            }
            let elsewhere = asset.text.replace("http://www.w3.org/2000/svg", "");
            let is_link =
                |text: &str| text.contains("src=\"http") || text.contains("url(http") || text.contains("from \"http");
            assert!(!is_link(&elsewhere), "{}", asset.path);
        }
    }
}
