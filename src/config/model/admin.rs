//! The admin API's settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::ListenAddress;
use super::secret::Secret;

/// The admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Whether there is an admin API at all. Default: `true`.
    pub enabled: bool,
    /// Where it listens. Anything but loopback needs a `token`. Default: `127.0.0.1:9901`.
    pub listen: ListenAddress,
    /// What a client must present as `Authorization: Bearer TOKEN`. Best taken from the environment: `${ADMIN_TOKEN}`.
    /// Default: none, so that anyone on this machine may use the API.
    pub token: Option<Secret>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: ListenAddress {
                host: "127.0.0.1".to_owned(),
                port: 9901,
            },
            token: None,
        }
    }
}
