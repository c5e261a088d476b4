//! How long an endpoint keeps an idle connection open, learned from when it closes them.
//!
//! Node.js and uvicorn close after five seconds, gunicorn after two, and most do not say so. A request that is sent just as the
//! app closes is lost. So what is known of an endpoint is the age at which its idle connections were last seen open before they
//! were closed, and connections are used only while they are younger, with a margin. The oldest is not closed when it gets too
//! old for use: it is watched, and tells when the endpoint keeps connections longer than was thought, e.g. because they were
//! closed by a restart.

use std::time::Duration;

/// No more is left as a margin.
const MOST: Duration = Duration::from_secs(1);

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Learned(Option<Duration>);

impl Learned {
    /// One was closed by the endpoint, and was open still at that age.
    pub(super) fn closed_after(&mut self, age: Duration) {
        self.0 = Some(age);
    }

    /// One is open at that age.
    pub(super) fn open_at(&mut self, age: Duration) {
        if let Some(known) = &mut self.0 {
            *known = age.max(*known);
        }
    }

    /// The age up to which a connection is used, if anything is known.
    pub(super) fn usable(&self) -> Option<Duration> {
        self.0.map(less_margin)
    }
}

/// Of a time the endpoint is said or known to wait, the part in which a request is sure to arrive.
pub(super) fn less_margin(time: Duration) -> Duration {
    time.saturating_sub(MOST.min(time / 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_close_makes_cautious_and_a_survivor_bold() {
        let mut learned = Learned::default();
        learned.open_at(millis(3000));
        assert_eq!(learned.usable(), None);
        learned.closed_after(millis(900));
        assert_eq!(learned.usable(), Some(millis(720)));
        learned.open_at(millis(500));
        assert_eq!(learned.usable(), Some(millis(720)));
        learned.open_at(millis(10_000));
        assert_eq!(learned.usable(), Some(millis(9000)));
        learned.closed_after(millis(0));
        assert_eq!(learned.usable(), Some(millis(0)));
    }
}
