"""An app: answers GETs after a while, a bounded number at a time, and does as the board says. One process, one port."""

import argparse
import asyncio
import collections
import random
import socket
import time

from faults.board import AT_ONCE, CHECKS, DELAY_MICROSECONDS, EXPONENTIAL, FAIL_PER_MILLION, FAILED, SEEN, Board

BODY = b'{"ok":true}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
# Of nginx and Node.js.
BACKLOG = 511


class App:
    def __init__(self, board, index, at_a_time):
        self.board, self.index, self.free = board, index, at_a_time
        self.waiting = collections.deque()
        self.loop = asyncio.get_running_loop()

    def arrived(self, connection):
        self.board.add(self.index, SEEN)
        if self.free == 0:
            self.waiting.append(connection)
        else:
            self.free -= 1
            self.work(connection)

    def work(self, connection):
        told = lambda what: self.board.get(self.index, what)  # noqa: E731
        failing = random.random() * 1e6 < told(FAIL_PER_MILLION)
        seconds = told(DELAY_MICROSECONDS) / 1e6
        if told(EXPONENTIAL):
            seconds = random.expovariate(1 / seconds)
        if failing and told(AT_ONCE):
            seconds = 0.0
        self.loop.call_later(seconds, self.answer, connection, failing)

    def answer(self, connection, failing):
        if failing:
            self.board.add(self.index, FAILED)
        connection.transport.write(BAD if failing else GOOD)
        # Whoever left while waiting is not worked for.
        while self.waiting and self.waiting[0].transport.is_closing():
            self.waiting.popleft()
        if self.waiting:
            self.work(self.waiting.popleft())
        else:
            self.free += 1


class Connection(asyncio.Protocol):
    def __init__(self, app):
        self.app, self.read = app, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            head, self.read = self.read[:end], self.read[end + 4 :]
            # Health says that the process is there, as most apps' does, whatever becomes of requests.
            if head.startswith(b"GET /healthz "):
                self.app.board.add(self.app.index, CHECKS)
                self.transport.write(GOOD)
            else:
                self.app.arrived(self)


async def serve(options):
    app = App(Board(options.board), options.index, options.at_a_time)
    while (wait := options.at - time.monotonic()) > 0:
        await asyncio.sleep(wait)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(app), sock=listener, backlog=BACKLOG)
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--board", required=True)
    parser.add_argument("--index", type=int, required=True, help="which row of the board")
    parser.add_argument("--at-a-time", type=int, default=10_000, help="further requests wait")
    parser.add_argument("--at", type=float, default=0.0, help="listen at this moment of the monotonic clock, not before")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
