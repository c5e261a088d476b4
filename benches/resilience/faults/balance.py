"""Ten apps of which one is slow or fails: what each algorithm gives it, and what the slowest requests take."""

import time

from . import plot
from .bench import OUT, PERCENTILES, Apps, Load, run_cell
from .cells import chosen, sidecar

APPS, AT_A_TIME, RATE = 10, 8, 600
WORK, SLOW = 0.01, 0.1
# Until the algorithms know their endpoints.
WARM_UP = 5
OFF = {"enabled": False}
BY_KEY = {"algorithm": "consistent_hash", "hash": {"header": "X-Key"}}
# Name, colour, settings of the upstream: as in docs/upstreams.md.
CONTENDERS = {
    "round_robin": ("#c0392b", {"balance": {"algorithm": "round_robin"}, "outliers": OFF}),
    "consistent_hash": ("#8e44ad", {"balance": BY_KEY, "outliers": OFF}),
    "consistent_hash, max_load": ("#d35400", {"balance": {**BY_KEY, "max_load": 1.25}, "outliers": OFF}),
    "round_robin, outliers.latency": ("#7f8c8d", {"balance": {"algorithm": "round_robin"}, "outliers": {"latency": {}}}),
    "least_requests": ("#2980b9", {"balance": {"algorithm": "least_requests"}, "outliers": OFF}),
    "ewma": ("#27ae60", {"balance": {"algorithm": "ewma"}, "outliers": OFF}),
}
NAMES = {name.replace(", ", "+"): name for name in CONTENDERS}


def run(options, fleet, ports, scratch):
    wanted = [NAMES[name] for name in chosen(options.rows, NAMES)]
    slow, failing, curves = {}, {}, []
    for name in wanted:
        slow[name], latencies = one(fleet, ports, scratch, name, options.seconds, {"delay": SLOW, "exponential": True})
        curves.append((name, CONTENDERS[name][0], latencies))
        print(name, slow[name], flush=True)
    for name in wanted:
        if CONTENDERS[name][1]["outliers"] is OFF:
            order = {"delay": WORK, "failing": 1.0, "at_once": True}
            failing[name], _ = one(fleet, ports, scratch, name, min(20, options.seconds), order)
            print(name, failing[name], flush=True)
    (OUT / "balance.svg").write_text(plot.percentiles("One of ten endpoints ten times as slow, measured", curves))
    return f"{slow_table(slow)}\n\n{failing_table(failing)}", {"slow": slow, "failing": failing}


def one(fleet, ports, scratch, name, seconds, order):
    """The first app is told `order`; figures are of after the warm-up."""
    apps = Apps(fleet, ports, scratch, APPS, AT_A_TIME)
    seen = []

    def after_warm_up(began):
        time.sleep(max(0, began + WARM_UP - time.monotonic()))
        seen.extend(apps.board.get(index, 0) for index in range(APPS))

    try:
        for index in range(APPS):
            apps.board.order(index, delay=WORK, exponential=True)
        apps.board.order(0, **order)
        settings = lambda listen, admin, at: sidecar(listen, admin, at, [], {}, CONTENDERS[name][1])  # noqa: E731
        load = Load(rate=RATE, seconds=WARM_UP + seconds, random=True, timeout=20.0)
        came = run_cell(fleet, ports, scratch, settings, apps, load, after_warm_up)
        came.seen = [apps.board.get(index, 0) - before for index, before in enumerate(seen)]
    finally:
        apps.stop()
    came.records = [record for record in came.records if record[0] >= WARM_UP]
    summary = came.summary()
    summary["share"] = [round(100 * count / sum(came.seen), 2) for count in came.seen]
    return summary, sorted(seconds for _, seconds, _ in came.records)


def slow_table(figures):
    lines = [
        f"| `balance` | to the slow one | to each of the others | {' | '.join(PERCENTILES)} | max |",
        f"| --- | ---: | ---: | {' | '.join('---:' for _ in PERCENTILES)} | ---: |",
    ]
    for name, found in figures.items():
        first, *others = found["share"]
        times = [f"{found[part]:,.0f} ms" for part in [*PERCENTILES, "max"]]
        lines.append(f"| {written(name)} | {first:.1f} % | {min(others):.1f} to {max(others):.1f} % | {' | '.join(times)} |")
    return "\n".join(lines)


def failing_table(figures):
    lines = ["| `balance` | to the one that fails | requests | failed |", "| --- | ---: | ---: | ---: |"]
    for name, found in figures.items():
        failed = f"{100 * found['errors'] / found['requests']:.2f} %"
        lines.append(f"| {written(name)} | {found['share'][0]:.1f} % | {found['requests']:,} | {failed} |")
    return "\n".join(lines)


def written(name):
    return ", ".join(f"`{part}`" for part in name.replace("max_load", "max_load: 1.25").split(", "))


