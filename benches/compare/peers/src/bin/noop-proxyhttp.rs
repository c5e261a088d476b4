//! The unit of the comparison: Pingora's `ProxyHttp` that only names its one upstream, on one thread of Pingora's own service.
//!
//!     noop-proxyhttp --listen 127.0.0.1:PORT --upstream 127.0.0.1:PORT

use std::net::SocketAddr;

use async_trait::async_trait;
use compare_peers::{Failure, addresses};
use pingora_core::{
    Result,
    server::{Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Noop {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Noop {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> std::result::Result<(), Failure> {
    let [listen, upstream] = addresses(["listen", "upstream"])?;
    let configuration = ServerConf {
        threads: 1,
        // The runner stops its peers with SIGTERM and waits; Pingora's default is to linger for minutes.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, Noop { upstream });
    proxy.add_tcp(&listen.to_string());
    server.add_service(proxy);
    server.run_forever()
}
