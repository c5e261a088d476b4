//! Writes one line for each exchange, once it is over.
//!
//! - What failed is always written: a status of 500 or more, a gRPC status that is the server's fault, an exchange the
//!   client or the sidecar broke off. Of the rest, `sample` says how many.
//! - A field without a value in an exchange is left out of its line.
//! - A line is one line, whatever bytes a client sends: control characters are escaped and bytes that are no UTF-8
//!   become U+FFFD. A client's texts are cut after 2048 bytes, so that log drivers do not split the line.
//! - Queries and bodies may hold secrets: no body is ever written, and a query only where `fields` asks for `query`.
//! - Writing never blocks: a line that finds no room is dropped and counted.
//!
//! Request fields are shown as the filters left them; `time` is when the request head was complete.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BuildError, Context, End, Exchange, Filter, LineSink, Outcome, Phases, Plugin};

mod encode;
mod fields;
mod timestamp;
pub use fields::Field;

/// Writes one line for each exchange, once it is over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How lines are written.
    pub format: Format,
    /// What a line tells, in this order.
    pub fields: Vec<Field>,
    /// The share of exchanges that went well to write, from 0 to 1. Those that failed are always written.
    #[schemars(range(min = 0, max = 1))]
    pub sample: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Json,
            fields: Field::DEFAULT.to_vec(),
            sample: 1.0,
        }
    }
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object.
    Json,
    /// `key=value` pairs, quoted where needed.
    Logfmt,
}

/// The `access_log` plugin.
pub struct AccessLog;

impl Plugin for AccessLog {
    const NAME: &'static str = "access_log";
    type Config = Config;

    fn build(config: Config, context: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let mut problems = Vec::new();
        if !(0.0..=1.0).contains(&config.sample) {
            problems.push(format!("`sample: {}` is not between 0 and 1", config.sample));
        }
        if config.fields.is_empty() {
            problems.push("`fields` is empty; to write no lines, disable the filter".to_owned());
        }
        for (place, field) in config.fields.iter().enumerate() {
            if config.fields[..place].contains(field) {
                problems.push(format!("`fields` names `{}` twice", field.name()));
            }
        }
        if !problems.is_empty() {
            return Err(BuildError::Meaning(problems.join("; ")));
        }
        let columns: Box<[Column]> = config
            .fields
            .iter()
            .map(|field| Column::compile(*field, config.format, context))
            .collect();
        Ok(Arc::new(Log {
            format: config.format,
            // The values that vary come to about so much; a line that is longer grows once.
            room: columns.iter().map(|column| column.fixed.len()).sum::<usize>() + 384,
            columns,
            sample: config.sample,
            lines: context.telemetry.lines.clone(),
        }))
    }
}

/// One field, ready to be written: of what does not vary, nothing is encoded per exchange.
struct Column {
    /// The key; where the route settles it, the value and its separator too.
    fixed: Box<[u8]>,
    /// What follows, unless the route settled it.
    field: Option<Field>,
}

impl Column {
    fn compile(field: Field, format: Format, context: &Context<'_>) -> Self {
        let mut fixed = Vec::new();
        format.key(&mut fixed, &field.name());
        if let Some(value) = field.of_route(context.route) {
            format.text(&mut fixed, value.as_bytes());
            fixed.push(format.separator());
            return Self {
                fixed: fixed.into(),
                field: None,
            };
        }
        Self {
            fixed: fixed.into(),
            field: Some(field),
        }
    }
}

struct Log {
    format: Format,
    columns: Box<[Column]>,
    room: usize,
    sample: f64,
    lines: Arc<dyn LineSink>,
}

impl Filter for Log {
    fn phases(&self) -> Phases {
        Phases::COMPLETE
    }

    fn complete(&self, exchange: &mut Exchange, outcome: &Outcome) {
        if went_well(outcome) && self.sample < 1.0 && fastrand::f64() >= self.sample {
            return;
        }
        self.lines.line(self.line(exchange, outcome));
    }
}

impl Log {
    fn line(&self, exchange: &Exchange, outcome: &Outcome) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.room);
        self.format.open(&mut line);
        for column in &self.columns {
            let before = line.len();
            line.extend_from_slice(&column.fixed);
            let Some(field) = column.field else { continue };
            if field.write(self.format, &mut line, exchange, outcome).is_some() {
                line.push(self.format.separator());
            } else {
                line.truncate(before);
            }
        }
        self.format.close(&mut line);
        line
    }
}

fn went_well(outcome: &Outcome) -> bool {
    outcome.end == End::Complete && !outcome.is_server_error()
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::{Failure, Telemetry, testing};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);
    impl LineSink for Lines {
        fn line(&self, line: Vec<u8>) {
            let line = String::from_utf8(line).unwrap();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }

    fn build(config: &str, lines: &Lines) -> Result<Arc<dyn Filter>, BuildError> {
        let telemetry = Telemetry {
            lines: Arc::new(lines.clone()),
            ..Telemetry::default()
        };
        let config = serde_json::from_str(config).unwrap();
        testing::with_context("access_log", &telemetry, |context| AccessLog::build(config, context))
    }

    fn lines(config: &str, exchange: &mut Exchange, outcome: &Outcome) -> Vec<String> {
        let lines = Lines::default();
        build(config, &lines).unwrap().complete(exchange, outcome);
        std::mem::take(&mut *lines.0.lock().unwrap())
    }

    fn ended(status: u16, end: End, grpc_status: Option<u16>) -> Outcome {
        Outcome {
            end,
            grpc_status,
            ..testing::outcome(status)
        }
    }

    #[test]
    fn a_line_tells_the_fields_in_order() {
        let mut exchange = testing::exchange("GET", "/a?secret=1");
        let fields = r#""fields": ["method", "service", "referer", "path", "status", "duration_ms", "route"]"#;
        for (format, line) in [
            (
                "json",
                r#"{"method":"GET","service":"test","path":"/a","status":200,"duration_ms":5.000,"route":"/test"}"#,
            ),
            (
                "logfmt",
                "method=GET service=test path=/a status=200 duration_ms=5.000 route=/test",
            ),
        ] {
            let config = format!(r#"{{"format": "{format}", {fields}}}"#);
            let written = lines(&config, &mut exchange, &testing::outcome(200));
            assert_eq!(written, [format!("{line}\n")]);
        }
    }

    #[test]
    fn a_line_without_any_value_is_still_a_line() {
        let mut exchange = testing::exchange("GET", "/");
        for (format, line) in [("json", "{}\n"), ("logfmt", "\n")] {
            let config = format!(r#"{{"format": "{format}", "fields": ["referer"]}}"#);
            assert_eq!(lines(&config, &mut exchange, &testing::outcome(200)), [line]);
        }
    }

    #[test]
    fn the_default_line_is_valid_json_without_the_query() {
        let mut exchange = testing::exchange("GET", "/a?secret=1");
        let written = lines("{}", &mut exchange, &testing::outcome(200));
        let line: serde_json::Value = serde_json::from_str(&written[0]).unwrap();
        assert_eq!(line["path"], "/a");
        assert_eq!(line["client"], "192.0.2.7");
        assert_eq!(line["end"], "complete");
        assert!(!written[0].contains("secret"));
    }

    #[test]
    fn what_failed_is_written_whatever_the_sample() {
        let mut exchange = testing::exchange("GET", "/");
        for (outcome, count) in [
            (ended(200, End::Complete, None), 0),
            (ended(404, End::Complete, None), 0),
            (ended(200, End::Complete, Some(5)), 0),
            (ended(500, End::Complete, None), 1),
            (ended(200, End::Complete, Some(14)), 1),
            (ended(200, End::ClientAborted, None), 1),
            (ended(200, End::Failed(Failure::ResponseIncomplete), None), 1),
        ] {
            let written = lines(r#"{"sample": 0}"#, &mut exchange, &outcome);
            assert_eq!(written.len(), count, "{outcome:?}");
        }
        assert_eq!(
            lines(r#"{"sample": 1}"#, &mut exchange, &testing::outcome(200)).len(),
            1
        );
    }

    #[test]
    fn a_sample_writes_about_that_share() {
        fastrand::seed(7);
        let sink = Lines::default();
        let log = build(r#"{"sample": 0.25}"#, &sink).unwrap();
        for _ in 0..1000 {
            log.complete(&mut testing::exchange("GET", "/"), &testing::outcome(200));
        }
        let written = sink.0.lock().unwrap().len();
        assert!((200..300).contains(&written), "{written}");
    }

    #[test]
    fn mistakes_are_told_at_once() {
        let error = build(r#"{"sample": 2, "fields": ["path", "path"]}"#, &Lines::default()).err();
        assert_eq!(
            error.unwrap().to_string(),
            "`sample: 2` is not between 0 and 1; `fields` names `path` twice"
        );
        assert!(build(r#"{"fields": []}"#, &Lines::default()).is_err());
    }

    #[test]
    fn an_unknown_field_is_refused_with_those_there_are() {
        let error = serde_json::from_str::<Config>(r#"{"fields": ["latency"]}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown variant `latency`"), "{error}");
        assert!(error.contains("`duration_ms`"), "{error}");
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let error = serde_json::from_str::<Config>(r#"{"sampling": 1}"#).unwrap_err();
        assert!(error.to_string().contains("sampling"), "{error}");
    }
}
