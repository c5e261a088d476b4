"""Bodies to compress, generated: the same bytes in every run, and as repetitive as what apps answer, not more."""

import json
import random

FIRST = "Ada Alan Barbara Claude Donald Edsger Frances Grace Hedy John Katherine Ken Leslie Linus Margaret Niklaus Radia Tim".split()
LAST = "Allen Backus Dijkstra Hamilton Hopper Johnson Kernighan Knuth Lamarr Lamport Liskov Lovelace Perlman Shannon Turing".split()
WORDS = """the of and to in is for on with that as by it from or be this are at an was not which can has will have one all you each
    other more when use time order item price stock ship return size color warm soft cotton wool summer winter light heavy case water
    steel wood paper glass hand made small large fine simple strong care wash cold dry year month day free offer new old best first
    delivery customer review quality material design outdoor indoor kitchen garden office travel family""".split()
STATES = ["pending", "paid", "packed", "shipped", "delivered", "returned"]


def sentence(dice, words):
    return " ".join(dice.choice(WORDS) for _ in range(words)).capitalize() + "."


def record(dice):
    """One order, as an API lists them: keys that repeat, values of which some do."""
    first, last = dice.choice(FIRST), dice.choice(LAST)
    return {
        "id": f"{dice.getrandbits(128):032x}",
        "number": dice.randrange(100_000, 999_999),
        "state": dice.choice(STATES),
        "createdAt": f"2025-{dice.randrange(1, 13):02}-{dice.randrange(1, 29):02}T{dice.randrange(24):02}:{dice.randrange(60):02}:07Z",
        "customer": {"name": f"{first} {last}", "email": f"{first}.{last}{dice.randrange(99)}@example.org".lower()},
        "total": round(dice.uniform(5, 900), 2),
        "currency": dice.choice(["EUR", "USD"]),
        "gift": dice.random() < 0.1,
        "note": None if dice.random() < 0.7 else sentence(dice, dice.randrange(4, 14)),
        "lines": [
            {
                "sku": f"SKU-{dice.randrange(10_000):04}",
                "title": " ".join(dice.choice(WORDS) for _ in range(3)),
                "quantity": dice.randrange(1, 5),
                "price": round(dice.uniform(1, 200), 2),
            }
            for _ in range(dice.randrange(1, 4))
        ],
    }


def listing(size, seed=1):
    """JSON of about that many bytes: more by one order at the most."""
    dice = random.Random(seed)
    orders, length = [], 0
    while length < size - 30:
        orders.append(json.dumps(record(dice), separators=(",", ":")))
        length += len(orders[-1]) + 1
    return ('{"page":1,"orders":[' + ",".join(orders) + "]}").encode()


CARD = """<li class="group relative flex flex-col overflow-hidden rounded-lg border border-gray-200 bg-white"><a href="/p/{slug}" \
class="aspect-h-4 aspect-w-3 bg-gray-200 sm:aspect-none group-hover:opacity-75 sm:h-96"><img alt="{title}" loading="lazy" width="640" \
height="480" decoding="async" data-nimg="1" class="h-full w-full object-cover object-center" style="color:transparent" \
srcSet="/_next/image?url=%2Fimages%2F{image}.jpg&amp;w=640&amp;q=75 1x, /_next/image?url=%2Fimages%2F{image}.jpg&amp;w=1920&amp;q=75 2x" \
src="/_next/image?url=%2Fimages%2F{image}.jpg&amp;w=1920&amp;q=75"/></a><div class="flex flex-1 flex-col space-y-2 p-4"><h3 \
class="text-sm font-medium text-gray-900">{title}</h3><p class="text-sm text-gray-500">{about}</p><p class="text-base font-medium \
text-gray-900">{price}<!-- --> €</p></div></li>"""


def page(seed=1):
    """HTML in the manner of a server-rendered Next.js page: markup of one component many times, and its data again as JSON."""
    dice = random.Random(seed)
    chunk = lambda: f"/_next/static/chunks/{dice.randrange(9999)}-{dice.getrandbits(64):016x}.js"  # noqa: E731
    scripts = [chunk() for _ in range(14)]
    products = [
        {
            "slug": f"{dice.choice(WORDS)}-{dice.choice(WORDS)}-{dice.randrange(9999)}",
            "title": " ".join(dice.choice(WORDS) for _ in range(3)).title(),
            "about": sentence(dice, dice.randrange(12, 30)),
            "image": f"{dice.getrandbits(64):016x}",
            "price": f"{dice.uniform(5, 200):.2f}",
            "tags": [dice.choice(WORDS) for _ in range(4)],
            "stock": dice.randrange(200),
        }
        for _ in range(64)
    ]
    state = {"props": {"pageProps": {"products": products}}, "page": "/shop", "buildId": f"{dice.getrandbits(120):030x}", "isFallback": False}
    head = "".join(f'<script src="{script}" defer=""></script>' for script in scripts)
    cards = "".join(CARD.format(**product) for product in products)
    data = json.dumps(state, separators=(",", ":"))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charSet="utf-8"/><meta name="viewport" content="width=device-width"/>'
        f'<title>Shop</title>{head}</head><body><div id="__next"><main class="mx-auto max-w-7xl px-4"><ul class="grid grid-cols-1 '
        f'gap-y-4 sm:grid-cols-2 lg:grid-cols-3">{cards}</ul></main></div><script id="__NEXT_DATA__" type="application/json">'
        f"{data}</script></body></html>"
    ).encode()


# File name to its bytes.
BODIES = {
    "1k.json": lambda: listing(1 << 10),
    "16k.json": lambda: listing(16 << 10),
    "64k.json": lambda: listing(64 << 10),
    "1m.json": lambda: listing(1 << 20),
    "page.html": page,
}
