//! A cache, its clients, its origin and the time, all simulated.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use http::{HeaderValue, Version};
use pingora_http::RequestHeader;

use super::alphabet::{self, TAGS, URLS, one};
use super::history::{Asked, End, Ended, History, Moment};
use super::live::{Live, Stage};
use super::policy::{Policy, rare};
use crate::cache::{Cache, Purge};
use crate::{
    Background, Chain, Connection, Context, Direction, Dispatcher, Exchange, Link, Registry, SharedState, Telemetry,
    Timing, testing,
};

/// What was asked of the workers, to be run later, or never.
#[derive(Default)]
struct Jobs(Mutex<Vec<Background>>);

impl Dispatcher for Jobs {
    fn dispatch(&self, background: Background) -> bool {
        let mut jobs = self.0.lock().unwrap();
        let room = jobs.len() < 2;
        if room {
            jobs.push(background);
        }
        room
    }
}

/// In milliseconds.
const TIME_STEPS: [u64; 12] = [
    500, 500, 1000, 1000, 1000, 1000, 1000, 2000, 3000, 5000, 60_000, 3_600_000,
];

pub(super) type Checked = Result<(), String>;

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) policy: Policy,
    pub(super) chain: Chain,
    pub(super) history: History,
    pub(super) live: Vec<Live>,
    /// What happened, for whoever reads of a failure.
    pub(super) log: Vec<String>,
    pub(super) epoch: SystemTime,
    /// The larger, the rarer is what is odd.
    pub(super) odds: u32,
    urls: usize,
    cache: Arc<Cache>,
    jobs: Arc<Jobs>,
    pub(super) start: tokio::time::Instant,
    /// Seconds that the wall clock was set forward or back by.
    skew: i64,
    order: usize,
}

impl World {
    pub(super) fn new(mut rng: Rng) -> Self {
        let odds = one(&mut rng, &[1, 2, 4, 8]);
        let policy = Policy::any(&mut rng);
        let (state, jobs) = (SharedState::default(), Arc::<Jobs>::default());
        let background: Arc<dyn Dispatcher> = jobs.clone();
        let context = Context {
            filter: "cache",
            route: &testing::route(Direction::Inbound, "/test"),
            telemetry: &Telemetry::default(),
            state: &state,
            matches: &crate::Matches::default(),
            background: &background,
            warnings: &crate::Warnings::default(),
            upstreams: None,
        };
        let config = policy.config().to_string();
        let mut config = serde_json::Deserializer::from_str(&config);
        let mut config = <dyn erased_serde::Deserializer<'_>>::erase(&mut config);
        let filter = Registry::builtin().get("cache").unwrap().build(&mut config, &context);
        let link = Link {
            plugin: "cache",
            name: "cache".into(),
            filter: filter.unwrap(),
        };
        Self {
            urls: rng.usize(1..=URLS.len()),
            odds,
            rng,
            log: vec![format!("{policy:?}")],
            policy,
            chain: Chain::new(vec![link]),
            history: History::default(),
            live: Vec::new(),
            epoch: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
            cache: state.each::<Cache>().remove(0).2,
            jobs,
            start: tokio::time::Instant::now(),
            skew: 0,
            order: 0,
        }
    }

    /// This moment, which no other comes at the same time as.
    pub(super) fn moment(&mut self) -> Moment {
        self.order += 1;
        let at = self.start.elapsed();
        let wall = self.epoch + Duration::from_secs(10_000_u64.saturating_add_signed(self.skew)) + at;
        Moment {
            at,
            wall,
            order: self.order,
        }
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        let at = self.start.elapsed();
        self.log.push(format!("{at:>8.1?}  {}", text.into()));
    }

    /// One thing happens.
    pub(super) async fn step(&mut self) -> Checked {
        match self.rng.u8(..100) {
            0..42 => self.ask()?,
            42..57 => self.pass_time().await,
            57..60 => self.purge(),
            60..67 => self.work()?,
            67..69 => self.skew = one(&mut self.rng, &[0, 100, -100]),
            69..71 => self.vanish(),
            _ => self.go_on()?,
        }
        if rare(&mut self.rng, 4) {
            self.is_bounded()?;
        }
        Ok(())
    }

    /// Everything that was begun comes to its end.
    pub(super) async fn end(&mut self) -> Checked {
        for _ in 0..10_000 {
            if self.live.is_empty() {
                break;
            }
            self.go_on()?;
            if rare(&mut self.rng, 20) {
                self.pass_time().await;
            }
        }
        if !self.live.is_empty() {
            return Err(format!("{} exchanges hang", self.live.len()));
        }
        self.jobs.0.lock().unwrap().clear();
        self.is_bounded()?;
        if self.cache.store(self.policy.max_size).is_idle() {
            Ok(())
        } else {
            Err("fetches are still in the table, or bytes reserved".to_owned())
        }
    }

    /// How often the cache did what.
    pub(super) fn results(&self) -> Vec<(&'static str, u64)> {
        self.cache.report(0).routes.remove(0).results
    }

    fn is_bounded(&self) -> Checked {
        let (_, bytes) = self.cache.store(self.policy.max_size).size();
        if bytes <= self.policy.max_size {
            Ok(())
        } else {
            Err(format!("{bytes} bytes are stored"))
        }
    }

    async fn pass_time(&mut self) {
        let milliseconds = one(&mut self.rng, &TIME_STEPS);
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }

    fn purge(&mut self) {
        let (host, target) = one(&mut self.rng, &URLS[..self.urls]);
        let url = format!("http://{host}{target}");
        let purge = match self.rng.u8(..5) {
            0 => Purge::Prefix(format!("http://{host}/")),
            1 | 2 => Purge::Tag(one(&mut self.rng, &TAGS).to_owned()),
            3 => Purge::Everything,
            _ => Purge::Url(url),
        };
        let what = match purge.clone() {
            Purge::Url(url) => Ended::Url(url),
            Purge::Prefix(prefix) => Ended::Prefix(prefix),
            Purge::Tag(tag) => Ended::Tag(tag),
            Purge::Everything => Ended::Everything,
        };
        self.note(format!("purge {purge:?}"));
        let order = self.moment().order;
        self.cache.purge(&purge).unwrap();
        self.history.ends.push(End {
            what,
            order,
            heals: false,
        });
    }

    /// A client asks.
    fn ask(&mut self) -> Checked {
        let (host, target) = one(&mut self.rng, &URLS[..self.urls]);
        let method = alphabet::method(&mut self.rng);
        let fields = alphabet::request_fields(&mut self.rng, self.odds, self.epoch);
        let mut request = RequestHeader::build(method.clone(), target.as_bytes(), None).unwrap();
        for (name, value) in &fields {
            request.append_header(name, value).unwrap();
        }
        let connection = Connection {
            client: None,
            local: None,
            scheme: "http",
            version: Version::HTTP_11,
        };
        let exchange = self.exchange(connection, Box::new(request), Some(HeaderValue::from_static(host)));
        self.begin(exchange, false)?;
        // Most exchanges meet no other.
        while self.rng.u8(..10) > 0 && self.live.last().is_some_and(|live| !matches!(live.stage, Stage::Over)) {
            let last = self.live.len() - 1;
            self.go_on_with(last)?;
        }
        Ok(())
    }

    fn exchange(
        &mut self,
        connection: Connection,
        request: Box<RequestHeader>,
        authority: Option<HeaderValue>,
    ) -> Exchange {
        let moment = self.moment();
        let timing = Timing {
            started: tokio::time::Instant::now().into_std(),
            started_at: moment.wall,
            connected: None,
            first_byte: None,
        };
        let route = testing::route(Direction::Inbound, "/test");
        let mut exchange = Exchange::new(route, connection, request, timing);
        exchange.authority = authority;
        exchange
    }

    /// The cache's own request, if there is one, is made, or dropped.
    fn work(&mut self) -> Checked {
        let Some(job) = self.jobs.0.lock().unwrap().pop() else {
            return Ok(());
        };
        if rare(&mut self.rng, 4) {
            self.note("a job is dropped");
            return Ok(());
        }
        let mut exchange = self.exchange(job.connection, job.request, job.authority);
        exchange.enter_at(0, job.state);
        self.begin(exchange, true)
    }

    fn begin(&mut self, exchange: Exchange, background: bool) -> Checked {
        let authority = exchange.authority.as_ref().unwrap().to_str().unwrap();
        let target = std::str::from_utf8(exchange.request.raw_path()).unwrap();
        let asked = Asked {
            method: exchange.request.method.clone(),
            url: format!("http://{authority}{target}"),
            headers: exchange.request.headers.clone(),
            began: self.moment(),
        };
        let whose = if background { "the cache asks" } else { "ask" };
        self.note(format!("{whose} {} {} {:?}", asked.method, asked.url, asked.headers));
        let mut live = Live {
            asked,
            exchange,
            stage: Stage::Begun,
            told: None,
            background,
        };
        let way = self.chain.request(&mut live.exchange);
        self.take(live, way)
    }
}
