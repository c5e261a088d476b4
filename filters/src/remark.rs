//! What a plugin has to say of its settings, to the person who wrote them.

use std::cell::RefCell;
use std::fmt;

use http::{HeaderName, Method};

/// Something to say of one setting: a mistake, or a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The setting, as a path of keys within the filter's own: `key.identity`. It need not be written; then it is told at the
    /// nearest that is.
    pub key: &'static str,
    /// What is to be said.
    pub message: String,
    /// What to write instead, if that can be told.
    pub help: Option<String>,
    /// Whether something is not there, rather than there and wrong. A filter that is off may be incomplete.
    pub missing: bool,
}

impl Remark {
    /// A remark without help.
    pub fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self {
            key,
            message: message.into(),
            help: None,
            missing: false,
        }
    }

    /// The same of something that is not there.
    #[must_use]
    pub fn of_missing(mut self) -> Self {
        self.missing = true;
        self
    }

    /// The same with what to write instead.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// Collects what plugins warn of while a filter is built; see [`Context::warn`](crate::Context::warn).
#[derive(Debug, Default)]
pub struct Warnings(RefCell<Vec<Remark>>);

impl Warnings {
    pub(crate) fn add(&self, remark: Remark) {
        self.0.borrow_mut().push(remark);
    }

    /// What was warned of, in that order.
    pub fn into_remarks(self) -> Vec<Remark> {
        self.0.into_inner()
    }
}

/// Which requests a route is for, as far as it can be told from its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// The path: `/users/{id}`, `/static/*`. `None` for any.
    pub path: Option<String>,
    /// The methods; none for any.
    pub methods: Vec<Method>,
    /// Headers that every one of its requests has.
    pub headers: Vec<HeaderName>,
}
