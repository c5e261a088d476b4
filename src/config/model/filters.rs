//! What every filter's settings have in common; the rest is its plugin's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Their names, for whoever misspelt one.
pub(in crate::config) const COMMON_KEYS: [&str; 2] = ["enabled", "plugin"];

/// The keys every filter takes. All others are left to the plugin, which refuses those it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FilterSettings {
    /// Whether the filter takes part. One that does not is not in the compiled chain and costs nothing. Default: `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The kind of filter, where it is not the filter's own name: so one plugin can stand in the chain twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
}
