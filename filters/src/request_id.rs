//! The `request_id` plugin.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildError, Context, Filter, Phases, Plugin};

/// Configuration of `request_id`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

/// The `request_id` plugin.
pub struct RequestId;

impl Plugin for RequestId {
    const NAME: &'static str = "request_id";
    type Config = Config;
    fn build(_: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        Ok(Arc::new(Self))
    }
}

impl Filter for RequestId {
    fn phases(&self) -> Phases {
        Phases::NONE
    }
}
