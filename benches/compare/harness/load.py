"""One slice: load from wrk for a bounded time, and what the proxy's process tree spent on it."""

import json
import os
import re
import subprocess
import time
import urllib.request
from dataclasses import dataclass

from .processes import machine_busy_seconds


# What wrk writes behind a time.
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}


@dataclass
class Slice:
    """What one slice gave. `fault` says why it must not be counted, if it must not."""

    requests: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    p99_milliseconds: float = 0.0
    non_2xx: int = 0
    socket_errors: int = 0
    misses: int = 0
    others_busy: float = 0.0
    fault: str = ""

    @property
    def microseconds_per_request(self):
        return self.cpu_seconds * 1e6 / self.requests

    def missed(self, misses):
        """A slice of a cache is of hits, or it does not count."""
        self.misses = misses
        if misses and not self.fault:
            self.fault = f"{misses} requests reached the app"

    @property
    def requests_per_second(self):
        return self.requests / self.seconds

    def as_json(self):
        counted = {} if self.fault else {"microseconds_per_request": round(self.microseconds_per_request, 3)}
        return {**vars(self), **counted}


@dataclass
class Load:
    wrk: str
    core: int
    connections: int

    def run(self, url, seconds, script=None):
        """wrk's report; it gets some seconds more than asked for, then it is killed."""
        command = ["taskset", "-c", str(self.core), self.wrk, "-t1", f"-c{self.connections}", f"-d{seconds}s", "--latency"]
        command += [*(["-s", script] if script else []), url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 15, check=False)
        return done.stdout + done.stderr


def measure(load, fleet, process, url, seconds, settle, script=None):
    """The proxy's CPU time from before the load until `settle` seconds after it, over the requests that completed.

    The time after it belongs to the requests: it is when an exporter sends what it has gathered.
    """
    cpu_before, fleet_before, busy_before = process.cpu_seconds(), fleet_cpu(fleet), machine_busy_seconds()
    began = time.monotonic()
    try:
        report = load.run(url, seconds, script)
    except subprocess.TimeoutExpired:
        return Slice(fault="wrk did not end")
    time.sleep(settle)
    cpu_after, fleet_after, busy_after = process.cpu_seconds(), fleet_cpu(fleet), machine_busy_seconds()
    if cpu_before is None or cpu_after is None:
        return Slice(fault=f"the proxy died: {process.last_words()}")
    measured = parse(report)
    measured.cpu_seconds = round(cpu_after - cpu_before, 3)
    capacity = (time.monotonic() - began) * os.cpu_count()
    measured.others_busy = round(max(0, (busy_after - busy_before) - (fleet_after - fleet_before)) / capacity, 3)
    return measured


def fleet_cpu(fleet):
    """What we spend ourselves: everything started, wrk (a child that has ended) and this program."""
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return mine + sum(member.cpu_seconds() or 0 for member in fleet.members)


def parse(report):
    """The figures in wrk's report; a line that is absent means there were none."""
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)\b", report)
    if not total or int(total[1]) == 0:
        return Slice(fault=f"wrk completed no request: {' '.join(report.split())[:200]}")
    non_2xx = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", report)
    p99 = re.search(r"^\s+99%\s+([\d.]+)(us|ms|s|m)\b", report, re.MULTILINE)
    found = Slice(
        requests=int(total[1]),
        seconds=float(total[2]) * SECONDS[total[3]],
        p99_milliseconds=round(float(p99[1]) * SECONDS[p99[2]] * 1000, 3) if p99 else 0.0,
        non_2xx=int(non_2xx[1]) if non_2xx else 0,
        socket_errors=sum(map(int, errors.groups())) if errors else 0,
    )
    if found.non_2xx or found.socket_errors:
        found.fault = f"{found.non_2xx} answers not 2xx, {found.socket_errors} socket errors"
    return found


def fetch(url):
    """Status and body; an error of any kind is a status of its own words."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except OSError as error:
        return str(error), b""


class AppCounter:
    """How many requests reached the app since it was last asked; the asking itself does not count."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/asked"
        self.seen = 0
        self.since()

    def since(self):
        status, page = fetch(self.url)
        if status != 200:
            raise OSError(f"the app does not say what it was asked: {status}")
        before, self.seen = self.seen, parse_requests(page.decode())
        return self.seen - before - 1


def parse_requests(page):
    """Of nginx's stub_status."""
    return int(re.search(r"requests\s+\d+ \d+ (\d+)", page)[1])


def spans_by_service(port):
    status, body = fetch(f"http://127.0.0.1:{port}/count")
    return json.loads(body)["services"] if status == 200 else {}
