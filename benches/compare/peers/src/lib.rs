//! What the three binaries share: their flags.

use std::{error::Error, net::SocketAddr};

/// Any failure: the binaries print it and exit non-zero.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The addresses given on the command line for `names`, in that order, as `--name ADDRESS:PORT`.
///
/// # Errors
/// A flag that is unknown, missing, or has no socket address after it.
pub fn addresses<const N: usize>(names: [&str; N]) -> Result<[SocketAddr; N], Failure> {
    parse(names, std::env::args().skip(1))
}

fn parse<const N: usize>(
    names: [&str; N],
    mut arguments: impl Iterator<Item = String>,
) -> Result<[SocketAddr; N], Failure> {
    let mut found = [None; N];
    while let Some(flag) = arguments.next() {
        let position = flag
            .strip_prefix("--")
            .and_then(|name| names.iter().position(|known| *known == name))
            .ok_or_else(|| format!("unknown flag {flag}; known: --{}", names.join(" --")))?;
        let value = arguments.next().ok_or_else(|| format!("{flag} needs ADDRESS:PORT"))?;
        found[position] = Some(value.parse().map_err(|error| format!("{flag} {value}: {error}"))?);
    }
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (position, name) in names.iter().enumerate() {
        addresses[position] = found[position].ok_or_else(|| format!("--{name} is missing"))?;
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn words(line: &str) -> impl Iterator<Item = String> {
        line.split_whitespace().map(str::to_owned)
    }

    #[test]
    fn flags_come_in_any_order() {
        let [listen, upstream] = parse(
            ["listen", "upstream"],
            words("--upstream 127.0.0.1:2 --listen 127.0.0.1:1"),
        )
        .unwrap_or_else(|error| unreachable!("{error}"));
        assert_eq!((listen.port(), upstream.port()), (1, 2));
    }

    #[test]
    fn a_missing_and_a_misspelt_flag_are_refused() {
        assert!(parse(["listen"], words("")).is_err());
        assert!(parse(["listen"], words("--lisen 127.0.0.1:1")).is_err());
        assert!(parse(["listen"], words("--listen")).is_err());
    }
}
