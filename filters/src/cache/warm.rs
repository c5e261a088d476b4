//! Fetches what nobody asked for yet: when the sidecar starts, on command, and after a purge.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri, Version};
use pingora_http::RequestHeader;

use super::lookup::Refresh;
use crate::{Background, Connection, Direction, Dispatcher};

/// URLs that wait; more are refused.
const QUEUED: usize = 10_000;
/// How often a fetch is offered to busy workers.
const OFFERS: u32 = 100;
const BETWEEN_OFFERS: Duration = Duration::from_millis(50);

/// Request fields that a stored response was chosen by.
pub(super) type Fields = Box<[(HeaderName, HeaderValue)]>;

/// What to fetch.
pub(super) struct Job {
    pub(super) url: Uri,
    pub(super) fields: Fields,
    /// Fetches a second.
    pub(super) rate: u32,
}

/// Feeds the workers, no faster than it is told. Its thread is there from the first job on.
pub(super) struct Warmer {
    direction: Direction,
    filter: Arc<str>,
    background: Arc<dyn Dispatcher>,
    queue: OnceLock<Option<SyncSender<Job>>>,
}

impl Warmer {
    pub(super) fn new(direction: Direction, filter: &str, background: Arc<dyn Dispatcher>) -> Self {
        Self {
            direction,
            filter: Arc::from(filter),
            background,
            queue: OnceLock::new(),
        }
    }

    /// Which way its requests go.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether anything is ever fetched.
    pub(super) fn is_active(&self) -> bool {
        self.background.is_active()
    }

    /// Queues a fetch; false when there are too many.
    pub(super) fn push(&self, job: Job) -> bool {
        let queue = self.queue.get_or_init(|| self.start());
        queue.as_ref().is_some_and(|queue| queue.try_send(job).is_ok())
    }

    fn start(&self) -> Option<SyncSender<Job>> {
        let (sender, jobs) = sync_channel(QUEUED);
        let (direction, filter) = (self.direction, self.filter.clone());
        let background = self.background.clone();
        let thread = std::thread::Builder::new().name("cache-warmer".to_owned());
        let started = thread.spawn(move || work(&jobs, direction, &filter, &*background));
        match started {
            Ok(_) => Some(sender),
            Err(error) => {
                tracing::warn!(%error, "nothing is fetched ahead");
                None
            }
        }
    }
}

fn work(jobs: &Receiver<Job>, direction: Direction, filter: &Arc<str>, background: &dyn Dispatcher) {
    while let Ok(job) = jobs.recv() {
        let offered = (0..OFFERS).any(|offer| {
            if offer > 0 {
                std::thread::sleep(BETWEEN_OFFERS);
            }
            request(&job, direction, filter).is_none_or(|request| background.dispatch(request))
        });
        if !offered {
            tracing::warn!(url = %job.url, "not fetched ahead: the workers are busy");
        }
        std::thread::sleep(Duration::from_secs(1) / job.rate.max(1));
    }
}

/// A URL as it can be fetched.
pub(super) fn parse(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?;
    (matches!(scheme, "http" | "https") && uri.authority().is_some()).then_some(uri)
}

/// What is said of a URL that cannot.
pub(super) fn not_whole(url: &str) -> String {
    format!("`{url}` is no whole URL such as http://shop.example/products")
}

fn request(job: &Job, direction: Direction, filter: &Arc<str>) -> Option<Background> {
    let authority = HeaderValue::from_str(job.url.authority()?.as_str()).ok()?;
    let target = job.url.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut request = Box::new(RequestHeader::build("GET", target.as_bytes(), None).ok()?);
    request.set_version(Version::HTTP_11);
    request.insert_header(HOST, authority.clone()).ok()?;
    for (name, value) in &job.fields {
        request.append_header(name.clone(), value.clone()).ok()?;
    }
    Some(Background {
        direction,
        filter: filter.clone(),
        request,
        authority: Some(authority),
        connection: Connection {
            client: None,
            local: None,
            scheme: if job.url.scheme_str() == Some("https") {
                "https"
            } else {
                "http"
            },
            version: Version::HTTP_11,
        },
        state: Box::new(Refresh::warm()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;

    #[derive(Default)]
    struct Taken(Mutex<Vec<Background>>);
    impl Dispatcher for Taken {
        fn dispatch(&self, background: Background) -> bool {
            self.0.lock().unwrap().push(background);
            true
        }
    }

    #[test]
    fn a_url_becomes_a_request() {
        let taken = Arc::new(Taken::default());
        let warmer = Warmer::new(Direction::Inbound, "cache", taken.clone());
        let fields: Fields = Box::new([(http::header::ACCEPT_ENCODING, HeaderValue::from_static("br"))]);
        assert!(warmer.push(Job {
            url: parse("http://shop.example:8000/a?b=1").unwrap(),
            fields,
            rate: 1000,
        }));
        let began = Instant::now();
        while taken.0.lock().unwrap().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(5));
            std::thread::sleep(Duration::from_millis(1));
        }
        let taken = taken.0.lock().unwrap();
        let background = &taken[0];
        assert_eq!(background.request.raw_path(), b"/a?b=1");
        assert_eq!(background.authority.as_ref().unwrap(), "shop.example:8000");
        assert_eq!(background.request.headers["host"], "shop.example:8000");
        assert_eq!(background.request.headers["accept-encoding"], "br");
    }

    #[test]
    fn what_is_no_whole_url_is_none() {
        assert!(parse("http://a/").is_some());
        for wrong in ["/a", "a", "", "ftp://a/", "http:///a", "http://a b/"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
