//! Who may be chosen now, and how. A table never changes: what happens to members makes a new one. So a choice takes no lock, and
//! costs the same however many there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::maglev::Maglev;
use super::member::Member;
use super::recent::Tick;
use super::schedule::Schedule;
use super::settings::Algorithm;
use super::slow_start::share;

/// How many draws are made for one that may be chosen, before any is taken that there is.
const DRAWS: usize = 8;
/// How many places a hash goes on in its table, before a member is chosen in another way.
const PROBES: usize = 64;
/// How much lower the second one's cost must be where weights differ: the first is drawn by weight, and chance differences
/// between two that are as fast must not undo that.
const CLEARLY_LOWER: f32 = 0.8;

/// A member that may be chosen.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) member: Arc<Member>,
    /// Its weight as part of the mean of all.
    pub(super) weight: f32,
    /// When its slow start began, if it is not over.
    pub(super) warm_since: Option<Instant>,
}

/// Who may be chosen, and how.
#[derive(Debug)]
pub(super) struct Table {
    /// All members, whether they may be chosen or not.
    pub(super) members: Box<[Arc<Member>]>,
    /// Those that may be chosen.
    pub(super) slots: Box<[Slot]>,
    pub(super) schedule: Schedule,
    pub(super) hashed: Option<Hashed>,
    pub(super) algorithm: Algorithm,
    pub(super) decay: Duration,
    pub(super) slow_start: Duration,
    /// Whether any slot has a slow start going on.
    pub(super) is_warming: bool,
    pub(super) is_panicking: bool,
    /// When the table has to be made anew, whatever happens.
    pub(super) due: Option<Instant>,
}

/// What consistent hashing chooses by.
#[derive(Debug)]
pub(super) struct Hashed {
    /// Of all members: one that is out for a while leaves everybody else's keys where they are.
    pub(super) maglev: Arc<Maglev>,
    /// The slot of each member, if it may be chosen.
    pub(super) slots: Box<[Option<u32>]>,
}

/// What a choice is made with besides the table.
pub(super) struct Draw<'a> {
    pub(super) cursor: &'a AtomicUsize,
    pub(super) all_active: &'a AtomicUsize,
    pub(super) epoch: Instant,
    pub(super) hash: Option<u64>,
    pub(super) avoid: &'a [Arc<Member>],
    pub(super) now: Instant,
}

impl Draw<'_> {
    fn avoids(&self, slot: &Slot) -> bool {
        self.avoid.iter().any(|member| Arc::ptr_eq(member, &slot.member))
    }

    fn next(&self) -> usize {
        self.cursor.fetch_add(1, Ordering::Relaxed)
    }
}

impl Table {
    /// A member; one to be avoided only if there is no other.
    pub(super) fn pick(&self, draw: &Draw<'_>) -> Option<&Arc<Member>> {
        let index = match self.slots.len() {
            0 => return None,
            1 => 0,
            _ => match (self.algorithm, draw.hash) {
                (Algorithm::RoundRobin, _) => self.draw(draw, || self.schedule.at(draw.next())),
                (Algorithm::ConsistentHash { max_load }, Some(hash)) => self.hashed(draw, hash, max_load),
                // A request that has nothing to hash goes where there is least to do.
                _ => self.better_of_two(draw),
            },
        };
        self.slots.get(index).map(|slot| &slot.member)
    }

    fn draw(&self, draw: &Draw<'_>, next: impl Fn() -> usize) -> usize {
        let mut last = None;
        for _ in 0..DRAWS {
            let index = next();
            let slot = &self.slots[index];
            if draw.avoids(slot) {
                continue;
            }
            last = Some(index);
            if self.admits(slot, draw.now) {
                return index;
            }
        }
        last.unwrap_or_else(|| self.any_but_avoided(draw))
    }

    /// Members in their slow start are passed over as often as their share is short of a whole.
    fn admits(&self, slot: &Slot, now: Instant) -> bool {
        !self.is_warming || fastrand::f32() < self.share(slot, now)
    }

    fn share(&self, slot: &Slot, now: Instant) -> f32 {
        slot.warm_since.map_or(1.0, |since| {
            share(self.slow_start, now.saturating_duration_since(since))
        })
    }

    /// Looks at each, from a random one on: where nearly all are to be avoided, which is where there are few.
    fn any_but_avoided(&self, draw: &Draw<'_>) -> usize {
        let (count, start) = (self.slots.len(), self.schedule.at_random());
        let mut line = (start..count).chain(0..start);
        line.find(|index| !draw.avoids(&self.slots[*index])).unwrap_or(start)
    }

    fn better_of_two(&self, draw: &Draw<'_>) -> usize {
        let first = self.draw(draw, || self.schedule.at_random());
        let Some(second) = self.draw_other(draw, first) else {
            return first;
        };
        let (one, other) = (&self.slots[first], &self.slots[second]);
        let loads = (self.load(one, draw.now), self.load(other, draw.now));
        let is_better = if self.algorithm == Algorithm::Ewma {
            let (now, decay) = (Tick::at(draw.epoch, draw.now), Tick::steps(self.decay));
            let costs = Member::costs((&one.member, loads.0), (&other.member, loads.1), now, decay);
            let bar = if self.schedule.is_equal() { 1.0 } else { CLEARLY_LOWER };
            costs.1 < costs.0 * bar
        } else {
            // Of two with as much to do, the first: it was drawn by weight.
            loads.1 < loads.0
        };
        if is_better { second } else { first }
    }

    /// A second member, which is another one. Where that takes too many draws, because one has nearly all the weight, any other.
    fn draw_other(&self, draw: &Draw<'_>, first: usize) -> Option<usize> {
        let count = self.slots.len();
        let any_other = || (first + 1 + fastrand::usize(..count - 1)) % count;
        let fits = |index: usize| {
            let slot = &self.slots[index];
            index != first && !draw.avoids(slot) && self.admits(slot, draw.now)
        };
        if self.schedule.is_equal() {
            return (0..2).map(|_| any_other()).find(|index| fits(*index));
        }
        let mut by_weight = (0..3).map(|_| self.schedule.at_random());
        by_weight
            .find(|index| fits(*index))
            .or_else(|| Some(any_other()).filter(|index| fits(*index)))
    }

    /// Calls for the weight, which in a slow start is part of it.
    fn load(&self, slot: &Slot, now: Instant) -> f32 {
        let weight = if self.is_warming {
            slot.weight * self.share(slot, now)
        } else {
            slot.weight
        };
        slot.member.active() as f32 / weight
    }

    fn hashed(&self, draw: &Draw<'_>, hash: u64, max_load: Option<f64>) -> usize {
        let Some(hashed) = &self.hashed else {
            return self.better_of_two(draw);
        };
        let fair = max_load.map(|bound| {
            let all = draw.all_active.load(Ordering::Relaxed) as f64 + 1.0;
            bound * all / self.slots.len() as f64
        });
        let has_room = |slot: &Slot| {
            // Mirrokni and others, "Consistent Hashing with Bounded Loads": nobody gets more than its bound, rounded up.
            fair.is_none_or(|fair| (slot.member.active() as f64) < (fair * f64::from(slot.weight)).ceil())
        };
        let line = hashed.maglev.members(hash).take(PROBES);
        let in_service = line.filter_map(|member| hashed.slots.get(member).copied().flatten());
        let mut usable = in_service.map(|index| index as usize).filter(|index| {
            let slot = &self.slots[*index];
            !draw.avoids(slot) && has_room(slot)
        });
        // Nobody in sight: nearly all are out or to be avoided.
        usable.next().unwrap_or_else(|| self.better_of_two(draw))
    }
}
