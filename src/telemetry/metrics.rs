//! The sidecar's own metrics, as handles, and their exposition as text.
//!
//! | family | type | labels |
//! | --- | --- | --- |
//! | `pillion_build_info` | gauge, always 1 | `version`, `revision` |
//! | `pillion_config_reloads_total` | counter | `result` |
//! | `pillion_config_last_reload_success_timestamp_seconds` | gauge | |
//! | `pillion_connections_open` | gauge | `direction` |
//! | `pillion_connections_accepted_total` | counter | `direction` |
//! | `pillion_connections_refused_total` | counter | `direction`, `reason` |
//! | `pillion_upstream_connections_opened_total`, `…_reused_total` | counter | |
//! | `pillion_upstream_connect_failures_total` | counter | |
//! | `pillion_upstream_connections_closed_total` | counter | `reason` |
//! | `pillion_upstream_connections_idle` | gauge | |
//! | `pillion_keepalive_race_total` | counter | `outcome` |
//! | `pillion_tunnels_open` | gauge | |
//! | `pillion_tunnel_duration_seconds` | histogram | |
//! | `pillion_tunnel_bytes_total` | counter | `direction` |
//!
//! Those of filters stand with the filters, those of spans and log lines with their queues, those of the process in
//! `process.rs`.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pillion_filters::{Direction, Metrics};
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder};

use super::TelemetryError;
use super::process::ProcessCollector;

/// Tunnels live from a request's length to days.
const TUNNEL_BUCKETS: [f64; 9] = [0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];

/// Client connections of one direction.
pub struct ConnectionMetrics {
    /// Open now.
    pub open: IntGauge,
    /// Accepted so far.
    pub accepted: IntCounter,
    /// Closed at once because too many were open.
    pub too_many: IntCounter,
    /// Closed at once because too many of the same client were open.
    pub too_many_of_client: IntCounter,
    /// Closed because the client sent more HTTP/2 frames than it did with them.
    pub too_many_frames: IntCounter,
    /// Closed because the client reset most of its streams.
    pub too_many_resets: IntCounter,
    /// Closed because what came was no valid HTTP.
    pub malformed: IntCounter,
    /// Closed because the request head did not come in time.
    pub header_timeout: IntCounter,
}

impl ConnectionMetrics {
    /// Counts a connection that is closed for what came in place of a request head.
    pub fn refused(&self, reason: &str) {
        match reason {
            "header_timeout" => self.header_timeout.inc(),
            _ => self.malformed.inc(),
        }
    }
}

/// The sidecar's own metrics.
pub struct ProxyMetrics {
    inbound: ConnectionMetrics,
    outbound: ConnectionMetrics,
    reloads: IntCounter,
    failed_reloads: IntCounter,
    last_reload: IntGauge,
    /// Connections opened to upstreams.
    pub upstream_opened: IntCounter,
    /// Exchanges sent on a connection that was there already.
    pub upstream_reused: IntCounter,
    /// Connections that could not be opened.
    pub upstream_connect_failures: IntCounter,
    /// In the order of [`Closed::ALL`].
    upstream_closed: Vec<IntCounter>,
    /// Connections to upstreams that wait for an exchange.
    pub upstream_idle: IntGauge,
    /// Requests sent again because the upstream was closing the pooled connection they were first sent on.
    pub keepalive_race_retried: IntCounter,
    /// Those that could not be sent again.
    pub keepalive_race_failed: IntCounter,
    tunnels_open: IntGauge,
    tunnel_duration: Histogram,
    tunnel_bytes_sent: IntCounter,
    tunnel_bytes_received: IntCounter,
}

/// Why a connection that waited for an exchange was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The upstream closed it.
    ByPeer,
    /// It was idle for too long.
    Idle,
    /// It had lived for too long.
    Lifetime,
    /// It had served as many exchanges as it may.
    Requests,
    /// Enough were waiting.
    Full,
}

impl Closed {
    const ALL: [Self; 5] = [Self::ByPeer, Self::Idle, Self::Lifetime, Self::Requests, Self::Full];

    fn reason(self) -> &'static str {
        match self {
            Self::ByPeer => "peer",
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Requests => "requests",
            Self::Full => "full",
        }
    }
}

/// A tunnel that is open: counted from here until it is dropped.
pub struct OpenTunnel<'a> {
    metrics: &'a ProxyMetrics,
    opened: Instant,
}

impl OpenTunnel<'_> {
    /// Counts bytes from the client into the tunnel, and out of it to the client.
    pub fn moved(&self, sent: u64, received: u64) {
        self.metrics.tunnel_bytes_sent.inc_by(sent);
        self.metrics.tunnel_bytes_received.inc_by(received);
    }
}

impl Drop for OpenTunnel<'_> {
    fn drop(&mut self) {
        self.metrics.tunnels_open.dec();
        self.metrics
            .tunnel_duration
            .observe(self.opened.elapsed().as_secs_f64());
    }
}

impl ProxyMetrics {
    /// Registers the families, and those of the process.
    pub fn new(metrics: &Metrics) -> Result<Self, TelemetryError> {
        let make = Families(metrics);
        let build = make.gauge("pillion_build_info", "The sidecar's version.", &["version", "revision"])?;
        let revision = option_env!("PILLION_REVISION").unwrap_or_default();
        labelled(&build, &[env!("CARGO_PKG_VERSION"), revision])?.set(1);
        make.register("process", ProcessCollector::new)?;

        let reloads = make.counter("pillion_config_reloads_total", "Reloads, by result.", &["result"])?;
        let last_reload = make.gauge(
            "pillion_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read.",
            &[],
        )?;
        let race = make.counter(
            "pillion_keepalive_race_total",
            "Requests that met an upstream closing an idle connection, by what became of them.",
            &["outcome"],
        )?;
        let closed = make.counter(
            "pillion_upstream_connections_closed_total",
            "Kept connections to upstreams that were closed, by reason.",
            &["reason"],
        )?;
        let idle = make.gauge(
            "pillion_upstream_connections_idle",
            "Connections to upstreams that wait for an exchange.",
            &[],
        )?;
        let bytes = make.counter("pillion_tunnel_bytes_total", "Bytes through tunnels.", &["direction"])?;
        let single = |name: &str, help: &str| labelled(&make.counter(name, help, &[])?, &[]);
        let proxy = Self {
            inbound: make.connections(Direction::Inbound)?,
            outbound: make.connections(Direction::Outbound)?,
            reloads: labelled(&reloads, &["success"])?,
            failed_reloads: labelled(&reloads, &["failure"])?,
            last_reload: labelled(&last_reload, &[])?,
            upstream_opened: single(
                "pillion_upstream_connections_opened_total",
                "Connections opened to upstreams.",
            )?,
            upstream_reused: single(
                "pillion_upstream_connections_reused_total",
                "Exchanges sent to upstreams on a connection that was there already.",
            )?,
            upstream_connect_failures: single(
                "pillion_upstream_connect_failures_total",
                "Connections to upstreams that could not be opened.",
            )?,
            upstream_closed: Closed::ALL
                .iter()
                .map(|why| labelled(&closed, &[why.reason()]))
                .collect::<Result<_, _>>()?,
            upstream_idle: labelled(&idle, &[])?,
            keepalive_race_retried: labelled(&race, &["retried"])?,
            keepalive_race_failed: labelled(&race, &["failed"])?,
            tunnels_open: labelled(
                &make.gauge(
                    "pillion_tunnels_open",
                    "Tunnels and switched connections open now.",
                    &[],
                )?,
                &[],
            )?,
            tunnel_duration: make.register("pillion_tunnel_duration_seconds", |name| {
                let options = HistogramOpts::new(name, "How long tunnels were open.");
                Histogram::with_opts(options.buckets(TUNNEL_BUCKETS.to_vec()))
            })?,
            tunnel_bytes_sent: labelled(&bytes, &["sent"])?,
            tunnel_bytes_received: labelled(&bytes, &["received"])?,
        };
        // The configuration it starts with was read a moment ago.
        proxy.last_reload.set(now());
        Ok(proxy)
    }

    /// Client connections of that direction.
    pub fn connections(&self, direction: Direction) -> &ConnectionMetrics {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// A connection that waited for an exchange, or was to, was closed.
    pub fn upstream_closed(&self, why: Closed) {
        if let Some(counter) = self.upstream_closed.get(why as usize) {
            counter.inc();
        }
    }

    /// A tunnel, or a connection that was switched to another protocol, is open.
    pub fn tunnel(&self) -> OpenTunnel<'_> {
        self.tunnels_open.inc();
        OpenTunnel {
            metrics: self,
            opened: Instant::now(),
        }
    }

    /// The configuration was read again, and taken or not.
    pub fn reloaded(&self, success: bool) {
        if success {
            self.reloads.inc();
            self.last_reload.set(now());
        } else {
            self.failed_reloads.inc();
        }
    }
}

/// All metrics in Prometheus's text format, version 0.0.4.
pub fn render(metrics: &Metrics) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for family in metrics.registry().gather() {
        // One family that cannot be written does not take the others with it.
        if let Err(error) = TextEncoder::new().encode_utf8(std::slice::from_ref(&family), &mut text) {
            tracing::warn!(family = family.name(), %error, "a metric could not be written");
        }
    }
    text
}

/// Registers families by name.
struct Families<'a>(&'a Metrics);

impl Families<'_> {
    fn register<T>(&self, name: &str, make: impl FnOnce(&str) -> prometheus::Result<T>) -> Result<T, TelemetryError>
    where
        T: Collector + Clone + Send + Sync + 'static,
    {
        let family = self.0.family(name, || make(name));
        family.ok_or_else(|| TelemetryError::Metric(name.to_owned()))
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, TelemetryError> {
        self.register(name, |name| IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, TelemetryError> {
        self.register(name, |name| IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn connections(&self, direction: Direction) -> Result<ConnectionMetrics, TelemetryError> {
        let of = &[direction.as_str()];
        let open = self.gauge(
            "pillion_connections_open",
            "Client connections open now.",
            &["direction"],
        )?;
        let accepted = self.counter(
            "pillion_connections_accepted_total",
            "Client connections accepted.",
            &["direction"],
        )?;
        let refused = self.counter(
            "pillion_connections_refused_total",
            "Client connections closed because there were too many, or for what came in place of a request, by reason.",
            &["direction", "reason"],
        )?;
        Ok(ConnectionMetrics {
            open: labelled(&open, of)?,
            accepted: labelled(&accepted, of)?,
            too_many: labelled(&refused, &[direction.as_str(), "too_many"])?,
            too_many_of_client: labelled(&refused, &[direction.as_str(), "too_many_of_client"])?,
            too_many_frames: labelled(&refused, &[direction.as_str(), "too_many_frames"])?,
            too_many_resets: labelled(&refused, &[direction.as_str(), "too_many_resets"])?,
            header_timeout: labelled(&refused, &[direction.as_str(), "header_timeout"])?,
            malformed: labelled(&refused, &[direction.as_str(), "malformed"])?,
        })
    }
}

/// The metric with these label values.
fn labelled<T: prometheus::core::MetricVecBuilder>(
    family: &prometheus::core::MetricVec<T>,
    values: &[&str],
) -> Result<T::M, TelemetryError> {
    let metric = family.get_metric_with_label_values(values);
    metric.map_err(|error| TelemetryError::Metric(error.to_string()))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    #[test]
    fn every_family_is_there_from_the_start() {
        let metrics = Metrics::default();
        let proxy = ProxyMetrics::new(&metrics).unwrap();
        let text = render(&metrics);
        for line in [
            "pillion_connections_open{direction=\"inbound\"} 0",
            "pillion_connections_accepted_total{direction=\"outbound\"} 0",
            "pillion_connections_refused_total{direction=\"inbound\",reason=\"too_many\"} 0",
            "pillion_connections_refused_total{direction=\"outbound\",reason=\"malformed\"} 0",
            "pillion_config_reloads_total{result=\"failure\"} 0",
            "pillion_upstream_connections_opened_total 0",
            "pillion_upstream_connections_reused_total 0",
            "pillion_upstream_connect_failures_total 0",
            "pillion_keepalive_race_total{outcome=\"retried\"} 0",
            "pillion_tunnel_bytes_total{direction=\"sent\"} 0",
            "pillion_tunnels_open 0",
            "pillion_tunnel_duration_seconds_count 0",
        ] {
            assert_has(&text, line);
        }
        assert!(text.contains(&format!("version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
        assert!(proxy.last_reload.get() > 1_700_000_000);
    }

    #[test]
    fn handles_and_exposition_are_of_the_same_families() {
        let metrics = Metrics::default();
        let proxy = ProxyMetrics::new(&metrics).unwrap();
        let again = ProxyMetrics::new(&metrics).unwrap();
        proxy.connections(Direction::Outbound).open.inc();
        again.connections(Direction::Outbound).open.inc();
        proxy.reloaded(true);
        proxy.reloaded(false);
        let text = render(&metrics);
        assert_has(&text, "pillion_connections_open{direction=\"outbound\"} 2");
        assert_has(&text, "pillion_config_reloads_total{result=\"success\"} 1");
        assert_has(&text, "pillion_config_reloads_total{result=\"failure\"} 1");
    }

    #[test]
    fn a_name_that_is_taken_is_an_error() {
        let metrics = Metrics::default();
        let name = "pillion_tunnels_open";
        metrics
            .family(name, || IntCounter::new(name, "Something else."))
            .unwrap();
        let error = ProxyMetrics::new(&metrics).err().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
}
