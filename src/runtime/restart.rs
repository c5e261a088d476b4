//! What a reload cannot change: it is settled when the sidecar starts.

use crate::config::{Admin, Config, ConfigError, ConfigErrors, Loaded};

/// Refuses a configuration that leaves an open listener with nothing to do.
///
/// A reload does not close listeners, so one whose side is gone would take connections only to drop them.
pub(super) fn refuse_what_strands_a_listener(started: &Config, new: &Loaded) -> Result<(), ConfigErrors> {
    let stranded = sides(started, &new.config)
        .into_iter()
        .filter(|(_, was, is)| *was && !*is);
    let errors: Vec<ConfigError> = stranded
        .map(|(key, ..)| {
            let message = format!("`{key}` is gone, but its listener is open");
            ConfigError::new(new.tree.pos.clone(), message)
                .with_help("put it back, or restart the sidecar")
                .with_path(key)
        })
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ConfigErrors::new(errors, new.sources.clone()))
    }
}

/// Names the changes a reload does not make, against what the sidecar was started with.
pub(super) fn warn_of_what_needs_a_restart(started: &Config, new: &Config) {
    for (key, ..) in sides(started, new).into_iter().filter(|(_, was, is)| !*was && *is) {
        tracing::warn!(key, "added, but listened on only after the next start");
    }
    for key in changed(started, new) {
        tracing::warn!(key, "changed, but takes effect only at the next start");
    }
}

/// Each side, whether it was there at the start, and whether it is now.
fn sides(started: &Config, new: &Config) -> [(&'static str, bool, bool); 2] {
    [
        ("inbound", started.inbound.is_some(), new.inbound.is_some()),
        ("outbound", started.outbound.is_some(), new.outbound.is_some()),
    ]
}

/// The keys that say something else now and are not looked at again.
pub(super) fn changed(started: &Config, new: &Config) -> Vec<&'static str> {
    let inbound = started.inbound.as_ref().zip(new.inbound.as_ref());
    let outbound = started.outbound.as_ref().zip(new.outbound.as_ref());
    let keys = [
        ("inbound.listen", inbound.is_some_and(|(a, b)| a.listen != b.listen)),
        ("outbound.listen", outbound.is_some_and(|(a, b)| a.listen != b.listen)),
        ("workers", started.workers != new.workers),
        ("admin", listening(&started.admin) != listening(&new.admin)),
        ("telemetry", started.telemetry != new.telemetry),
        ("log", started.log != new.log),
        ("service", started.service != new.service),
    ];
    let changed = keys.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key).collect()
}

/// What of the admin API is fixed at the start; its peers are looked at whenever they are asked.
fn listening(admin: &Admin) -> Admin {
    Admin {
        peers: Vec::new(),
        ..admin.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_str;

    const INBOUND: &str = "inbound: { listen: '127.0.0.1:0', app: 'http://127.0.0.1:1' }\n";
    const OUTBOUND: &str = "outbound: { listen: '127.0.0.1:0' }\n";

    fn loaded(rest: &[&str]) -> Loaded {
        let text = format!("service: a\nchain: []\n{}", rest.concat());
        load_str("a.yaml", &text, &[]).unwrap()
    }

    #[test]
    fn a_listener_is_not_left_with_nothing_to_do() {
        let both = loaded(&[INBOUND, OUTBOUND]).config;
        for (left, gone) in [(INBOUND, "outbound"), (OUTBOUND, "inbound")] {
            let error = refuse_what_strands_a_listener(&both, &loaded(&[left])).unwrap_err();
            let [error] = error.errors() else { panic!("{error}") };
            assert_eq!(error.path, gone);
            assert!(error.message.contains(gone), "{error}");
        }
        let one = loaded(&[INBOUND]).config;
        assert!(refuse_what_strands_a_listener(&one, &loaded(&[INBOUND, OUTBOUND])).is_ok());
    }

    #[test]
    fn only_what_differs_is_named() {
        let before = loaded(&[INBOUND]).config;
        assert!(changed(&before, &loaded(&[INBOUND]).config).is_empty());
        assert!(changed(&before, &loaded(&[INBOUND, OUTBOUND]).config).is_empty());
        let other = loaded(&[&INBOUND.replace(":0'", ":2'"), "workers: 3\n"]).config;
        assert_eq!(changed(&before, &other), ["inbound.listen", "workers"]);
        let peers = "admin: { peers: [{ name: b, url: 'http://127.0.0.1:2' }] }\n";
        assert!(changed(&before, &loaded(&[INBOUND, peers]).config).is_empty());
    }
}
