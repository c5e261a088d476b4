//! The `headers` plugin.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildError, Context, Filter, Phases, Plugin};

/// Configuration of `headers`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The `headers` plugin.
pub struct Headers;

impl Plugin for Headers {
    const NAME: &'static str = "headers";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for Headers {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
}
