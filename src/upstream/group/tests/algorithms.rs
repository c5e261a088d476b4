//! Who gets how much.

use std::collections::VecDeque;

use super::*;
use crate::upstream::{Call, hash};

/// The number of a member among the first of them.
fn index_of(member: &Member, members: usize) -> usize {
    let found = (0..members).find(|index| endpoint(*index).name == member.endpoint().name);
    found.unwrap()
}

#[test]
fn weights_are_kept_by_every_algorithm() {
    for algorithm in ALL {
        let world = World::weighted(settings(algorithm), &[1, 2, 3, 4]);
        let mut chosen = [0_u32; 4];
        for request in 0..40_000_u64 {
            let key = hash(&request.to_be_bytes());
            let member = world.group.pick(Some(key), &[], world.now).unwrap();
            chosen[index_of(&member, 4)] += 1;
        }
        for (count, weight) in chosen.iter().zip([1.0, 2.0, 3.0, 4.0]) {
            close(f64::from(*count) / 40_000.0, weight / 10.0, 0.1);
        }
    }
}

#[test]
fn ewma_keeps_weights_among_members_that_are_about_as_fast() {
    let mut world = World::weighted(settings(Algorithm::Ewma), &[1, 2, 3, 4]);
    let mut chosen = [0_u32; 4];
    for request in 0..40_000_u64 {
        world.after(MS);
        let member = world.pick().unwrap();
        let took = Duration::from_micros(10_000 + hash(&request.to_be_bytes()) % 1000);
        member.begin().heard(Heard::Success, took, world.now);
        chosen[index_of(&member, 4)] += 1;
    }
    for (count, weight) in chosen.iter().zip([1.0, 2.0, 3.0, 4.0]) {
        close(f64::from(*count) / 40_000.0, weight / 10.0, 0.1);
    }
}

#[test]
fn round_robin_goes_round() {
    let world = World::new(settings(Algorithm::RoundRobin), 5);
    let chosen = world.chosen(500);
    assert!(chosen.values().all(|count| *count == 100), "{chosen:?}");
    let weighted = World::weighted(settings(Algorithm::RoundRobin), &[5, 1, 1]);
    let round: Vec<usize> = (0..70).map(|_| index_of(&weighted.pick().unwrap(), 3)).collect();
    let burst = round.windows(4).find(|four| four.iter().all(|index| *index == 0));
    assert_eq!(burst, None, "{round:?}");
}

#[test]
fn least_requests_evens_out_what_is_in_flight() {
    let world = World::weighted(settings(Algorithm::LeastRequests), &[1, 1, 1, 1, 2]);
    let calls: Vec<_> = (0..600).map(|_| world.pick().unwrap().begin()).collect();
    for index in 0..5 {
        let fair = if index == 4 { 200.0 } else { 100.0 };
        close(world.member(index).active() as f64, fair, 0.1);
    }
    drop(calls);
    assert_eq!(world.member(0).active(), 0);
}

#[test]
fn the_same_key_meets_the_same_member_also_while_others_are_out() {
    let mut world = World::new(settings(HASHED), 10);
    let pick = |world: &World, key: u64| {
        let member = world.group.pick(Some(hash(&key.to_be_bytes())), &[], world.now);
        index_of(&member.unwrap(), 10)
    };
    let before: Vec<_> = (0..2000).map(|key| pick(&world, key)).collect();
    world.fail(3, 5);
    assert!(!world.in_service(3));
    for (key, was) in before.iter().enumerate() {
        let is = pick(&world, key as u64);
        assert_eq!(is == *was, *was != 3, "{key}: {was} {is}");
        assert_eq!(pick(&world, key as u64), is, "whoever takes a key over keeps it");
    }
    world.after(seconds(31));
    let after: Vec<_> = (0..2000).map(|key| pick(&world, key)).collect();
    assert_eq!(before, after, "everybody is back where they were");
}

#[test]
fn a_hot_key_overflows_to_the_next() {
    let most = |max_load| {
        let world = World::new(settings(Algorithm::ConsistentHash { max_load }), 10);
        let pick = || world.group.pick(Some(42), &[], world.now).unwrap();
        let calls: Vec<_> = (0..1000).map(|_| pick().begin()).collect();
        let most = (0..10).map(|index| world.member(index).active()).max();
        drop(calls);
        most.unwrap()
    };
    assert!((100..=126).contains(&most(Some(1.25))), "{}", most(Some(1.25)));
    assert_eq!(most(None), 1000);
}

#[test]
fn a_request_without_a_key_goes_where_there_is_least_to_do() {
    let world = World::new(settings(HASHED), 4);
    let calls: Vec<_> = (0..400).map(|_| world.pick().unwrap().begin()).collect();
    (0..4).for_each(|index| close(world.member(index).active() as f64, 100.0, 0.1));
    drop(calls);
}

#[test]
fn ewma_avoids_a_slow_member_and_tries_it_again() {
    let mut world = World::new(settings(Algorithm::Ewma), 10);
    let mut to_it = Vec::new();
    for second in 0..90_u64 {
        let mut calls = 0;
        for _ in 0..100 {
            world.after(10 * MS);
            let member = world.pick().unwrap();
            let is_it = index_of(&member, 10) == 0;
            calls += u32::from(is_it);
            let took = if is_it && second < 30 { 500 * MS } else { 10 * MS };
            member.begin().heard(Heard::Success, took, world.now);
        }
        to_it.push(calls);
    }
    let while_slow: u32 = to_it[1..30].iter().sum();
    assert!(while_slow <= 10, "{while_slow} of 2900 calls went to it: {to_it:?}");
}

#[test]
fn least_requests_avoids_a_slow_member_and_round_robin_does_not() {
    // A hundred requests a second, each of which takes a member 20 ms, and one of the ten ten times that.
    let share = |algorithm| {
        let mut world = World::new(settings(algorithm), 10);
        let mut open: Vec<(Instant, Call)> = Vec::new();
        let mut to_it = 0;
        for _ in 0..20_000 {
            world.after(MS);
            let now = world.now;
            open.retain(|(until, _)| *until > now);
            let call = world.pick().unwrap().begin();
            let is_it = index_of(call.member(), 10) == 0;
            to_it += u32::from(is_it);
            open.push((now + if is_it { 200 * MS } else { 20 * MS }, call));
        }
        f64::from(to_it) / 20_000.0
    };
    close(share(Algorithm::RoundRobin), 0.1, 0.01);
    assert!(share(Algorithm::LeastRequests) < 0.03);
}

/// One of ten fails at once. It never has anything to do: by latency and load alone it would get almost everything.
fn share_of_a_fast_failer(algorithm: Algorithm) -> f64 {
    let settings = Settings {
        outliers: None,
        ..settings(algorithm)
    };
    let mut world = World::new(settings, 10);
    let mut open: VecDeque<(Instant, Call)> = VecDeque::new();
    let mut to_it = 0;
    for _ in 0..5000 {
        world.after(MS);
        while open.front().is_some_and(|(until, _)| *until <= world.now) {
            let (_, mut call) = open.pop_front().unwrap();
            call.heard(Heard::Success, 50 * MS, world.now);
        }
        let mut call = world.pick().unwrap().begin();
        if index_of(call.member(), 10) == 0 {
            to_it += 1;
            call.heard(Heard::Failure, Duration::from_micros(200), world.now);
        } else {
            open.push_back((world.now + 50 * MS, call));
        }
    }
    f64::from(to_it) / 5000.0
}

#[test]
fn a_fast_failer_attracts_nothing() {
    let by_ewma = share_of_a_fast_failer(Algorithm::Ewma);
    assert!(by_ewma < 0.01, "{by_ewma}, where a tenth would be fair");
    let by_requests = share_of_a_fast_failer(Algorithm::LeastRequests);
    assert!(by_requests > 0.15, "{by_requests}: ejection is what helps there");
}

#[test]
fn an_ewma_newcomer_is_neither_flooded_nor_starved() {
    let mut world = World::new(settings(Algorithm::Ewma), 9);
    for index in 0..9 {
        for _ in 0..10 {
            world.after(MS);
            world.call(index, Heard::Success);
        }
    }
    world.set((0..10).map(|index| (index, 1)));
    // It has not answered yet, so it competes by load.
    let calls: Vec<_> = (0..100).map(|_| world.pick().unwrap().begin()).collect();
    let newcomer = world.member(9).active();
    assert!((5..=15).contains(&newcomer), "{newcomer} of 100");
    drop(calls);
}

#[test]
fn those_that_were_tried_are_avoided_while_there_are_others() {
    for algorithm in ALL {
        let world = World::weighted(settings(algorithm), &[1000, 1, 1]);
        for key in 0..200 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let member = world.group.pick(Some(key), &tried, world.now).unwrap();
                assert!(
                    !tried.iter().any(|earlier| Arc::ptr_eq(earlier, &member)),
                    "{algorithm:?}"
                );
                tried.push(member);
            }
            let again = world.group.pick(Some(key), &tried, world.now);
            assert!(again.is_some(), "{algorithm:?}: there is nobody else");
        }
    }
}

#[test]
fn one_that_is_given_up_for_another_counts_as_slow_and_as_nothing_else() {
    let world = World::new(settings(Algorithm::Ewma), 2);
    world.call(0, Heard::Success);
    let member = world.member(0);
    let mut call = member.begin();
    call.outlasted(500 * MS, world.now);
    call.heard(Heard::Failure, 600 * MS, world.now);
    drop(call);
    let (latency, good) = member.recent(world.now);
    assert_eq!((latency.unwrap().as_millis(), good), (500, Some(1.0)));
    assert_eq!((member.totals().successes, member.totals().failures), (1, 0));
    // One that was sooner than what is known says nothing.
    member.begin().outlasted(5 * MS, world.now);
    assert_eq!(member.recent(world.now).0.unwrap().as_millis(), 500);
}
