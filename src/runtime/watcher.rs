//! Watches the configuration's files, and the clock for what operators changed for a time.
//!
//! The kernel tells of changes (inotify): of the files themselves, of the folders they are in, and of the folders of every
//! symbolic link on the way, which is what Kubernetes turns to swap a volume. What it cannot tell of, as on network file
//! systems, is found by a look a second; without inotify by ten looks a second. A file that is being written is given a
//! moment to be complete; one that is read half written is refused, and read again when the rest is there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init, remove_watch};

use super::Shared;
use super::history::Trigger;

/// How often the files are looked at although nothing was told of them.
const LOOK: Duration = Duration::from_secs(1);
/// The same where nothing can be told.
const BLIND_LOOK: Duration = Duration::from_millis(100);
/// For so long nothing must happen before a file counts as written, but no longer than the second.
const QUIET: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_millis(100);
/// Symbolic links followed on the way to a file, as the kernel has it.
const LINKS: usize = 40;

/// Which files are watched, and how the watcher is called.
pub(super) struct Watched {
    state: Mutex<State>,
    bell: Option<OwnedFd>,
}

#[derive(Default)]
struct State {
    /// The files of the configuration in force.
    good: Vec<PathBuf>,
    /// Those that were asked for since.
    asked: Vec<PathBuf>,
    /// The files are to be read although they look as they did.
    again: bool,
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
            // Without it a change may take a second to be seen.
            bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).ok(),
        }
    }

    /// Somebody read these files, with what result is not known yet.
    pub(super) fn seen(&self, files: &[PathBuf]) {
        self.state().asked = files.to_vec();
        self.ring();
    }

    /// The configuration in force is of these files.
    pub(super) fn in_force(&self, files: &[PathBuf]) {
        self.state().good = files.to_vec();
    }

    /// What was wrong with the files, if it was not their own fault, may be right now.
    pub(super) fn look_again(&self) {
        self.state().again = true;
        self.ring();
    }

    fn takes_again(&self) -> bool {
        std::mem::take(&mut self.state().again)
    }

    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.ring();
    }

    /// Makes the watcher look at its files and its clock.
    pub(super) fn ring(&self) {
        if let Some(bell) = &self.bell {
            // Full: it rings already.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
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
    let mut told = None;
    // However often files are written.
    while !shared.watched.is_stopped() {
        let next_end = shared.end_overrides();
        let is_watching = shared.loaded.load().config.reload.watch && !shared.files.is_empty();
        let mut limit = next_end.map(|end| end.saturating_duration_since(Instant::now()));
        if is_watching {
            let files = shared.watched.files();
            if told.is_none() {
                told = Inotify::new().ok();
            }
            // Before the files are looked at, so that nothing is missed in between.
            if let Some(told) = &mut told {
                told.follow(&files);
            }
            let now = Marks::of(files);
            if marks != now || shared.watched.takes_again() {
                marks = settled(told.as_ref(), now);
                // The result is in the log, the metric and the admin API.
                let _ = shared.reload(Trigger::File);
                continue;
            }
            let look = if told.is_some() { LOOK } else { BLIND_LOOK };
            limit = Some(limit.map_or(look, |limit| limit.min(look)));
        } else {
            (marks, told) = (Marks::default(), None);
        }
        if shared.watched.bell.is_none() {
            limit = Some(limit.map_or(LOOK, |limit| limit.min(LOOK)));
        }
        wait(told.as_ref(), shared.watched.bell.as_ref(), limit);
    }
}

/// The marks once nothing is written any more.
fn settled(told: Option<&Inotify>, mut marks: Marks) -> Marks {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        wait(told, None, Some(QUIET));
        let now = Marks::of(marks.files());
        if now == marks {
            break;
        }
        marks = now;
    }
    marks
}

/// Sleeps until something is told, somebody rings, or the time is over.
fn wait(told: Option<&Inotify>, bell: Option<&OwnedFd>, limit: Option<Duration>) {
    let told = told.map(|told| told.fd.as_fd());
    let fds = [told, bell.map(AsFd::as_fd)];
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .flatten()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    // Interrupted, it is as if something had happened.
    let _ = poll(&mut polled, limit.as_ref());
    let mut dropped = [0; 4096];
    for fd in fds.iter().flatten() {
        while rustix::io::read(fd, &mut dropped).is_ok_and(|read| read > 0) {}
    }
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

/// The kernel's word of changes. It is opened once: the kernel takes its time to close one, seconds on a busy machine.
struct Inotify {
    fd: OwnedFd,
    /// What is watched, by the kernel's numbers.
    watches: Vec<i32>,
}

impl Inotify {
    fn new() -> io::Result<Self> {
        let fd = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let watches = Vec::new();
        Ok(Self { fd, watches })
    }

    /// Listens to what becomes of these files, and of no others. What is listened to already keeps its number.
    fn follow(&mut self, files: &[PathBuf]) {
        let in_folder = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        // A single file that is mounted is written to where its folder is another.
        let in_file = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
        let mut watches = Vec::new();
        for file in files {
            let folders = folders(file).into_iter().map(|folder| (folder, in_folder));
            for (path, flags) in folders.chain(std::iter::once((file.clone(), in_file))) {
                // One that is not there is found by looking, once it is.
                watches.extend(add_watch(&self.fd, &path, flags));
            }
        }
        for old in self.watches.iter().filter(|old| !watches.contains(old)) {
            // It may be gone by itself, with its file.
            let _ = remove_watch(&self.fd, *old);
        }
        self.watches = watches;
    }
}

/// The folders in which something must change for the file of that name to become another: its own, and that of each symbolic
/// link on the way.
fn folders(file: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let mut links = 0;
    let Ok(mut todo) = std::path::absolute(file) else {
        return folders;
    };
    'again: while links <= LINKS {
        let mut done = PathBuf::new();
        let mut rest = todo.components();
        while let Some(component) = rest.next() {
            let before = done.clone();
            match component {
                Component::ParentDir => {
                    done.pop();
                }
                other => done.push(other),
            }
            if let Ok(target) = std::fs::read_link(&done) {
                folders.push(before.clone());
                links += 1;
                todo = before.join(target).join(rest.as_path());
                continue 'again;
            }
        }
        folders.extend(done.parent().map(Path::to_owned));
        break;
    }
    folders.sort();
    folders.dedup();
    folders
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
    fn every_folder_on_the_way_is_watched() {
        // As Kubernetes mounts a ConfigMap.
        let root = scratch("folders");
        std::fs::create_dir(root.join("..2024")).unwrap();
        std::fs::write(root.join("..2024/app.yaml"), "a").unwrap();
        symlink("..2024", root.join("..data")).unwrap();
        symlink("..data/app.yaml", root.join("app.yaml")).unwrap();
        assert_eq!(folders(&root.join("app.yaml")), [root.clone(), root.join("..2024")]);
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(folders(&root.join("loop")), std::slice::from_ref(&root));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_swap_of_a_link_is_told_and_seen() {
        let root = scratch("swap");
        for version in ["1", "2"] {
            std::fs::create_dir(root.join(version)).unwrap();
            std::fs::write(root.join(version).join("app.yaml"), "same").unwrap();
        }
        symlink("1", root.join("data")).unwrap();
        let file = vec![root.join("data/app.yaml")];
        let mut inotify = Inotify::new().unwrap();
        inotify.follow(&file);
        let before = Marks::of(file.clone());
        symlink("2", root.join("next")).unwrap();
        std::fs::rename(root.join("next"), root.join("data")).unwrap();
        let began = Instant::now();
        wait(Some(&inotify), None, Some(Duration::from_secs(10)));
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_ne!(Marks::of(file), before);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn who_rings_is_heard_at_once() {
        let watched = Watched::new(Vec::new());
        watched.ring();
        let began = Instant::now();
        wait(None, watched.bell.as_ref(), Some(Duration::from_secs(10)));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
