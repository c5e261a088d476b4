//! One fetch for all who ask: the leader's exchange fetches, the others follow it.
//!
//! A follower waits until it is known what the response is worth. If it can be shared and its length is known, the follower
//! gets it piece by piece while the leader still receives it; if it cannot, every follower goes on its own, at once. A
//! fetch that failed is nobody's answer but the leader's.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;

use super::entry::Entry;
use super::tags::Tag;
use crate::{Failure, Wanted};

/// How far a fetch has come, as a follower sees it.
#[derive(Clone)]
pub(super) enum Progress {
    /// No response head yet, or one whose body must be whole before it is shared.
    Waiting,
    /// The head, with the body still coming.
    Streaming(Arc<Entry>),
    /// Over: what there is to share is stored.
    Done,
    /// Over, with nothing to share.
    Nothing,
}

struct State {
    progress: Progress,
    pieces: Vec<Bytes>,
    followers: usize,
    wakers: Vec<Waker>,
    /// Storing has begun: it is worth going on without a client.
    storing: bool,
}

/// A fetch under way.
pub(super) struct Fill {
    state: Mutex<State>,
    /// The purge it was begun after.
    born: u64,
    /// The URL it is of.
    url: Arc<Tag>,
}

impl Fill {
    pub(super) fn new(born: u64, url: Arc<Tag>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                progress: Progress::Waiting,
                pieces: Vec::new(),
                followers: 0,
                wakers: Vec::new(),
                storing: false,
            }),
            born,
            url,
        })
    }

    /// Whether its URL was purged since it began: who asks now must not get what it fetches.
    pub(super) fn is_outdated(&self) -> bool {
        self.url.is_purged_since(self.born)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes who waits for that.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The response will be stored.
    pub(super) fn begin(&self) {
        self.state().storing = true;
    }

    /// The response can be passed on from now on: its head, without the body.
    pub(super) fn share(&self, head: Arc<Entry>) {
        self.change(|state| state.progress = Progress::Streaming(head));
    }

    /// A piece of the body.
    pub(super) fn push(&self, piece: Bytes) {
        self.change(|state| {
            if matches!(state.progress, Progress::Streaming(_)) {
                state.pieces.push(piece);
            }
        });
    }

    /// The response is stored.
    pub(super) fn done(&self) {
        self.change(|state| {
            state.progress = Progress::Done;
            state.storing = false;
        });
    }

    /// There is nothing to share.
    pub(super) fn give_up(&self) {
        self.change(|state| {
            if !matches!(state.progress, Progress::Done) {
                state.progress = Progress::Nothing;
            }
            state.storing = false;
        });
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> Progress {
        self.state().progress.clone()
    }

    /// Counts a follower in, for as long as it holds what it is given.
    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        self.state().followers += 1;
        Follower {
            fill: self.clone(),
            next: 0,
        }
    }
}

impl Wanted for Fill {
    fn is_wanted(&self) -> bool {
        let state = self.state();
        state.storing || state.followers > 0
    }
}

/// One who waits for, or reads, what another fetches.
pub(super) struct Follower {
    fill: Arc<Fill>,
    next: usize,
}

impl Follower {
    /// Waits until there is something to decide on.
    pub(super) async fn known(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.fill.state();
            match state.progress {
                Progress::Waiting => {
                    listen(&mut state, cx);
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}

fn listen(state: &mut State, cx: &Context<'_>) {
    if !state.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        state.wakers.push(cx.waker().clone());
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.fill.state().followers -= 1;
    }
}

/// The body, from its beginning.
impl Stream for Follower {
    type Item = Result<Bytes, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let fill = self.fill.clone();
        let mut state = fill.state();
        if let Some(piece) = state.pieces.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(piece.clone())));
        }
        match state.progress {
            Progress::Done => Poll::Ready(None),
            Progress::Nothing => Poll::Ready(Some(Err(Failure::ResponseIncomplete))),
            Progress::Waiting | Progress::Streaming(_) => {
                listen(&mut state, cx);
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::cache::tags::Tags;

    fn new() -> Arc<Fill> {
        Fill::new(0, Arc::<Tags>::default().get(b"url"))
    }

    fn shared() -> (Arc<Fill>, Follower) {
        let fill = new();
        let follower = fill.follow();
        fill.share(Arc::new(Entry::for_tests("")));
        (fill, follower)
    }

    #[test]
    fn a_follower_gets_the_pieces_as_they_come() {
        let (fill, mut follower) = shared();
        assert!(follower.next().now_or_never().is_none());
        fill.push(Bytes::from_static(b"a"));
        let mut late = fill.follow();
        fill.push(Bytes::from_static(b"b"));
        for follower in [&mut follower, &mut late] {
            assert_eq!(follower.next().now_or_never(), Some(Some(Ok(Bytes::from_static(b"a")))));
            assert_eq!(follower.next().now_or_never(), Some(Some(Ok(Bytes::from_static(b"b")))));
            assert!(follower.next().now_or_never().is_none());
        }
        fill.done();
        assert_eq!(follower.next().now_or_never(), Some(None));
    }

    #[test]
    fn a_body_that_is_cut_short_is_cut_short_for_all() {
        let (fill, mut follower) = shared();
        fill.push(Bytes::from_static(b"a"));
        fill.give_up();
        assert!(matches!(follower.next().now_or_never(), Some(Some(Ok(_)))));
        assert_eq!(
            follower.next().now_or_never(),
            Some(Some(Err(Failure::ResponseIncomplete)))
        );
    }

    #[test]
    fn it_is_wanted_while_somebody_follows_or_it_is_stored() {
        let fill = new();
        assert!(!fill.is_wanted());
        let follower = fill.follow();
        assert!(fill.is_wanted());
        drop(follower);
        assert!(!fill.is_wanted());
        fill.begin();
        assert!(fill.is_wanted());
        fill.done();
        assert!(!fill.is_wanted());
    }

    #[test]
    fn followers_wait_until_it_is_known() {
        let fill = new();
        let follower = fill.follow();
        assert!(follower.known().now_or_never().is_none());
        fill.give_up();
        assert!(follower.known().now_or_never().is_some());
        assert!(matches!(fill.progress(), Progress::Nothing));
    }
}
