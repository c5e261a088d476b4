"""Processes: started on one core, stopped together whatever happens, read from /proc."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
CPUCLOCK_SCHED = 2
# Loaded before any fork: the child must not import or allocate more than it has to.
LIBC = ctypes.CDLL(None)


class Process:
    """One program, pinned to a core, in a process group of its own, its output in a file."""

    def __init__(self, name, command, core, log):
        def in_child():
            os.sched_setaffinity(0, {core})
            # A runner that is killed outright cannot clean up: let the kernel tell its children.
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

        self.name = name
        self.log = log
        with open(log, "wb") as output:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=in_child,
            )

    def alive(self):
        return self.popen.poll() is None

    def wait_listening(self, ports, timeout=10):
        """None once every port accepts, else why not."""
        deadline = time.monotonic() + timeout
        waiting = list(ports)
        while waiting:
            if not self.alive():
                return f"exited with {self.popen.returncode} at start: {self.last_words()}"
            if time.monotonic() > deadline:
                return f"did not listen within {timeout} s: {self.last_words()}"
            waiting = [port for port in waiting if not accepts(port)]
            time.sleep(0.02)
        return None

    def last_words(self):
        lines = self.log.read_text(errors="replace").split("\n")
        return " / ".join(line.strip() for line in lines if line.strip())[-400:] or "(no output)"

    def cpu_seconds(self):
        """User and system time of the whole tree so far; None when the program is gone."""
        if not self.alive():
            return None
        return sum(cpu_ticks(pid) for pid in tree(self.popen.pid)) / TICKS_PER_SECOND

    def cpu_seconds_exactly(self):
        """The same to the nanosecond: for loads of a few requests."""
        return sum(cpu_nanoseconds(pid) for pid in tree(self.popen.pid)) / 1e9

    def resident_bytes(self):
        """Resident set of the whole tree; pages its processes share count once for each."""
        return sum(resident_bytes(pid) for pid in tree(self.popen.pid))


class Fleet:
    """Everything that was started; leaving the `with` block ends it all."""

    def __init__(self, out):
        self.out = out
        self.members = []
        # The share of the CPU in a fight with others' sessions: each session is a group of its own to the scheduler.
        self.preferred = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A second Ctrl-C must not leave half of them running; this takes three seconds at most.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for member in self.members:
            self.ask(member)
        deadline = time.monotonic() + 3
        while any(member.alive() for member in self.members) and time.monotonic() < deadline:
            time.sleep(0.02)
        for member in self.members:
            end_group(member)

    def start(self, name, command, core):
        process = Process(name, command, core, self.out / f"{name}.log")
        self.members.append(process)
        if self.preferred:
            prefer(process.popen.pid)
        return process

    def stop(self, process):
        self.ask(process)
        try:
            process.popen.wait(timeout=3)
        except subprocess.TimeoutExpired:
            pass
        end_group(process)
        self.members.remove(process)

    @staticmethod
    def ask(process):
        if process.alive():
            process.popen.terminate()


def prefer(pid):
    """The session of that process before all others; as root, and where the scheduler groups by session."""
    Path(f"/proc/{pid}/autogroup").write_text("-20")


def end_group(process):
    """Kills what is left of a process group; nginx workers outlive a master that was killed."""
    try:
        os.killpg(process.popen.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.popen.wait()


def accepts(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


class Ports:
    """Free loopback ports, from below the range that outgoing connections are given theirs from."""

    def __init__(self, first=21000):
        self.next = first

    def take(self):
        while self.next < 32000:
            port, self.next = self.next, self.next + 1
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
        raise RuntimeError("no free loopback port between 21000 and 32000")


def tree(pid):
    """A process and all that descend from it."""
    yield pid
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = listing.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def cpu_ticks(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The command name may hold spaces and parentheses; fields 14 and 15 are counted from after it.
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def cpu_nanoseconds(pid):
    """As `cpu_ticks`, to the nanosecond: by the clock that the kernel has for each process."""
    try:
        return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)
    except OSError:
        return 0


def resident_bytes(pid):
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.split("\n"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def allocated_bytes(folder):
    """What the files below a folder occupy; on a tmpfs that is memory. Nothing for no folder."""
    if folder is None:
        return 0
    return sum(path.lstat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())


def machine_busy_seconds():
    """CPU time all cores spent on anything but idling, since boot; stolen time counts as spent."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
