//! Reads the table. What it cannot read fails the test with its place.
//!
//! A case is a block of lines; blanks between the lines and what follows a `#` at their beginning do not matter.
//!
//! ```text
//! [9111 4.2.1] an answer is fresh for so long        section and name
//! > GET ?q=1 | Accept: text/plain                    a step: the request, to the path of the case
//! < 200 | Cache-Control: max-age=60                  what the app answers, with `answer 1` as its body
//! = forwarded                                        the client gets that
//! + 1s                                               time passes
//! > GET ?q=1
//! = hit | Age: 1..5 | !Warning                       the client gets that again; the app is not asked
//! ```
//!
//! - A line that begins with a `|` goes on with the one before it.
//! - `[section @route]`: the case takes another route of the configuration.
//! - `> 8x GET`: eight at once. A target that holds `{path}` is taken as it is.
//! - `<` must be asked for, `<?` may, `<&` must, but behind the client's back. After the status: one of
//!   `chunked`, `close`, `short`, `long`, `cut` and `reset`, and `delay=1s`, `8x`; `dies` instead of a status. `!Date` leaves out what the
//!   app would have said by itself.
//! - `?` what holds for the requests that the app got.
//! - `=` what the client sees: `hit`, `forwarded`, `revalidated`, `stale`, `answered` or `broken`, then perhaps a status, `of 1` (an answer
//!   that is not the last), `eventually`, `within 1s`.
//! - Fields are separated by ` | `; `body` stands among them. For those of `?` and `=` a value may be `*` (any), `~part`,
//!   `!~part`, `1..9`; `!Name` means that there is none. `Cache-Status` is of this cache, with some of its parameters in any order.

use super::case::{Case, Check, Expected, Field, Framing, Need, Outcome, Reply, Request, Step, duration};

pub(super) fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut reader = Reader::default();
    for (number, line) in joined(text) {
        reader
            .line(file, number, &line)
            .unwrap_or_else(|| panic!("{file}:{number}: cannot read {line:?}"));
    }
    assert!(reader.step.is_none(), "{file}: a step without an end");
    reader.cases
}

/// The lines that say something, each with its number.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.starts_with('|') {
            let (_, last) = lines.last_mut().unwrap();
            last.push(' ');
            last.push_str(line);
        } else if !line.is_empty() && !line.starts_with('#') {
            lines.push((number, line.to_owned()));
        }
    }
    lines
}

#[derive(Default)]
struct Reader {
    cases: Vec<Case>,
    pause: std::time::Duration,
    step: Option<(usize, Request)>,
    replies: Vec<Reply>,
    asked: Vec<Check>,
    /// How many answers the case has.
    count: usize,
}

impl Reader {
    fn line(&mut self, file: &str, number: usize, line: &str) -> Option<()> {
        let (kind, rest) = line.split_at(1);
        match kind {
            "[" => self.begin(format!("{file}:{number}"), rest)?,
            "+" => self.pause = duration(rest.trim())?,
            ">" if self.step.is_none() => self.step = Some((number, request(rest)?)),
            "<" => {
                self.count += 1;
                self.replies.push(reply(self.count, rest)?);
            }
            "?" => self
                .asked
                .append(&mut checks(rest.split(" | ")).collect::<Option<_>>()?),
            "=" => self.end(rest)?,
            _ => return None,
        }
        Some(())
    }

    fn begin(&mut self, place: String, line: &str) -> Option<()> {
        let (section, name) = line.split_once(']')?;
        let (section, route) = section.split_once(" @").unwrap_or((section, "case"));
        self.count = 0;
        self.cases.push(Case {
            place,
            section: section.to_owned(),
            route: route.to_owned(),
            name: name.trim().to_owned(),
            steps: Vec::new(),
        });
        self.step.is_none().then_some(())
    }

    fn end(&mut self, line: &str) -> Option<()> {
        let (line_number, request) = self.step.take()?;
        let step = Step {
            line: line_number,
            pause: std::mem::take(&mut self.pause),
            request,
            replies: std::mem::take(&mut self.replies),
            asked: std::mem::take(&mut self.asked),
            expected: expected(line)?,
        };
        let asks = step.replies.iter().any(|reply| reply.need == Need::Must);
        let fits = match step.expected.outcome {
            Outcome::Hit => !asks,
            Outcome::Forwarded | Outcome::Revalidated | Outcome::Broken => asks,
            Outcome::Stale => true,
            Outcome::Answered => step.expected.status.is_some(),
        };
        self.cases.last_mut()?.steps.push(step);
        fits.then_some(())
    }
}

/// The words before the first bar, and what is between the others.
fn split(line: &str) -> (impl Iterator<Item = &str>, impl Iterator<Item = &str>) {
    let mut parts = line.split(" | ");
    (parts.next().unwrap_or_default().split_whitespace(), parts)
}

fn request(line: &str) -> Option<Request> {
    let (words, parts) = split(line);
    let mut words = words.peekable();
    let times = words.next_if(|word| times(word).is_some());
    let (fields, body) = fields(parts)?;
    Some(Request {
        times: times.map_or(Some(1), self::times)?,
        method: words.next()?.to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        fields,
        body,
    })
}

fn reply(number: usize, line: &str) -> Option<Reply> {
    let (need, line) = match line.split_at_checked(1)? {
        ("?", line) => (Need::May, line),
        ("&", line) => (Need::Behind, line),
        _ => (Need::Must, line),
    };
    let (words, parts) = split(line);
    let (fields, body) = fields(parts)?;
    let mut reply = Reply {
        number,
        need,
        times: 1,
        status: 0,
        framing: Framing::Length,
        delay: std::time::Duration::ZERO,
        fields,
        body,
    };
    for word in words {
        if let Some(framing) = framing(word) {
            reply.framing = framing;
        } else if let Some(delay) = word.strip_prefix("delay=") {
            reply.delay = duration(delay)?;
        } else if let Some(times) = times(word) {
            reply.times = times;
        } else {
            reply.status = word.parse().ok()?;
        }
    }
    (reply.status > 0 || reply.framing == Framing::Dies).then_some(reply)
}

fn framing(word: &str) -> Option<Framing> {
    Some(match word {
        "chunked" => Framing::Chunked,
        "close" => Framing::Close,
        "short" => Framing::Short,
        "long" => Framing::Long,
        "cut" => Framing::Cut,
        "reset" => Framing::Reset,
        "dies" => Framing::Dies,
        _ => return None,
    })
}

fn expected(line: &str) -> Option<Expected> {
    let (mut words, parts) = split(line);
    let mut expected = Expected {
        outcome: outcome(words.next()?)?,
        status: None,
        of: None,
        eventually: false,
        within: None,
        checks: checks(parts).collect::<Option<_>>()?,
    };
    while let Some(word) = words.next() {
        match word {
            "of" => expected.of = Some(words.next()?.parse().ok()?),
            "within" => expected.within = Some(duration(words.next()?)?),
            "eventually" => expected.eventually = true,
            status => expected.status = Some(status.to_owned()),
        }
    }
    Some(expected)
}

fn outcome(word: &str) -> Option<Outcome> {
    Some(match word {
        "hit" => Outcome::Hit,
        "forwarded" => Outcome::Forwarded,
        "revalidated" => Outcome::Revalidated,
        "stale" => Outcome::Stale,
        "answered" => Outcome::Answered,
        "broken" => Outcome::Broken,
        _ => return None,
    })
}

fn times(word: &str) -> Option<usize> {
    word.strip_suffix('x')?.parse().ok()
}

fn fields<'l>(parts: impl Iterator<Item = &'l str>) -> Option<(Vec<Field>, Option<String>)> {
    let mut fields = Vec::new();
    let mut body = None;
    for check in checks(parts) {
        match check? {
            Check { name, value } if name == "body" => body = value,
            // A field without a value is one that is left out.
            Check { name, value } => fields.push((name, value.unwrap_or_else(|| "!".to_owned()))),
        }
    }
    Some((fields, body))
}

fn checks<'l>(parts: impl Iterator<Item = &'l str>) -> impl Iterator<Item = Option<Check>> {
    parts.map(|part| {
        let part = part.trim();
        let (name, value) = match part.strip_prefix('!') {
            Some(name) => (name, None),
            None => part.split_once(':').map(|(name, value)| (name, Some(value.trim())))?,
        };
        Some(Check {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        })
    })
}
