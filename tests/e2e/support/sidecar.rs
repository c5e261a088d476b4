//! A sidecar to test: in this process, or as a process of its own.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pillion::runtime::{self, Options, Running};
use pillion_filters::Registry;

use super::{Answer, App, PATIENCE, Peer};

/// What differs from the plainest sidecar. What that does of itself after some time comes later than any test waits, so that
/// none takes it for what it waits for.
pub(crate) struct Setup {
    app: String,
    connections: String,
    protocol: &'static str,
    grace: &'static str,
    filters: String,
    rest: String,
    registry: Registry,
}

impl Setup {
    pub(crate) fn before(app: impl Into<String>) -> Self {
        Self {
            app: app.into(),
            connections: "{ header_timeout: 1m }".to_owned(),
            protocol: "http1",
            grace: "2s",
            filters: "access_log: { enabled: false }".to_owned(),
            rest: String::new(),
            registry: Registry::builtin(),
        }
    }

    /// Settings of `inbound.connections` and `outbound.connections`, as a YAML flow mapping.
    pub(crate) fn connections(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.connections);
        self
    }

    /// What hosts that the app's requests name are spoken to in.
    pub(crate) fn outbound_protocol(mut self, protocol: &'static str) -> Self {
        self.protocol = protocol;
        self
    }

    /// Settings of the filters, as the inside of a YAML flow mapping; with an access log if they say so.
    pub(crate) fn filters(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.filters);
        if !settings.contains("access_log:") {
            self.filters.push_str(", access_log: { enabled: false }");
        }
        self
    }

    /// How long a stop waits for what is in flight.
    pub(crate) fn grace(mut self, period: &'static str) -> Self {
        self.grace = period;
        self
    }

    /// A line of the configuration.
    pub(crate) fn with(mut self, line: &str) -> Self {
        writeln!(self.rest, "{line}").unwrap();
        self
    }

    /// Knows these plugins.
    pub(crate) fn with_registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Leaves requests and responses to the engine alone.
    pub(crate) fn without_filters(self) -> Self {
        self.with("chain: []")
    }

    pub(crate) fn yaml(&self) -> String {
        let Self {
            app,
            connections,
            protocol,
            grace,
            filters,
            rest,
            ..
        } = self;
        let pool = if rest.contains("pool:") {
            ""
        } else {
            "pool: { idle_timeout: 1m }\n"
        };
        // Whoever counts reloads wants no other than his own.
        let reload = if rest.contains("reload:") {
            ""
        } else {
            "reload: { watch: false }\n"
        };
        format!(
            "service: e2e\n\
             workers: 1\n\
             inbound: {{ listen: '127.0.0.1:0', app: '{app}', connections: {connections} }}\n\
             outbound: {{ listen: '127.0.0.1:0', protocol: {protocol}, connections: {connections} }}\n\
             admin: {{ listen: '127.0.0.1:0' }}\n\
             shutdown: {{ grace_period: {grace} }}\n\
             filters: {{ {filters} }}\n\
             {pool}{reload}{rest}"
        )
    }

    pub(crate) fn start(&self) -> Sidecar {
        Sidecar::start(&self.yaml(), self.registry.clone())
    }
}

/// A sidecar on a thread of this process. Stops when it is dropped.
pub(crate) struct Sidecar {
    running: Option<Running>,
}

impl Sidecar {
    /// With the default chain but the access log.
    pub(crate) fn before(app: &App) -> Self {
        Setup::before(format!("http://{}", app.address())).start()
    }

    /// With that configuration.
    pub(crate) fn of(yaml: &str) -> Self {
        Self::start(yaml, Registry::builtin())
    }

    fn start(yaml: &str, registry: Registry) -> Self {
        let names: Vec<&str> = registry.entries().iter().map(|entry| entry.name).collect();
        let loaded = pillion::config::load_str("test.yaml", yaml, &names);
        let loaded = loaded.unwrap_or_else(|errors| panic!("{}", errors.render()));
        let options = Options {
            registry,
            files: Vec::new(),
        };
        Self {
            running: Some(runtime::start(loaded, options).unwrap()),
        }
    }

    pub(crate) fn setup(app: &App) -> Setup {
        Setup::before(format!("http://{}", app.address()))
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn inbound(&self) -> SocketAddr {
        self.running().inbound.unwrap()
    }

    pub(crate) fn outbound(&self) -> SocketAddr {
        self.running().outbound.unwrap()
    }

    /// A client of the service.
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.inbound())
    }

    /// The app as a client of others.
    pub(crate) fn connect_out(&self) -> Peer {
        Peer::connect(self.outbound())
    }

    /// Where the admin API is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.running().admin.unwrap()
    }

    /// All its metrics, as a scraper gets them.
    pub(crate) fn exposition(&self) -> String {
        metrics(self.admin())
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        sum(&metrics(self.admin()), name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Waits until a metric has a value.
    pub(crate) fn await_metric(&self, name: &str, value: f64) {
        await_metric(self.admin(), name, value);
    }

    /// Stops as after a signal; how long that took.
    pub(crate) fn stop(mut self) -> Duration {
        let began = Instant::now();
        self.running.take().unwrap().stop();
        began.elapsed()
    }
}

/// The header line of a body that the admin API takes.
pub(crate) const JSON: &str = "Content-Type: application/json\r\n";

/// What an admin API answers to a request with these header lines.
pub(crate) fn ask(admin: SocketAddr, request: &str, fields: &str, body: &str) -> Answer {
    let mut client = Peer::connect(admin);
    let length = body.len();
    client.send(format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    ));
    client.read_answer()
}

/// What a sidecar's admin API says of its metrics.
fn metrics(admin: SocketAddr) -> String {
    let mut admin = Peer::connect(admin);
    admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    admin.read_answer().text()
}

/// The sum over all series of that name, or the value of the one whose labels are given too.
fn sum(exposition: &str, name: &str) -> Option<f64> {
    let values: Vec<f64> = exposition
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Waits until a metric has a value. Many exist only after the first exchange they tell of.
fn await_metric(admin: SocketAddr, name: &str, value: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let exposition = metrics(admin);
        let found = sum(&exposition, name);
        if found.is_some_and(|found| (found - value).abs() < f64::EPSILON) {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {found:?} in\n{exposition}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// A sidecar as a process, or as several that follow one another, with one log.
pub(crate) struct Process {
    /// The first of them.
    pub(super) child: Child,
    pub(super) log: BufReader<std::process::ChildStderr>,
    /// What it has written to its log so far.
    pub(crate) said: String,
    config: ConfigFile,
}

/// A configuration on disk, for as long as it is needed.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(yaml: &str) -> Self {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("pillion-e2e-{}-{number}.yaml", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, yaml).unwrap();
        Self(path)
    }

    fn replace(&self, yaml: &str) {
        std::fs::write(&self.0, yaml).unwrap();
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Process {
    pub(crate) fn run(yaml: &str) -> Self {
        Self::run_program(Path::new(env!("CARGO_BIN_EXE_pillion")), yaml)
    }

    /// Runs what is under that name.
    pub(crate) fn run_program(program: &Path, yaml: &str) -> Self {
        Self::run_with(program, yaml, Some("info"))
    }

    /// Its log is what the configuration says.
    pub(crate) fn run_without_rust_log(yaml: &str) -> Self {
        Self::run_with(Path::new(env!("CARGO_BIN_EXE_pillion")), yaml, None)
    }

    fn run_with(program: &Path, yaml: &str, rust_log: Option<&str>) -> Self {
        let config = ConfigFile::new(yaml);
        let mut command = Command::new(program);
        match rust_log {
            Some(said) => command.env("RUST_LOG", said),
            None => command.env_remove("RUST_LOG"),
        };
        let mut child = command
            .args(["run", "--config"])
            .arg(&config.0)
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            log,
            said: String::new(),
            config,
        }
    }

    /// Reads the log until it says where it listens, if it did not say so yet; the address for clients.
    pub(crate) fn inbound(&mut self) -> SocketAddr {
        if !self.said.contains("listening") {
            self.await_log("listening");
        }
        self.address("inbound")
    }

    /// The address it listens on for that, once it said so.
    fn address(&self, what: &str) -> SocketAddr {
        let line = self.said.lines().rfind(|line| line.contains("listening")).unwrap();
        let address = line.split_once(&format!("{what}=")).unwrap().1;
        address.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Where the app sends its requests; after [`Self::inbound`].
    pub(crate) fn outbound(&self) -> SocketAddr {
        self.address("outbound")
    }

    /// Where the admin API is; after [`Self::inbound`].
    pub(crate) fn admin(&self) -> SocketAddr {
        self.address("admin")
    }

    /// The file of its configuration.
    pub(crate) fn config_file(&self) -> &Path {
        &self.config.0
    }

    /// Writes the configuration anew. What runs is told of it by a signal or [`Self::reload`].
    pub(crate) fn configure(&self, yaml: &str) {
        self.config.replace(yaml);
    }

    /// What the admin API answers to `POST /reload`; after [`Self::inbound`].
    pub(crate) fn reload(&self) -> Answer {
        self.ask("POST /reload")
    }

    /// What the admin API answers; after [`Self::inbound`].
    pub(crate) fn ask(&self, request: &str) -> Answer {
        ask(self.address("admin"), request, "", "")
    }

    /// The same for a request with a JSON body.
    pub(crate) fn tell(&self, request: &str, body: &str) -> Answer {
        ask(
            self.address("admin"),
            request,
            "Content-Type: application/json\r\n",
            body,
        )
    }

    /// Where it listens now, as the admin API says.
    pub(crate) fn bound(&self, direction: &str) -> SocketAddr {
        let connections = self.ask("GET /connections").json();
        let mut listeners = connections["listeners"].as_array().unwrap().iter();
        let listener = listeners.find(|one| one["direction"] == direction && one["state"] == "open");
        let listener = listener.unwrap_or_else(|| panic!("no {direction} in {connections}"));
        listener["bound"].as_str().unwrap().parse().unwrap()
    }

    /// Waits until a metric has a value; after [`Self::inbound`].
    pub(crate) fn await_metric(&self, name: &str, value: f64) {
        await_metric(self.address("admin"), name, value);
    }

    /// Stops it; what it wrote to standard output, which must be less than a pipe holds.
    pub(crate) fn stop(mut self) -> String {
        self.signal("TERM");
        assert!(self.wait().success(), "{}", self.said);
        let mut written = String::new();
        let mut output = self.child.stdout.take().unwrap();
        output.read_to_string(&mut written).unwrap();
        written
    }

    /// Reads the log up to a line with that word.
    pub(crate) fn await_log(&mut self, word: &str) {
        loop {
            let mut line = String::new();
            let n = self.log.read_line(&mut line).unwrap();
            assert!(n > 0, "it ended with {:?}", self.said);
            self.said.push_str(&line);
            if line.contains(word) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the process to end by itself, and all that came after it.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.wait_for_first();
        self.log.read_to_string(&mut self.said).unwrap();
        status
    }

    /// Waits for the process to end by itself.
    pub(super) fn wait_for_first(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running; it said {:?}", self.said);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.end_successors();
    }
}
