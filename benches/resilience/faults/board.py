"""What apps count and are told, in a file that all map: counts outlive a killed app, and orders reach one without a request."""

import mmap
import struct

# What an app has of it, each a 64-bit number. The first three it counts, the others it is told.
SEEN, CHECKS, FAILED, DELAY_MICROSECONDS, EXPONENTIAL, FAIL_PER_MILLION, AT_ONCE = range(7)
ROW = 8


class Board:
    def __init__(self, path, apps=None):
        """Maps the file; with a number of apps it is made anew for them, all zero."""
        if apps is not None:
            with open(path, "wb") as file:
                file.write(struct.pack("Q", 0) * ROW * apps)
        with open(path, "r+b") as file:
            self.numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")

    def get(self, app, what):
        return self.numbers[app * ROW + what]

    def set(self, app, what, number):
        self.numbers[app * ROW + what] = number

    def add(self, app, what):
        self.numbers[app * ROW + what] += 1

    def order(self, app, delay=0.0, failing=0.0, exponential=False, at_once=False):
        """Seconds an answer takes, and the share of 500s; those come after the delay as well, or at once."""
        self.set(app, DELAY_MICROSECONDS, round(delay * 1e6))
        self.set(app, FAIL_PER_MILLION, round(failing * 1e6))
        self.set(app, EXPONENTIAL, int(exponential))
        self.set(app, AT_ONCE, int(at_once))
