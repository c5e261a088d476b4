//! How long a member stays out that was found to be an outlier. Each ejection in short order is longer than the last.

use std::time::Instant;

use super::settings::Outliers;

/// Whether a member is out, and how often it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ejection {
    until: Option<Instant>,
    /// Ejections that have not been forgiven.
    steps: u32,
    /// When the last one ended.
    back: Instant,
}

impl Ejection {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            until: None,
            steps: 0,
            back: now,
        }
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Takes the member out. One ejection is forgiven for each time the length of the first that it was in service since.
    pub(super) fn eject(&mut self, rules: &Outliers, now: Instant) -> Instant {
        let behaved = now.saturating_duration_since(self.back).as_nanos() / rules.ejection.as_nanos().max(1);
        let forgiven = u32::try_from(behaved).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_sub(forgiven).saturating_add(1);
        let until = now + rules.ejection.saturating_mul(self.steps).min(rules.max_ejection);
        self.until = Some(until);
        until
    }

    /// Lets the member back if its time is over.
    pub(super) fn release(&mut self, now: Instant) -> bool {
        match self.until {
            Some(until) if until <= now => {
                self.until = None;
                self.back = until;
                true
            }
            _ => false,
        }
    }

    /// Lets the member back whatever time is left: ejection was turned off.
    pub(super) fn pardon(&mut self, now: Instant) -> bool {
        self.back = now;
        self.until.take().is_some()
    }
}

/// How many members may be out at once: the share, rounded down, but one in any case, unless it is the only one or none may.
pub(super) fn cap(members: usize, max_ejected: f64) -> usize {
    match members {
        0 | 1 => 0,
        _ if max_ejected <= 0.0 => 0,
        _ => ((members as f64 * max_ejected) as usize).clamp(1, members - 1),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_ejection_in_short_order_is_longer_and_good_conduct_is_forgiven() {
        let rules = Outliers::default();
        let began = Instant::now();
        let mut now = began;
        let mut ejection = Ejection::new(now);
        let mut lengths = Vec::new();
        for _ in 0..12 {
            let until = ejection.eject(&rules, now);
            assert!(!ejection.release(now));
            lengths.push(until.duration_since(now).as_secs());
            now = until;
            assert!(ejection.release(now));
            assert_eq!(ejection.until(), None);
        }
        assert_eq!(lengths, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
        // Twelve ejections, ten forgiven: this is the third.
        now += rules.ejection * 10;
        assert_eq!(ejection.eject(&rules, now), now + Duration::from_secs(90));
        assert!(ejection.pardon(now));
        assert!(!ejection.pardon(now));
        now += Duration::from_secs(86_400);
        assert_eq!(ejection.eject(&rules, now), now + Duration::from_secs(30));
    }

    #[test]
    fn never_more_than_the_cap_and_never_the_last() {
        for (members, share, allowed) in [
            (0, 0.5, 0),
            (1, 1.0, 0),
            (2, 0.1, 1),
            (2, 1.0, 1),
            (3, 0.5, 1),
            (10, 0.5, 5),
            (10, 0.19, 1),
            (10, 1.0, 9),
            (10, 0.0, 0),
        ] {
            assert_eq!(cap(members, share), allowed, "{members} {share}");
        }
    }
}
