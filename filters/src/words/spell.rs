//! Durations and times as people say them: as exact as anybody wants to know.

use std::time::{Duration, SystemTime};

/// `0.4ms`, `12ms`, `1.5s`, `42s`, `4m 18s`, `2h 5m`, `3d 4h`.
pub fn took(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.as_millis());
    match seconds {
        0 if millis >= 10 => format!("{millis}ms"),
        0 => {
            let micros = time.as_micros();
            let tenths = micros / 100;
            match (micros.is_multiple_of(1_000), tenths) {
                (true, _) => format!("{millis}ms"),
                (false, 0) => format!("{micros}us"),
                _ => format!("{}.{}ms", tenths / 10, tenths % 10),
            }
        }
        1..10 => {
            let tenths = time.subsec_millis() / 100;
            if tenths == 0 {
                format!("{seconds}s")
            } else {
                format!("{seconds}.{tenths}s")
            }
        }
        10..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds / 60 % 60, "m"),
        _ => two(seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    }
}

fn two(large: u64, unit: &str, small: u64, smaller: &str) -> String {
    if small == 0 {
        format!("{large}{unit}")
    } else {
        format!("{large}{unit} {small}{smaller}")
    }
}

/// `12:04:31`, in UTC.
pub fn time_of_day(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_two_units_at_most() {
        for (micros, said) in [
            (0, "0ms"),
            (40, "40us"),
            (400, "0.4ms"),
            (9_950, "9.9ms"),
            (12_400, "12ms"),
            (200_000, "200ms"),
            (1_000_000, "1s"),
            (1_560_000, "1.5s"),
            (42_900_000, "42s"),
            (258_000_000, "4m 18s"),
            (300_000_000, "5m"),
            (7_500_000_000, "2h 5m"),
            (273_600_000_000, "3d 4h"),
        ] {
            assert_eq!(took(Duration::from_micros(micros)), said);
        }
    }

    #[test]
    fn times_of_day_are_of_utc() {
        let at = |seconds| time_of_day(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "00:00:00");
        assert_eq!(at(86_400 * 20_000 + 12 * 3_600 + 4 * 60 + 31), "12:04:31");
    }
}
