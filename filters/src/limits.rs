//! The `limits` plugin.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildError, Context, Filter, Phases, Plugin};

/// Configuration of `limits`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The `limits` plugin.
pub struct Limits;

impl Plugin for Limits {
    const NAME: &'static str = "limits";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for Limits {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
}
