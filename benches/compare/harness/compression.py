"""Bytes and CPU time of a compressed response: by peer, coding, level and body."""

import os
import random
import sys
import time
from dataclasses import dataclass

from . import bodies, coded, configs, report

LEVELS = {"gzip": [1, 6, 9], "br": [1, 4, 5, 6, 9, 11], "zstd": [1, 3, 9, 19]}
# Enough for a mean, and not more than the sequential client is worth.
MOST_REQUESTS = 2000
PROXY_CORE, LOAD_CORE = 0, 1


@dataclass
class Cell:
    peer: str
    body: str
    coding: str
    level: int
    run: object
    bytes: int = 0
    requests: int = 0
    microseconds: float = 0.0
    fault: str = ""

    def as_json(self):
        return {name: value for name, value in vars(self).items() if name != "run"}


def sets_of_levels():
    """Each instance of a proxy has one level of every coding; as many as it takes for all of them."""
    longest = max(map(len, LEVELS.values()))
    return [{coding: levels[min(number, len(levels) - 1)] for coding, levels in LEVELS.items()} for number in range(longest)]


def add_peers(bench):
    """Name of a kind of peer, to (peer, the level it has of each coding)."""
    kinds = {
        "pillion": ("pillion", LEVELS, lambda levels: bench.pillion(configs.pillion_compression(levels))),
        "nginx": ("nginx", {"gzip": LEVELS["gzip"]}, lambda levels: bench.nginx(configs.nginx_gzip, levels)),
        "envoy": ("envoy", LEVELS, lambda levels: bench.envoy(filters=configs.envoy_compressors(levels))),
    }
    found = {}
    for kind, (tool, codings, command) in kinds.items():
        sets = sets_of_levels()[: max(map(len, codings.values()))]
        for number, levels in enumerate(sets):
            bench.add(f"{kind}-{number}", tool, command(levels))
        found[kind] = list(zip(bench.peers[-len(sets) :], sets)), codings
    return found


def run(options, found, fleet, bench):
    """The report's text and its JSON, and whether it is complete."""
    names = options.bodies.split(",") if options.bodies else list(bodies.BODIES)
    contents = {name: bodies.BODIES[name]() for name in names}
    folder = bench.in_memory("files")
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    app = fleet.start("app", bench.nginx(configs.nginx_files, folder)("app", bench.app), LOAD_CORE)
    trouble = app.wait_listening([bench.app])
    if trouble:
        sys.exit(f"app {trouble}")
    kinds = {kind: of for kind, of in add_peers(bench).items() if not options.peers or kind in options.peers.split(",")}
    skipped, processes = {}, {}
    for kind, (peers, _) in kinds.items():
        for peer, _ in peers:
            if not found[peer.tool]:
                skipped[kind] = f"no {peer.tool}"
                break
            processes[peer.name] = fleet.start(peer.name, peer.command, PROXY_CORE)
            trouble = processes[peer.name].wait_listening([peer.port])
            if trouble:
                skipped[kind] = trouble
                break
    os.sched_setaffinity(0, {LOAD_CORE})
    time.sleep(1)
    cells = []
    dice = random.Random(options.seed)
    for name, content in contents.items():
        some = [cell for kind in kinds if kind not in skipped for cell in cells_of(kind, *kinds[kind], name)]
        dice.shuffle(some)
        for cell in some:
            measure(cell, processes[cell.run.name], content, options.cell_seconds)
            print(cell.as_json(), file=sys.stderr, flush=True)
        cells += some
    text = "\n\n".join(f"{name}, {len(content)} bytes:\n\n{table(cells, name, kinds)}" for name, content in contents.items())
    faults = {f"{cell.peer} {cell.body} {cell.coding} {cell.level}": cell.fault for cell in cells if cell.fault}
    return text, [cell.as_json() for cell in cells], {**skipped, **faults}


def cells_of(kind, peers, codings, body):
    yield Cell(kind, body, "identity", 0, peers[0][0])
    for coding, levels in codings.items():
        for level in levels:
            peer = next(peer for peer, has in peers if has[coding] == level)
            yield Cell(kind, body, coding, level, peer)


def measure(cell, process, content, seconds):
    """One request to warm up and to look at, then as many as the time allows, one after the other over one connection."""
    try:
        client = coded.Client(cell.run.port)
        head, sent = client.get(f"/{cell.body}", cell.coding)
        cell.bytes = len(sent)
        decode = coded.decoder(cell.coding)
        if head.get("content-encoding", "identity") != cell.coding:
            cell.fault = "answers in another coding"
        elif decode and decode(sent) != content:
            cell.fault = "answers with another body"
        if cell.fault:
            return
        # What the proxy does behind the last answer belongs to the warm-up.
        time.sleep(0.02)
        before, began = process.cpu_seconds_exactly(), time.monotonic()
        while cell.requests < MOST_REQUESTS and (not cell.requests or time.monotonic() - began < seconds):
            client.get(f"/{cell.body}", cell.coding)
            cell.requests += 1
        cell.microseconds = round((process.cpu_seconds_exactly() - before) * 1e6 / cell.requests, 1)
    except OSError as error:
        cell.fault = str(error)


def table(cells, body, kinds):
    """Beside each peer's CPU time, in parentheses, what of it is not in its identity row."""
    by = {(cell.peer, cell.coding, cell.level): cell for cell in cells if cell.body == body and not cell.fault}
    rows = []
    for coding, levels in {"identity": [0], **LEVELS}.items():
        for level in levels:
            row = [coding if coding == "identity" else f"{coding} {level}"]
            for kind in kinds:
                cell, plain = by.get((kind, coding, level)), by.get((kind, "identity", 0))
                if cell is None:
                    row += ["", ""]
                else:
                    more = f" (+{cell.microseconds - plain.microseconds:.0f})" if plain and cell is not plain else ""
                    row += [f"{cell.bytes}", f"{cell.microseconds:.0f}{more}"]
            rows.append(row)
    return report.table(["coding", *(f"{kind} {what}" for kind in kinds for what in ("bytes", "µs CPU"))], rows)
