//! The sidecar from outside: real sockets, scripted apps and clients, bytes as they are on the wire.
//!
//! A test plays both ends itself, one line after the other: the client sends, the app reads, the app answers, the client
//! reads. Nothing sleeps; what does not come in [`support::PATIENCE`] fails the test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy.toml allows these in tests; the helpers stand outside #[test]"
)]

mod aborts;
mod admin;
mod auto;
mod backpressure;
mod cache;
mod chain;
mod circuit_breaker;
mod compression;
mod connections;
mod deadlines;
mod drain;
mod early;
mod errors;
mod explain;
mod forwarding;
mod grpc;
mod h2_abuse;
mod half_close;
mod hostile;
mod http2;
mod idempotency;
mod keep_alive;
mod life;
mod listeners;
mod log_level;
mod otlp_export;
mod outbound;
mod overrides;
mod page;
mod pool;
mod reload;
mod retry;
mod smuggling;
mod support;
mod telemetry;
mod timeouts;
mod trailers;
mod upgrade;
mod upgrade_binary;
mod upstreams;
mod watch;
mod websocket;
