//! What an operator wants to be written: a level, or parts of the program with levels of their own.

use std::fmt;
use std::str::FromStr;

use crate::config::{LogLevel, suggest};

/// The levels, as they are written.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// A longer text is no sensible choice.
const LONGEST: usize = 256;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice(String);

impl Choice {
    /// As the log's filter wants it: parts are set apart from the rest, for which the configuration's level holds.
    pub(crate) fn directives(&self, configured: LogLevel) -> String {
        if self.0.contains('=') {
            format!("{},{}", configured.as_str(), self.0)
        } else {
            self.0.clone()
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if LEVELS.contains(&text) {
            return Ok(Self(text.to_owned()));
        }
        if text.len() > LONGEST {
            return Err(format!("the level is longer than {LONGEST} characters"));
        }
        if !text.contains('=') {
            let help = suggest(text, LEVELS);
            return Err(format!(
                "`{text}` is no level: {help} Or set parts of the program apart, such as `pillion::upstream=debug`"
            ));
        }
        for part in text.split(',') {
            let is_name = |name: &str| {
                let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
                !name.is_empty() && name.chars().all(allowed)
            };
            let Some((_, level)) = part.split_once('=').filter(|(name, _)| is_name(name)) else {
                return Err(format!(
                    "`{part}` is no part with its level, such as `pillion::upstream=debug`"
                ));
            };
            if !LEVELS.contains(&level) && level != "off" {
                return Err(format!("`{part}`: `{level}` is no level: {}", suggest(level, LEVELS)));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_taken_as_it_is_and_parts_beside_the_configured_one() {
        let directives = |text: &str| text.parse::<Choice>().unwrap().directives(LogLevel::Warn);
        for level in LEVELS {
            assert_eq!(directives(level), level);
        }
        assert_eq!(directives("pillion::upstream=debug"), "warn,pillion::upstream=debug");
        assert_eq!(directives("h2=trace,cache=off"), "warn,h2=trace,cache=off");
    }

    #[test]
    fn what_is_no_level_is_refused_with_the_right_ones() {
        for (text, said) in [
            ("debgu", "did you mean `debug`?"),
            ("loud", "expected one of `error`, `warn`, `info`, `debug`, `trace`"),
            ("", "expected one of"),
            ("DEBUG", "did you mean `debug`?"),
            ("=debug", "`=debug` is no part"),
            ("a=debug,", "`` is no part"),
            ("a[b]=debug", "is no part"),
            ("h2=loud", "`loud` is no level"),
            ("h2=debugg", "did you mean `debug`?"),
        ] {
            let error = text.parse::<Choice>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!("a=info,".repeat(99).parse::<Choice>().is_err());
    }
}
