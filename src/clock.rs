//! The date of HTTP responses, formatted once a second.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

thread_local! {
    static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// `Date` for a response that has none (RFC 9110, section 6.6.1).
pub(crate) fn date() -> HeaderValue {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(at, date)| {
        if *at != second {
            if let Ok(formatted) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
                (*at, *date) = (second, formatted);
            }
        }
        date.clone()
    })
}
