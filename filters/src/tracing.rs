//! The `tracing` plugin.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildError, Context, Filter, Phases, Plugin};

/// Configuration of `tracing`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The `tracing` plugin.
pub struct Tracing;

impl Plugin for Tracing {
    const NAME: &'static str = "tracing";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for Tracing {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
}
