//! The floor of the comparison: bytes copied between two sockets, HTTP never looked at, one upstream connection for each client
//! connection. What a user-space proxy on tokio costs before it does anything.
//!
//!     tcp-relay --listen 127.0.0.1:PORT --upstream 127.0.0.1:PORT

use std::{io, net::SocketAddr};

use compare_peers::{Failure, addresses};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let [listen, upstream] = addresses(["listen", "upstream"])?;
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        // A load generator resets its connections when its time is up: an error ends one relay, not the process.
        tokio::spawn(async move { relay(client, upstream).await });
    }
}

async fn relay(mut client: TcpStream, upstream: SocketAddr) -> io::Result<(u64, u64)> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await
}
