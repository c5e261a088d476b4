//! Who is in service: ejection, health, slow start, panic.

use super::*;
use crate::upstream::hash;
use crate::upstream::settings::Beyond;

#[test]
fn five_failures_in_a_row_eject_and_time_brings_back() {
    let mut world = World::new(settings(Algorithm::LeastRequests), 4);
    world.fail(0, 4);
    world.call(0, Heard::Success);
    world.fail(0, 4);
    assert!(world.in_service(0), "a good answer in between begins anew");
    world.fail(0, 1);
    assert!(!world.in_service(0));
    assert!(world.share(0, 1000) < f64::EPSILON);
    world.after(seconds(29));
    assert!(world.share(0, 1000) < f64::EPSILON);
    world.after(seconds(1));
    close(world.share(0, 4000), 0.25, 0.2);
    assert!(world.in_service(0));
    assert_eq!(world.group.totals().ejections, 1);
}

#[test]
fn each_ejection_in_short_order_lasts_longer() {
    let mut world = World::new(settings(Algorithm::RoundRobin), 4);
    for length in [30, 60, 90] {
        world.fail(0, 5);
        world.after(seconds(length - 1));
        assert!(!world.in_service(0), "{length}");
        world.after(seconds(1));
        assert!(world.in_service(0), "{length}");
    }
    world.after(seconds(90));
    world.fail(0, 5);
    world.after(seconds(30));
    assert!(world.in_service(0), "three were forgiven");
}

/// With health checks.
fn checked(settings: Settings) -> Settings {
    Settings {
        checked: true,
        ..settings
    }
}

#[test]
fn one_that_second_tries_outrun_all_the_time_is_ejected() {
    let mut world = World::new(Settings::default(), 2);
    let outrun = |world: &mut World, times| {
        for _ in 0..times {
            world.after(20 * MS);
            world.call(0, Heard::Outrun);
        }
    };
    // A pause of its process, however many requests meet it, is over before that.
    outrun(&mut world, 49);
    assert!(world.in_service(0));
    world.call(0, Heard::Success);
    outrun(&mut world, 49);
    assert!(world.in_service(0), "an answer ends the row");
    outrun(&mut world, 20);
    assert!(!world.in_service(0));
    // Nor do a few do it, however long they take.
    world.after(seconds(31));
    assert!(world.in_service(0));
    for _ in 0..9 {
        world.after(seconds(1));
        world.call(0, Heard::Outrun);
    }
    assert!(world.in_service(0));
    world.call(0, Heard::Outrun);
    assert!(!world.in_service(0));
}

#[test]
fn one_that_is_outrun_looks_slower_to_ewma() {
    let world = World::new(settings(Algorithm::Ewma), 2);
    for _ in 0..50 {
        world.call(0, Heard::Success);
        world.call(1, Heard::Success);
    }
    close(world.share(0, 10_000), 0.5, 0.1);
    let mut call = world.member(0).begin();
    call.heard(Heard::Outrun, 40 * MS, world.now);
    drop(call);
    assert!(world.share(0, 10_000) < 0.1);
    assert!(world.member(0).recent(world.now).1 >= Some(1.0), "it has not failed");
}

fn with_outliers(outliers: Outliers) -> Settings {
    Settings {
        outliers: Some(outliers),
        ..Settings::default()
    }
}

#[test]
fn gateway_failures_have_a_count_of_their_own() {
    let world = World::new(
        with_outliers(Outliers {
            consecutive_failures: None,
            consecutive_gateway_failures: Some(3),
            ..Outliers::default()
        }),
        2,
    );
    world.fail(0, 100);
    for result in [Heard::GatewayFailure, Heard::GatewayFailure, Heard::Failure] {
        world.call(0, result);
    }
    (0..2).for_each(|_| world.call(0, Heard::GatewayFailure));
    assert!(world.in_service(0));
    world.call(0, Heard::GatewayFailure);
    assert!(!world.in_service(0));
}

#[test]
fn no_more_than_the_cap_are_out_and_the_last_never() {
    for (members, max_ejected, out) in [
        (10, 0.5, 5),
        (3, 0.5, 1),
        (2, 1.0, 1),
        (1, 1.0, 0),
        (10, 0.0, 0),
        (4, 1.0, 3),
    ] {
        let outliers = Outliers {
            max_ejected,
            ..Outliers::default()
        };
        let settings = Settings {
            panic_threshold: 0.0,
            ..with_outliers(outliers)
        };
        let world = World::new(settings, members);
        (0..members).for_each(|index| world.fail(index, 5));
        assert_eq!(world.out(), out, "{members} {max_ejected}");
        assert_eq!(world.group.totals().spared as usize, members - out);
        assert!(world.pick().is_some());
    }
}

#[test]
fn the_last_that_is_healthy_is_not_ejected() {
    let world = World::new(checked(settings(Algorithm::RoundRobin)), 3);
    world.group.set_healthy(&world.member(0), false, world.now);
    world.group.set_healthy(&world.member(1), false, world.now);
    world.fail(2, 5);
    assert!(world.in_service(2));
}

#[test]
fn one_that_was_spared_is_ejected_once_there_is_room() {
    let mut world = World::new(settings(Algorithm::RoundRobin), 3);
    world.fail(0, 5);
    world.fail(1, 5);
    assert!(world.in_service(1), "one of three may be out");
    world.after(seconds(30));
    assert!(world.in_service(0));
    world.fail(1, 4);
    assert!(world.in_service(1));
    world.fail(1, 1);
    assert!(!world.in_service(1));
}

#[test]
fn members_that_fail_more_or_answer_later_than_the_others_are_found() {
    let rule = |limit| {
        Some(Beyond {
            limit,
            min_requests: 50,
        })
    };
    let mut world = World::new(
        with_outliers(Outliers {
            consecutive_failures: None,
            failure_share: rule(0.2),
            latency: rule(5.0),
            ..Outliers::default()
        }),
        5,
    );
    for call in 0..100 {
        for index in 0..5 {
            let is_bad = index == 1 && call % 2 == 0;
            let result = if is_bad { Heard::Failure } else { Heard::Success };
            let took = if index == 4 { 100 * MS } else { 10 * MS };
            world.member(index).begin().heard(result, took, world.now);
        }
    }
    world.after(seconds(9));
    assert_eq!(world.out(), 0, "they are compared at intervals");
    world.after(seconds(1));
    assert!(world.pick().is_some());
    let in_service: Vec<bool> = (0..5).map(|index| world.in_service(index)).collect();
    assert_eq!(in_service, [true, false, true, true, false]);
    world.after(seconds(31));
    assert_eq!(world.out(), 0, "nothing was heard since");
}

#[test]
fn a_newcomer_gets_a_share_that_grows() {
    let settings = Settings {
        slow_start: Some(seconds(30)),
        ..settings(Algorithm::RoundRobin)
    };
    let mut world = World::new(settings, 9);
    close(world.share(0, 9000), 1.0 / 9.0, 0.01);
    world.set((0..10).map(|index| (index, 1)));
    let began = world.now;
    for (at, part) in [(0, 0.1), (15, 0.55), (27, 0.91)] {
        world.now = began + seconds(at);
        close(world.share(9, 20_000), part / (9.0 + part), 0.15);
    }
    world.now = began + seconds(30);
    close(world.share(9, 10_000), 0.1, 0.01);
    assert!(
        !world.group.table.load().is_warming,
        "a slow start that is over costs nothing"
    );
}

#[test]
fn every_algorithm_but_hashing_starts_slowly_after_an_ejection() {
    for algorithm in ALL {
        let settings = Settings {
            slow_start: Some(seconds(30)),
            ..settings(algorithm)
        };
        let mut world = World::new(settings, 5);
        world.fail(0, 5);
        world.after(seconds(30));
        let mut to_it = 0;
        for key in 0..20_000_u64 {
            let member = world.group.pick(Some(hash(&key.to_be_bytes())), &[], world.now);
            to_it += u32::from(member.unwrap().endpoint().name == endpoint(0).name);
        }
        let share = f64::from(to_it) / 20_000.0;
        let expected = if algorithm == HASHED { 0.2 } else { 0.1 / 4.1 };
        close(share, expected, 0.2);
    }
}

#[test]
fn a_newcomer_gets_its_growing_share_of_what_is_in_flight_too() {
    // Whoever has least to do would otherwise be taken each time that it is drawn.
    for algorithm in [Algorithm::LeastRequests, Algorithm::Ewma] {
        let settings = Settings {
            slow_start: Some(seconds(30)),
            ..settings(algorithm)
        };
        let world = World::new(settings, 4);
        world.set((0..5).map(|index| (index, 1)));
        let calls: Vec<_> = (0..2000).map(|_| world.pick().unwrap().begin()).collect();
        close(world.member(4).active() as f64, 2000.0 * 0.1 / 4.1, 0.3);
        drop(calls);
    }
}

#[test]
fn one_that_is_well_again_starts_slowly() {
    let settings = Settings {
        slow_start: Some(seconds(30)),
        ..settings(Algorithm::RoundRobin)
    };
    let mut world = World::new(checked(settings), 4);
    world.group.set_healthy(&world.member(0), false, world.now);
    world.after(seconds(100));
    world.group.set_healthy(&world.member(0), true, world.now);
    close(world.share(0, 20_000), 0.1 / 3.1, 0.2);
    world.after(seconds(30));
    close(world.share(0, 10_000), 0.25, 0.05);
}

#[test]
fn where_all_are_new_nobody_is_spared() {
    let settings = Settings {
        slow_start: Some(seconds(30)),
        ..settings(Algorithm::LeastRequests)
    };
    let mut world = World::new(settings, 2);
    assert!(!world.group.table.load().is_warming);
    world.set([]);
    assert!(world.pick().is_none());
    world.after(seconds(1));
    world.set([(0, 1), (1, 1)]);
    assert!(!world.group.table.load().is_warming);
    close(world.share(0, 4000), 0.5, 0.2);
}

#[test]
fn an_unhealthy_member_gets_nothing_until_it_is_well() {
    let mut world = World::new(checked(settings(Algorithm::LeastRequests)), 4);
    let ill = world.member(2);
    world.group.set_healthy(&ill, false, world.now);
    assert!(world.share(2, 1000) < f64::EPSILON);
    world.after(seconds(1000));
    assert!(world.share(2, 1000) < f64::EPSILON);
    world.group.set_healthy(&ill, true, world.now);
    close(world.share(2, 4000), 0.25, 0.2);
}

#[test]
fn a_newcomer_waits_for_its_first_good_check() {
    let world = World::new(checked(Settings::default()), 3);
    assert_eq!(world.out(), 0, "those of the start are taken to be well");
    world.set((0..4).map(|index| (index, 1)));
    assert!(!world.in_service(3));
    world.group.set_healthy(&world.member(3), true, world.now);
    assert!(world.in_service(3));
}

#[test]
fn one_that_is_unhealthy_comes_back_when_checks_are_turned_off() {
    let world = World::new(checked(settings(Algorithm::RoundRobin)), 3);
    world.group.set_healthy(&world.member(0), false, world.now);
    assert!(!world.in_service(0));
    world.group.configure(settings(Algorithm::RoundRobin), world.now);
    assert!(world.in_service(0), "nobody would ever find it well again");
    // A check that was under way has no say any more.
    world.group.set_healthy(&world.member(0), false, world.now);
    assert!(world.in_service(0));
}

#[test]
fn all_are_used_in_panic() {
    let mut world = World::new(checked(settings(Algorithm::LeastRequests)), 4);
    for index in 0..2 {
        world.group.set_healthy(&world.member(index), false, world.now);
    }
    assert!(!world.group.is_panicking(), "half are left, and half is enough");
    assert!(world.share(0, 1000) < f64::EPSILON);
    world.fail(2, 5);
    assert!(world.group.is_panicking());
    for index in 0..4 {
        close(world.share(index, 4000), 0.25, 0.2);
    }
    assert_eq!(world.group.totals().panics, 1);
    assert!(world.group.status(world.now).panicking);
    world.after(seconds(30));
    assert!(
        world.share(0, 1000) < f64::EPSILON,
        "the ejected one is back, and the unhealthy are out again"
    );
    assert!(!world.group.is_panicking());
    assert_eq!(world.group.totals().panics, 1);
}

#[test]
fn without_panic_there_may_be_nobody() {
    let settings = Settings {
        panic_threshold: 0.0,
        ..Settings::default()
    };
    let world = World::new(checked(settings), 2);
    for index in 0..2 {
        world.group.set_healthy(&world.member(index), false, world.now);
    }
    assert!(world.pick().is_none());
    assert!(!world.group.is_panicking());
}

#[test]
fn members_that_stay_keep_their_state_and_those_that_go_finish_their_calls() {
    let mut world = World::new(settings(Algorithm::RoundRobin), 4);
    world.fail(1, 5);
    let (stays, goes) = (world.member(0), world.member(3));
    let (call, mut last) = (stays.begin(), goes.begin());
    world.set([(0, 7), (1, 1), (2, 1), (2, 5)]);
    assert!(Arc::ptr_eq(&world.member(0), &stays));
    assert!(!world.in_service(1), "an ejection outlives a change of members");
    assert_eq!(world.group.members().len(), 3, "named twice, there once");
    assert_eq!(world.group.status(world.now).members[0].weight, 7);
    world.after(seconds(1));
    last.heard(Heard::Failure, MS, world.now);
    drop((call, last));
    assert_eq!((stays.active(), goes.active()), (0, 0));
    (0..5).for_each(|_| goes.begin().heard(Heard::Failure, MS, world.now));
    assert_eq!(world.group.totals().ejections, 1, "who has gone cannot be ejected");
    // One that comes back after having gone is new.
    world.set((0..4).map(|index| (index, 1)));
    assert!(!Arc::ptr_eq(&world.member(3), &goes));
}

#[test]
fn other_settings_take_effect_at_once() {
    let world = World::new(settings(Algorithm::RoundRobin), 4);
    world.fail(0, 5);
    assert!(!world.in_service(0));
    let without = Settings {
        outliers: None,
        ..settings(HASHED)
    };
    world.group.configure(without, world.now);
    assert!(world.in_service(0), "without ejection nobody is out");
    let pick = || world.group.pick(Some(5), &[], world.now).unwrap();
    let first = pick();
    assert!((0..10).all(|_| Arc::ptr_eq(&pick(), &first)));
}

#[test]
fn an_abandoned_call_counts_as_nothing() {
    let world = World::new(settings(Algorithm::Ewma), 2);
    (0..10).for_each(|_| drop(world.member(0).begin()));
    let mut call = world.member(0).begin();
    call.heard(Heard::Success, MS, world.now);
    call.heard(Heard::Failure, MS, world.now);
    let status = &world.group.status(world.now).members[0];
    let counts = (status.successes, status.failures, status.active);
    assert_eq!(counts, (1, 0, 1), "the first word counts");
}

#[test]
fn a_status_is_what_the_admin_api_shows() {
    let settings = Settings {
        slow_start: Some(seconds(30)),
        ..settings(Algorithm::Ewma)
    };
    let mut world = World::new(settings, 2);
    world.call(1, Heard::Success);
    world.fail(0, 5);
    world.after(seconds(10));
    let shown = serde_json::to_value(world.group.status(world.now)).unwrap();
    let ejected = &shown["members"][0];
    assert_eq!(ejected["address"], "10.0.0.0:8080");
    assert_eq!(ejected["ejected_for"], 20.0);
    assert_eq!(ejected["failures"], 5);
    let other = &shown["members"][1];
    assert_eq!(other["in_service"], true);
    assert!((other["latency_ms"].as_f64().unwrap() - 10.0).abs() < 0.01, "{other}");
    world.after(seconds(35));
    let shown = serde_json::to_value(world.group.status(world.now)).unwrap();
    // It came back when its time was over was found out, which is now.
    assert!((shown["members"][0]["slow_start_share"].as_f64().unwrap() - 0.1).abs() < 0.001);
}
