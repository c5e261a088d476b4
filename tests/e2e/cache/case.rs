//! The words of the table, once they are read.

use std::time::{Duration, SystemTime};

/// What happens at one path, step by step.
pub(super) struct Case {
    /// File and line.
    pub(super) place: String,
    pub(super) section: String,
    /// The route it takes, which is the beginning of its path.
    pub(super) route: String,
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

impl Case {
    /// What the app answers, by number.
    pub(super) fn reply(&self, number: usize) -> Option<&Reply> {
        let mut replies = self.steps.iter().flat_map(|step| &step.replies);
        replies.find(|reply| reply.number == number)
    }
}

/// One request, or the same several times at once, and what comes of it.
pub(super) struct Step {
    pub(super) line: usize,
    /// What passes before it.
    pub(super) pause: Duration,
    pub(super) request: Request,
    pub(super) replies: Vec<Reply>,
    /// What holds for the requests that the app gets.
    pub(super) asked: Vec<Check>,
    pub(super) expected: Expected,
}

pub(super) type Field = (String, String);

pub(super) struct Request {
    pub(super) times: usize,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: Vec<Field>,
    pub(super) body: Option<String>,
}

/// What the app answers.
#[derive(Clone)]
pub(super) struct Reply {
    /// Its place among those of the case, from 1.
    pub(super) number: usize,
    pub(super) need: Need,
    pub(super) times: usize,
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) delay: Duration,
    pub(super) fields: Vec<Field>,
    pub(super) body: Option<String>,
}

/// Whether the app has to be asked for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Must,
    May,
    /// It is, but no client waits for it.
    Behind,
}

/// How the app tells where a body ends, and whether it keeps its word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    /// By the end of the connection.
    Close,
    /// The connection ends ten bytes before the length that was promised.
    Short,
    /// Two bytes come after the length that was promised.
    Long,
    /// The connection ends before the last chunk.
    Cut,
    /// The connection is reset after the first chunk.
    Reset,
    /// The connection ends without a word.
    Dies,
}

impl Reply {
    pub(super) fn content(&self) -> String {
        match &self.body {
            _ if matches!(self.status, 204 | 304) => String::new(),
            Some(body) => body.clone(),
            None => format!("answer {}", self.number),
        }
    }
}

/// What the client must see.
pub(super) struct Expected {
    pub(super) outcome: Outcome,
    /// Such as `206`, `200/416` or `5xx`; that of the answer it is made from if none is given.
    pub(super) status: Option<String>,
    /// The answer it is made from, if that is not the last one.
    pub(super) of: Option<usize>,
    /// Not at once, but in the end.
    pub(super) eventually: bool,
    pub(super) within: Option<Duration>,
    pub(super) checks: Vec<Check>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A stored answer, and the app was not asked.
    Hit,
    /// What the app answers now.
    Forwarded,
    /// A stored answer, after the app was asked with a condition.
    Revalidated,
    /// A stored answer, whatever the app says.
    Stale,
    /// Something of that status.
    Answered,
    /// A response that ends before its end.
    Broken,
}

/// What holds for a field, or for the `body`, `method` or `target`.
pub(super) struct Check {
    pub(super) name: String,
    /// None if there must be no such field.
    pub(super) value: Option<String>,
}

/// What differs between two runs of a case.
pub(super) struct Place {
    pub(super) path: String,
    pub(super) began: SystemTime,
}

/// Whom requests are for, if they do not say so.
pub(super) const HOST: &str = "case.test";

impl Place {
    /// A text with its blanks filled in: `@-10s` is a date, `{path}` the path of the case, `{x*90}` ninety times an x.
    pub(super) fn fill(&self, text: &str) -> String {
        if let Some(offset) = text.strip_prefix('@') {
            return self.date(offset);
        }
        let mut text = text.replace("{path}", &self.path);
        while let Some((before, rest)) = text.split_once("{x*") {
            let (times, after) = rest.split_once('}').unwrap();
            text = format!("{before}{}{after}", "x".repeat(times.parse().unwrap()));
        }
        text
    }

    fn date(&self, offset: &str) -> String {
        let (sign, offset) = offset.split_at(1);
        let offset = duration(offset).unwrap();
        httpdate::fmt_http_date(match sign {
            "-" => self.began - offset,
            _ => self.began + offset,
        })
    }

    pub(super) fn fill_fields(&self, fields: &[Field]) -> Vec<Field> {
        let filled = fields.iter().map(|(name, value)| (name.clone(), self.fill(value)));
        filled.collect()
    }
}

/// Such as `300ms`, `2s` or `10d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        "d" => Duration::from_secs(number * 86400),
        _ => return None,
    })
}
