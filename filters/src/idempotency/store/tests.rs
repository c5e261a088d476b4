use bytes::Bytes;
use futures_util::FutureExt;
use pingora_http::ResponseHeader;

use super::*;
use crate::Wanted;

const TTL: Duration = Duration::from_secs(60);
const PRINT: Hash = [7; 32];

fn store(size: u64) -> Share {
    Arc::new(Store::new(StoreMetrics::for_tests())).share(size)
}

fn scope(number: u32) -> Hash {
    let mut scope = [0; 32];
    // Spread as hashes are.
    scope[..4].copy_from_slice(&number.to_le_bytes());
    scope
}

fn answer(body: usize) -> Answer {
    Answer::of(&ResponseHeader::build(200, None).unwrap()).with_body(Bytes::from(vec![0; body]))
}

fn claim(store: &Share, number: u32) -> Claim {
    store.store().claim(&scope(number), &PRINT, TTL, |_| false)
}

fn lead(store: &Share, number: u32) -> Lead {
    match claim(store, number) {
        Claim::Lead(lead) => lead,
        _ => panic!("{number} is taken"),
    }
}

#[test]
fn one_leads_and_the_others_wait_for_it() {
    let store = store(1 << 20);
    let first = lead(&store, 1);
    assert!(first.running().is_wanted());
    let Claim::Running(running) = claim(&store, 1) else {
        panic!("two lead");
    };
    assert!(matches!(
        store.store().claim(&scope(1), &[8; 32], TTL, |_| false),
        Claim::Reused
    ));
    let mut ended = Box::pin(running.ended());
    assert!(ended.as_mut().now_or_never().is_none());
    first.answered(answer(3));
    assert!(ended.now_or_never().is_some());
    assert!(running.ended().now_or_never().is_some(), "who comes late does not wait");
    assert!(!running.is_wanted());
    assert!(matches!(claim(&store, 1), Claim::Answered(answer) if answer.body.len() == 3));
    assert!(matches!(
        store.store().claim(&scope(1), &[8; 32], TTL, |_| false),
        Claim::Reused
    ));
}

#[test]
fn one_that_was_not_acted_on_is_free_again() {
    let store = store(1 << 20);
    drop(lead(&store, 1));
    drop(lead(&store, 1));
    assert_eq!(store.store().size(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_whose_answer_was_lost_is_unknown_until_it_may_be_tried() {
    let store = store(1 << 20);
    let mut first = lead(&store, 1);
    first.acted = true;
    drop(first);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(matches!(claim(&store, 1), Claim::Unknown(ago) if ago == Duration::from_secs(5)));
    let retry = |store: &Share| store.store().claim(&scope(1), &PRINT, TTL, |ago| ago.as_secs() >= 5);
    let Claim::Lead(second) = retry(&store) else {
        panic!("not tried again");
    };
    // It comes to nothing: the first may still have been acted on.
    assert!(second.is_in_doubt());
    drop(second);
    assert!(matches!(claim(&store, 1), Claim::Unknown(ago) if ago == Duration::from_secs(5)));
    let Claim::Lead(third) = retry(&store) else {
        panic!("not tried again");
    };
    third.answered(answer(1));
    assert!(matches!(claim(&store, 1), Claim::Answered(_)));
}

#[tokio::test(start_paused = true)]
async fn what_has_had_its_time_is_forgotten() {
    let store = store(1 << 20);
    for number in 0..100 {
        let mut one = lead(&store, number);
        if number % 2 == 0 {
            one.answered(answer(10));
        } else {
            one.acted = true;
        }
    }
    tokio::time::advance(TTL.checked_sub(Duration::from_millis(1)).unwrap()).await;
    assert!(matches!(claim(&store, 0), Claim::Answered(_)));
    assert!(store.store().knows(&scope(1)));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!store.store().knows(&scope(1)));
    for number in 0..100 {
        drop(lead(&store, number));
    }
    assert_eq!(store.store().size(), (0, 0, 0));
}

#[test]
fn it_never_holds_more_than_its_size_and_forgets_the_oldest() {
    const SIZE: u64 = 1 << 20;
    let store = store(SIZE);
    for number in 0..4000 {
        lead(&store, number).answered(answer(1000));
        let (_, _, bytes) = store.store().size();
        assert!(bytes <= SIZE, "{bytes}");
    }
    let (_, kept, bytes) = store.store().size();
    assert!(bytes > SIZE * 9 / 10, "{bytes}");
    assert!(kept > 400, "{kept}");
    let known: Vec<u32> = (0..4000)
        .filter(|number| store.store().knows(&scope(*number)))
        .collect();
    // As old as the shards are uneven.
    assert!(known[0] > 4000 - 2 * known.len() as u32, "{}", known[0]);
    assert_eq!(store.store().metrics.evictions.get(), 4000 - kept);
}

#[test]
fn what_is_under_way_is_bounded_and_never_forgotten() {
    const SIZE: u64 = 64 * 1024;
    let store = store(SIZE);
    let mut leads = Vec::new();
    let full = (0..10_000).find(|number| match claim(&store, *number) {
        Claim::Lead(lead) => {
            leads.push(lead);
            false
        }
        _ => true,
    });
    assert_eq!(full, Some((SIZE / 2 / NODE) as u32));
    for number in 0..leads.len() as u32 {
        assert!(matches!(claim(&store, number), Claim::Running(_)));
    }
    leads.clear();
    assert_eq!(store.store().size(), (0, 0, 0));
}

#[test]
fn answers_on_their_way_take_up_a_quarter() {
    let store = store(1 << 20);
    lead(&store, 1).answered(answer(900_000));
    let mut one = store.store().reserve();
    assert!(one.grow(200_000));
    assert!(!store.store().knows(&scope(1)), "room was made");
    let mut other = store.store().reserve();
    assert!(!other.grow(100_000));
    drop(one);
    assert!(other.grow(100_000));
    drop(other);
    assert_eq!(store.store().size(), (0, 0, 0));
}

#[test]
fn the_largest_size_among_the_routes_holds() {
    let store = store(1 << 20);
    let larger = store.store().share(1 << 22);
    let same = store.store().share(1 << 22);
    for number in 0..100 {
        lead(&store, number).answered(answer(20_000));
    }
    drop(larger);
    assert_eq!(store.store().size().1, 100);
    drop(same);
    assert!(store.store().size().2 <= 1 << 20);
}

#[test]
fn two_threads_never_lead_the_same() {
    let store = store(1 << 22);
    let leads = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for number in 0..2000 {
                    if let Claim::Lead(lead) = claim(&store, number) {
                        leads.fetch_add(1, Ordering::Relaxed);
                        lead.answered(answer(1));
                    }
                }
            });
        }
    });
    assert_eq!(leads.into_inner(), 2000);
}
