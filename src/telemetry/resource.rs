//! What spans come from: OpenTelemetry's resource.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;

/// The resource of a service: its name, this instance, host and process, the SDK, and the configured attributes, which
/// win. The environment is not asked: it is the app's as much as ours.
pub fn resource(service: &str, configured: &BTreeMap<String, String>) -> Resource {
    let mut attributes = vec![
        KeyValue::new("service.name", service.to_owned()),
        KeyValue::new("service.instance.id", instance_id()),
        KeyValue::new("process.pid", i64::from(std::process::id())),
        KeyValue::new("telemetry.distro.name", "pillion"),
        KeyValue::new("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
    ];
    if let Some(host) = host_name() {
        attributes.push(KeyValue::new("host.name", host));
    }
    let configured = configured.iter();
    attributes.extend(configured.map(|(key, value)| KeyValue::new(key.clone(), value.clone())));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(attributes)
        .build()
}

/// A random UUID (RFC 9562, section 5.4), as OpenTelemetry recommends for instances without an id of their own.
fn instance_id() -> String {
    let id = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let text = format!("{id:032x}");
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;

    #[test]
    fn names_the_service_and_keeps_what_was_configured() {
        let configured = BTreeMap::from([
            ("deployment.environment.name".to_owned(), "test".to_owned()),
            ("host.name".to_owned(), "chosen".to_owned()),
        ]);
        let resource = resource("api", &configured);
        let value = |key: &'static str| resource.get(&Key::from_static_str(key)).map(|value| value.to_string());
        assert_eq!(value("service.name").as_deref(), Some("api"));
        assert_eq!(value("deployment.environment.name").as_deref(), Some("test"));
        assert_eq!(value("host.name").as_deref(), Some("chosen"));
        assert_eq!(value("telemetry.sdk.language").as_deref(), Some("rust"));
        assert!(value("process.pid").is_some());
        assert!(value("telemetry.sdk.version").is_some());
    }

    #[test]
    fn instance_ids_are_random_uuids() {
        let id = instance_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4', "{id}");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        assert_ne!(id, instance_id());
    }
}
