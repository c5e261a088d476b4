//! Time, asked for as seldom as possible: the date of responses, and deadlines.

use std::cell::RefCell;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use tokio::time::Sleep;

thread_local! {
    static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// `Date` for a response that has none (RFC 9110, section 6.6.1).
pub(crate) fn date() -> HeaderValue {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(at, date)| {
        if *at != second
            && let Ok(formatted) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
        {
            (*at, *date) = (second, formatted);
        }
        date.clone()
    })
}

/// What the future gives, or `None` once the limit has passed. A future that is ready at once costs no look at the clock.
pub(crate) async fn within<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(None::<Sleep>);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if timer.is_none() {
            timer.set(limit.map(tokio::time::sleep));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}
