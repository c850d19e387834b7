"""How long a host waits for the first answers, beside a bare server of one tool.

Run it by hand, on a quiet machine, from the root of the project::

    python -m tests.bench.start [quiet] [busy]

Both servers start in every round, so that a busy machine slows both. Each time is from the start of
the process to the answer; figures are medians. `busy` is the same beside four busy loops. If a
target is missed, the exit code is 1.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.bench import BARE, HELLO, OURS, Server

MODERN = "2026-07-28"
_PREFIX = "io.modelcontextprotocol/"
ENVELOPE = {
    f"{_PREFIX}protocolVersion": MODERN,
    f"{_PREFIX}clientInfo": HELLO["clientInfo"],
    f"{_PREFIX}clientCapabilities": {},
}
TARGETS = {
    "initialize": 0.15,
    "tools/list": 0.2,
    "list_jobs": 1.05,
    "server/discover": 0.15,
    "tools/list (modern)": 0.2,
    "list_jobs (modern)": 1.05,
}
"""The most that our time may be of that of the bare server."""
MAX_FIRST_MS = {"quiet": 100.0, "busy": 400.0}
BUSY_LOOPS = 4

Times = dict[str, float]


def handshake(command: list[str], tool: str, settings: dict[str, str]) -> Times:
    """A client of an earlier revision: its first three answers."""
    begin = time.perf_counter()
    with _opened(command, settings) as server:
        times = {}
        server.initialize()
        times["initialize"] = time.perf_counter() - begin
        server.ask("tools/list")
        times["tools/list"] = time.perf_counter() - begin
        server.ask("tools/call", name=tool, arguments=_arguments(tool))
        times["list_jobs"] = time.perf_counter() - begin
    return times


def modern(command: list[str], tool: str, settings: dict[str, str]) -> Times:
    """A client of 2026-07-28: its first three answers."""
    begin = time.perf_counter()
    with _opened(command, settings) as server:
        times = {}
        server.ask("server/discover", _meta=ENVELOPE)
        times["server/discover"] = time.perf_counter() - begin
        server.ask("tools/list", _meta=ENVELOPE)
        times["tools/list (modern)"] = time.perf_counter() - begin
        server.ask("tools/call", name=tool, arguments=_arguments(tool), _meta=ENVELOPE)
        times["list_jobs (modern)"] = time.perf_counter() - begin
    return times


def _arguments(tool: str) -> dict[str, Any]:
    return {} if tool == "list_jobs" else {"job_id": "1"}


@contextmanager
def _opened(command: list[str], settings: dict[str, str]) -> Iterator[Server]:
    server = Server(command, **settings)
    try:
        yield server
    finally:
        server.close()


def measured(rounds: int) -> list[tuple[Times, Times]]:
    """Our times and those of the bare server, of each round after the first, which fills caches."""
    found = []
    with TemporaryDirectory(prefix="wan-mcp-bench-") as folder:
        settings = {
            "PIXELDOJO_API_KEY": "pd_bench",
            "PIXELDOJO_API_BASE": "http://127.0.0.1:9/api/v1",  # nothing may be asked
            "WAN_MCP_DATA_DIR": folder,
            "XDG_CACHE_HOME": folder,
        }
        for _ in range(rounds + 1):
            ours: Times = {}
            bare: Times = {}
            for client in (handshake, modern):
                ours |= client(OURS, "list_jobs", settings)
                bare |= client(BARE, "get_job_status", {})
            found.append((ours, bare))
    return found[1:]


def report(condition: str, found: list[tuple[Times, Times]]) -> bool:
    """Print every figure beside its target. Returns whether all targets are met."""
    met = True
    for name, target in TARGETS.items():
        ours, bare = (
            median(times[name] for times in column) for column in zip(*found, strict=True)
        )
        ratio = median(a[name] / b[name] for a, b in found)
        is_first = name in ("initialize", "server/discover")
        is_met = ratio <= target and not (is_first and ours * 1000 > MAX_FIRST_MS[condition])
        met = met and is_met
        print(
            f"{condition:6} {name:20} {ratio:6.3f} (at most {target:.2f}"
            f"{'' if is_met else ', MISSED'}): {ours * 1000:.0f} ms, bare {bare * 1000:.0f} ms"
        )
    return met


@contextmanager
def busy_loops() -> Iterator[None]:
    """Other programs that take all the time they can get."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY_LOOPS)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> int:
    """Measure what the command line names, or both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("condition", nargs="*", metavar="|".join(MAX_FIRST_MS))
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    met = []
    for condition in given.condition or MAX_FIRST_MS:
        if condition == "busy":
            with busy_loops():
                met.append(report(condition, measured(given.rounds)))
        else:
            met.append(report(condition, measured(given.rounds)))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
