//! Moments as text.

use std::cell::Cell;
use std::time::SystemTime;

use super::encode::digits;

/// RFC 3339, UTC, with milliseconds: `2023-11-14T22:13:20.042Z`. Moments outside 1970 to 9999 are written as the nearest
/// within.
pub(super) fn timestamp(line: &mut Vec<u8>, time: SystemTime) {
    /// The last second that four digits of a year can tell.
    const LAST: u64 = 253_402_300_799;
    thread_local! {
        /// The second written last and its text: most lines of a busy sidecar share it.
        static SECOND: Cell<(u64, [u8; 20])> = const { Cell::new((u64::MAX, [0; 20])) };
    }
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let second = since.as_secs().min(LAST);
    let (cached, mut text) = SECOND.get();
    if cached != second {
        text = civil(second);
        SECOND.set((second, text));
    }
    line.extend_from_slice(&text);
    digits(line, since.subsec_millis().into(), 100);
    line.push(b'Z');
}

/// `2023-11-14T22:13:20.` for seconds since 1970. The calendar is counted in eras of 400 years that begin on 1 March,
/// which puts leap days last (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(second: u64) -> [u8; 20] {
    let days = second / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);

    let mut text = *b"0000-00-00T00:00:00.";
    for (end, value) in [
        (4, year),
        (7, month),
        (10, day),
        (13, second / 3_600 % 24),
        (16, second / 60 % 60),
        (19, second % 60),
    ] {
        let mut value = value;
        for digit in text[..end].iter_mut().rev().take_while(|byte| byte.is_ascii_digit()) {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(time: SystemTime) -> String {
        let mut line = Vec::new();
        timestamp(&mut line, time);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn moments_are_rfc_3339() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_042, "2023-11-14T22:13:20.042Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59.000Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(written(time), expected);
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(written(before), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_calendar_agrees_with_another() {
        let mut random = fastrand::Rng::with_seed(42);
        for _ in 0..5_000 {
            let second = random.u64(..253_402_300_800);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let expected = humantime::format_rfc3339_millis(time).to_string();
            assert_eq!(written(time), expected);
        }
    }
}
