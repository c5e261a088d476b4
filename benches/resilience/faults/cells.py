"""What is done to apps, what the sidecar is told to do about it, and the table of both."""

from dataclasses import dataclass

from .bench import Apps, Load, run_cell, until

# When the fault begins.
BEGINS = 3.0
WORK = 0.01


def killed(apps, began, bad=0):
    until(began + BEGINS)
    apps.kill(bad)
    apps.start(bad, began + BEGINS + 2)


def frozen(apps, began, bad=0):
    until(began + BEGINS)
    apps.freeze(bad)
    until(began + BEGINS + 3)
    apps.thaw(bad)


def slowed(apps, began, bad=0):
    ordered(apps, began, bad, delay=WORK + 0.5)


def failing_a_fifth(apps, began, bad=0):
    ordered(apps, began, bad, delay=WORK, failing=0.2)


def failing(apps, began, bad=0):
    ordered(apps, began, bad, delay=WORK, failing=1.0, at_once=True)


def ordered(apps, began, bad, **order):
    until(began + BEGINS)
    apps.board.order(bad, **order)
    until(began + BEGINS + 5)
    apps.board.order(bad, delay=WORK)


def flapping(apps, began, bad=0):
    at = began + BEGINS
    for _ in range(12):
        until(at)
        apps.kill(bad)
        apps.start(bad, at + 0.2)
        at += 0.5


@dataclass
class Row:
    name: str
    fault: callable
    replicas: int = 1
    work: float = WORK


ROWS = {
    "killed": Row("killed, back after 2 s", killed),
    "frozen": Row("frozen for 3 s", frozen),
    "slowed": Row("500 ms slower for 5 s", slowed),
    "flapping": Row("down 200 ms, up 300 ms, 12 times", flapping),
    "fifth": Row("a fifth of answers 500, for 5 s", failing_a_fifth),
    "two-killed": Row("one killed, back after 2 s", killed, 2),
    "two-frozen": Row("one frozen for 3 s", frozen, 2),
    "two-slowed": Row("one 500 ms slower for 5 s", slowed, 2),
    "two-flapping": Row("one down 200 ms, up 300 ms, 12 times", flapping, 2),
    "two-failing": Row("one answers 500 at once for 5 s", failing, 2),
    "in-flight": Row("200 in flight at two of 500 ms, one frozen for 3 s", frozen, 2, 0.5),
}


def without(listen, admin, ports, row):
    """Nothing but forwarding, in turn if there is more than one app."""
    return sidecar(listen, admin, ports, [], {}, {"balance": {"algorithm": "round_robin"}, "outliers": {"enabled": False}})


def as_it_comes(listen, admin, ports, row):
    """The plugins in their places, and no setting."""
    return sidecar(listen, admin, ports, ["deadline", "circuit_breaker", "retry"], {}, {})


def tuned(listen, admin, ports, row):
    """For apps that answer in 10 ms when they are well: see docs/resilience.md, which has it as YAML."""
    return sidecar(listen, admin, ports, ["deadline", "retry"], {"retry": retrying(row)}, watching(row))


def with_breaker(listen, admin, ports, row):
    filters = {
        "retry": retrying(row),
        "circuit_breaker": {
            "enabled": True,
            "failures": {"consecutive": "none", "ratio": 0.5, "min_calls": 50, "window": "2s"},
            "open": {"for": "500ms", "growth": 1},
        },
    }
    return sidecar(listen, admin, ports, ["deadline", "circuit_breaker", "retry"], filters, watching(row))


def retrying(row):
    settings = {
        "attempts": 3,
        "on": ["connect", "refused", "reset", "timeout", "gateway_error", "5xx"],
        "per_try_timeout": "1s",
    }
    return {**settings, **({"hedge": {"enabled": True, "after": "p95"}} if row.replicas > 1 else {})}


def watching(row):
    if row.replicas == 1:
        return {}
    return {
        "health": {"check": {"http": {"path": "/healthz"}}, "interval": "500ms", "timeout": "250ms", "unhealthy": 2},
        "outliers": {"latency": {"times_others": 5}, "interval": "1s", "ejection": "3s"},
    }


def hedging(listen, admin, ports, row):
    """As it comes, and a second try beside a slow one: what hides a bad endpoint from the client hides it from the balancer too."""
    retry = {"hedge": {"enabled": True, "after": "p95"}}
    return sidecar(listen, admin, ports, ["retry"], {"retry": retry}, {})


def hedging_by_latency(listen, admin, ports, row):
    retry = {"hedge": {"enabled": True, "after": "p95"}}
    return sidecar(listen, admin, ports, ["retry"], {"retry": retry}, {"balance": {"algorithm": "ewma"}})


def timeouts(listen, admin, ports, row):
    """As it comes, and a limit for each try, after which there is another."""
    retry = {"on": ["connect", "refused", "reset", "timeout"], "per_try_timeout": "250ms"}
    return sidecar(listen, admin, ports, ["retry"], {"retry": retry}, {})


def patient(listen, admin, ports, row):
    """For one app that is restarted: a connection that is refused costs it nothing, so the budget need not spare it that."""
    retry = {
        "attempts": 10,
        "on": ["connect", "refused", "reset"],
        "backoff": {"base": "200ms", "max": "1s"},
        "budget": {"min_per_second": 1000},
    }
    return sidecar(listen, admin, ports, ["retry"], {"retry": retry}, {})


VARIANTS = {"without": without, "as it comes": as_it_comes, "tuned": tuned, "tuned, breaker": with_breaker}
# Single means, to see what each does: of `--variants` alone.
OTHERS = {"patient": patient, "hedging": hedging, "hedging, ewma": hedging_by_latency, "per_try_timeout": timeouts}


def sidecar(listen, admin, ports, chain, filters, upstream):
    return {
        "service": "shop",
        "inbound": {"listen": f"127.0.0.1:{listen}", "app": f"http://127.0.0.1:{ports[0]}"},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "upstreams": {"apps": {"endpoints": [f"http://127.0.0.1:{port}" for port in ports], **upstream}},
        "routes": [{"match": {"path": "/*"}, "upstream": "apps"}],
        "chain": chain,
        "filters": filters,
    }


def measure(fleet, ports, scratch, row, variant, requests=None):
    apps = Apps(fleet, ports, scratch, row.replicas, 10_000)
    try:
        for index in range(row.replicas):
            apps.board.order(index, delay=row.work)
        settings = lambda listen, admin, at: (VARIANTS | OTHERS)[variant](listen, admin, at, row)  # noqa: E731
        faults = lambda began: row.fault(apps, began)  # noqa: E731
        return run_cell(fleet, ports, scratch, settings, apps, requests or Load(), faults)
    finally:
        apps.stop()


def run(options, fleet, ports, scratch):
    figures = {}
    for name in chosen(options.rows, ROWS):
        for variant in options.variants.split(";") if options.variants else VARIANTS:
            came = measure(fleet, ports, scratch, ROWS[name], variant, Load(rate=options.rate))
            figures.setdefault(name, {})[variant] = came.summary()
            print(name, variant, figures[name][variant], flush=True)
    return table(figures), figures


def chosen(names, known):
    if not names:
        return list(known)
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"unknown rows {', '.join(unknown)}; known: {', '.join(known)}")
    return wanted


def table(figures):
    lines = ["| what happens | plugins | requests | errors | p50 | p99 | max | the apps saw |", "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name, by_variant in figures.items():
        for place, (variant, found) in enumerate(by_variant.items()):
            first = "" if place else ROWS[name].name
            cells = [first, variant, f"{found['requests']:,}", f"{found['errors']:,}", *(milliseconds(found[part]) for part in ("p50", "p99", "max"))]
            lines.append(f"| {' | '.join(cells)} | {found['seen']:,} |")
    return "\n".join(lines)


def milliseconds(number):
    return f"{number:,.0f} ms" if number >= 10 else f"{number:.1f} ms"
