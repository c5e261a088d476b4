"""What is measured. A scenario is one function: given the tools found and the ports, it writes the configurations and says
which app, which path and which peers. To add one, write its function and name it in SCENARIOS."""

from dataclasses import dataclass, field

from . import configs


@dataclass
class Peer:
    """A proxy under measurement. Its name is also the `service.name` of its spans."""

    name: str
    tool: str
    port: int
    command: list
    traces: bool = False


@dataclass
class Scenario:
    path: str
    app_port: int
    app_command: list
    sink_ports: list
    sink_command: list
    peers: list = field(default_factory=list)


def small(tools, ports, out):
    """GET of a small JSON body, keep-alive, nothing to decide: what forwarding itself costs, and tracing every request."""
    bench = Bench(tools, ports, out)
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
    return bench.scenario("/small.json")


SCENARIOS = {"small": small}


class Bench:
    """Ports, configuration files and command lines, shared by the scenarios.

    The methods named for a proxy return a function of (peer name, its port) that gives the command.
    """

    def __init__(self, tools, ports, out):
        self.tools, self.ports, self.out = tools, ports, out
        self.app, self.sink_grpc, self.sink_http = ports.take(), ports.take(), ports.take()
        self.peers = []

    def add(self, name, tool, command, traces=False):
        port = self.ports.take()
        self.peers.append(Peer(name, tool, port, command(name, port), traces))

    def scenario(self, path):
        app = self.nginx(configs.nginx_app)
        sink = [f"--grpc=127.0.0.1:{self.sink_grpc}", f"--http=127.0.0.1:{self.sink_http}"]
        return Scenario(
            path=path,
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

    def nginx(self, template):
        def command(name, port):
            folder = self.out / name
            folder.mkdir(exist_ok=True)
            config = self.write(f"{name}.conf", template(port, self.app))
            return [self.tools["nginx"], "-p", str(folder), "-e", "stderr", "-c", config]

        return command

    def haproxy(self):
        def command(name, port):
            # -db: stay in the foreground, in one process.
            return [self.tools["haproxy"], "-db", "-q", "-f", self.write(f"{name}.cfg", configs.haproxy(port, self.app))]

        return command

    def envoy(self, tracing=False, batch=None):
        def command(name, port):
            service = name if tracing else None
            config = self.write(f"{name}.yaml", configs.envoy(port, self.app, service, self.sink_grpc, batch))
            quiet = ["--log-level", "error", "--disable-hot-restart"]
            return [self.tools["envoy"], "--concurrency", "1", *quiet, "--config-path", config]

        return command

    def pillion(self, extra):
        def command(name, port):
            config = self.write(f"{name}.yaml", configs.pillion(name, port, self.app, self.ports.take(), extra))
            return [self.tools["pillion"], "run", "--config", config]

        return command

    def write(self, name, text):
        path = self.out / name
        path.write_text(text)
        return str(path)
