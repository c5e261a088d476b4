"""One cell: apps, a sidecar before them, a client before that, and what is done to the apps meanwhile."""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import load, processes

from .board import CHECKS, FAILED, SEEN, Board

HERE = Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parent.parent
OUT = HERE / "out"
# The sidecar has a core; apps, client and this program share the other.
SIDECAR_CORE, OTHER_CORE = 0, 1
# Requests before those that count.
ASKED_BEFORE = 20
# Seconds that a client has to start in.
STARTS = 1.5


def pillion_path():
    return Path(os.environ.get("PILLION_BIN") or REPOSITORY / "target" / "release" / "pillion")


@dataclass
class Came:
    """What came of a cell's requests, and what reached the apps."""

    records: list
    seen: list
    failed: list
    checks: int
    others_busy: float = 0.0
    metrics: dict = field(default_factory=dict)

    def summary(self):
        latencies = sorted(seconds for _, seconds, _ in self.records)
        bad = [came for _, _, came in self.records if came != 200]
        kinds = {str(kind): bad.count(kind) for kind in sorted(set(bad), key=str)}
        return {
            "requests": len(latencies),
            "errors": len(bad),
            "kinds": kinds,
            **{name: round(1000 * percentile(latencies, part), 1) for name, part in PERCENTILES.items()},
            "max": round(1000 * latencies[-1], 1),
            "seen": sum(self.seen),
            "seen_by_app": self.seen,
            "failed_by_app": self.failed,
            "checks": self.checks,
            "others_busy": self.others_busy,
            "metrics": self.metrics,
        }


PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def percentile(ordered, part):
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class Apps:
    """App processes, each with its row of the board."""

    def __init__(self, fleet, ports, scratch, count, at_a_time):
        self.fleet, self.at_a_time = fleet, at_a_time
        self.path = scratch / "board"
        self.board = Board(self.path, count)
        self.ports = [ports.take() for _ in range(count)]
        self.processes = [None] * count
        for index in range(count):
            self.start(index)
        for process, port in zip(self.processes, self.ports, strict=True):
            if trouble := process.wait_listening([port]):
                raise OSError(f"an app {trouble}")

    def start(self, index, at=0.0):
        command = [sys.executable, "-B", "-m", "faults.app", "--port", str(self.ports[index]), "--board", str(self.path)]
        command += ["--index", str(index), "--at-a-time", str(self.at_a_time), "--at", repr(at)]
        self.processes[index] = self.fleet.start(f"app-{index}", command, OTHER_CORE)

    def kill(self, index):
        os.kill(self.processes[index].popen.pid, signal.SIGKILL)
        self.processes[index].popen.wait()
        self.fleet.members.remove(self.processes[index])

    def freeze(self, index):
        os.kill(self.processes[index].popen.pid, signal.SIGSTOP)

    def thaw(self, index):
        os.kill(self.processes[index].popen.pid, signal.SIGCONT)

    def stop(self):
        for index, process in enumerate(self.processes):
            # One that is still stopped would not hear that it shall end.
            self.thaw(index)
            self.fleet.stop(process)


@dataclass
class Load:
    rate: float = 400
    seconds: float = 12
    random: bool = False
    keys: int = 1000
    timeout: float = 5.0


def run_cell(fleet, ports, scratch, settings, apps, requests, faults):
    """`settings` makes the sidecar's configuration from the apps' ports; `faults` is called when the load begins, with its beginning."""
    listen, admin = ports.take(), ports.take()
    config = scratch / "pillion.yaml"
    config.write_text(json.dumps(settings(listen, admin, apps.ports), indent=1))
    sidecar = fleet.start("pillion", [str(pillion_path()), "run", "--config", str(config)], SIDECAR_CORE)
    if trouble := sidecar.wait_listening([listen, admin]):
        raise OSError(f"the sidecar {trouble}")
    # Checks have been made, and connections are open; what was asked until now does not count.
    for _ in range(ASKED_BEFORE):
        load.fetch(f"http://127.0.0.1:{listen}/")
    before = [[apps.board.get(index, what) for index in range(len(apps.ports))] for what in (SEEN, FAILED, CHECKS)]
    out = scratch / "came.json"
    began = time.monotonic() + STARTS
    command = [sys.executable, "-B", "-m", "faults.client", "--port", str(listen), "--rate", str(requests.rate)]
    command += ["--seconds", str(requests.seconds), "--keys", str(requests.keys), "--timeout", str(requests.timeout)]
    command += ["--at", repr(began), "--out", str(out), *(["--random"] if requests.random else [])]
    busy, own = processes.machine_busy_seconds(), load.fleet_cpu(fleet)
    client = fleet.start("client", command, OTHER_CORE)
    try:
        faults(began)
        client.popen.wait(timeout=requests.seconds + requests.timeout + 10)
    finally:
        spent = load.fleet_cpu(fleet) - own
        capacity = (time.monotonic() - began + STARTS) * os.cpu_count()
        fleet.stop(client)
    came = json.loads(out.read_text())
    if came["late"] > 0.05:
        raise OSError(f"the client began {came['late']} s late: the machine is too busy")
    seen, failed, checks = [
        [apps.board.get(index, what) - old for index, old in enumerate(olds)]
        for what, olds in zip((SEEN, FAILED, CHECKS), before, strict=True)
    ]
    metrics = of_interest(load.fetch(f"http://127.0.0.1:{admin}/metrics")[1].decode())
    fleet.stop(sidecar)
    # What a killed app has spent is lost to the sum, so this is at most what others did.
    others = max(0.0, (processes.machine_busy_seconds() - busy - max(0.0, spent)) / capacity)
    return Came(came["records"], seen, failed, sum(checks), round(others, 3), metrics)


def of_interest(page):
    """What the sidecar counts of retries, breakers, ejections and health, without the zeros."""
    found = {}
    for line in page.splitlines():
        if line.startswith(("pillion_retry", "pillion_circuit_breaker", "pillion_upstream")):
            name, _, number = line.rpartition(" ")
            if float(number):
                found[name] = float(number)
    return found


def until(moment):
    if (wait := moment - time.monotonic()) > 0:
        time.sleep(wait)
