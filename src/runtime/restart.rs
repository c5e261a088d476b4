//! What a reload cannot change: it is settled when the sidecar starts.

use crate::config::Config;

/// Names the changes a reload does not make, against what the sidecar was started with.
pub(super) fn warn_of_what_needs_a_restart(started: &Config, new: &Config) {
    for key in changed(started, new) {
        tracing::warn!(key, "changed, but takes effect only at the next start");
    }
}

/// The keys that say something else now and are not looked at again.
pub(super) fn changed(started: &Config, new: &Config) -> Vec<&'static str> {
    let keys = [
        ("workers", started.workers != new.workers),
        ("telemetry", started.telemetry != new.telemetry),
        ("log.format", started.log.format != new.log.format),
        ("service", started.service != new.service),
    ];
    let changed = keys.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    const INBOUND: &str = "inbound: { listen: '127.0.0.1:0', app: 'http://127.0.0.1:1' }\n";
    const OUTBOUND: &str = "outbound: { listen: '127.0.0.1:0' }\n";

    fn config(rest: &[&str]) -> Config {
        let text = format!("service: a\nchain: []\n{}", rest.concat());
        load_str("a.yaml", &text, &[]).unwrap().config
    }

    #[test]
    fn only_what_differs_is_named() {
        let before = config(&[INBOUND]);
        assert!(changed(&before, &config(&[INBOUND])).is_empty());
        let other = config(&[INBOUND, "workers: 3\n", "log: { level: debug, format: json }\n"]);
        assert_eq!(changed(&before, &other), ["workers", "log.format"]);
    }

    #[test]
    fn what_a_reload_changes_is_not_named() {
        let before = config(&[INBOUND]);
        for others in [
            [&INBOUND.replace(":0'", ":2'"), OUTBOUND],
            [INBOUND, "admin: { listen: '127.0.0.1:9', token: a }\n"],
            [OUTBOUND, "log: { level: debug }\n"],
        ] {
            assert_eq!(changed(&before, &config(&others)), [""; 0]);
        }
    }
}
