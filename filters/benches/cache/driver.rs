//! The filter, and an app behind it whose answers may all be stored.

use std::sync::Arc;

use bytes::Bytes;
use pillion_filters::cache::{CachePlugin, Config};
use pillion_filters::units::ByteSize;
use pillion_filters::{Exchange, Filter, Plugin, Step, Telemetry, Timing, testing};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::memory::OWN;

/// A cache before an app whose answers are all alike.
pub(crate) struct Driver {
    filter: Arc<dyn Filter>,
    telemetry: Telemetry,
    pattern: Exchange,
    head: ResponseHeader,
    body: Bytes,
}

impl Driver {
    /// A store of so many bytes, and answers with that body and these fields beside the usual ones.
    pub(crate) fn new(size: u64, body: usize, fields: &[(&'static str, &str)]) -> Self {
        let telemetry = Telemetry::default();
        let config = Config {
            max_size: ByteSize(size),
            max_body: ByteSize(size / 4),
            ..Config::default()
        };
        let filter = testing::with_context("cache", &telemetry, |context| CachePlugin::build(config, context));
        let length = body.to_string();
        let usual = [
            ("Server", "nginx/1.22.1"),
            ("Date", "Sat, 21 Nov 2026 10:09:49 GMT"),
            ("Content-Type", "application/json"),
            ("Content-Length", &length),
            ("Cache-Control", "max-age=31536000"),
        ];
        let mut head = ResponseHeader::build(200, None).expect("a status");
        for (name, value) in usual.iter().chain(fields) {
            head.append_header(*name, *value).expect("a field");
        }
        Self {
            filter: filter.expect("a configuration that holds"),
            telemetry,
            pattern: testing::exchange("GET", "/"),
            head,
            body: Bytes::from(vec![b'x'; body]),
        }
    }

    /// Asks for one of the app's pages. Whether the store had it; now it has been offered it.
    pub(crate) fn ask(&self, page: u32) -> bool {
        let mut request = RequestHeader::build("GET", format!("/pages/{page:07}").as_bytes(), None).expect("a request");
        for (name, value) in &self.pattern.request.headers {
            request.append_header(name, value).expect("a field");
        }
        request.append_header("Accept-Encoding", "gzip, br").expect("a field");
        let mut exchange = Exchange::new(
            self.pattern.route.clone(),
            self.pattern.connection.clone(),
            Box::new(request),
            Timing::now(),
        );
        exchange.authority.clone_from(&self.pattern.authority);
        match self.filter.request(&mut exchange) {
            Step::Respond(_) => true,
            Step::Continue => {
                let mut head = self.head.clone();
                if head.headers.get("cache-tag").is_some_and(|tag| tag == OWN) {
                    head.insert_header("Cache-Tag", page.to_string()).expect("a field");
                }
                self.filter.response(&mut exchange, &mut head);
                let passed = self
                    .filter
                    .response_body(&mut exchange, &mut Some(self.body.clone()), true);
                passed.expect("a body that passes");
                false
            }
            _ => unreachable!("nobody else asks, and nothing is refused"),
        }
    }

    /// Entries in the store, and what they claim to take up.
    pub(crate) fn claimed(&self) -> (u64, u64) {
        let families = self.telemetry.metrics.registry().gather();
        let gauge = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).expect("a metric");
            family.get_metric()[0].get_gauge().get_value() as u64
        };
        (gauge("pillion_cache_entries"), gauge("pillion_cache_bytes"))
    }
}
