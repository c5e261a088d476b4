//! One side, inbound or outbound, from when it is first listened on until its last connection is closed.
//!
//! Its sockets may change meanwhile: a listener that moves keeps its entrance, and its connections notice nothing. When the
//! side is taken out of the configuration, its connections are led out: none is cut short while there is time, and
//! requests that still come are served as the last configuration with that side has it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use pillion_filters::Direction;
use tokio::sync::{Notify, watch};

use crate::snapshot::Snapshot;

/// What a connection that is new when its side closes has to begin its request.
const LAST_CALL: Duration = Duration::from_millis(100);

/// How far a side is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is not.
    Open,
    /// Connections are told with their next answer that they end. New ones are served all the same.
    Leaving,
    /// The same, and those that wait for a request are closed.
    Closing,
}

/// See the [module](self).
pub(crate) struct Entrance {
    direction: Direction,
    /// The stage, for those who only look: once or twice an exchange.
    stage: AtomicU8,
    changes: watch::Sender<Stage>,
    /// The last configuration with this side, once there is another without.
    last: OnceLock<Arc<Snapshot>>,
    cut: AtomicBool,
    cutting: Notify,
}

impl Entrance {
    pub(crate) fn new(direction: Direction, stage: Stage) -> Self {
        Self {
            direction,
            stage: AtomicU8::new(stage as u8),
            changes: watch::Sender::new(stage),
            last: OnceLock::new(),
            cut: AtomicBool::new(false),
            cutting: Notify::new(),
        }
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// The running configuration, or the last one that has this side.
    pub(crate) fn snapshot(&self, running: &ArcSwap<Snapshot>) -> Option<Arc<Snapshot>> {
        let snapshot = running.load_full();
        if snapshot.side(self.direction).is_some() {
            return Some(snapshot);
        }
        self.last.get().cloned()
    }

    /// What is still to come is served by this, unless the running configuration has such a side again.
    pub(crate) fn remember(&self, last: Arc<Snapshot>) {
        // It is asked for once: an entrance that is given up does not come back.
        let _ = self.last.set(last);
    }

    /// Whether clients are told that their connections end.
    pub(crate) fn is_leaving(&self) -> bool {
        self.stage.load(Ordering::Relaxed) >= Stage::Leaving as u8
    }

    /// Goes on to a stage, or back from leaving to open. One that closes stays so.
    pub(crate) fn set(&self, stage: Stage) {
        self.changes.send_if_modified(|now| {
            let changes = *now != stage && *now != Stage::Closing;
            if changes {
                *now = stage;
                self.stage.store(stage as u8, Ordering::Relaxed);
            }
            changes
        });
    }

    /// Tells of each stage; for who asks again and again.
    pub(super) fn changes(&self) -> watch::Receiver<Stage> {
        self.changes.subscribe()
    }

    /// Ready once that stage is reached.
    pub(super) async fn reached(&self, wanted: Stage) {
        // The sender is here, so there is no error.
        let _ = self.changes().wait_for(|&stage| stage >= wanted).await;
    }

    /// Ready once this closes and whoever was about to send a request has had the time to.
    pub(super) async fn closed(&self) {
        self.reached(Stage::Closing).await;
        tokio::time::sleep(LAST_CALL).await;
    }

    /// Ends what is left, wherever it is.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.cutting.notify_waiters();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Wakes whoever polls this once, and sees [`Self::is_cut`] from then on.
    pub(super) fn cutting(&self) -> impl Future<Output = ()> {
        self.cutting.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Entrance {
        Entrance::new(Direction::Inbound, Stage::Open)
    }

    #[test]
    fn leaving_can_be_taken_back_and_closing_cannot() {
        let entrance = open();
        assert!(!entrance.is_leaving());
        entrance.set(Stage::Leaving);
        assert!(entrance.is_leaving());
        entrance.set(Stage::Open);
        assert!(!entrance.is_leaving());
        entrance.set(Stage::Closing);
        entrance.set(Stage::Open);
        assert!(entrance.is_leaving());
        assert_eq!(*entrance.changes.borrow(), Stage::Closing);
        assert!(Entrance::new(Direction::Outbound, Stage::Leaving).is_leaving());
    }

    #[tokio::test]
    async fn a_stage_is_reached_by_a_later_one_too() {
        let entrance = open();
        let reached = async {
            entrance.reached(Stage::Leaving).await;
            entrance.is_leaving()
        };
        let set = async { entrance.set(Stage::Closing) };
        assert!(tokio::join!(reached, set).0);
    }

    #[tokio::test]
    async fn who_was_polled_once_is_woken_when_it_is_cut() {
        let entrance = Arc::new(open());
        let waiting = entrance.clone();
        let task = tokio::spawn(async move {
            let mut cutting = std::pin::pin!(waiting.cutting());
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                if polls == 0 {
                    let _ = cutting.as_mut().poll(cx);
                }
                polls += 1;
                if waiting.is_cut() {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
            polls
        });
        tokio::task::yield_now().await;
        // A stage wakes nobody who only waits to be cut.
        entrance.set(Stage::Closing);
        tokio::task::yield_now().await;
        entrance.cut();
        assert_eq!(task.await.unwrap(), 2);
    }
}
