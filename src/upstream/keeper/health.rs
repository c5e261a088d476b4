//! Asks the members of a group whether they are well.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time;

use super::probe;
use crate::config::HealthCheck;
use crate::upstream::{Group, Member};

/// Checks under way at once, of one group.
const AT_ONCE: usize = 32;

/// What the checks of one member have said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    /// Good or bad, and how often in a row.
    last: Option<(bool, u32)>,
    /// What was concluded; `None` before the first check.
    is_healthy: Option<bool>,
}

impl Record {
    /// One more check; what is to be told to the group, if that changed anything.
    fn note(&mut self, is_good: bool, check: &HealthCheck) -> Option<bool> {
        let in_a_row = match self.last {
            Some((last, count)) if last == is_good => count.saturating_add(1),
            _ => 1,
        };
        self.last = Some((is_good, in_a_row));
        let enough = if is_good { check.healthy } else { check.unhealthy };
        // The first check counts for all.
        if self.is_healthy.is_none() || (self.is_healthy != Some(is_good) && in_a_row >= enough.get()) {
            self.is_healthy = Some(is_good);
            return Some(is_good);
        }
        None
    }
}

/// What is known of each member. By the member, not by its name: one that was gone and came back is a newcomer, which waits for
/// its first answer, and two of one name may speak different protocols.
#[derive(Default)]
struct Records(HashMap<usize, (Arc<Member>, Record)>);

impl Records {
    /// No other has the place as long as the member is kept beside it.
    fn place(member: &Arc<Member>) -> usize {
        Arc::as_ptr(member) as usize
    }

    fn knows(&self, member: &Arc<Member>) -> bool {
        self.0.contains_key(&Self::place(member))
    }

    fn of(&mut self, member: &Arc<Member>) -> &mut Record {
        let new = || (member.clone(), Record::default());
        &mut self.0.entry(Self::place(member)).or_insert_with(new).1
    }

    /// Forgets all others.
    fn keep(&mut self, members: &[Arc<Member>]) {
        let kept: HashSet<usize> = members.iter().map(Self::place).collect();
        self.0.retain(|place, _| kept.contains(place));
    }
}

/// Checks each member once an interval, newcomers at once.
pub(super) async fn watch(group: Arc<Group>, check: HealthCheck, changed: Arc<Notify>) {
    let check = Arc::new(check);
    let mut records = Records::default();
    loop {
        let members = group.members();
        records.keep(&members);
        round(&group, &check, &members, &mut records).await;
        let pause = pause(&check, fastrand::f64());
        let until = time::Instant::now() + pause;
        // Newcomers wait for their first answer, not for the next round.
        while time::timeout_at(until, changed.notified()).await.is_ok() {
            let members = group.members();
            let newcomers: Vec<_> = members.into_iter().filter(|member| !records.knows(member)).collect();
            round(&group, &check, &newcomers, &mut records).await;
        }
        group.tick(Instant::now());
    }
}

/// The interval, longer or shorter by chance; `chance` is from 0 to 1.
fn pause(check: &HealthCheck, chance: f64) -> Duration {
    check
        .interval
        .0
        .mul_f64((1.0 + check.jitter * (2.0 * chance - 1.0)).max(0.0))
}

async fn round(group: &Group, check: &Arc<HealthCheck>, members: &[Arc<Member>], records: &mut Records) {
    let mut waiting = members.iter();
    let mut checks = JoinSet::new();
    loop {
        while checks.len() < AT_ONCE
            && let Some(member) = waiting.next()
        {
            let (member, check) = (member.clone(), check.clone());
            checks.spawn(async move {
                let asked = probe::ask(member.endpoint(), &check.check);
                let answer = time::timeout(check.timeout.0, asked).await;
                let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
                (member, answer)
            });
        }
        let Some(checked) = checks.join_next().await else {
            return;
        };
        // A check that panicked said nothing.
        let Ok((member, answer)) = checked else { continue };
        let (upstream, endpoint) = (&**group.name(), &member.endpoint().name);
        let news = records.of(&member).note(answer.is_ok(), check);
        match (&answer, news) {
            // Whoever reads that it is unhealthy wants to know why.
            (Err(why), Some(_)) => tracing::warn!(upstream, %endpoint, why, "check failed"),
            (Err(why), None) => tracing::debug!(upstream, %endpoint, why, "check failed"),
            (Ok(()), _) => {}
        }
        if let Some(is_healthy) = news {
            group.set_healthy(&member, is_healthy, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        serde_json::from_value(serde_json::json!({ "check": "tcp", "interval": "10s" })).unwrap()
    }

    #[test]
    fn the_first_check_counts_for_all_and_then_it_takes_several() {
        let check = check();
        let mut record = Record::default();
        let mut told = Vec::new();
        for is_good in [
            true, false, false, true, false, false, false, false, true, false, true, true,
        ] {
            told.push(record.note(is_good, &check));
        }
        let mut expected = vec![None; 12];
        expected[0] = Some(true);
        expected[6] = Some(false);
        expected[11] = Some(true);
        assert_eq!(told, expected);
    }

    #[test]
    fn pauses_differ_by_a_tenth_at_most() {
        let check = check();
        assert_eq!(pause(&check, 0.0), Duration::from_secs(9));
        assert_eq!(pause(&check, 0.5), Duration::from_secs(10));
        assert_eq!(pause(&check, 1.0), Duration::from_secs(11));
    }
}
