//! Types plain scalars by the core schema of YAML 1.2: `yes`, `on` and `inf` are text.

use super::node::Kind;

/// The value of a plain scalar: section 10.3.2 of YAML 1.2.2.
pub(super) fn typed(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN),
        _ => {}
    }
    integer(text)
        .map(Kind::Int)
        .or_else(|| float(text).map(Kind::Float))
        .unwrap_or_else(|| Kind::Str(text.to_owned()))
}

fn integer(text: &str) -> Option<i128> {
    if let Some(octal) = text.strip_prefix("0o") {
        return unsigned(octal, 8);
    }
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return unsigned(hexadecimal, 16);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    decimal.then(|| text.parse().ok())?
}

/// `from_str_radix` takes a sign, which the schema has no place for here.
fn unsigned(digits: &str, radix: u32) -> Option<i128> {
    let digit = |c: char| c.is_digit(radix);
    digits
        .chars()
        .all(digit)
        .then(|| i128::from_str_radix(digits, radix).ok())?
}

fn float(text: &str) -> Option<f64> {
    let magnitude = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(magnitude, ".inf" | ".Inf" | ".INF") {
        return Some(if text.starts_with('-') {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        });
    }
    // Rust's own parser also takes `inf` and `nan`, which are text here.
    let numeric = magnitude.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && magnitude
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    numeric.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, kind) in [
            ("", Kind::Null),
            ("~", Kind::Null),
            ("True", Kind::Bool(true)),
            ("yes", Kind::Str("yes".into())),
            ("-12", Kind::Int(-12)),
            ("0x1F", Kind::Int(31)),
            ("0o17", Kind::Int(15)),
            ("0x-1", Kind::Str("0x-1".into())),
            ("18446744073709551615", Kind::Int(u64::MAX.into())),
            ("1.5e3", Kind::Float(1500.0)),
            (".5", Kind::Float(0.5)),
            ("-.inf", Kind::Float(f64::NEG_INFINITY)),
            ("inf", Kind::Str("inf".into())),
            (".", Kind::Str(".".into())),
            ("5m", Kind::Str("5m".into())),
            ("1.2.3.4", Kind::Str("1.2.3.4".into())),
        ] {
            assert!(typed(text) == kind, "{text:?}");
        }
        assert!(matches!(typed(".nan"), Kind::Float(value) if value.is_nan()));
    }
}
