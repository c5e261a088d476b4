"""Latency by percentile as SVG, drawn by hand: both scales are logarithmic, so that each nine is as wide as the one before."""

import math

from .bench import percentile

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
NINES = 3.0
LOWEST, HIGHEST = 1.0, 4000.0


def percentiles(title, curves):
    """`curves` are names, colours and latencies in seconds, in order."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{title}</text>',
    ]
    for nines, name in [(0, "0"), (math.log10(2), "p50"), (1, "p90"), (2, "p99"), (3, "p99.9")]:
        parts.append(f'<path d="M{across(nines):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{across(nines):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{name}</text>')
    for milliseconds in [1, 10, 100, 1000]:
        parts.append(f'<path d="M{LEFT} {up(milliseconds):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(milliseconds) + 4:.1f}" text-anchor="end">{milliseconds:,} ms</text>')
    for place, (name, colour, latencies) in enumerate(curves):
        points = []
        for step in range(101):
            nines = NINES * step / 100
            points.append(f"{across(nines):.1f},{up(1000 * percentile(latencies, 1 - 10**-nines)):.1f}")
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = TOP + 16 + 16 * place
        parts.append(f'<path d="M{LEFT + 12} {at}h20" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 38}" y="{at + 4}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def across(nines):
    return LEFT + (WIDTH - LEFT - RIGHT) * nines / NINES


def up(milliseconds):
    bounded = min(max(milliseconds, LOWEST), HIGHEST)
    part = math.log10(bounded / LOWEST) / math.log10(HIGHEST / LOWEST)
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
