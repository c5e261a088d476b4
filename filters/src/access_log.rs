//! The `access_log` plugin.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildError, Context, Filter, Phases, Plugin};

/// Configuration of `access_log`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The `access_log` plugin.
pub struct AccessLog;

impl Plugin for AccessLog {
    const NAME: &'static str = "access_log";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for AccessLog {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
}
