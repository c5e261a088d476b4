"""A small service as FastAPI services are: it knows nothing of tracing, metrics or the sidecar in front of it."""

import asyncio

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

app = FastAPI(title="fastapi")

ITEMS = {number: {"id": number, "name": f"item {number}", "price_cents": 100 * number} for number in range(1, 101)}


class Order(BaseModel):
    item: int
    count: int = 1


@app.get("/healthz")
async def healthz():
    return {"status": "ok"}


@app.get("/items")
async def list_items(limit: int = 20):
    return {"items": list(ITEMS.values())[: max(0, limit)]}


@app.get("/items/{item}")
async def read_item(item: int):
    if item not in ITEMS:
        raise HTTPException(404, "no such item")
    return ITEMS[item]


@app.post("/orders", status_code=201)
async def place_order(order: Order):
    item = await read_item(order.item)
    return {"item": order.item, "count": order.count, "total_cents": item["price_cents"] * order.count}


@app.get("/slow")
async def slow(seconds: float = 0.3):
    """Waits, ten seconds at most."""
    seconds = min(max(seconds, 0.0), 10.0)
    await asyncio.sleep(seconds)
    return {"waited_seconds": seconds}


@app.get("/broken")
async def broken():
    """Fails as services do: with an exception nobody expected."""
    return {"answer": 1 / 0}


@app.get("/whoami")
async def whoami(request: Request):
    """What the sidecar told this service about the request."""
    names = ("traceparent", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "forwarded")
    return {name: request.headers.get(name) for name in names}
