//! Numbers in few columns, and names that cannot write anywhere else.

/// What stands for a number that is not known.
pub(super) const NONE: &str = "-";

pub(super) fn rate(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| scaled(value, 1000.0, &["", "k", "M", "G"]))
}

pub(super) fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| NONE.to_owned(), |share| format!("{:.1}%", share * 100.0))
}

pub(super) fn millis(value: Option<f64>) -> String {
    match value {
        None => NONE.to_owned(),
        Some(value) if value < 1.0 => format!("{:.0}us", value * 1000.0),
        Some(value) if value < 1000.0 => format!("{}ms", short(value)),
        Some(value) => format!("{}s", short(value / 1000.0)),
    }
}

/// The two largest units, such as `1d 2h`.
pub(super) fn duration(seconds: f64) -> String {
    let mut left = seconds.max(0.0) as u64;
    let mut said = Vec::new();
    for (size, unit) in [(86400, "d"), (3600, "h"), (60, "m"), (1, "s")] {
        let many = left / size;
        left %= size;
        if many > 0 && said.len() < 2 {
            said.push(format!("{many}{unit}"));
        } else if !said.is_empty() {
            break;
        }
    }
    if said.is_empty() {
        "0s".to_owned()
    } else {
        said.join(" ")
    }
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value.abs() >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{}{}", short(value), units[unit])
}

fn short(value: f64) -> String {
    if value >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A name as it may be written to a terminal: what moves the cursor, rings or turns text around is escaped.
pub(super) fn name(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let turns =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Cut to a width, with a mark where something is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain((width > 0).then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (shown, expected) in [
            (rate(Some(0.0)), "0"),
            (rate(Some(1234.5)), "1.23k"),
            (rate(None), "-"),
            (bytes(1536.0), "1.50KiB"),
            (percent(Some(0.1234)), "12.3%"),
            (millis(Some(0.25)), "250us"),
            (millis(Some(12.34)), "12.3ms"),
            (millis(Some(2500.0)), "2.50s"),
            (duration(0.4), "0s"),
            (duration(93_784.0), "1d 2h"),
            (duration(61.0), "1m 1s"),
            (duration(86_460.0), "1d"),
        ] {
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn a_name_moves_no_cursor() {
        assert_eq!(name("/a\x1b[2J\r\n\u{9b}1m"), "/a\\u{1b}[2J\\r\\n\\u{9b}1m");
        assert_eq!(name("/\u{202e}gpj.exe"), "/\\u{202e}gpj.exe");
        assert_eq!(name("/käse/{id}"), "/käse/{id}");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("abcd", 0), "");
    }
}
