"""What compressing costs those who wait: the events of a stream, and small requests while large bodies are compressed."""

import json
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time

from . import bodies, coded, configs, load, report

PROXY_CORE, LOAD_CORE = 0, 1
EVENT_SECONDS, EVENT_EVERY = 3, 0.02
STREAMS = [("identity", 0), ("gzip", 6), ("br", 4), ("zstd", 3), ("br", 9), ("br", 11), ("zstd", 19)]
LARGE = 10 << 20
FETCHERS, SMALL_CONNECTIONS = 2, 4
NEIGHBOURS = [("identity", 0), ("gzip", 6), ("zstd", 3), ("br", 4), ("br", 9)]


def start_pillions(fleet, bench, found, wanted):
    """A port for each (coding, level), of instances with one worker."""
    if not found["pillion"]:
        sys.exit("no pillion")
    ports = {}
    for coding, level in wanted:
        levels = {} if coding == "identity" else {coding: level}
        name = f"pillion-{coding}-{level}"
        bench.add(name, "pillion", bench.pillion(configs.pillion_compression(levels)))
        peer = bench.peers[-1]
        trouble = fleet.start(name, peer.command, PROXY_CORE).wait_listening([peer.port])
        if trouble:
            sys.exit(f"{name} {trouble}")
        ports[coding, level] = peer.port
    os.sched_setaffinity(0, {LOAD_CORE})
    time.sleep(1)
    return ports


def events(options, found, fleet, bench):
    """From the app's write to the client's decoded event, both in this process: one clock."""
    # The threads take turns at once, not after the interpreter's 5 ms.
    sys.setswitchinterval(1e-5)
    app = EventApp(bench.app)
    ports = start_pillions(fleet, bench, found, STREAMS)
    delays, faults = {of: [] for of in [("direct", 0), *STREAMS]}, {}
    firsts = {of: [] for of in delays}
    for _ in range(options.rounds):
        for coding, level in delays:
            port = bench.app if coding == "direct" else ports[coding, level]
            plain = "identity" if coding == "direct" else coding
            if coded.decoder(plain) is None:
                faults[coding] = "no library for it"
                continue
            arrived = stream(port, plain)
            first, *rest = [(at - app.sent[number]) * 1e3 for number, at in enumerate(arrived)]
            firsts[coding, level].append(first)
            delays[coding, level] += rest
            if len(arrived) != len(app.sent):
                faults[f"{coding} {level}"] = f"{len(arrived)} events of {len(app.sent)}"
    figures = {of: quantiles(found) for of, found in delays.items() if found}
    base = figures["identity", 0]
    rows = [
        [name(*of), str(len(delays[of])), f"{max(firsts[of]):.2f}"]
        + [f"{now:.2f}" for now in each]
        + [f"{now - was:+.2f}" for now, was in zip(each, base)]
        for of, each in figures.items()
    ]
    heads = ["stream", "events", "first ms", "p50 ms", "p99 ms", "max ms", "p50 more", "p99 more", "max more"]
    named = {name(*of): {**dict(zip(["p50", "p99", "max"], each)), "first": firsts[of]} for of, each in figures.items()}
    return report.table(heads, rows), named, faults


def name(coding, level):
    return f"{coding} {level}" if level else coding


def quantiles(values):
    ordered = sorted(values)
    return [statistics.median(ordered), ordered[int(len(ordered) * 0.99)], ordered[-1]]


class EventApp:
    """Answers whatever it is asked with a stream of events, and knows when it sent each of the latest."""

    def __init__(self, port):
        self.sent = []
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.answer, args=[connection], daemon=True).start()

    def answer(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            more = connection.recv(4096)
            if not more:
                return
            asked += more
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        sent = self.sent = []
        began = time.monotonic()
        for number in range(int(EVENT_SECONDS / EVENT_EVERY)):
            time.sleep(max(0, began + number * EVENT_EVERY - time.monotonic()))
            event = f"id: {number}\ndata: {json.dumps({'price': number * 7 % 1000, 'symbol': 'ACME', 'text': 'x' * (number % 90)})}\n\n"
            chunk = f"{len(event):x}\r\n{event}\r\n".encode()
            sent.append(time.perf_counter())
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        connection.close()


def stream(port, coding):
    """When each event was there whole."""
    client, decode, text, arrived = coded.Client(port), coded.decoder(coding), b"", []
    client.ask("/events", coding)
    head = client.head()
    if head.get("content-encoding", "identity") != coding:
        raise OSError(f"answered in {head.get('content-encoding')}")
    for chunk in client.chunks():
        text += decode(chunk)
        now = time.perf_counter()
        *whole, text = text.split(b"\n\n")
        arrived += [now] * len(whole)
    return arrived


def neighbours(options, found, fleet, bench):
    """Small requests beside clients that fetch 10 MB in a loop, through the same worker."""
    folder = bench.in_memory("files")
    (folder / "large.json").write_bytes(bodies.listing(LARGE))
    (folder / "small.json").write_text(configs.BODY)
    app = fleet.start("app", bench.nginx(configs.nginx_files, folder)("app", bench.app), LOAD_CORE)
    trouble = app.wait_listening([bench.app])
    if trouble:
        sys.exit(f"app {trouble}")
    ports = start_pillions(fleet, bench, found, NEIGHBOURS)
    wrk = load.Load(found["wrk"], LOAD_CORE, SMALL_CONNECTIONS)
    rows, figures, faults = [], {}, {}
    for coding, level in [("alone", 0), *NEIGHBOURS]:
        port = ports["identity", 0] if coding == "alone" else ports[coding, level]
        fetched = multiprocessing.Value("q", 0)
        fetchers = [] if coding == "alone" else [
            multiprocessing.Process(target=fetch, args=[port, coding, fetched], daemon=True) for _ in range(FETCHERS)
        ]  # fmt: skip
        for fetcher in fetchers:
            fetcher.start()
        time.sleep(1)
        before = fetched.value
        try:
            text = wrk.run(f"http://127.0.0.1:{port}/small.json", options.seconds)
            each = [*percentiles(text), load.parse(text).requests_per_second]
        except (subprocess.TimeoutExpired, TypeError, ZeroDivisionError) as error:
            faults[name(coding, level)] = str(error)
            continue
        finally:
            megabytes = (fetched.value - before) / 1e6 / options.seconds
            for fetcher in fetchers:
                fetcher.terminate()
                fetcher.join()
        print(name(coding, level), each, megabytes, file=sys.stderr, flush=True)
        figures[name(coding, level)] = dict(zip(["p50", "p99", "max", "per_second"], each))
        rows.append([name(coding, level), *(f"{each_of:.2f}" for each_of in each[:3]), f"{each[3]:.0f}", f"{megabytes:.2f}"])
    heads = ["10 MB bodies in", "p50 ms", "p99 ms", "max ms", "small requests/s", "coded MB/s beside"]
    return report.table(heads, rows), figures, faults


def fetch(port, coding, fetched):
    """Takes bodies off one connection without a look at them."""
    while True:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            ask = f"GET /large.json HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: {coding}\r\nConnection: close\r\n\r\n"
            connection.sendall(ask.encode())
            while piece := connection.recv(1 << 16):
                with fetched.get_lock():
                    fetched.value += len(piece)


def percentiles(text):
    """p50, p99 and max in milliseconds, of wrk's report."""
    unit = r"([\d.]+)(us|ms|s|m)\b"
    lines = [rf"^\s+50%\s+{unit}", rf"^\s+99%\s+{unit}", rf"Latency\s+\S+\s+\S+\s+{unit}"]
    found = [re.search(line, text, re.MULTILINE) for line in lines]
    return [float(each[1]) * load.SECONDS[each[2]] * 1e3 for each in found]
