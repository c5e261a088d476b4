//! Watches the configuration's files, and the clock for what operators changed for a time.
//!
//! The files are looked at twelve times a second, through every symbolic link on the way, so that whatever becomes of them is seen: written
//! in place, renamed over, a volume that Kubernetes swaps, a single file that is mounted, a network file system. That takes a
//! thousandth of a core or so. The kernel's own word of changes (inotify) knows little of the last two, and a process that listens to it
//! may take seconds to end on a busy machine, because the kernel closes it so slowly. A file that is being written is given a
//! moment to be complete; one that is read half written is refused, and read again when the rest is there.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use super::history::Trigger;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(80);
/// For so long nothing must happen before a file counts as written, but no longer than the second.
const QUIET: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_millis(100);

/// Which files are watched, and how the watcher is called.
#[derive(Default)]
pub(super) struct Watched {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    /// The files of the configuration in force.
    good: Vec<PathBuf>,
    /// Those that were asked for since.
    asked: Vec<PathBuf>,
    /// The files are to be read although they look as they did.
    again: bool,
    rung: bool,
    stopped: bool,
}

impl Watched {
    pub(super) fn new(good: Vec<PathBuf>) -> Self {
        let state = State {
            good,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            bell: Condvar::new(),
        }
    }

    /// Somebody read these files, with what result is not known yet.
    pub(super) fn seen(&self, files: &[PathBuf]) {
        self.ring(|state| state.asked = files.to_vec());
    }

    /// The configuration in force is of these files.
    pub(super) fn in_force(&self, files: &[PathBuf]) {
        self.state().good = files.to_vec();
    }

    /// What was wrong with the files, if it was not their own fault, may be right now.
    pub(super) fn look_again(&self) {
        self.ring(|state| state.again = true);
    }

    fn takes_again(&self) -> bool {
        std::mem::take(&mut self.state().again)
    }

    pub(super) fn stop(&self) {
        self.ring(|state| state.stopped = true);
    }

    /// Makes the watcher look at its files and its clock.
    fn ring(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.rung = true;
        self.bell.notify_all();
    }

    /// Sleeps until somebody rings, or the time is over.
    fn wait(&self, limit: Option<Duration>) {
        let unrung = |state: &mut State| !state.rung;
        let mut state = match limit {
            Some(limit) => self
                .bell
                .wait_timeout_while(self.state(), limit, unrung)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state),
            None => self
                .bell
                .wait_while(self.state(), unrung)
                .unwrap_or_else(PoisonError::into_inner),
        };
        state.rung = false;
    }

    fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let mut files: Vec<PathBuf> = state.good.iter().chain(&state.asked).cloned().collect();
        files.sort();
        files.dedup();
        files
    }

    fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the watcher's thread.
pub(super) fn spawn(shared: &Arc<Shared>) -> io::Result<std::thread::JoinHandle<()>> {
    let shared = shared.clone();
    let thread = std::thread::Builder::new().name("config".to_owned());
    thread.spawn(move || watch(&shared))
}

fn watch(shared: &Shared) {
    // What was written since the configuration was read is found by its text, not by its time.
    let mut marks = Marks::default();
    // However often files are written.
    while !shared.watched.is_stopped() {
        let next_end = shared.end_overrides();
        let is_watching = shared.loaded.load().config.reload.watch && !shared.files.is_empty();
        let mut limit = next_end.map(|end| end.saturating_duration_since(Instant::now()));
        if is_watching {
            let now = Marks::of(shared.watched.files());
            if marks != now || shared.watched.takes_again() {
                marks = settled(now);
                // The result is in the log, the metric and the admin API.
                let _ = shared.reload(Trigger::File);
                continue;
            }
            limit = Some(limit.map_or(LOOK, |limit| limit.min(LOOK)));
        } else {
            marks = Marks::default();
        }
        shared.watched.wait(limit);
    }
}

/// The marks once nothing is written any more.
fn settled(mut marks: Marks) -> Marks {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        std::thread::sleep(QUIET);
        let now = Marks::of(marks.files());
        if now == marks {
            break;
        }
        marks = now;
    }
    marks
}

/// What files look like from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Marks(Vec<(PathBuf, Option<Mark>)>);

/// Device, inode, size, and the times of the last write and the last change, each with its nanoseconds.
type Mark = (u64, u64, u64, (i64, i64), (i64, i64));

impl Marks {
    fn of(files: Vec<PathBuf>) -> Self {
        let mark = |file: &Path| {
            let found = std::fs::metadata(file).ok()?;
            let (written, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
            Some((found.dev(), found.ino(), found.size(), written, changed))
        };
        Self(files.into_iter().map(|file| (file.clone(), mark(&file))).collect())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.0.iter().map(|(file, _)| file.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pillion-watch-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder.canonicalize().unwrap()
    }

    #[test]
    fn whatever_becomes_of_a_file_is_seen() {
        let root = scratch("seen");
        for version in ["1", "2"] {
            std::fs::create_dir(root.join(version)).unwrap();
            std::fs::write(root.join(version).join("app.yaml"), "same").unwrap();
        }
        // As Kubernetes mounts a ConfigMap.
        symlink("1", root.join("data")).unwrap();
        symlink("data/app.yaml", root.join("app.yaml")).unwrap();
        let file = root.join("app.yaml");
        let mut marks = Marks::of(vec![file.clone()]);
        let mut changed = || {
            let before = std::mem::replace(&mut marks, Marks::of(vec![file.clone()]));
            marks != before
        };
        assert!(!changed());
        symlink("2", root.join("next")).unwrap();
        std::fs::rename(root.join("next"), root.join("data")).unwrap();
        assert!(changed(), "a link was turned");
        std::fs::write(root.join("2/app.yaml"), "other").unwrap();
        assert!(changed(), "it was written in place");
        std::fs::write(root.join("aside"), "other").unwrap();
        std::fs::rename(root.join("aside"), root.join("2/app.yaml")).unwrap();
        assert!(changed(), "another took its place");
        std::fs::remove_file(root.join("2/app.yaml")).unwrap();
        assert!(changed(), "it is gone");
        assert!(!changed());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn who_rings_is_heard_at_once() {
        let watched = Watched::new(Vec::new());
        watched.stop();
        let began = Instant::now();
        watched.wait(None);
        watched.seen(&[]);
        watched.wait(Some(Duration::from_secs(60)));
        assert!(began.elapsed() < Duration::from_secs(30));
        watched.wait(Some(Duration::from_millis(1)));
    }
}
