//! A second try beside one that is slow: whichever has a response head first is taken, the other is given up.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use pillion_filters::{AttemptResult, Failure, WantedBy};
use pingora_http::ResponseHeader;

use super::opening::Opening;
use crate::engine::down::{Down, DownEvent};
use crate::engine::pump::Stop;
use crate::engine::up::{Up, UpEvent};
use crate::upstream::Endpoint;

/// What came of a race.
pub(super) enum Won {
    First(Box<ResponseHeader>),
    Second {
        up: Up,
        head: Box<ResponseHeader>,
        reused: bool,
    },
}

type Opened<'a> = Pin<Box<dyn Future<Output = Result<(Up, bool), Stop>> + Send + 'a>>;

enum Second<'a> {
    Opening(Opened<'a>),
    Trying(Box<(Up, bool)>),
    Lost,
}

/// Opens a second try and waits, until that moment at most, for the first head of the two; tells also what the second came to. A try that fails has lost; when both have, it is the first's failure that
/// is told. What the client has to say meanwhile is only whether it is still there.
pub(super) async fn race(
    down: &mut Down,
    wanted: Option<WantedBy>,
    first: &mut Up,
    opening: Opening<'_>,
    endpoint: &Endpoint,
    until: Option<(Instant, Failure)>,
) -> (Result<Won, Stop>, AttemptResult) {
    let opened = Box::pin(async move {
        let (mut up, reused) = opening.open(endpoint, false, Instant::now()).await?;
        up.end(None).await;
        Ok((up, reused))
    });
    let mut second = Second::Opening(opened);
    let mut first_lost = None;
    let mut said = AttemptResult::Abandoned;
    let racing = std::future::poll_fn(|cx| {
        if first_lost.is_none() {
            match next(first, cx) {
                Some(Ok(head)) => return Poll::Ready(Ok(Won::First(head))),
                Some(Err(failure)) => first_lost = Some(failure),
                None => {}
            }
        }
        if let Some(won) = step(&mut second, cx, &mut said) {
            return Poll::Ready(Ok(won));
        }
        if let (Some(failure), Second::Lost) = (first_lost, &second) {
            return Poll::Ready(Err(Stop::Failed(failure)));
        }
        match down.poll_event(cx, false) {
            Poll::Ready(DownEvent::Gone) if wanted.as_ref().is_some_and(|by| by.0.is_wanted()) => {
                down.let_go();
                Poll::Pending
            }
            Poll::Ready(DownEvent::Gone) => Poll::Ready(Err(Stop::Gone)),
            _ => Poll::Pending,
        }
    });
    let racing = pin!(racing);
    let won = match until {
        None => racing.await,
        Some((at, failure)) => tokio::time::timeout_at(at.into(), racing)
            .await
            .unwrap_or(Err(Stop::Failed(failure))),
    };
    (won, said)
}

/// What became of the second try by now, if it has a head.
fn step(second: &mut Second<'_>, cx: &mut Context<'_>, said: &mut AttemptResult) -> Option<Won> {
    if let Second::Opening(opened) = second {
        match opened.as_mut().poll(cx) {
            Poll::Pending => return None,
            Poll::Ready(Ok(opened)) => *second = Second::Trying(Box::new(opened)),
            Poll::Ready(Err(stop)) => {
                *said = stop.result();
                *second = Second::Lost;
            }
        }
    }
    let Second::Trying(trying) = second else { return None };
    match next(&mut trying.0, cx)? {
        Ok(head) => {
            let Second::Trying(trying) = std::mem::replace(second, Second::Lost) else {
                return None;
            };
            let (up, reused) = *trying;
            Some(Won::Second { up, head, reused })
        }
        Err(failure) => {
            *said = AttemptResult::Failed(failure);
            *second = Second::Lost;
            None
        }
    }
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
