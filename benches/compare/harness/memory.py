"""What stored responses take up: resident memory before and after a proxy was asked for many, and whether it still has them."""

import socket
import time
from dataclasses import dataclass

from . import load
from .processes import allocated_bytes

# Spares a proxy's first requests, which fill its pools, from being counted as entries.
WARM_UP_REQUESTS = 1000


@dataclass
class Memory:
    """Of one peer. `misses` are those of a second asking for everything; `fault` says why nothing of it counts."""

    entries: int = 0
    resident_before: int = 0
    resident_after: int = 0
    files: int = 0
    misses: int = 0
    fault: str = ""

    @property
    def bytes_per_entry(self):
        return (self.resident_after - self.resident_before + self.files) / self.entries

    def as_json(self):
        counted = {} if self.fault else {"bytes_per_entry": round(self.bytes_per_entry)}
        return {**vars(self), **counted}


def measure(process, peer, scenario, count, settle):
    """Asks a proxy that was just started for `count` responses, and then for all of them again."""
    paths = [f"{scenario.entries}{number}" for number in range(count)]
    try:
        client = Client(peer.port)
        for _ in range(WARM_UP_REQUESTS):
            client.get(scenario.workloads[0].path)
        time.sleep(settle)
        found = Memory(entries=count, resident_before=process.resident_bytes())
        sizes = {len(client.get(path)) for path in paths}
        time.sleep(settle)
        found.resident_after = process.resident_bytes()
        found.files = allocated_bytes(peer.files)
        app = load.AppCounter(scenario.app_port)
        sizes |= {len(client.get(path)) for path in paths}
        found.misses = app.since()
    except OSError as error:
        return Memory(fault=str(error))
    if sizes != {scenario.entry_size}:
        found.fault = f"bodies of {sorted(sizes)} bytes"
    return found


class Client:
    """GET after GET over one connection: wrk cannot ask for each of many paths exactly once."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.socket.makefile("rb")
        self.host = f"127.0.0.1:{port}"

    def get(self, path):
        """The body of a 200; anything else is an error."""
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        return read_answer(self.answers)


def read_answer(answers):
    status = answers.readline()
    if status[9:12] != b"200":
        raise OSError(f"answered {status.decode(errors='replace').strip() or 'nothing'}")
    length = None
    while (line := answers.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if length is None:
        raise OSError("answered without Content-Length")
    body = answers.read(length)
    if len(body) < length:
        raise OSError("the answer was cut short")
    return body
