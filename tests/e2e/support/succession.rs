//! A process that another one follows, and that one another.

use std::io::BufRead;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{PATIENCE, Process};

/// Said of a process before it is given anything.
const STARTS: &str = "a new process starts pid=";

impl Process {
    /// The process that serves, or none that said so yet: then the first.
    pub(crate) fn pid(&self) -> u32 {
        let line = self.said.lines().rfind(|line| line.contains("listening"));
        let pid = line
            .and_then(|line| line.split_once(" pid="))
            .map(|(_, rest)| number(rest));
        pid.unwrap_or_else(|| self.child.id())
    }

    /// Has another process take over; the one that had served until then.
    pub(crate) fn upgrade(&mut self) -> u32 {
        let old = self.pid();
        self.signal("USR2");
        self.await_log("listening");
        self.await_log("a new process has taken over");
        assert_ne!(self.pid(), old, "{}", self.said);
        old
    }

    /// Waits until a process that was followed by another has ended.
    pub(crate) fn await_end(&mut self, pid: u32) {
        if pid == self.child.id() {
            assert!(self.wait_for_first().success(), "{}", self.said);
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        while runs(pid) {
            assert!(Instant::now() < deadline, "{pid} runs; it said {:?}", self.said);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the process that serves was started from, as the system sees it.
    pub(crate) fn program(&self) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/exe", self.pid())).unwrap()
    }

    /// Ends whatever follows a process that has ended, also what the test does not know of: its start is in the log, and the
    /// log ends when nobody is left who could write to it.
    pub(super) fn end_successors(&mut self) {
        self.said.lines().for_each(end);
        let mut line = String::new();
        while self.log.read_line(&mut line).is_ok_and(|n| n > 0) {
            end(&line);
            line.clear();
        }
    }
}

/// Ends the process whose start that line tells of.
fn end(line: &str) {
    let Some((_, rest)) = line.split_once(STARTS) else {
        return;
    };
    let pid = number(rest);
    if runs(pid) {
        let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
    }
}

/// The digits a text begins with.
fn number(text: &str) -> u32 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap()
}

/// Whether there is a sidecar of that id that has not ended. One that has may stay in the table of processes for as long as
/// nobody asks for its status.
fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let Some((name, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    name.contains("(pillion") && !rest.trim_start().starts_with(['Z', 'X'])
}
