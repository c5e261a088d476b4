//! The sidecar's own log, on standard error; access logs go to standard output.
//!
//! Which lines are written is, in this order: what an operator chose while the process runs; `RUST_LOG`; the configuration.

mod choice;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use tokio::task::AbortHandle;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

pub(crate) use self::choice::Choice;
use crate::config::{Log, LogFormat, LogLevel};

/// Changes what is written by the process, once it writes a log.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// pingora reports clients' mistakes as errors; ours tell them better.
const QUIET: &str = "pingora_core=off";

/// Starts logging. Only the first call counts.
pub(crate) fn start(log: Log) {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(directives(log.level, None)));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // An error means that somebody was first, e.g. another sidecar in the same test.
    if tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .is_ok()
    {
        let _ = FILTER.set(handle);
    }
}

/// What `RUST_LOG` says, if that can be understood.
fn from_environment() -> Option<String> {
    let said = std::env::var(EnvFilter::DEFAULT_ENV).ok()?;
    EnvFilter::builder().parse(&said).ok().map(|_| said)
}

fn directives(configured: LogLevel, choice: Option<&Choice>) -> String {
    match (choice, from_environment()) {
        (Some(choice), _) => format!("{},{QUIET}", choice.directives(configured)),
        (None, Some(said)) => said,
        (None, None) => format!("{},{QUIET}", configured.as_str()),
    }
}

/// What is written now, and why.
pub(crate) struct Levels(Mutex<State>);

struct State {
    configured: LogLevel,
    chosen: Option<Chosen>,
    /// How many choices there were, to tell one from the next.
    choices: u64,
}

/// What an operator chose.
struct Chosen {
    choice: Choice,
    until: Option<SystemTime>,
    /// Ends it.
    timer: Option<AbortHandle>,
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What is written: a level, or directives.
    pub(crate) level: String,
    /// What the configuration says.
    pub(crate) configured: LogLevel,
    /// When an operator's choice ends.
    pub(crate) until: Option<SystemTime>,
    /// What stands in for the configuration.
    pub(crate) environment: Option<String>,
}

impl Levels {
    pub(crate) fn new(configured: LogLevel) -> Self {
        Self(Mutex::new(State {
            configured,
            chosen: None,
            choices: 0,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the configuration says from now on. What an operator chose for longer than that is over with a new word.
    pub(crate) fn configure(&self, level: LogLevel) {
        let mut state = self.state();
        if state.configured == level {
            return;
        }
        state.configured = level;
        if state.chosen.as_ref().is_some_and(|chosen| chosen.until.is_none()) {
            state.chosen = None;
        }
        state.apply();
        if state.chosen.is_none() && from_environment().is_some() {
            tracing::warn!("log.level changed, but RUST_LOG is set, which wins over it");
        }
    }

    /// Writes what an operator wants, until it is over by itself or by [`Self::end`]. The number tells it from later ones.
    pub(crate) fn choose(&self, choice: Choice, until: Option<SystemTime>) -> u64 {
        let mut state = self.state();
        state.choices += 1;
        state.chosen = Some(Chosen {
            choice,
            until,
            timer: None,
        });
        state.apply();
        state.choices
    }

    /// Who will end that choice, unless it is over.
    pub(crate) fn ends_by(&self, number: u64, timer: AbortHandle) {
        let mut state = self.state();
        let is_it = state.choices == number;
        match state.chosen.as_mut().filter(|_| is_it) {
            Some(chosen) => chosen.timer = Some(timer),
            None => timer.abort(),
        }
    }

    /// Goes back to what the configuration says; with a number, only if that choice is still in force.
    pub(crate) fn end(&self, number: Option<u64>) {
        let mut state = self.state();
        if number.is_some_and(|number| number != state.choices) || state.chosen.is_none() {
            return;
        }
        state.chosen = None;
        state.apply();
        tracing::info!("the log level is what it was again");
    }

    pub(crate) fn standing(&self) -> Standing {
        let state = self.state();
        let environment = from_environment();
        let chosen = state.chosen.as_ref();
        let level = match (chosen, &environment) {
            (Some(chosen), _) => chosen.choice.to_string(),
            (None, Some(said)) => said.clone(),
            (None, None) => state.configured.as_str().to_owned(),
        };
        Standing {
            level,
            configured: state.configured,
            until: chosen.and_then(|chosen| chosen.until),
            environment,
        }
    }
}

impl State {
    fn apply(&self) {
        let directives = directives(self.configured, self.chosen.as_ref().map(|chosen| &chosen.choice));
        if let Some(handle) = FILTER.get() {
            // An error means that nothing logs any more.
            let _ = handle.reload(EnvFilter::new(directives));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn choice(text: &str) -> Choice {
        text.parse().unwrap()
    }

    #[test]
    fn a_choice_stands_until_it_is_ended() {
        let levels = Levels::new(LogLevel::Info);
        let until = SystemTime::now() + Duration::from_secs(60);
        let first = levels.choose(choice("debug"), Some(until));
        assert_eq!(levels.standing().level, "debug");
        assert_eq!(levels.standing().until, Some(until));
        let second = levels.choose(choice("trace"), None);
        levels.end(Some(first));
        assert_eq!(levels.standing().level, "trace");
        levels.end(Some(second));
        assert_eq!(levels.standing().until, None);
        assert_ne!(levels.standing().level, "trace");
        assert_eq!(levels.standing().configured, LogLevel::Info);
    }

    #[test]
    fn a_new_word_of_the_configuration_ends_what_was_chosen_without_an_end() {
        let levels = Levels::new(LogLevel::Info);
        levels.choose(choice("debug"), None);
        levels.configure(LogLevel::Info);
        assert_eq!(levels.standing().level, "debug");
        levels.configure(LogLevel::Warn);
        assert_ne!(levels.standing().level, "debug");
        levels.choose(choice("debug"), Some(SystemTime::now()));
        levels.configure(LogLevel::Error);
        assert_eq!(levels.standing().level, "debug");
        assert_eq!(levels.standing().configured, LogLevel::Error);
    }
}
