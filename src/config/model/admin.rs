//! The admin API's settings.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ServiceName;
use super::address::{ListenAddress, host_and_port, write_host_and_port};
use super::secret::Secret;
use super::text::{Text, text_serde};

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
    /// Other sidecars that the page shows beside this one, 64 at most. This sidecar asks them, so a browser needs to reach none of
    /// them. Default: none.
    pub peers: Vec<AdminPeer>,
}

/// Another sidecar's admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminPeer {
    /// What the page calls it, such as the name of its service. Required.
    pub name: ServiceName,
    /// Where its admin API is, such as `http://127.0.0.1:9902`. Required.
    pub url: AdminUrl,
    /// Its token. It travels as it is, so it belongs on a network that is trusted. Default: none.
    #[serde(default)]
    pub token: Option<Secret>,
}

/// Where an admin API is: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminUrl {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl AdminUrl {
    /// Host and port, as a `Host` field has them.
    pub(crate) fn authority(&self) -> String {
        self.to_string().split_off("http://".len())
    }
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write one such as `http://127.0.0.1:9901`";
        if text.starts_with("https://") {
            return Err("asks for TLS, which an admin API does not speak: use `http://`".to_owned());
        }
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| format!("is no admin API's address: {example}"))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err("holds a user name or password: an admin API takes a `token`".to_owned());
        }
        if authority.contains(['/', '?', '#']) {
            return Err("has a path: an address ends after the port".to_owned());
        }
        let (host, port) = host_and_port(authority)?;
        let port = port
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("has no port: {example}"))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("http://")?;
        write_host_and_port(f, &self.host, self.port)
    }
}

impl Text for AdminUrl {
    const EXPECTED: &'static str = "an address such as http://127.0.0.1:9901";
    const PATTERN: &'static str = r"^http://(\[[0-9a-fA-F:.]+\]|[^\s:/@?#\[\]]+):[0-9]{1,5}/?$";
    const EXAMPLES: &'static [&'static str] = &["http://127.0.0.1:9902", "http://orders:9901"];
}
text_serde!(AdminUrl);

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: ListenAddress {
                host: "127.0.0.1".to_owned(),
                port: 9901,
            },
            token: None,
            peers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_api_is_named_by_host_and_port() {
        for (text, authority) in [
            ("http://127.0.0.1:9902", "127.0.0.1:9902"),
            ("http://orders:1/", "orders:1"),
            ("http://[::1]:9901", "[::1]:9901"),
        ] {
            assert_eq!(text.parse::<AdminUrl>().unwrap().authority(), authority);
        }
        for (text, said) in [
            ("https://a:1", "TLS"),
            ("a:1", "no admin API's address"),
            ("http://a", "no port"),
            ("http://a:0", "no port"),
            ("http://me:pass@a:1", "user name"),
            ("http://a:1/stats", "path"),
            ("http://a:1?x", "path"),
            ("http://:1", ""),
            ("http://a b:1", ""),
        ] {
            let error = text.parse::<AdminUrl>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
