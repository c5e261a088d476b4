//! Plays a case: a client asks, the app answers as it was told, and what both saw is compared with the table.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::case::{Case, Need, Outcome, Place, Reply, Step};
use super::origin::{Asked, Origin};
use super::seen::{Seen, exchange};
use crate::support::PATIENCE;

/// Plays a case under a path of that number; what was wrong in its first step that went wrong.
pub(super) fn play(case: &Case, number: usize, inbound: SocketAddr, origin: &Origin) -> Result<(), String> {
    let place = Place {
        path: format!("/{}/{number}", case.route),
        began: SystemTime::now(),
    };
    let scene = Scene {
        case,
        place,
        inbound,
        origin,
    };
    for (index, step) in case.steps.iter().enumerate() {
        thread::sleep(step.pause);
        let step = catch_unwind(AssertUnwindSafe(|| scene.play(index, step)));
        step.unwrap_or_else(|_| Err("a panic; its message is above".to_owned()))
            .map_err(|faults| report(case, index, &faults))?;
    }
    Ok(())
}

fn report(case: &Case, index: usize, faults: &str) -> String {
    let Case {
        place, section, name, ..
    } = case;
    let (line, step) = (case.steps[index].line, index + 1);
    format!("{place}: [{section}] {name}\n  step {step}, line {line}:{faults}\n")
}

struct Scene<'t> {
    case: &'t Case,
    place: Place,
    inbound: SocketAddr,
    origin: &'t Origin,
}

impl Scene<'_> {
    fn play(&self, index: usize, step: &Step) -> Result<(), String> {
        self.origin.script(&self.place.path, self.replies(step));
        let ask = || exchange(self.inbound, &self.place, &step.request);
        let mut seen: Vec<Seen> = thread::scope(|scope| {
            let clients: Vec<_> = (0..step.request.times).map(|_| scope.spawn(ask)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let deadline = Instant::now() + PATIENCE / 4;
        while step.expected.eventually && Instant::now() < deadline && !self.faults(index, step, &seen[0]).is_empty() {
            thread::sleep(Duration::from_millis(20));
            seen = vec![ask()];
        }
        let count = |need| {
            let replies = step.replies.iter().filter(|reply| reply.need == need);
            replies.map(|reply| reply.times).sum::<usize>()
        };
        let least = count(Need::Must) + count(Need::Behind);
        let asked = self.origin.asked(&self.place.path, least);
        let mut faults: Vec<String> = seen.iter().flat_map(|seen| self.faults(index, step, seen)).collect();
        faults.sort();
        faults.dedup();
        if !(least..=least + count(Need::May)).contains(&asked.len()) {
            faults.push(format!("expected {least} requests to the app, got {}", asked.len()));
        }
        faults.extend(asked.iter().flat_map(|asked| self.asked_faults(step, asked)));
        if faults.is_empty() {
            Ok(())
        } else {
            Err(tell(&faults, &asked, &seen[0]))
        }
    }

    /// What the app is told, each answer as often as it may be asked for.
    fn replies(&self, step: &Step) -> Vec<Reply> {
        let replies = step.replies.iter().flat_map(|reply| {
            let mut filled = reply.clone();
            filled.fields = self.place.fill_fields(&reply.fields);
            filled.body = reply.body.as_deref().map(|body| self.place.fill(body));
            vec![filled; reply.times]
        });
        replies.collect()
    }

    /// The answer of the app that the client must see.
    fn model<'s>(&'s self, index: usize, step: &'s Step) -> Option<&'s Reply> {
        if let Some(number) = step.expected.of {
            return self.case.reply(number);
        }
        if step.expected.outcome == Outcome::Forwarded {
            return step.replies.iter().find(|reply| reply.need == Need::Must);
        }
        let mut before = self.case.steps[..index].iter().flat_map(|step| &step.replies);
        before.rfind(|reply| reply.status != 304)
    }

    fn faults(&self, index: usize, step: &Step, seen: &Seen) -> Vec<String> {
        let mut faults = Vec::new();
        let expected = &step.expected;
        let broken = expected.outcome == Outcome::Broken;
        if seen.whole == broken {
            let what = if broken { "broken" } else { "whole" };
            faults.push(format!("expected a {what} response"));
        }
        if !broken {
            faults.extend(self.content_fault(index, step, seen));
        }
        let age = seen.field("age");
        if expected.outcome == Outcome::Hit && age.as_ref().is_none_or(|age| age.parse::<u32>().is_err()) {
            faults.push(format!("expected an Age, got {age:?}"));
        }
        if expected.within.is_some_and(|most| seen.took > most) {
            faults.push(format!("it took {:?}", seen.took));
        }
        let checks = expected.checks.iter();
        faults.extend(checks.filter_map(|check| seen.fault(check, &self.place)));
        faults
    }

    /// Status and body.
    fn content_fault(&self, index: usize, step: &Step, seen: &Seen) -> Option<String> {
        let expected = &step.expected;
        let model = self
            .model(index, step)
            .filter(|_| expected.outcome != Outcome::Answered);
        let own = model.map(|model| model.status.to_string());
        let status = expected.status.as_ref().or(own.as_ref()).unwrap();
        if !seen.has_status(status) {
            let outcome = expected.outcome;
            return Some(format!("expected status {status} ({outcome:?}), got {}", seen.status));
        }
        if step.request.method == "HEAD" || Some(status) != own.as_ref() {
            return None;
        }
        let told = expected.checks.iter().any(|check| check.name == "body");
        let content = model.filter(|_| !told).map(|model| self.place.fill(&model.content()))?;
        let brief = |text: &str| text.chars().take(100).collect::<String>();
        (seen.body != content).then(|| {
            let (content, body) = (brief(&content), brief(&seen.body));
            format!("expected the body {content:?}, got {body:?}")
        })
    }

    fn asked_faults(&self, step: &Step, asked: &Asked) -> Vec<String> {
        let checks = step.asked.iter();
        let mut faults: Vec<String> = checks.filter_map(|check| asked.fault(check, &self.place)).collect();
        let conditions = ["\r\nif-none-match:", "\r\nif-modified-since:"];
        let head = asked.head.to_ascii_lowercase();
        if step.expected.outcome == Outcome::Revalidated && !conditions.iter().any(|condition| head.contains(condition))
        {
            faults.push("expected a condition in the request to the app".to_owned());
        }
        faults
    }
}

/// What went wrong, and all that was seen.
fn tell(faults: &[String], asked: &[Asked], seen: &Seen) -> String {
    let mut told = String::new();
    for fault in faults {
        write!(told, "\n    {fault}").unwrap();
    }
    let heads = asked.iter().map(|asked| ("the app got", &asked.head));
    for (who, head) in heads.take(3).chain([("the client got", &seen.head)]) {
        let lines = head
            .trim_end()
            .lines()
            .map(|line| line.chars().take(120).collect::<String>());
        let lines: Vec<String> = lines.take(20).collect();
        write!(told, "\n    {who}:\n      {}", lines.join("\n      ")).unwrap();
    }
    told
}
