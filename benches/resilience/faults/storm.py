"""What an app sees of retries while it fails: counted at the app, beside what clients asked for."""

from dataclasses import dataclass, field

from .bench import ASKED_BEFORE, Apps, Load, run_cell
from .cells import WORK, chosen, sidecar

SECONDS = 9
# As `budget` has it when it is not set; the load is shorter than its window of ten seconds, which has thirty in any case.
RATIO, FLOOR, WINDOW = 0.2, 3, 10
UNBOUNDED = {"ratio": 1, "min_per_second": 100_000}
TRIES = {"attempts": 3, "on": ["5xx"]}


@dataclass
class Row:
    name: str
    failing: float
    retry: dict
    breaker: dict = field(default_factory=dict)


ROWS = {
    "fifth-unbounded": Row("3 attempts, no budget to speak of", 0.2, {**TRIES, "budget": UNBOUNDED}),
    "fifth": Row("3 attempts", 0.2, TRIES),
    "fifth-ten": Row("10 attempts", 0.2, {**TRIES, "attempts": 10}),
    "fifth-breaker": Row("3 attempts, the breaker as it comes", 0.2, TRIES, {"enabled": True}),
    "fifth-ratio": Row(
        "3 attempts, the breaker by share alone", 0.2, TRIES, {"enabled": True, "failures": {"consecutive": "none"}}
    ),
    "all-unbounded": Row("3 attempts, no budget to speak of", 1.0, {**TRIES, "budget": UNBOUNDED}),
    "all": Row("3 attempts", 1.0, TRIES),
    "all-ten": Row("10 attempts", 1.0, {**TRIES, "attempts": 10}),
    "all-breaker": Row("3 attempts, the breaker as it comes", 1.0, TRIES, {"enabled": True}),
}


def run(options, fleet, ports, scratch):
    figures = {}
    for name in chosen(options.rows, ROWS):
        row = ROWS[name]
        apps = Apps(fleet, ports, scratch, 1, 10_000)
        filters = {"retry": row.retry, **({"circuit_breaker": row.breaker} if row.breaker else {})}
        settings = lambda listen, admin, at: sidecar(  # noqa: E731
            listen, admin, at, ["circuit_breaker", "retry"], filters, {"outliers": {"enabled": False}}
        )
        try:
            apps.board.order(0, delay=WORK)
            load = Load(rate=options.rate, seconds=SECONDS)
            fail = lambda _: apps.board.order(0, delay=WORK, failing=row.failing)  # noqa: E731
            figures[name] = run_cell(fleet, ports, scratch, settings, apps, load, fail).summary()
        finally:
            apps.stop()
        print(name, figures[name], flush=True)
    return table(figures), figures


def table(figures):
    lines = [
        "| the app fails | retry | requests | the app saw | beyond | the budget allows | probes | errors |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in figures.items():
        row = ROWS[name]
        allowed = "" if "budget" in row.retry else f"{RATIO * (found['requests'] + ASKED_BEFORE) + FLOOR * WINDOW:,.0f}"
        probes = sum(count for metric, count in found["metrics"].items() if "breaker_probes_total" in metric)
        beyond = max(0, found["seen"] - found["requests"])
        cells = [f"{row.failing:.0%}", row.name, f"{found['requests']:,}", f"{found['seen']:,}", f"{beyond:,}", allowed]
        lines.append(f"| {' | '.join([*cells, f'{probes:.0f}' if row.breaker else '', f'''{found['errors']:,}'''])} |")
    return "\n".join(lines)
