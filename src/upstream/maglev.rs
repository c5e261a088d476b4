//! Consistent hashing by Maglev (Eisenbud and others, NSDI 2016, section 3.4): a table from hashes to members, so full and so even
//! that a look into it is a choice. When a member comes or goes, few keys but its own move.
//!
//! The table depends on nothing but names and weights: all sidecars that know the same members agree.

/// How long a table is: a prime, and a hundred times more than the members that most groups have. It is the same for all groups,
/// for at another length every key moves.
const LENGTH: usize = 65_537;

/// The table. Four bytes a place: 256 KiB.
#[derive(Debug)]
pub(super) struct Maglev {
    places: Box<[u32]>,
}

impl Maglev {
    /// A table of members: their names, which differ, and weights.
    pub(super) fn new(members: &[(&str, u32)]) -> Self {
        const FREE: u32 = u32::MAX;
        if members.is_empty() {
            return Self { places: Box::default() };
        }
        let mut by_name: Vec<usize> = (0..members.len()).collect();
        by_name.sort_unstable_by_key(|index| members[*index].0);
        let heaviest = members
            .iter()
            .map(|(_, weight)| u64::from(*weight))
            .max()
            .unwrap_or(1)
            .max(1);
        let mut takers: Vec<Taker> = by_name
            .into_iter()
            .map(|index| Taker::new(index, members[index].0, members[index].1))
            .collect();
        let mut places = vec![FREE; LENGTH].into_boxed_slice();
        let mut taken = 0;
        // Each takes its next free place in turn; one of half the weight sits out every other round.
        'rounds: for round in 1_u64.. {
            for taker in &mut takers {
                if round * taker.weight < taker.due {
                    continue;
                }
                taker.due += heaviest;
                while places[taker.next] != FREE {
                    taker.step();
                }
                places[taker.next] = taker.index;
                taken += 1;
                if taken == LENGTH {
                    break 'rounds;
                }
            }
        }
        Self { places }
    }

    /// The members for a hash, best first: who avoids one takes the next. So its keys spread over all others, and no other key
    /// moves. The list is as long as the table, and names members again and again.
    pub(super) fn members(&self, hash: u64) -> impl Iterator<Item = usize> {
        let length = self.places.len();
        let start = (hash % length.max(1) as u64) as usize;
        let order = self.places[start.min(length)..]
            .iter()
            .chain(&self.places[..start.min(length)]);
        order.map(|index| *index as usize)
    }
}

/// A member while the table is made: it prefers places in an order of its own.
struct Taker {
    index: u32,
    weight: u64,
    next: usize,
    skip: usize,
    due: u64,
}

impl Taker {
    fn new(index: usize, name: &str, weight: u32) -> Self {
        let hash = hash(name.as_bytes());
        Self {
            index: index as u32,
            weight: u64::from(weight.max(1)),
            next: (hash % LENGTH as u64) as usize,
            skip: (mix(hash ^ 0x9e37_79b9_7f4a_7c15) % (LENGTH as u64 - 1)) as usize + 1,
            due: 0,
        }
    }

    fn step(&mut self) {
        self.next = (self.next + self.skip) % LENGTH;
    }
}

/// A hash that is the same in every process and version: FNV-1a, mixed, because by itself it leaves the high bits alike.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

/// The finalizer of `SplitMix64`.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[String], weight: impl Fn(usize) -> u32) -> Maglev {
        let members: Vec<(&str, u32)> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (name.as_str(), weight(index)))
            .collect();
        Maglev::new(&members)
    }

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .map(|index| format!("10.0.{}.{}:8080", index / 250, index % 250))
            .collect()
    }

    fn shares(table: &Maglev, members: usize) -> Vec<usize> {
        let mut shares = vec![0; members];
        table.places.iter().for_each(|index| shares[*index as usize] += 1);
        shares
    }

    #[test]
    fn places_are_shared_by_weight() {
        let equal = shares(&table(&names(100), |_| 7), 100);
        assert!(equal.iter().all(|share| (655..=656).contains(share)), "{equal:?}");
        let weighted = shares(&table(&names(10), |index| index as u32 + 1), 10);
        for (index, share) in weighted.iter().enumerate() {
            let fair = LENGTH as f64 * (index as f64 + 1.0) / 55.0;
            assert!(
                (*share as f64 - fair).abs() < fair * 0.02 + 10.0,
                "{index}: {share}, {fair} is fair"
            );
        }
    }

    #[test]
    fn few_keys_but_its_own_move_when_one_of_a_hundred_goes() {
        let before_names = names(100);
        let before = table(&before_names, |_| 1);
        let after_names: Vec<String> = before_names
            .iter()
            .filter(|name| **name != before_names[37])
            .cloned()
            .collect();
        let after = table(&after_names, |_| 1);
        let (mut own, mut others) = (0, 0);
        for (was, is) in before.places.iter().zip(&after.places) {
            let (was, is) = (&before_names[*was as usize], &after_names[*is as usize]);
            if *was == before_names[37] {
                own += 1;
            } else if was != is {
                others += 1;
            }
        }
        assert!((655..=656).contains(&own), "{own}");
        let share = f64::from(others) / LENGTH as f64;
        assert!(share < 0.03, "{share} of all keys moved beside its own {own}");
    }

    #[test]
    fn the_order_in_which_members_are_listed_does_not_matter() {
        let (names, mut turned) = (names(20), names(20));
        turned.reverse();
        let (one, other) = (table(&names, |_| 1), table(&turned, |_| 1));
        for (one, other) in one.places.iter().zip(&other.places) {
            assert_eq!(names[*one as usize], turned[*other as usize]);
        }
    }

    #[test]
    fn the_next_in_line_takes_the_keys_of_who_is_avoided() {
        let table = table(&names(4), |_| 1);
        let mut heirs = [0; 4];
        for key in 0..4000_u64 {
            let hash = hash(&key.to_be_bytes());
            let mut line = table.members(hash);
            let first = line.next().unwrap();
            let heir = line.find(|index| *index != first).unwrap();
            if first == 0 {
                heirs[heir] += 1;
            }
        }
        assert!(heirs[0] == 0 && heirs[1..].iter().all(|heir| *heir > 200), "{heirs:?}");
        assert_eq!(Maglev::new(&[]).members(5).count(), 0);
    }

    #[test]
    fn hashes_never_change() {
        // All sidecars must agree, also across versions.
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"10.0.0.1"), hash(b"10.0.0.1"));
        assert_ne!(hash(b"10.0.0.1"), hash(b"10.0.0.2"));
    }
}
