//! The order in which members are chosen by weight, made beforehand: any draw is one look into a list.

/// A list in which each member stands as often as its weight says, as evenly apart as can be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// All weigh the same: the list would be each number once.
    Equal(usize),
    /// Numbers of members.
    Weighted(Box<[u32]>),
}

/// How long a list may become: 64 KiB of memory, and about a millisecond to make. Weights that need more are rounded, but nobody
/// is left out.
const LONGEST: u64 = 16_384;

impl Schedule {
    pub(super) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        if weights.iter().all(|weight| *weight == divisor) {
            return Self::Equal(weights.len());
        }
        let all: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
        let longest = LONGEST.max(weights.len() as u64);
        let turns = |weight: u32| {
            let weight = u64::from(weight / divisor);
            let fits = if all > longest {
                // To the nearest.
                (weight * longest + all / 2) / all
            } else {
                weight
            };
            fits.max(1)
        };
        // The turns of a member lie evenly between 0 and 1; all turns in order are the schedule. Each begins somewhere else, by
        // the golden ratio: otherwise those of small weight would all have their turn at the same time.
        let mut placed: Vec<(f64, u32)> = Vec::new();
        for (index, weight) in (0..).zip(weights) {
            let turns = turns(*weight);
            let first = (f64::from(index) * 0.618_033_988_749_895).fract();
            placed.extend((0..turns).map(|turn| ((turn as f64 + first) / turns as f64, index)));
        }
        placed.sort_unstable_by(|(one, first), (other, second)| one.total_cmp(other).then(first.cmp(second)));
        Self::Weighted(placed.into_iter().map(|(_, index)| index).collect())
    }

    /// Whether all weigh the same.
    pub(super) fn is_equal(&self) -> bool {
        matches!(self, Self::Equal(_))
    }

    /// The member at a place, counted round and round. 0 if there is none.
    pub(super) fn at(&self, place: usize) -> usize {
        match self {
            Self::Equal(0) => 0,
            Self::Equal(count) => place % count,
            Self::Weighted(turns) if turns.is_empty() => 0,
            Self::Weighted(turns) => turns[place % turns.len()] as usize,
        }
    }

    /// A member at random, by weight.
    pub(super) fn at_random(&self) -> usize {
        match self {
            Self::Equal(count) => fastrand::usize(..(*count).max(1)),
            Self::Weighted(turns) if turns.is_empty() => 0,
            Self::Weighted(turns) => turns[fastrand::usize(..turns.len())] as usize,
        }
    }
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 {
        one
    } else {
        greatest_common_divisor(other, one % other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(schedule: &Schedule, length: usize) -> Vec<usize> {
        (0..length).map(|place| schedule.at(place)).collect()
    }

    #[test]
    fn turns_are_as_many_as_the_weight_and_apart() {
        assert_eq!(round(&Schedule::new(&[1, 1, 1]), 4), [0, 1, 2, 0]);
        assert!(Schedule::new(&[300, 300]).is_equal());
        assert_eq!(round(&Schedule::new(&[5, 1, 1]), 7), [0, 0, 2, 0, 0, 1, 0]);
        assert_eq!(round(&Schedule::new(&[200, 100]), 6), [0, 0, 1, 0, 0, 1]);
        assert_eq!(round(&Schedule::new(&[]), 2), [0, 0]);
        assert_eq!(Schedule::new(&[]).at_random(), 0);
    }

    #[test]
    fn no_member_waits_much_longer_than_its_weight_says() {
        let weights = [1, 2, 3, 5, 8, 13];
        let all: u32 = weights.iter().sum();
        let schedule = Schedule::new(&weights);
        let round = round(&schedule, 2 * all as usize);
        for (member, weight) in weights.iter().enumerate() {
            let places: Vec<usize> = (0..round.len()).filter(|place| round[*place] == member).collect();
            assert_eq!(places.len(), 2 * *weight as usize);
            let longest = places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            let even = f64::from(all) / f64::from(*weight);
            assert!(
                longest as f64 <= 2.0 * even + 1.0,
                "{member} waits {longest}, {even} would be even"
            );
        }
    }

    #[test]
    fn a_schedule_stays_short_and_leaves_nobody_out() {
        let weights: Vec<u32> = (1..=1000).collect();
        let Schedule::Weighted(turns) = Schedule::new(&weights) else {
            panic!("the weights differ");
        };
        assert!(turns.len() < 17_000, "{}", turns.len());
        let mut count = vec![0_u32; 1000];
        turns.iter().for_each(|member| count[*member as usize] += 1);
        assert!(count.iter().all(|count| *count > 0));
        assert!(
            count[999].abs_diff(2 * count[499]) <= 2,
            "{} {}",
            count[999],
            count[499]
        );
    }
}
