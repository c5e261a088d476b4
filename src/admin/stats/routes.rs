//! The families of the `metrics` filter, by direction and route.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, LabelPair, Metric, MetricFamily};

use super::{RouteStats, family};

/// The directions with the part of the families' names that tells them apart.
const SIDES: [(&str, &str); 2] = [("inbound", "server"), ("outbound", "client")];

type Routes = BTreeMap<(&'static str, String), RouteStats>;

/// The buckets' bounds, and the routes in order of direction and name.
pub(super) fn read(families: &[MetricFamily]) -> (Vec<f64>, Vec<RouteStats>) {
    let mut bounds = Vec::new();
    let mut routes = Routes::new();
    for (direction, side) in SIDES {
        let each = |what: &str| metrics(families, &format!("http_{side}_{what}"));
        // There from the start, where the others come with the first exchange.
        for metric in each("active_requests") {
            route(&mut routes, direction, metric).active += metric.get_gauge().get_value();
        }
        for metric in each("request_duration_seconds") {
            if bounds.is_empty() {
                let buckets = metric.get_histogram().get_bucket().iter();
                bounds = buckets.map(Bucket::upper_bound).collect();
            }
            durations(route(&mut routes, direction, metric), metric);
        }
        for metric in each("request_body_bytes_total") {
            route(&mut routes, direction, metric).request_bytes += metric.get_counter().get_value() as u64;
        }
        for metric in each("response_body_bytes_total") {
            route(&mut routes, direction, metric).response_bytes += metric.get_counter().get_value() as u64;
        }
    }
    for metric in metrics(families, "pillion_failures_total") {
        let found = SIDES
            .iter()
            .find(|(direction, _)| label(metric, "direction") == *direction);
        if let Some((direction, _)) = found {
            let failures = &mut route(&mut routes, direction, metric).failures;
            *failures.entry(label(metric, "reason").to_owned()).or_default() += metric.get_counter().get_value() as u64;
        }
    }
    let mut routes: Vec<RouteStats> = routes.into_values().collect();
    for route in &mut routes {
        // One that has served nothing has as many buckets as the others.
        route.buckets.resize(bounds.len() + 1, 0);
    }
    (bounds, routes)
}

fn durations(route: &mut RouteStats, metric: &Metric) {
    let histogram = metric.get_histogram();
    let count = histogram.get_sample_count();
    let class = match label(metric, "status_code") {
        "" => "none".to_owned(),
        code => match code.as_bytes() {
            [class @ b'1'..=b'5', _, _] => format!("{}xx", char::from(*class)),
            _ => "other".to_owned(),
        },
    };
    route.requests += count;
    route.seconds += histogram.get_sample_sum();
    if class == "5xx" {
        route.server_errors += count;
    }
    *route.status.entry(class).or_default() += count;
    let counts = histogram.get_bucket().iter().map(Bucket::cumulative_count);
    for (index, count) in counts.chain([count]).enumerate() {
        match route.buckets.get_mut(index) {
            Some(sum) => *sum += count,
            None => route.buckets.push(count),
        }
    }
}

fn metrics<'f>(families: &'f [MetricFamily], name: &str) -> &'f [Metric] {
    family(families, name).map(MetricFamily::get_metric).unwrap_or_default()
}

fn label<'m>(metric: &'m Metric, name: &str) -> &'m str {
    let found = metric.get_label().iter().find(|label| label.name() == name);
    found.map(LabelPair::value).unwrap_or_default()
}

fn route<'r>(routes: &'r mut Routes, direction: &'static str, metric: &Metric) -> &'r mut RouteStats {
    let name = label(metric, "route");
    routes
        .entry((direction, name.to_owned()))
        .or_insert_with(|| RouteStats {
            direction: direction.to_owned(),
            route: name.to_owned(),
            ..RouteStats::default()
        })
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

    use super::*;

    #[test]
    fn methods_and_statuses_are_summed() {
        let registry = Registry::new();
        let options = HistogramOpts::new("http_server_request_duration_seconds", "d").buckets(vec![0.1, 1.0]);
        let durations = HistogramVec::new(options, &["service", "route", "method", "status_code"]).unwrap();
        registry.register(Box::new(durations.clone())).unwrap();
        for (method, status, seconds) in [
            ("GET", "200", 0.05),
            ("POST", "201", 0.5),
            ("GET", "503", 2.0),
            ("GET", "", 0.05),
            ("GET", "_OTHER", 0.05),
        ] {
            durations
                .with_label_values(&["s", "/a", method, status])
                .observe(seconds);
        }
        let active = IntGaugeVec::new(Opts::new("http_client_active_requests", "a"), &["service", "route"]).unwrap();
        registry.register(Box::new(active.clone())).unwrap();
        active.with_label_values(&["s", "/a"]).set(3);
        let labels = &["service", "direction", "route", "reason"];
        let failures = IntCounterVec::new(Opts::new("pillion_failures_total", "f"), labels).unwrap();
        registry.register(Box::new(failures.clone())).unwrap();
        failures
            .with_label_values(&["s", "inbound", "/a", "connect_failed"])
            .inc_by(2);

        let (bounds, routes) = read(&registry.gather());
        assert_eq!(bounds, [0.1, 1.0]);
        let [inbound, outbound] = &routes[..] else {
            panic!("{routes:?}")
        };
        assert_eq!(
            (&*inbound.direction, &*inbound.route, inbound.requests),
            ("inbound", "/a", 5)
        );
        assert_eq!(inbound.buckets, [3, 4, 5]);
        assert_eq!(inbound.server_errors, 1);
        assert!((inbound.seconds - 2.65).abs() < 1e-9);
        let status: Vec<_> = inbound.status.iter().map(|(class, count)| (&**class, *count)).collect();
        assert_eq!(status, [("2xx", 2), ("5xx", 1), ("none", 1), ("other", 1)]);
        assert_eq!(inbound.failures["connect_failed"], 2);
        assert_eq!((&*outbound.direction, outbound.requests), ("outbound", 0));
        assert_eq!(outbound.buckets, [0, 0, 0]);
        assert!((outbound.active - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn without_the_filter_there_is_nothing() {
        assert_eq!(read(&[]), (Vec::new(), Vec::new()));
    }
}
