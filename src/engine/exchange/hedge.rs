//! A second try beside one that is slow: whichever has a good response head first is taken, the other is given up.

use std::task::{Context, Poll};
use std::time::Instant;

use pillion_filters::{AttemptResult, Failure, WantedBy};
use pingora_http::ResponseHeader;

use super::opening::Opening;
use super::target::says_failure;
use crate::engine::down::Down;
use crate::engine::pump::Stop;
use crate::engine::up::{Up, UpEvent};
use crate::upstream::Endpoint;

/// Which of the two was taken.
pub(super) enum Won {
    First(Box<ResponseHeader>),
    Second {
        up: Up,
        head: Box<ResponseHeader>,
        reused: bool,
        connected: Instant,
    },
}

/// A second try's way, whether its connection has served others before, and since when it has it.
type Opened = (Up, bool, Instant);

/// What the other one came to.
pub(super) struct Other {
    /// Abandoned, if it was still under way.
    pub(super) result: AttemptResult,
    pub(super) head: Option<Box<ResponseHeader>>,
}

/// How far a try is.
enum Try<U> {
    UnderWay,
    Answered(U, Box<ResponseHeader>),
    Failed(Stop),
}

impl<U> Try<U> {
    fn is_good(&self) -> bool {
        matches!(self, Self::Answered(_, head) if !says_failure(head))
    }

    fn is_over(&self) -> bool {
        !matches!(self, Self::UnderWay)
    }

    fn lost(self) -> Other {
        match self {
            Self::UnderWay => Other {
                result: AttemptResult::Abandoned,
                head: None,
            },
            Self::Answered(_, head) => Other {
                result: AttemptResult::Answered(head.status),
                head: Some(head),
            },
            Self::Failed(stop) => Other {
                result: stop.result(),
                head: None,
            },
        }
    }
}

/// Opens a second try and waits, until that moment at most, for a head of either that does not say it failed. One that does is
/// taken only where the other comes to nothing better: a second try that is turned away at once must not stand in for a first
/// that is slow and good. When both have failed without a head, it is the first's failure that is told. Tells also what
/// the other one came to. What the client has to say meanwhile is only whether it is still there.
pub(super) async fn race(
    down: &mut Down,
    wanted: Option<WantedBy>,
    first: &mut Up,
    opening: Opening<'_>,
    endpoint: &Endpoint,
    until: Option<(Instant, Failure)>,
) -> (Result<Won, Stop>, Other) {
    let mut one = Try::UnderWay;
    let mut other = Try::UnderWay;
    let mut trying = Box::pin(second(opening, endpoint));
    let racing = std::future::poll_fn(|cx| {
        if !one.is_over()
            && let Some(ended) = next(first, cx)
        {
            one = ended.map_or_else(
                |failure| Try::Failed(Stop::Failed(failure)),
                |head| Try::Answered((), head),
            );
        }
        if one.is_good() {
            return Poll::Ready(());
        }
        if !other.is_over()
            && let Poll::Ready(ended) = trying.as_mut().poll(cx)
        {
            other = ended.map_or_else(Try::Failed, |(opened, head)| Try::Answered(opened, head));
        }
        if other.is_good() || (one.is_over() && other.is_over()) {
            return Poll::Ready(());
        }
        Poll::Pending
    });
    let racing = super::wait(down, None, wanted, racing);
    let ended = match until {
        None => racing.await,
        Some((at, failure)) => tokio::time::timeout_at(at.into(), racing)
            .await
            .unwrap_or(Err(Stop::Failed(failure))),
    };
    choose(one, other, ended)
}

/// Takes the better one, and the first where that is all the same.
fn choose(one: Try<()>, other: Try<Opened>, ended: Result<(), Stop>) -> (Result<Won, Stop>, Other) {
    if let Err(Stop::Gone) = ended {
        return (Err(Stop::Gone), other.lost());
    }
    let second_is_better = other.is_good() && !one.is_good();
    match (one, other, ended) {
        (Try::Answered((), head), other, _) if !second_is_better => (Ok(Won::First(head)), other.lost()),
        (one, Try::Answered((up, reused, connected), head), _) => {
            let won = Won::Second {
                up,
                head,
                reused,
                connected,
            };
            (Ok(won), one.lost())
        }
        (_, other, Err(stop)) | (Try::Failed(stop), other, Ok(())) => (Err(stop), other.lost()),
        // Not over, and neither has said a word.
        (_, other, Ok(())) => (Err(Stop::Failed(Failure::Internal)), other.lost()),
    }
}

/// The second try to its head.
async fn second(opening: Opening<'_>, endpoint: &Endpoint) -> Result<(Opened, Box<ResponseHeader>), Stop> {
    let (mut up, reused) = opening.open(endpoint, false, Instant::now()).await?;
    let connected = Instant::now();
    up.end(None).await;
    let head = std::future::poll_fn(|cx| match next(&mut up, cx) {
        Some(ended) => Poll::Ready(ended),
        None => Poll::Pending,
    });
    let head = head.await.map_err(Stop::Failed)?;
    Ok(((up, reused, connected), head))
}

/// The head of a try, or what it failed with. What is said in between is not passed on: nobody knows yet who of the two is heard.
fn next(up: &mut Up, cx: &mut Context<'_>) -> Option<Result<Box<ResponseHeader>, Failure>> {
    loop {
        match up.poll_event(cx, false) {
            Poll::Pending => return None,
            Poll::Ready(UpEvent::Head(head)) => return Some(Ok(head)),
            Poll::Ready(UpEvent::Interim(_)) => {}
            Poll::Ready(UpEvent::Failed(failure)) => return Some(Err(failure)),
            Poll::Ready(UpEvent::Body(_) | UpEvent::End(_)) => return Some(Err(Failure::Internal)),
        }
    }
}
