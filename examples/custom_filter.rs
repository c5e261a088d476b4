//! A sidecar with a plugin of one's own: `maintenance` turns requests away while a service is being worked on.
//!
//! - Every request is refused with 503 and `Retry-After`, in the service's error format; the app does not see it.
//! - Requests for the paths in `except`, e.g. health checks, pass.
//!
//! ```text
//! cargo run --example custom_filter -- run --config examples/custom_filter.yaml
//! curl -i http://127.0.0.1:8000/
//! ```

use std::process::ExitCode;
use std::sync::Arc;

use http::StatusCode;
use pillion_filters::units::HumanDuration;
use pillion_filters::{BuildError, Context, Exchange, Filter, Phases, Plugin, Refusal, Registry, Step};
use schemars::JsonSchema;
use serde::Deserialize;

fn main() -> ExitCode {
    pillion::run(Registry::builtin().with::<Maintenance>())
}

/// The settings under `filters.maintenance`. These comments are what `pillion schema` shows in editors.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// When clients shall try again. At least a second.
    retry_after: HumanDuration,
    /// Paths that are served all the same.
    except: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retry_after: HumanDuration::from_secs(60),
            except: Vec::new(),
        }
    }
}

struct Maintenance;

impl Plugin for Maintenance {
    const NAME: &'static str = "maintenance";
    type Config = Config;

    fn build(config: Config, _: &Context<'_>) -> Result<Arc<dyn Filter>, BuildError> {
        let seconds = u32::try_from(config.retry_after.0.as_secs()).unwrap_or(u32::MAX);
        if seconds == 0 {
            return Err(BuildError::Meaning(
                "`retry_after` must be at least a second".to_owned(),
            ));
        }
        let refusal = Refusal::denied(
            StatusCode::SERVICE_UNAVAILABLE,
            "maintenance",
            "the service is being worked on",
        );
        Ok(Arc::new(Closed {
            refusal: refusal.retry_after(seconds),
            except: config.except,
        }))
    }
}

/// The filter: one for each route, built when the configuration is read.
struct Closed {
    refusal: Refusal,
    except: Vec<String>,
}

impl Filter for Closed {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn request(&self, exchange: &mut Exchange) -> Step {
        let path = exchange.request.uri.path();
        if self.except.iter().any(|served| served == path) {
            return Step::Continue;
        }
        // The chain notes the refusal in the ledger, under this plugin's name.
        Step::Refuse(self.refusal)
    }
}
