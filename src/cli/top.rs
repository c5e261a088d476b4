//! `pillion top`: the numbers of the page, in a terminal.

mod format;
mod numbers;
mod screen;
mod table;

use std::io::IsTerminal;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::numbers::{Rates, rates};
use self::screen::{Event, Screen};
use self::table::{Frame, Sort};
use crate::admin::client::{self, AskError};
use crate::admin::stats::Stats;
use crate::config::AdminUrl;

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// More often would measure the asking.
const SHORTEST: Duration = Duration::from_millis(100);

/// Command line of `top`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where the admin API is.
    #[arg(long, default_value = "http://127.0.0.1:9901", value_name = "URL")]
    admin: AdminUrl,
    /// The environment variable that holds the admin API's token. Default: no token is shown.
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// How often to ask; rates are over this time.
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = interval)]
    interval: Duration,
    /// Print one table and end. So it is without a terminal, too.
    #[arg(long)]
    once: bool,
    /// What comes first.
    #[arg(long, value_enum, default_value_t = Sort::Rate, value_name = "COLUMN")]
    sort: Sort,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval =
        humantime::parse_duration(text).map_err(|_| "write a duration such as `1s` or `500ms`".to_owned())?;
    if interval < SHORTEST {
        return Err(format!("shorter than {}", humantime::format_duration(SHORTEST)));
    }
    Ok(interval)
}

/// `GET /upstreams`, as far as it is shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Upstreams {
    upstreams: Vec<Upstream>,
    breakers: Vec<Breaker>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Upstream {
    name: String,
    members: Vec<Member>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Member {
    address: String,
    active: u64,
    healthy: bool,
    in_service: bool,
    ejected_for: Option<f64>,
    latency_ms: Option<f64>,
    successes: u64,
    failures: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Breaker {
    direction: String,
    upstream: String,
    state: String,
    forced: bool,
    reason: Option<String>,
}

/// `GET /cache`, as far as it is shown.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Caches {
    caches: Vec<Cache>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cache {
    filter: String,
    direction: String,
    entries: u64,
    bytes: u64,
    capacity_bytes: u64,
    routes: Vec<CacheRoute>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CacheRoute {
    requests: std::collections::BTreeMap<String, u64>,
    hit_ratio: Option<f64>,
}

/// What one asking gave.
struct Sample {
    at: Instant,
    stats: Stats,
    upstreams: Upstreams,
    caches: Caches,
}

/// Where to ask, and with what.
struct Asker<'a> {
    url: &'a AdminUrl,
    token: Option<String>,
}

impl Asker<'_> {
    async fn sample(&self) -> Result<Sample, AskError> {
        let stats = client::get(self.url, "/stats", self.token.as_deref(), ANSWER_WITHIN).await?;
        let stats = Stats::read(&stats).ok_or_else(|| AskError::Broken("/stats is no sidecar's".to_owned()))?;
        let at = Instant::now();
        let upstreams = self.json("/upstreams").await?;
        let caches = self.json("/cache?top=0").await?;
        Ok(Sample {
            at,
            stats,
            upstreams,
            caches,
        })
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let body = client::get(self.url, path, self.token.as_deref(), ANSWER_WITHIN).await?;
        serde_json::from_slice(&body).map_err(|_| AskError::Broken(format!("{path} is no sidecar's")))
    }
}

/// Runs until `q`, Ctrl-C or a signal; once, where nobody watches.
pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let token = arguments.token_env.as_ref().map(|name| {
        let token = std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"));
        token.map(|token| token.trim().to_owned())
    });
    let asker = Asker {
        url: &arguments.admin,
        token: token.transpose()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let first = asker.sample().await.map_err(|error| told(arguments, &error))?;
        if arguments.once || !std::io::stdout().is_terminal() {
            once(arguments, &asker, first).await
        } else {
            watch(arguments, &asker, first).await
        }
    })
}

async fn once(arguments: &Arguments, asker: &Asker<'_>, first: Sample) -> Result<(), String> {
    tokio::time::sleep(arguments.interval).await;
    let second = asker.sample().await.map_err(|error| told(arguments, &error))?;
    let lines = frame(&second, Some(&first), arguments.sort, None).lines(None);
    let text: String = lines
        .into_iter()
        .map(|line| line.text.trim_end().to_owned() + "\n")
        .collect();
    super::print(&text)
}

async fn watch(arguments: &Arguments, asker: &Asker<'_>, first: Sample) -> Result<(), String> {
    let (events, mut heard) = mpsc::channel(16);
    let mut screen = Screen::open(events).map_err(|error| format!("cannot use the terminal: {error}"))?;
    let mut sort = arguments.sort;
    let (mut before, mut latest, mut lost) = (None, first, None);
    let mut ticks = tokio::time::interval(arguments.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first is at once.
    ticks.tick().await;
    loop {
        let shown = frame(&latest, before.as_ref(), sort, lost.as_deref());
        screen.show(&shown).map_err(|error| error.to_string())?;
        tokio::select! {
            event = heard.recv() => match event {
                Some(Event::Leave) | None => return Ok(()),
                Some(Event::Resized) => {}
                Some(Event::Sort(by)) => sort = by,
            },
            // Asked beside the keys: a sidecar that is slow to answer does not keep anybody here.
            result = async { ticks.tick().await; asker.sample().await } => match result {
                Ok(sample) => {
                    let is_same = sample.stats.pid == latest.stats.pid;
                    let old = std::mem::replace(&mut latest, sample);
                    // Another process has other counters.
                    before = is_same.then_some(old);
                    lost = None;
                }
                Err(error) => lost = Some(error.to_string()),
            },
        }
    }
}

fn frame<'s>(latest: &'s Sample, before: Option<&Sample>, sort: Sort, lost: Option<&'s str>) -> Frame<'s> {
    let none = Stats::default();
    let (old, span) = before.map_or((&none, Duration::ZERO), |before| (&before.stats, latest.at - before.at));
    let cpu = (!span.is_zero()).then(|| (latest.stats.cpu_seconds - old.cpu_seconds) / span.as_secs_f64());
    let rates: Vec<Rates> = rates(old, &latest.stats, span);
    Frame {
        stats: &latest.stats,
        upstreams: &latest.upstreams,
        caches: &latest.caches,
        rates,
        cpu,
        sort,
        lost,
    }
}

/// Why there is nothing to show, and what to do about it.
fn told(arguments: &Arguments, error: &AskError) -> String {
    let url = &arguments.admin;
    match (error, &arguments.token_env) {
        (AskError::Token, None) => {
            format!("{url} wants a token: name the environment variable that holds it with --token-env")
        }
        (AskError::Token, Some(name)) => format!("{url} does not take the token that {name} holds"),
        (AskError::Connect(_), _) => {
            format!(
                "no admin API at {url}: {error}\nis the sidecar running, and is this its `admin.listen`? --admin names another"
            )
        }
        _ => format!("no numbers from {url}: {error}"),
    }
}
