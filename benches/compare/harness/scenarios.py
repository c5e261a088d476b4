"""What is measured. A scenario is one function: given the tools found, the ports, a folder to keep and one that occupies memory,
it writes the configurations and says which app, which load and which peers. To add one, write its function and name it in SCENARIOS."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from . import configs


@dataclass
class Peer:
    """A proxy under measurement. Its name is also the `service.name` of its spans."""

    name: str
    tool: str
    port: int
    command: list
    traces: bool = False
    # Answers from what it stored: no request of a slice may reach the app.
    caches: bool = False
    # Where it keeps what it stored, if not in its own memory.
    files: Path = None
    # Whether what its entries take up is measured too.
    weighed: bool = False

    def clear_files(self):
        if self.files:
            shutil.rmtree(self.files)
            self.files.mkdir()


@dataclass
class Workload:
    """One kind of load: GETs of a path, or what a wrk script makes of it."""

    name: str
    path: str
    script: str = None
    # What every cache is asked for once before it is measured.
    first: list = field(default_factory=list)


@dataclass
class Scenario:
    workloads: list
    app_port: int
    app_command: list
    sink_ports: list
    sink_command: list
    peers: list = field(default_factory=list)
    # The beginning of paths that the app answers with a response to store, and the size of its body.
    entries: str = None
    entry_size: int = 0


def small(tools, ports, out, scratch):
    """GET of a small JSON body, keep-alive, nothing to decide: what forwarding itself costs, and tracing every request."""
    bench = Bench(tools, ports, out, scratch)
    bench.add("noop-proxyhttp", "noop-proxyhttp", bench.ours("noop-proxyhttp"))
    bench.add("tcp-relay", "tcp-relay", bench.ours("tcp-relay"))
    bench.add("nginx", "nginx", bench.nginx(configs.nginx_proxy))
    bench.add("haproxy", "haproxy", bench.haproxy())
    bench.add("envoy", "envoy", bench.envoy())
    bench.add("envoy-otel", "envoy", bench.envoy(tracing=True), traces=True)
    bench.add("envoy-otel-batched", "envoy", bench.envoy(tracing=True, batch=512), traces=True)
    bench.add("pillion-otlp-http", "pillion", bench.pillion(configs.pillion_otlp("http", bench.sink_http)), traces=True)
    bench.add("pillion-otlp-grpc", "pillion", bench.pillion(configs.pillion_otlp("grpc", bench.sink_grpc)), traces=True)
    bench.add("pillion-no-filters", "pillion", bench.pillion("chain: []\n"))
    return bench.scenario([Workload("small", "/small.json")], configs.nginx_app)


MANY = 10_000
PACE_MILLISECONDS = 6


def cache(tools, ports, out, scratch):
    """Hits of caches: on one URL, over many, one URL at a moderate rate for its latency; and what their entries take up."""
    bench = Bench(tools, ports, out, scratch)
    bench.add("noop-proxyhttp", "noop-proxyhttp", bench.ours("noop-proxyhttp"))
    for name, open_files in [("nginx-cache", False), ("nginx-cache-open-files", True)]:
        files = bench.in_memory(name)
        command = bench.nginx(configs.nginx_cache, files, open_files)
        bench.add(name, "nginx", command, caches=True, files=files, weighed=not open_files)
    bench.add("varnish", "varnishd", bench.varnish(bench.in_memory("varnish")), caches=True, weighed=True)
    alone = bench.pillion("chain: [cache]\n" + configs.PILLION_CACHE)
    bench.add("pillion-cache", "pillion", alone, caches=True, weighed=True)
    default = bench.pillion(configs.PILLION_CACHE + configs.pillion_otlp("http", bench.sink_http))
    bench.add("pillion-cache-default", "pillion", default, traces=True, caches=True, weighed=True)
    many = [f"/many/{number}" for number in range(MANY)]
    scenario = bench.scenario(
        [
            Workload("one", "/small.json"),
            Workload("many", "/many/0", bench.write("many.lua", configs.many_paths("/many/", MANY)), many),
            Workload("paced", "/small.json", bench.write("paced.lua", configs.pace(PACE_MILLISECONDS))),
        ],
        configs.nginx_cacheable_app,
    )
    scenario.entries, scenario.entry_size = "/entries/", len(configs.ENTRY)
    return scenario


def resilience(tools, ports, out, scratch):
    """What retries, breaker, deadlines, hedging and balancing cost while nothing goes wrong: each alone, and all."""
    bench = Bench(tools, ports, out, scratch)
    bench.add("noop-proxyhttp", "noop-proxyhttp", bench.ours("noop-proxyhttp"))
    bench.add("pillion-no-filters", "pillion", bench.pillion("chain: []\n"))
    for name, extra in configs.pillion_resilience(bench.app).items():
        bench.add(f"pillion-{name}", "pillion", bench.pillion(extra))
    return bench.scenario([Workload("small", "/small.json")], configs.nginx_app)


SCENARIOS = {"small": small, "cache": cache, "resilience": resilience}


class Bench:
    """Ports, configuration files and command lines, shared by the scenarios.

    The methods named for a proxy return a function of (peer name, its port) that gives the command.
    """

    def __init__(self, tools, ports, out, scratch):
        self.tools, self.ports, self.out, self.scratch = tools, ports, out, scratch
        self.app, self.sink_grpc, self.sink_http = ports.take(), ports.take(), ports.take()
        self.peers = []

    def add(self, name, tool, command, **traits):
        port = self.ports.take()
        self.peers.append(Peer(name, tool, port, command(name, port), **traits))

    def scenario(self, workloads, app_template):
        app = self.nginx(app_template)
        sink = [f"--grpc=127.0.0.1:{self.sink_grpc}", f"--http=127.0.0.1:{self.sink_http}"]
        return Scenario(
            workloads=workloads,
            app_port=self.app,
            app_command=app("app", self.app),
            sink_ports=[self.sink_grpc, self.sink_http],
            sink_command=[self.tools["otlp-sink"], *(word for flag in sink for word in flag.split("="))],
            peers=self.peers,
        )

    def ours(self, tool):
        def command(_name, port):
            return [self.tools[tool], "--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{self.app}"]

        return command

    def nginx(self, template, *more):
        def command(name, port):
            folder = self.out / name
            folder.mkdir(exist_ok=True)
            config = self.write(f"{name}.conf", template(port, self.app, *more))
            return [self.tools["nginx"], "-p", str(folder), "-e", "stderr", "-c", config]

        return command

    def varnish(self, folder):
        def command(_name, port):
            # Nothing of a request in its log, no command line, no user to change to; one pool, of threads enough for wrk.
            quiet = ["-p", f"vsl_mask={configs.VARNISH_LOGS_NOTHING}", "-T", "none", "-j", "none"]
            pool = ["-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "timeout_idle=3600"]
            storage = ["-s", "malloc,512m", "-n", str(folder)]
            where = ["-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{self.app}"]
            return [self.tools["varnishd"], "-F", *where, *storage, *pool, *quiet]

        return command

    def haproxy(self):
        def command(name, port):
            # -db: stay in the foreground, in one process.
            return [self.tools["haproxy"], "-db", "-q", "-f", self.write(f"{name}.cfg", configs.haproxy(port, self.app))]

        return command

    def envoy(self, tracing=False, batch=None, filters=""):
        def command(name, port):
            service = name if tracing else None
            config = self.write(f"{name}.yaml", configs.envoy(port, self.app, service, self.sink_grpc, batch, filters))
            quiet = ["--log-level", "error", "--disable-hot-restart"]
            return [self.tools["envoy"], "--concurrency", "1", *quiet, "--config-path", config]

        return command

    def pillion(self, extra):
        def command(name, port):
            config = self.write(f"{name}.yaml", configs.pillion(name, port, self.app, self.ports.take(), extra))
            return [self.tools["pillion"], "run", "--config", config]

        return command

    def in_memory(self, name):
        folder = self.scratch / name
        folder.mkdir()
        return folder

    def write(self, name, text):
        path = self.out / name
        path.write_text(text)
        return str(path)
