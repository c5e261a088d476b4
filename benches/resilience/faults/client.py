"""Requests at set times, whatever becomes of those before: latency counts from when a request was due, not from when it was sent."""

import argparse
import asyncio
import gc
import json
import random

REFUSED, CLOSED, LATE = "refused", "closed", "timeout"


class Client:
    def __init__(self, options):
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.idle, self.records, self.under_way = [], [], 0
        self.dice = random.Random(options.seed)

    async def run(self):
        options = self.options
        began = due = max(options.at, self.loop.time())
        while due < began + options.seconds:
            # Of what is due, nothing waits for anything else.
            if (wait := due - self.loop.time()) > 0:
                await asyncio.sleep(wait)
            self.begin(due, due - began)
            due += self.dice.expovariate(options.rate) if options.random else 1 / options.rate
        while self.under_way:
            await asyncio.sleep(0.02)
        return {"late": round(began - options.at, 3), "records": self.records}

    def begin(self, due, offset):
        self.under_way += 1
        request = Request(self, due, offset, self.dice.randrange(self.options.keys))
        while self.idle:
            connection = self.idle.pop()
            if not connection.transport.is_closing():
                return connection.send(request)
        self.loop.create_task(self.open(request))
        return None

    async def open(self, request):
        try:
            _, connection = await self.loop.create_connection(lambda: Connection(self), "127.0.0.1", self.options.port)
        except OSError:
            return request.end(REFUSED)
        if request.over:
            self.idle.append(connection)
            return None
        return connection.send(request)


class Request:
    def __init__(self, client, due, offset, key):
        self.client, self.due, self.offset, self.key = client, due, offset, key
        self.over, self.connection = False, None
        self.timer = client.loop.call_at(due + client.options.timeout, self.late)

    def head(self):
        return b"GET / HTTP/1.1\r\nHost: app\r\nX-Key: %d\r\n\r\n" % self.key

    def late(self):
        if self.connection:
            self.connection.request = None
            self.connection.transport.abort()
        self.end(LATE)

    def end(self, came):
        if self.over:
            return
        self.over = True
        self.timer.cancel()
        self.client.under_way -= 1
        self.client.records.append((round(self.offset, 4), round(self.client.loop.time() - self.due, 6), came))


class Connection(asyncio.Protocol):
    def __init__(self, client):
        self.client, self.request, self.read = client, None, b""

    def connection_made(self, transport):
        self.transport = transport

    def send(self, request):
        self.request, request.connection = request, self
        self.transport.write(request.head())

    def data_received(self, data):
        self.read += data
        end = self.read.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.read[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if len(self.read) < end + 4 + length:
            return
        request, self.request, self.read = self.request, None, b""
        if b"connection: close" in head:
            self.transport.close()
        else:
            self.client.idle.append(self)
        if request:
            request.end(int(head[9:12]))

    def connection_lost(self, _):
        if self.request:
            self.request.end(CLOSED)


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--random", action="store_true", help="exponential times between requests, not equal ones")
    parser.add_argument("--keys", type=int, default=1000, help="how many values X-Key has")
    parser.add_argument("--timeout", type=float, default=5.0, help="after so many seconds a client gives up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at", type=float, default=0.0, help="begin at this moment of the monotonic clock")
    parser.add_argument("--out", required=True, help="file for what came: when due, seconds, status or what went wrong")
    options = parser.parse_args()
    # A collection would look like a slow request.
    gc.disable()
    came = await Client(options).run()
    with open(options.out, "w") as file:
        json.dump(came, file)


if __name__ == "__main__":
    asyncio.run(main())
