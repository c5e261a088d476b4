//! When the configuration is read again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the configuration is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// Whether that is when one of its files changes: those it was started with, those they include, and those whose contents
    /// are values. SIGHUP and `POST /reload` read it in any case. Default: `true`.
    pub watch: bool,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true }
    }
}
