//! Any order of requests, repeats, other payloads, answers, failures, aborts and time, against a model of what may come of it.
//!
//! Whatever happens: the app is not given a key while it is at work on it, nor once its answer is kept, nor before a lost one
//! may be tried for; and what a caller is told is the app's answer to that caller's own request with that key.

use std::time::Duration;

use tokio::time::Instant;

use super::play::{At, Live, Stage, request, told};
use crate::Failure;

const CALLERS: usize = 3;
const KEYS: usize = 3;
const PAYLOADS: usize = 2;
const TTL: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(20);

/// What the model knows of one caller's key.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The exchanges the app is at work on.
    working: usize,
    payload: usize,
    answered: Option<(Instant, u16, String)>,
    lost: Option<Instant>,
}

struct Asking {
    live: Live,
    caller: usize,
    key: usize,
    payload: usize,
    began: Instant,
    /// Its own number, which the app's answer shows.
    number: usize,
}

struct World {
    stage: Stage,
    random: fastrand::Rng,
    retries: bool,
    known: Vec<Known>,
    asking: Vec<Asking>,
    next: usize,
    seen: [usize; 7],
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let retries = random.bool();
        let unknown = if retries { "retry" } else { "conflict" };
        let config = format!(r#"{{"ttl": "60s", "wait": "5s", "settle": "20s", "unknown": "{unknown}"}}"#);
        Self {
            stage: Stage::new(&config),
            random,
            retries,
            known: vec![Known::default(); CALLERS * KEYS],
            asking: Vec::new(),
            next: 0,
            seen: [0; 7],
        }
    }

    fn known(&mut self, asking: &Asking) -> &mut Known {
        let known = &mut self.known[asking.caller * KEYS + asking.key];
        let now = Instant::now();
        if known.answered.as_ref().is_some_and(|(at, ..)| *at + TTL <= now) {
            known.answered = None;
        }
        if known.lost.is_some_and(|at| at + TTL <= now) {
            known.lost = None;
        }
        known
    }

    fn ask(&mut self) {
        let [caller, key, payload] = [CALLERS, KEYS, PAYLOADS].map(|count| self.random.usize(..count));
        let mut exchange = request(Some(&format!("key-{key}")));
        let authorization = format!("Bearer {caller}");
        exchange.request.insert_header("authorization", authorization).unwrap();
        let live = self.stage.send(exchange, format!("payload {payload}").as_bytes());
        self.next += 1;
        let asking = Asking {
            live,
            caller,
            key,
            payload,
            began: Instant::now(),
            number: self.next,
        };
        self.settle(asking);
    }

    /// Checks where an exchange has come to, and keeps it while it is under way.
    fn settle(&mut self, asking: Asking) {
        let retries = self.retries;
        let known = self.known(&asking).clone();
        let is_known = known.working > 0 || known.answered.is_some() || known.lost.is_some();
        let at = &asking.live.at;
        let kind = match at {
            At::App => {
                assert_eq!(known.working, 0, "the app is at work on it already");
                assert!(known.answered.is_none(), "it was answered");
                let may = known.lost.is_none_or(|at| retries && at + SETTLE <= Instant::now());
                assert!(may, "the app may have acted on it");
                assert!(!is_known || known.payload == asking.payload, "with another payload");
                let of_model = self.known(&asking);
                of_model.working += 1;
                of_model.payload = asking.payload;
                0
            }
            At::Waiting(_) => {
                assert!(known.working > 0, "it waits for nobody");
                assert_eq!(known.payload, asking.payload);
                assert!(asking.began + WAIT > Instant::now(), "it waits for too long");
                1
            }
            At::Answered(response) => match told(response) {
                (status, None, body) => {
                    let (_, of_first, said) = known.answered.expect("an answer");
                    assert_eq!((status.as_u16(), &body), (of_first, &said));
                    assert!(said.starts_with(&format!("to {} about {} ", asking.caller, asking.key)));
                    assert_eq!(known.payload, asking.payload);
                    2
                }
                (status, Some(error), _) => match (status.as_u16(), &*error) {
                    (409, "idempotency_in_progress") => {
                        assert!(known.working > 0);
                        assert!(asking.began + WAIT <= Instant::now(), "it did not wait");
                        3
                    }
                    (409, "idempotency_outcome_unknown") => {
                        assert_eq!(known.working, 0);
                        let lost = known.lost.expect("a loss");
                        assert!(!retries || lost + SETTLE > Instant::now(), "it may be tried for");
                        4
                    }
                    (422, "idempotency_key_reused") => {
                        assert!(is_known && known.payload != asking.payload);
                        5
                    }
                    other => panic!("{other:?}"),
                },
            },
        };
        self.seen[kind] += 1;
        if kind < 2 {
            self.asking.push(asking);
        }
    }

    /// Something becomes of one that is with the app.
    fn act(&mut self) {
        let with_app: Vec<usize> = (0..self.asking.len())
            .filter(|index| self.asking[*index].live.is_at_the_app())
            .collect();
        let Some(index) = self.random.choice(&with_app) else {
            return;
        };
        let mut asking = self.asking.swap_remove(*index);
        let mut acted = false;
        if self.random.u8(..4) == 0 {
            let unprocessed = self.random.bool();
            acted = !unprocessed;
            self.stage
                .is_tried_again(&mut asking.live, Failure::UpstreamClosed, unprocessed);
        }
        let body = format!("to {} about {} in {}", asking.caller, asking.key, asking.number);
        let known = self.known(&asking);
        known.working -= 1;
        let now = Instant::now();
        match self.random.u8(..8) {
            0..4 => {
                let status = *self.random.choice(&[200, 201, 400, 500]).unwrap();
                let known = self.known(&asking);
                known.lost = None;
                known.answered = Some((now, status, body.clone()));
                self.stage.answers(asking.live, status, &body, true);
                return;
            }
            4 => {
                acted = true;
                self.stage.answers(asking.live, 200, &body[..4], false);
            }
            5 => {
                acted = true;
                self.stage.over(asking.live);
            }
            6 => self.stage.answers(asking.live, 503, "later", true),
            _ => {
                let unprocessed = self.random.bool();
                acted |= !unprocessed;
                self.stage.fails(asking.live, Failure::UpstreamClosed, unprocessed);
                if acted {
                    self.known[asking.caller * KEYS + asking.key].lost = Some(now);
                }
                return;
            }
        }
        if acted {
            self.known[asking.caller * KEYS + asking.key].lost = Some(now);
        }
    }

    /// A client that waits goes away.
    fn leave(&mut self) {
        let waiting = self.asking.iter().position(|asking| asking.live.is_waiting());
        if let Some(index) = waiting {
            let asking = self.asking.swap_remove(index);
            self.stage.over(asking.live);
            self.seen[6] += 1;
        }
    }

    /// Those that wait look whether they are to go on, in any order.
    fn look(&mut self) {
        let mut asking = std::mem::take(&mut self.asking);
        self.random.shuffle(&mut asking);
        let (waiting, others): (Vec<_>, Vec<_>) = asking.into_iter().partition(|asking| asking.live.is_waiting());
        self.asking = others;
        for mut one in waiting {
            self.stage.look(&mut one.live);
            self.settle(one);
        }
    }
}

#[test]
fn whatever_happens_the_app_acts_once_and_callers_get_their_own() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut seen = [0; 7];
    runtime.block_on(async {
        for seed in 0..300 {
            let mut world = World::new(seed);
            for _ in 0..200 {
                match world.random.u8(..10) {
                    0..5 => world.ask(),
                    5..7 => world.act(),
                    7 => world.leave(),
                    _ => {
                        let longest = *world.random.choice(&[3_000, 10_000, 70_000]).unwrap();
                        let time = world.random.u64(1..longest);
                        tokio::time::advance(Duration::from_millis(time)).await;
                    }
                }
                // Timers fire, and wake who waits.
                tokio::task::yield_now().await;
                world.look();
            }
            for asking in std::mem::take(&mut world.asking) {
                world.stage.over(asking.live);
            }
            assert!(
                world.stage.counted("pillion_idempotency_in_progress", "") == 0,
                "{seed}"
            );
            for (all, one) in seen.iter_mut().zip(world.seen) {
                *all += one;
            }
        }
    });
    // Each of the things that may happen did, often.
    assert!(seen.iter().all(|count| *count > 200), "{seen:?}");
}
