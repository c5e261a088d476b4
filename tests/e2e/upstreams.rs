//! Several endpoints: which of them is asked, and which is not asked any more.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{App, H2App, Peer, Setup, Sidecar, eventually, nobody};

/// An endpoint that answers every request with its name.
struct Endpoint {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    served: AtomicUsize,
    checks: AtomicUsize,
    status: AtomicU16,
    sick: AtomicBool,
}

impl Endpoint {
    fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        state.status.store(200, Ordering::SeqCst);
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, state) = (stream.unwrap(), shared.clone());
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while matches!(stream.read(&mut byte), Ok(1)) {
                        head.push(byte[0]);
                        if !head.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        let status = if head.starts_with(b"GET /healthz") {
                            state.checks.fetch_add(1, Ordering::SeqCst);
                            if state.sick.load(Ordering::SeqCst) { 503 } else { 200 }
                        } else {
                            state.served.fetch_add(1, Ordering::SeqCst);
                            state.status.load(Ordering::SeqCst)
                        };
                        head.clear();
                        let name = address.to_string();
                        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, state }
    }

    fn served(&self) -> usize {
        self.state.served.swap(0, Ordering::SeqCst)
    }
}

/// A sidecar whose inbound requests all go to an upstream of that definition.
fn before(upstream: &str) -> Sidecar {
    Setup::before(format!("http://{}", nobody()))
        .filters("retry: { enabled: false }")
        .with(&format!("upstreams: {{ group: {upstream} }}"))
        .with("routes: [{ match: { path: '/*' }, upstream: group }]")
        .start()
}

fn addresses(endpoints: &[Endpoint]) -> String {
    let each = endpoints.iter().map(|one| format!("'http://{}'", one.address));
    each.collect::<Vec<_>>().join(", ")
}

/// Sends requests one after the other; their statuses.
fn ask(sidecar: &Sidecar, times: usize, lines: &str) -> Vec<u16> {
    let mut client = sidecar.connect();
    let mut statuses = Vec::new();
    for _ in 0..times {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        statuses.push(client.read_answer().status);
    }
    statuses
}

#[test]
fn requests_are_dealt_out_by_weight() {
    let endpoints = [Endpoint::start(), Endpoint::start()];
    let sidecar = before(&format!(
        "{{ endpoints: [{{ address: 'http://{}', weight: 3 }}, 'http://{}'], balance: {{ algorithm: round_robin }} }}",
        endpoints[0].address, endpoints[1].address
    ));
    assert!(ask(&sidecar, 40, "").iter().all(|status| *status == 200));
    assert_eq!((endpoints[0].served(), endpoints[1].served()), (30, 10));
}

#[test]
fn the_same_key_meets_the_same_endpoint() {
    let endpoints: Vec<_> = (0..5).map(|_| Endpoint::start()).collect();
    let sidecar = before(&format!(
        "{{ endpoints: [{}], balance: {{ algorithm: consistent_hash, hash: {{ cookie: user }} }} }}",
        addresses(&endpoints)
    ));
    let mut met = Vec::new();
    for user in 0..20 {
        ask(&sidecar, 5, &format!("Cookie: a=b; user={user}\r\n"));
        let served: Vec<_> = endpoints.iter().map(Endpoint::served).collect();
        assert_eq!(served.iter().max(), Some(&5), "{served:?}");
        met.push(served.iter().position(|count| *count == 5).unwrap());
    }
    met.sort_unstable();
    met.dedup();
    assert!(met.len() >= 3, "{met:?}");
}

#[test]
fn one_that_fails_is_taken_out_and_comes_back() {
    let endpoints = [Endpoint::start(), Endpoint::start()];
    let sidecar = before(&format!(
        "{{ endpoints: [{}], balance: {{ algorithm: round_robin }}, outliers: {{ consecutive_failures: 3, ejection: 1s }} }}",
        addresses(&endpoints)
    ));
    endpoints[0].state.status.store(500, Ordering::SeqCst);
    let failed = ask(&sidecar, 50, "").iter().filter(|status| **status == 500).count();
    assert_eq!(failed, 3);
    endpoints[0].state.status.store(200, Ordering::SeqCst);
    endpoints[0].served();
    eventually("its return", || {
        ask(&sidecar, 2, "");
        endpoints[0].served() > 0
    });
}

#[test]
fn one_that_is_not_there_costs_nothing_with_a_retry() {
    let endpoints = [Endpoint::start()];
    let sidecar = Setup::before(format!("http://{}", nobody()))
        .with(&format!(
            "upstreams: {{ group: {{ endpoints: ['http://{}', {}], outliers: {{ enabled: false }} }} }}",
            nobody(),
            addresses(&endpoints)
        ))
        .with("routes: [{ match: { path: '/*' }, upstream: group }]")
        .filters("retry: { backoff: { base: 0s }, budget: { ratio: 1 } }")
        .start();
    // Another try goes to another endpoint, so all of them end well.
    assert!(ask(&sidecar, 100, "").iter().all(|status| *status == 200));
}

#[test]
fn one_that_second_tries_hide_from_clients_is_taken_out() {
    // It takes connections, as the kernel does for a process that is stopped, and nobody reads them.
    let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
    let well = Endpoint::start();
    let sidecar = Setup::before(format!("http://{}", nobody()))
        .filters("retry: { hedge: { enabled: true, after: 5ms }, budget: { min_per_second: 1000 } }")
        .with(&format!(
            "upstreams: {{ group: {{ endpoints: ['http://{}', 'http://{}'], balance: {{ algorithm: round_robin }} }} }}",
            frozen.local_addr().unwrap(),
            well.address
        ))
        .with("routes: [{ match: { path: '/*' }, upstream: group }]")
        .start();
    eventually("its ejection", || {
        assert!(ask(&sidecar, 4, "").iter().all(|status| *status == 200));
        sidecar.metric("pillion_upstream_ejections_total{upstream=\"group\"}") >= 1.0
    });
}

#[test]
fn one_that_is_sick_is_not_asked_until_it_is_well() {
    let endpoints = [Endpoint::start(), Endpoint::start()];
    endpoints[0].state.sick.store(true, Ordering::SeqCst);
    let sidecar = before(&format!(
        "{{ endpoints: [{}], balance: {{ algorithm: round_robin }}, \
         health: {{ check: {{ http: {{ path: /healthz }} }}, interval: 50ms, timeout: 50ms, healthy: 2, unhealthy: 2 }} }}",
        addresses(&endpoints)
    ));
    eventually("the first checks", || {
        endpoints.iter().all(|one| one.state.checks.load(Ordering::SeqCst) > 1)
    });
    ask(&sidecar, 20, "");
    assert_eq!((endpoints[0].served(), endpoints[1].served()), (0, 20));
    endpoints[0].state.sick.store(false, Ordering::SeqCst);
    eventually("its return", || {
        ask(&sidecar, 2, "");
        endpoints[0].served() > 0
    });
    // With all of them sick they are used all the same: the checks may be wrong.
    for endpoint in &endpoints {
        endpoint.state.sick.store(true, Ordering::SeqCst);
        endpoint.state.checks.store(0, Ordering::SeqCst);
    }
    eventually("more checks", || {
        endpoints.iter().all(|one| one.state.checks.load(Ordering::SeqCst) > 3)
    });
    assert!(ask(&sidecar, 20, "").iter().all(|status| *status == 200));
}

#[test]
fn without_an_endpoint_there_is_a_503() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = NameServer::start(silent, &[], 1);
    let sidecar = before(&format!(
        "{{ dns: {{ address: 'http://orders.test:80', server: '{}' }} }}",
        server.address
    ));
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert!(answer.text().contains("no_endpoint"), "{}", answer.text());
}

#[test]
fn a_host_that_the_app_names_may_stand_for_an_upstream() {
    let endpoints = [Endpoint::start(), Endpoint::start()];
    let app = App::listen();
    let sidecar = Sidecar::setup(&app)
        .with(&format!(
            "upstreams: {{ orders: {{ endpoints: [{}], balance: {{ algorithm: round_robin }}, hosts: ['orders.test:8080'] }} }}",
            addresses(&endpoints)
        ))
        .start();
    let mut client = sidecar.connect_out();
    for _ in 0..4 {
        client.send("GET http://orders.test:8080/ HTTP/1.1\r\nHost: orders.test:8080\r\n\r\n");
        assert_eq!(client.read_answer().status, 200);
    }
    assert_eq!((endpoints[0].served(), endpoints[1].served()), (2, 2));
}

/// A name server that knows one name.
struct NameServer {
    address: SocketAddr,
    addresses: Arc<Mutex<Vec<[u8; 4]>>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    fn start(socket: UdpSocket, addresses: &[[u8; 4]], ttl: u32) -> Self {
        let address = socket.local_addr().unwrap();
        let known = Arc::new(Mutex::new(addresses.to_vec()));
        let (answers, asked) = (known.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                counted.fetch_add(1, Ordering::SeqCst);
                let query = &query[..length];
                // The question ends after a name of labels, its type and its class (RFC 1035, section 4.1.2).
                let mut end = 12;
                while query[end] != 0 {
                    end += usize::from(query[end]) + 1;
                }
                let question = &query[12..end + 5];
                let is_a = query[end + 1..end + 3] == [0, 1];
                let answers = answers.lock().unwrap().clone();
                let answers = if is_a { answers } else { Vec::new() };
                let mut answer = query[..2].to_vec();
                answer.extend([0x81, 0x80, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
                answer.extend(question);
                for ip in answers {
                    answer.extend([0xc0, 12, 0, 1, 0, 1]);
                    answer.extend(ttl.to_be_bytes());
                    answer.extend([0, 4]);
                    answer.extend(ip);
                }
                let _ = socket.send_to(&answer, from);
            }
        });
        Self {
            address,
            addresses: known,
            asked,
        }
    }
}

#[test]
fn the_addresses_of_a_name_are_followed() {
    // The same port on several addresses of this machine.
    let first = Endpoint::at("127.0.0.2:0");
    let port = first.address.port();
    let (second, third) = (
        Endpoint::at(&format!("127.0.0.3:{port}")),
        Endpoint::at(&format!("127.0.0.4:{port}")),
    );
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = NameServer::start(socket, &[[127, 0, 0, 2], [127, 0, 0, 3]], 1);
    let sidecar = before(&format!(
        "{{ dns: {{ address: 'http://orders.test:{port}', server: '{}' }}, balance: {{ algorithm: round_robin }} }}",
        server.address
    ));
    // They are there from the first request on.
    assert!(ask(&sidecar, 10, "").iter().all(|status| *status == 200));
    assert_eq!((first.served(), second.served(), third.served()), (5, 5, 0));
    // One more, one less: after its time to live of a second.
    *server.addresses.lock().unwrap() = vec![[127, 0, 0, 3], [127, 0, 0, 4]];
    eventually("the third", || {
        assert!(ask(&sidecar, 2, "").iter().all(|status| *status == 200));
        third.served() > 0
    });
    first.served();
    ask(&sidecar, 10, "");
    assert_eq!(first.served(), 0);
    // A name that is not found any more keeps its addresses.
    server.addresses.lock().unwrap().clear();
    let asked = server.asked.load(Ordering::SeqCst);
    eventually("more questions", || server.asked.load(Ordering::SeqCst) > asked + 2);
    assert!(ask(&sidecar, 10, "").iter().all(|status| *status == 200));
}

#[test]
fn an_address_that_comes_back_between_two_checks_is_checked_like_a_newcomer() {
    let first = Endpoint::at("127.0.0.5:0");
    let port = first.address.port();
    let second = Endpoint::at(&format!("127.0.0.6:{port}"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let both = vec![[127, 0, 0, 5], [127, 0, 0, 6]];
    let server = NameServer::start(socket, &both, 1);
    // The second round is far away.
    let sidecar = before(&format!(
        "{{ dns: {{ address: 'http://orders.test:{port}', server: '{}' }}, balance: {{ algorithm: round_robin }}, \
         health: {{ check: {{ http: {{ path: /healthz }} }}, interval: 1h }} }}",
        server.address
    ));
    eventually("the first checks", || {
        let checks = |one: &Endpoint| one.state.checks.load(Ordering::SeqCst);
        checks(&first) > 0 && checks(&second) > 0
    });
    let wait_for = |what, wanted: bool| {
        eventually(what, || {
            second.served();
            ask(&sidecar, 10, "");
            (second.served() > 0) == wanted
        });
    };
    wait_for("both", true);
    server.addresses.lock().unwrap().pop();
    wait_for("its leaving", false);
    *server.addresses.lock().unwrap() = both;
    wait_for("its return", true);
}

/// A gRPC server that says how it is.
fn health_server(serving: &Arc<AtomicBool>) -> SocketAddr {
    let (give_address, address) = std::sync::mpsc::channel();
    let serving = serving.clone();
    std::thread::spawn(move || {
        let app = H2App::listen();
        give_address.send(app.address).unwrap();
        loop {
            let Some(mut call) = app.next_within(Duration::from_secs(30)) else {
                return;
            };
            assert_eq!(call.request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(call.request.headers()["content-type"], "application/grpc");
            let status = if serving.load(Ordering::SeqCst) { 1 } else { 2 };
            let response = http::Response::builder().header("content-type", "application/grpc");
            let mut stream = call.answer(response.body(()).unwrap(), false);
            stream.send_data(vec![0, 0, 0, 0, 2, 8, status].into(), false).unwrap();
            let trailers = [("grpc-status", "0")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let _ = stream.send_trailers(trailers.into_iter().collect());
        }
    });
    address.recv().unwrap()
}

/// What the admin API says of the only upstream's endpoints: whether each is in service.
fn in_service(sidecar: &Sidecar) -> Vec<bool> {
    let mut admin = Peer::connect(sidecar.admin());
    admin.send(format!("GET /upstreams HTTP/1.1\r\nHost: {}\r\n\r\n", sidecar.admin()));
    let told = admin.read_answer().json();
    let groups = told["upstreams"].as_array().unwrap();
    let group = groups.iter().find(|group| group["name"] == "group").unwrap();
    let members = group["members"].as_array().unwrap().iter();
    members.map(|member| member["in_service"].as_bool().unwrap()).collect()
}

#[test]
fn a_grpc_server_says_itself_how_it_is() {
    let serving = [Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false))];
    let [one, other] = [0, 1].map(|index| health_server(&serving[index]));
    let sidecar = before(&format!(
        "{{ endpoints: ['h2c://{one}', 'h2c://{other}'], \
         health: {{ check: {{ grpc: {{ service: shop.Orders }} }}, interval: 50ms, timeout: 50ms, healthy: 1 }} }}"
    ));
    eventually("the first checks", || in_service(&sidecar) == [true, false]);
    serving[1].store(true, Ordering::SeqCst);
    eventually("its return", || in_service(&sidecar) == [true, true]);
}

#[test]
fn who_takes_no_connection_is_not_asked() {
    let endpoint = Endpoint::start();
    let sidecar = before(&format!(
        "{{ endpoints: ['http://{}', 'http://{}'], health: {{ check: tcp, interval: 50ms, timeout: 50ms }} }}",
        endpoint.address,
        nobody()
    ));
    eventually("the first checks", || in_service(&sidecar) == [true, false]);
    assert!(ask(&sidecar, 20, "").iter().all(|status| *status == 200));
}
