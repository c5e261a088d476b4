//! Another process in the place of this one: started, given the listening sockets, waited for until it serves.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::RecvFlags;

use super::handover::{Channel, Message};
use super::sockets::Listening;

/// How long a new process may take to read its configuration and listen.
const START: Duration = Duration::from_secs(30);
/// How long a process that hung up may take to say why and end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How this process was started, to do the same again with whatever is under that name by then.
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be called at the start, before anything can be replaced on disk.
    pub fn find() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let running = without_deleted(std::env::current_exe()?);
        let named = arguments.next().and_then(|name| named(&name));
        // The name it was called by may be a link, which a new version moves. But a caller may say any name.
        let path = named.filter(|named| is_same(named, &running)).unwrap_or(running);
        Ok(Self {
            path,
            arguments: arguments.collect(),
        })
    }

    /// Starts it and hands it the sockets; its process id once it serves. One that does not come to that is ended.
    pub(super) async fn succeed(&self, sockets: &[Listening]) -> Result<u32, SuccessionError> {
        let (channel, (name, value), theirs) = Channel::open().map_err(SuccessionError::System)?;
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .env(name, value)
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(|error| SuccessionError::Start(self.path.clone(), error))?;
        let mut successor = Successor(Some(child));
        tracing::info!(pid = successor.id(), program = %self.path.display(), "upgrading: a new process starts");
        let ready = async {
            channel.hand_over(sockets)?;
            ready(&channel).await
        };
        match tokio::time::timeout(START, ready).await {
            Ok(Ok(true)) => {
                let pid = successor.id();
                successor.0 = None;
                Ok(pid)
            }
            Ok(_) => Err(successor.ended().await),
            Err(_) => Err(SuccessionError::TooLate),
        }
    }
}

/// Why a new process did not take over.
#[derive(Debug, thiserror::Error)]
pub(super) enum SuccessionError {
    #[error("cannot start {0}: {1}")]
    Start(PathBuf, io::Error),
    #[error("the new process ended ({0}); what it said stands above")]
    Ended(std::process::ExitStatus),
    #[error("the new process did not serve within {} seconds", START.as_secs())]
    TooLate,
    #[error("the new process hung up without taking over")]
    HungUp,
    #[error("{0}")]
    System(io::Error),
}

/// A child that ends with this, unless it has taken over.
struct Successor(Option<Child>);

impl Successor {
    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Why it hung up. It may be about to say so itself, and is not cut short.
    async fn ended(&mut self) -> SuccessionError {
        let looking = async {
            loop {
                match self.0.as_mut().map(Child::try_wait) {
                    Some(Ok(Some(status))) => return SuccessionError::Ended(status),
                    Some(Err(error)) => return SuccessionError::System(error),
                    _ => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let ended = tokio::time::timeout(LAST_WORDS, looking).await;
        ended.unwrap_or(SuccessionError::HungUp)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether the successor says that it serves, rather than hanging up.
async fn ready(channel: &Channel) -> io::Result<bool> {
    loop {
        match channel.receive(RecvFlags::DONTWAIT) {
            Ok(Some(Message::Ready)) => return Ok(true),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            // Looked at again and again: tokio's own way to wait for a descriptor of no kind it knows is unsafe.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error),
        }
    }
}

/// The file a shell would run under that name.
fn named(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(name).ok();
    }
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = candidates.into_iter().find(|candidate| candidate.is_file())?;
    std::path::absolute(found).ok()
}

fn is_same(one: &Path, other: &Path) -> bool {
    let files = one.canonicalize().ok().zip(other.canonicalize().ok());
    files.is_some_and(|(one, other)| one == other)
}

/// Linux adds this to the name of a program whose file was replaced; the new one is under the old name.
fn without_deleted(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(original) if !path.exists() => PathBuf::from(OsString::from_vec(original.to_vec())),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_program_is_found_under_its_name() {
        let replaced = PathBuf::from("/usr/bin/pillion (deleted)");
        assert_eq!(without_deleted(replaced), Path::new("/usr/bin/pillion"));
        let plain = PathBuf::from("/usr/bin/pillion");
        assert_eq!(without_deleted(plain.clone()), plain);
    }

    #[test]
    fn names_are_found_as_a_shell_does() {
        assert!(named(OsStr::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(named(OsStr::new("/a/b")).as_deref(), Some(Path::new("/a/b")));
        assert!(named(OsStr::new("./a")).is_some_and(|path| path.is_absolute()));
        assert_eq!(named(OsStr::new("no such program")), None);
    }

    #[test]
    fn a_name_counts_only_if_it_is_this_program() {
        let program = Program::find().unwrap();
        assert!(is_same(&program.path, &std::env::current_exe().unwrap()));
        assert!(!is_same(Path::new("/bin/sh"), &program.path));
        assert!(!is_same(Path::new("/nowhere"), Path::new("/nowhere")));
    }
}
