"""Results as Markdown for people and as JSON for programs."""

from statistics import median

BASELINE = "noop-proxyhttp"
HEADINGS = [
    "peer", "µs CPU/request", "min–max", f"ratio to {BASELINE}", "requests/s", "p99", "core busy", "RSS idle", "RSS after",
    "spans/requests",
]  # fmt: skip
MEMORY_HEADINGS = ["peer", "RSS before", "RSS after", "files", "bytes/entry", "misses when asked again"]


def summarize(runs, workload):
    """Per peer: medians over the rounds that count, and ratios taken within a round before their median."""
    baseline = runs.get(BASELINE)
    return {name: summary(run, baseline, workload) for name, run in runs.items() if counted(run, workload)}


def counted(run, workload):
    return [measured for measured in run.slices[workload] if not measured.fault]


def summary(run, baseline, workload):
    good = counted(run, workload)
    costs = [measured.microseconds_per_request for measured in good]
    return {
        "microseconds_per_request": round(median(costs), 2),
        "min": round(min(costs), 2),
        "max": round(max(costs), 2),
        "ratio": round_or_none(ratio(run, baseline, workload)),
        "requests_per_second": round(median(measured.requests_per_second for measured in good)),
        "p99_milliseconds": round(median(measured.p99_milliseconds for measured in good), 3),
        # The load's time alone: CPU spent after it is in the numerator, so a tracing peer may show a little over 1.
        "core_busy": round(median(measured.cpu_seconds / measured.seconds for measured in good), 2),
        "resident_idle_bytes": run.resident_idle,
        "resident_after_bytes": run.resident_after,
        "rounds_counted": len(good),
        "rounds_faulty": len(run.slices[workload]) - len(good),
        "requests_in_all": run.requests if run.peer.traces else None,
        "spans_received": run.spans if run.peer.traces else None,
    }


def ratio(run, baseline, workload):
    """Median of the ratios within each round: what disturbs a whole round disturbs both sides of it."""
    if baseline is None:
        return None
    pairs = zip(run.slices[workload], baseline.slices[workload])
    ratios = [
        mine.microseconds_per_request / unit.microseconds_per_request
        for mine, unit in pairs
        if not mine.fault and not unit.fault
    ]
    return median(ratios) if ratios else None


def round_or_none(value):
    return None if value is None else round(value, 3)


def markdown(summaries):
    return table(HEADINGS, [row(name, figures) for name, figures in summaries.items()])


def memory_markdown(weighed):
    return table(MEMORY_HEADINGS, [memory_row(name, found) for name, found in weighed.items() if not found.fault])


def table(headings, rows):
    rows = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(name, figures):
    return [
        name,
        f"{figures['microseconds_per_request']:.2f}",
        f"{figures['min']:.2f}–{figures['max']:.2f}",
        "n/a" if figures["ratio"] is None else f"{figures['ratio']:.2f}",
        f"{figures['requests_per_second']}",
        f"{figures['p99_milliseconds']:.2f} ms",
        f"{figures['core_busy']:.0%}",
        mebibytes(figures["resident_idle_bytes"]),
        mebibytes(figures["resident_after_bytes"]),
        spans(figures),
    ]


def memory_row(name, found):
    return [
        name,
        mebibytes(found.resident_before),
        mebibytes(found.resident_after),
        mebibytes(found.files) if found.files else "",
        f"{found.bytes_per_entry:.0f}",
        f"{found.misses}",
    ]


def mebibytes(count):
    return f"{count / (1 << 20):.1f} MiB"


def spans(figures):
    if figures["spans_received"] is None:
        return ""
    received, requests = figures["spans_received"], figures["requests_in_all"]
    return f"{received}/{requests} = {received / requests:.4f}"
