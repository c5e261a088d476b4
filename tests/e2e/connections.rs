//! Who is connected, as the admin API tells it.

use crate::support::{App, GET, H2App, H2Client, OK, Peer, Process, Setup, Sidecar, collect, wait};

#[test]
fn listeners_clients_and_pools_are_told() {
    let app = App::listen();
    let limits = "{ header_timeout: 1m, max_connections: 50, max_connections_per_client: 10 }";
    let yaml = Sidecar::setup(&app).connections(limits).yaml();
    let mut sidecar = Process::run(&yaml.replace("workers: 1", "workers: 2"));
    let inbound = sidecar.inbound();
    let mut clients = [Peer::connect(inbound), Peer::connect(inbound)];
    let mut other = Peer::connect_from([127, 0, 0, 7], inbound);
    let mut origins = Vec::new();
    for client in clients.iter_mut().chain([&mut other]) {
        client.send(GET);
        let mut origin = app.accept();
        origin.read_head();
        origins.push(origin);
    }
    for origin in &mut origins {
        origin.send(OK);
    }
    for client in clients.iter_mut().chain([&mut other]) {
        client.read_answer();
    }
    let told = sidecar.ask("GET /connections").json();
    let listener = |direction: &str, bound: std::net::SocketAddr| {
        serde_json::json!({
            "direction": direction, "address": "127.0.0.1:0", "bound": bound.to_string(), "state": "open",
        })
    };
    let listeners = [
        listener("inbound", inbound),
        listener("outbound", sidecar.outbound()),
        listener("admin", sidecar.admin()),
    ];
    assert_eq!(told["listeners"], serde_json::json!(listeners));
    let expected = serde_json::json!({
        "open": 3, "max": 50, "more_clients": 0,
        "clients": [{ "address": "127.0.0.1", "open": 2 }, { "address": "127.0.0.7", "open": 1 }],
    });
    assert_eq!(told["inbound"], expected);
    assert_eq!(told["outbound"]["open"], 0);
    let pools = serde_json::json!([{
        "endpoint": app.address().to_string(), "http1_idle": 3, "http2_connections": 0, "http2_streams": 0,
    }]);
    assert_eq!(
        (&told["pools"], &told["pools_complete"]),
        (&pools, &true.into()),
        "{told}"
    );
    sidecar.stop();
}

#[test]
fn shared_connections_are_told_with_their_streams() {
    let app = H2App::listen();
    let mut sidecar = Process::run(&Setup::before(format!("h2c://{}", app.address)).yaml());
    let mut client = H2Client::connect(sidecar.inbound());
    let (first, second) = (client.get("/"), client.get("/"));
    let (mut one, mut two) = (app.next(), app.next());
    let told = sidecar.ask("GET /connections").json();
    assert_eq!(told["inbound"]["clients"], serde_json::Value::Null);
    assert_eq!(told["pools"][0]["endpoint"], app.address.to_string());
    assert_eq!(told["pools"][0]["http2_streams"], 2, "{told}");
    one.ok("ok");
    two.ok("ok");
    wait(collect(first)).unwrap();
    wait(collect(second)).unwrap();
    sidecar.stop();
}
