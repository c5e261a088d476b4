"""A client that takes coded bodies, over one connection, and what it needs to understand them."""

import importlib
import socket
import zlib


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.socket.makefile("rb", buffering=1 << 18)

    def get(self, path, coding):
        """Head and body as it was sent, without its framing; anything but a 200 is an error."""
        self.ask(path, coding)
        head = self.head()
        if "content-length" in head:
            return head, self.exactly(int(head["content-length"]))
        return head, b"".join(self.chunks())

    def ask(self, path, coding):
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: {coding}\r\n\r\n".encode())

    def head(self):
        status = self.answers.readline()
        if status[9:12] != b"200":
            raise OSError(f"answered {status.decode(errors='replace').strip() or 'nothing'}")
        head = {}
        while (line := self.answers.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            head[name.lower()] = value.strip()
        return head

    def chunks(self):
        while size := int(self.answers.readline().partition(b";")[0], 16):
            yield self.exactly(size)
            self.answers.readline()
        self.answers.readline()

    def exactly(self, length):
        body = self.answers.read(length)
        if len(body) < length:
            raise OSError("the answer was cut short")
        return body


def decoder(coding):
    """A function of a piece that gives what is in it; None if there is no library for that coding."""
    if coding == "identity":
        return bytes
    if coding == "gzip":
        return zlib.decompressobj(wbits=31).decompress
    try:
        if coding == "br":
            return importlib.import_module("brotli").Decompressor().process
        return importlib.import_module("zstandard").ZstdDecompressor().decompressobj().decompress
    except ImportError:
        return None
