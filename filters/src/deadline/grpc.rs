//! `grpc-timeout`, as the gRPC protocol over HTTP/2 has it: at most eight digits and a unit.

use std::time::Duration;

/// Reads one. `None` for what is none.
pub(super) fn read(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes one, in the finest unit that eight digits have room for from milliseconds on; never more than there is.
pub(super) fn write(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    for (unit, number) in [
        ('m', left.as_millis()),
        ('S', u128::from(left.as_secs())),
        ('M', u128::from(left.as_secs() / 60)),
    ] {
        if number <= MOST {
            return format!("{number}{unit}");
        }
    }
    format!("{}H", u128::from(left.as_secs() / 3600).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_protocol() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("1.5S", None),
            ("100000000m", None),
            (" 1S", None),
        ] {
            assert_eq!(read(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_no_more() {
        for left in [
            Duration::ZERO,
            Duration::from_micros(1500),
            Duration::from_millis(99_999_999),
            Duration::from_millis(100_000_001),
            Duration::from_secs(100_000_001),
            Duration::from_secs(100_000_000 * 60),
            Duration::MAX,
        ] {
            let read = read(write(left).as_bytes()).unwrap();
            assert!(read <= left, "{left:?} became {read:?}");
        }
        assert_eq!(write(Duration::from_millis(1500)), "1500m");
    }
}
