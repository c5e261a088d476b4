//! The `metrics` plugin.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildError, Context, Filter, Phases, Plugin};

/// Configuration of `metrics`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The `metrics` plugin.
pub struct MetricsPlugin;

impl Plugin for MetricsPlugin {
    const NAME: &'static str = "metrics";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for MetricsPlugin {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
}
