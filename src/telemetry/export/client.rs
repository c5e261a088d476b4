//! The OTLP client, from settings.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::{
    Protocol as Encoding, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::trace::SpanExporter as _;

use super::{ExportSettings, Protocol};
use crate::telemetry::TelemetryError;

/// The path of traces (OTLP 1.x, OTLP/HTTP).
const TRACES: &str = "/v1/traces";

/// Makes the client. Call it within the runtime it will run in.
pub(super) fn exporter(settings: &ExportSettings) -> Result<SpanExporter, TelemetryError> {
    let refused = |reason: String| TelemetryError::Exporter {
        endpoint: settings.endpoint.clone(),
        reason,
    };
    if !settings.endpoint.starts_with("http://") {
        return Err(refused("only http:// is spoken".to_owned()));
    }
    let headers = headers(settings).map_err(refused)?;
    // More tries than one would hold up the spans behind this batch.
    let retries = RetryPolicy::default().with_max_retries(1);
    let built = match settings.protocol {
        Protocol::Http => SpanExporter::builder()
            .with_http()
            .with_protocol(Encoding::HttpBinary)
            .with_endpoint(traces_url(&settings.endpoint))
            .with_timeout(settings.timeout)
            .with_headers(settings.headers.clone().into_iter().collect())
            .with_retry_policy(retries)
            .build(),
        Protocol::Grpc => SpanExporter::builder()
            .with_tonic()
            .with_endpoint(settings.endpoint.clone())
            .with_timeout(settings.timeout)
            .with_metadata(MetadataMap::from_headers(headers))
            .with_retry_policy(retries)
            .build(),
    };
    let mut exporter = built.map_err(|error| refused(error.to_string()))?;
    exporter.set_resource(&settings.resource);
    Ok(exporter)
}

fn headers(settings: &ExportSettings) -> Result<HeaderMap, String> {
    let pairs = settings.headers.iter().map(|(name, value)| {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .zip(HeaderValue::from_str(value).ok());
        // The value may be a secret: only the name is told.
        parsed.ok_or_else(|| format!("the header {name} is not valid"))
    });
    pairs.collect()
}

/// The URL that traces are posted to.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with(TRACES) {
        base.to_owned()
    } else {
        format!("{base}{TRACES}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use opentelemetry_sdk::Resource;

    use super::*;

    fn settings(endpoint: &str, protocol: Protocol, header: (&str, &str)) -> ExportSettings {
        ExportSettings {
            endpoint: endpoint.to_owned(),
            protocol,
            headers: BTreeMap::from([(header.0.to_owned(), header.1.to_owned())]),
            timeout: Duration::from_secs(1),
            queue_size: 1,
            batch_size: 1,
            interval: Duration::from_secs(1),
            resource: Resource::builder_empty().build(),
        }
    }

    #[test]
    fn traces_have_their_path() {
        for (endpoint, url) in [
            ("http://a:4318", "http://a:4318/v1/traces"),
            ("http://a:4318/", "http://a:4318/v1/traces"),
            ("http://a:4318/otlp", "http://a:4318/otlp/v1/traces"),
            ("http://a:4318/v1/traces", "http://a:4318/v1/traces"),
            ("http://a:4318/v1/traces/", "http://a:4318/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint), url);
        }
    }

    #[tokio::test]
    async fn what_cannot_work_is_refused_without_its_secrets() {
        let good = ("x-key", "value");
        for protocol in [Protocol::Http, Protocol::Grpc] {
            assert!(exporter(&settings("http://127.0.0.1:1", protocol, good)).is_ok());
            for (endpoint, header) in [
                ("https://127.0.0.1:1", good),
                ("127.0.0.1:1", good),
                ("http://not a host", good),
                ("http://127.0.0.1:1", ("x key", "value")),
                ("http://127.0.0.1:1", ("x-key", "secret\n")),
            ] {
                let error = exporter(&settings(endpoint, protocol, header)).unwrap_err().to_string();
                assert!(!error.contains("secret"), "{error}");
            }
        }
    }
}
