//! A configuration taken up while the sidecar runs.
//!
//! It is validated first, whatever it comes from, and swapped whole; a bad one changes nothing. What changed, by key and
//! file, and what outlived it, is in the log and in `/config/history`. One change at a time.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pillion_filters::cache::Cache;
use pillion_filters::circuit_breaker::Breakers;

use super::history::{Author, Entry, History, Outcome, Trigger};
use super::overrides::{Active, MOST, Overrides};
use super::{Shared, restart};
use crate::config::{self, ConfigErrors, Difference, Loaded, Loader, Override};
use crate::snapshot;
use crate::upstream::Wanted;

/// Changes that are told in the log one by one.
const TOLD: usize = 20;

/// What reloads remember of each other.
#[derive(Default)]
pub(super) struct Reloads {
    overrides: Overrides,
    history: History,
    /// What the files say is not in force.
    refused: bool,
    /// For no other reason than what operators changed.
    blocked: bool,
}

/// Why a filter was not changed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no such filter, direction or route.
    Unknown(String),
    /// There are too many changes already.
    TooMany,
    /// The configuration makes no sense with it.
    Invalid(ConfigErrors),
}

impl Shared {
    /// Reads the configuration files again. A bad configuration changes nothing.
    pub(crate) fn reload(&self, trigger: Trigger) -> Result<(), ConfigErrors> {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let read = self.read(trigger);
        let is_news = trigger != Trigger::File || reloads.refused;
        let result = match read {
            // Touched, or written as it was: nobody needs to hear of it. But who heard that a file was refused hears that it is mended.
            Ok(read) if !is_news && read.is_same_text(&self.loaded.load()) => return Ok(()),
            Ok(read) => {
                let changes = reloads.overrides.changes();
                let alone = (!changes.is_empty()).then(|| read.clone());
                let taken = self.take_up(&mut reloads, read, changes, trigger, Author::default(), began);
                let holds = |alone: &Loaded| self.try_out(alone).is_ok();
                reloads.blocked = taken.is_err() && alone.as_ref().is_some_and(holds);
                taken
            }
            Err(errors) => {
                self.watched.seen(errors.files());
                let entry = Entry::new(trigger, Author::default(), Outcome::Refused, began.elapsed());
                self.refused(&mut reloads, entry, &errors);
                reloads.blocked = false;
                Err(errors)
            }
        };
        reloads.refused = result.is_err();
        self.metrics.reloaded(result.is_ok());
        result.map(drop)
    }

    fn read(&self, trigger: Trigger) -> Result<Loaded, ConfigErrors> {
        if self.files.is_empty() {
            // A program gave the configuration itself, as the demo does; there is nothing to read again.
            tracing::debug!(trigger = trigger.as_str(), "the configuration is of no file");
            return self.loader(|loader| loader.overlay(&self.loaded.load(), Vec::new()));
        }
        self.loader(|loader| loader.files(&self.files))
    }

    fn loader<R>(&self, read: impl FnOnce(Loader<'_>) -> R) -> R {
        let names: Vec<&str> = self.ground.registry.entries().iter().map(|entry| entry.name).collect();
        read(Loader::new(&names).at_once())
    }

    /// Lays a change of a filter over the files, for so long or until it is taken back. Gives what changed.
    pub(crate) fn change_filter(
        &self,
        change: Override,
        author: Author,
        ttl: Option<Duration>,
    ) -> Result<Vec<Difference>, Refused> {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.loaded.load_full();
        if !change.applies(&loaded) {
            return Err(Refused::Unknown(nothing_there(&change, &loaded)));
        }
        let overrides = reloads.overrides.with(&Active::new(change, author.clone(), ttl));
        if overrides.all().len() > MOST {
            return Err(Refused::TooMany);
        }
        let taken = self.override_by(&mut reloads, overrides, Trigger::Override, author);
        taken.map_err(Refused::Invalid)
    }

    /// Takes back what lies over a filter. Gives what changed.
    pub(crate) fn restore_filter(
        &self,
        leaves: impl Fn(&Override) -> bool,
        author: Author,
    ) -> Result<Vec<Difference>, Refused> {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let overrides = reloads.overrides.without(|active| leaves(&active.change));
        if overrides.all().len() == reloads.overrides.all().len() {
            return Err(Refused::Unknown("nothing lies over this filter".to_owned()));
        }
        let taken = self.override_by(&mut reloads, overrides, Trigger::OverrideRemoved, author);
        taken.map_err(Refused::Invalid)
    }

    /// Ends what operators changed for a time that is over; when the next such time is.
    pub(super) fn end_overrides(&self) -> Option<Instant> {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if reloads.overrides.next_end().is_some_and(|end| end <= now) {
            let left = reloads.overrides.at(now);
            let ended: Vec<String> = reloads.overrides.ended(now).map(str::to_owned).collect();
            let of_others = left.without(|active| ended.contains(&active.change.filter));
            // It ends in any case. What makes no sense without it ends too: the files do make sense.
            let ways = [left.clone(), of_others, Overrides::default()];
            let mut refused = |left| {
                let ended = self.override_by(&mut reloads, left, Trigger::OverrideEnded, Author::default());
                ended.is_err()
            };
            if ways.into_iter().all(&mut refused) {
                reloads.overrides = left;
            }
        }
        reloads.overrides.next_end()
    }

    fn override_by(
        &self,
        reloads: &mut Reloads,
        overrides: Overrides,
        trigger: Trigger,
        author: Author,
    ) -> Result<Vec<Difference>, ConfigErrors> {
        let began = Instant::now();
        let before = Loaded::clone(&self.loaded.load());
        let changed = self.take_up(reloads, before, overrides.changes(), trigger, author, began)?;
        reloads.overrides = overrides;
        if reloads.blocked {
            self.watched.look_again();
        }
        Ok(changed)
    }

    /// Validates what was read, with what operators changed over it, and swaps it in.
    fn take_up(
        &self,
        reloads: &mut Reloads,
        read: Loaded,
        overrides: Vec<Override>,
        trigger: Trigger,
        author: Author,
        began: Instant,
    ) -> Result<Vec<Difference>, ConfigErrors> {
        let files: Vec<String> = read.files.iter().map(|file| file.display().to_string()).collect();
        self.watched.seen(&read.files);
        let swapped = self.swap(read, overrides);
        let result = match &swapped {
            Ok(swapped) if swapped.changes.is_empty() => Outcome::Unchanged,
            Ok(_) => Outcome::Applied,
            Err(_) => Outcome::Refused,
        };
        let entry = Entry {
            files,
            ..Entry::new(trigger, author, result, began.elapsed())
        };
        match swapped {
            Ok(Swapped {
                changes,
                survived,
                needs_restart,
                warnings,
            }) => {
                let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
                tell(&changes, trigger, generation, &entry.author);
                let entry = Entry {
                    generation,
                    survived,
                    needs_restart,
                    ..entry.with_changes(&changes).with_warnings(&warnings)
                };
                reloads.history.add(entry);
                Ok(changes)
            }
            Err(errors) => {
                self.refused(reloads, entry, &errors);
                Err(errors)
            }
        }
    }

    fn swap(&self, read: Loaded, overrides: Vec<Override>) -> Result<Swapped, ConfigErrors> {
        let before = self.loaded.load_full();
        let loaded = if overrides.is_empty() && read.overrides().is_empty() {
            read
        } else {
            let overlaid = self.loader(|loader| loader.overlay(&read, overrides))?;
            // What lies over it ends some time; then it must hold by itself.
            self.try_out(&read)?;
            overlaid
        };
        self.try_out(&loaded)?;
        let listeners = self.listeners.prepare(&loaded)?;
        let (snapshot, warnings) = snapshot::build(&loaded, &self.ground)?;
        super::log_warnings(&warnings);
        restart::warn_of_what_needs_a_restart(&self.started, &loaded.config);
        let known = self.ground.upstreams.all();
        let stays = |wanted: &Wanted| known.iter().any(|known| known.name() == wanted.group.name());
        let upstreams = snapshot.wanted().iter().filter(|wanted| stays(wanted)).count();
        super::settle(&snapshot, &self.ground, &self.keeper);
        self.levels.configure(loaded.config.log.level);
        let changes = config::differences(&before, &loaded);
        let needs_restart = restart::changed(&self.started, &loaded.config);
        self.watched.in_force(&loaded.files);
        listeners.commit(&self.snapshot, || {
            self.snapshot.store(std::sync::Arc::new(snapshot));
            self.loaded.store(std::sync::Arc::new(loaded));
        });
        Ok(Swapped {
            changes,
            survived: self.survived(upstreams),
            needs_restart,
            warnings: warnings.warnings().iter().map(ToString::to_string).collect(),
        })
    }

    /// Builds a configuration where it leaves nothing behind: one that is refused changes nothing, nor what filters remember.
    fn try_out(&self, loaded: &Loaded) -> Result<(), ConfigErrors> {
        let ground = super::dry_ground(&loaded.config, self.ground.registry.clone());
        snapshot::build(loaded, &ground).map(drop)
    }

    /// What a swap leaves as it is, in words.
    fn survived(&self, upstreams: usize) -> Vec<String> {
        let mut survived = Vec::new();
        let mut some = |count: usize, one: &str, many: &str| {
            if count > 0 {
                survived.push(format!("{count} {}", if count == 1 { one } else { many }));
            }
        };
        some(self.open.total(), "open connection", "open connections");
        some(
            upstreams,
            "upstream with what is known of its endpoints",
            "upstreams with what is known of their endpoints",
        );
        let breakers = self.ground.state.each::<Breakers>();
        let breakers = breakers.iter().map(|(.., breakers)| breakers.report().len()).sum();
        some(breakers, "circuit breaker", "circuit breakers");
        for (direction, filter, cache) in self.ground.state.each::<Cache>() {
            let entries = cache.report(0).entries;
            if entries > 0 {
                survived.push(format!("{filter} ({}): {entries} stored responses", direction.as_str()));
            }
        }
        survived
    }

    fn refused(&self, reloads: &mut Reloads, entry: Entry, errors: &ConfigErrors) {
        tracing::error!(
            trigger = entry.trigger.as_str(),
            "configuration not reloaded, the old one stays: {errors}"
        );
        let generation = self.generation.load(Ordering::Relaxed);
        let files = if entry.files.is_empty() {
            errors.files().iter().map(|file| file.display().to_string()).collect()
        } else {
            entry.files.clone()
        };
        let entry = Entry {
            generation,
            files,
            ..entry.with_error(&errors.to_string())
        };
        reloads.history.add(entry);
    }

    /// Notes what the sidecar started with.
    pub(super) fn note_start(&self, took: Duration) {
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.loaded.load();
        let files = loaded.files.iter().map(|file| file.display().to_string()).collect();
        reloads.history.add(Entry {
            files,
            generation: self.generation.load(Ordering::Relaxed),
            ..Entry::new(Trigger::Start, Author::default(), Outcome::Applied, took)
        });
    }

    /// Notes what an operator did beside the configuration.
    pub(crate) fn note_action(&self, action: &str) {
        tracing::info!(action, "asked for by the admin API");
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.history.add(Entry {
            generation: self.generation.load(Ordering::Relaxed),
            ..Entry::of_action(action)
        });
    }

    /// Looks at the configuration and what became of it, the newest first.
    pub(crate) fn history(&self) -> Vec<Entry> {
        let reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.history.newest_first()
    }

    /// What operators changed, and until when.
    pub(crate) fn overrides(&self) -> Overrides {
        let reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.overrides.clone()
    }
}

/// What a swap did.
struct Swapped {
    changes: Vec<Difference>,
    survived: Vec<String>,
    needs_restart: Vec<&'static str>,
    warnings: Vec<String>,
}

/// What there is not that a change is for.
fn nothing_there(change: &Override, loaded: &Loaded) -> String {
    let chain = &loaded.config.chain;
    if !chain.contains(&change.filter) {
        let known = chain.iter().map(String::as_str);
        return format!(
            "the chain has no filter `{}`; {}",
            change.filter,
            config::suggest(&change.filter, known)
        );
    }
    match (&change.route, change.direction) {
        (Some(route), _) => {
            let names: Vec<String> = (0..loaded.config.routes.len())
                .map(|index| loaded.route_name(index))
                .collect();
            let known = names.iter().map(String::as_str);
            format!("there is no route `{route}`; {}", config::suggest(route, known))
        }
        (None, Some(direction)) => format!("the configuration has no `{}`", direction.as_str()),
        (None, None) => "there is nothing it is for".to_owned(),
    }
}

/// Tells the log what changed.
fn tell(changes: &[Difference], trigger: Trigger, generation: u64, author: &Author) {
    for change in changes.iter().take(TOLD) {
        tracing::info!(generation, "changed {change}");
    }
    let (changes, by, reason) = (changes.len(), author.by.as_deref(), author.reason.as_deref());
    let trigger = trigger.as_str();
    tracing::info!(trigger, generation, changes, by, reason, "configuration reloaded");
}
