"""What a long history costs: list_jobs, a submit and the start with 10, 10,000 and 100,000 jobs.

Run it by hand, on a quiet machine, from the root of the project::

    python -m tests.bench.many_jobs

The three servers take turns, so that a busy machine slows all of them. What counts is how long the
server's process has worked, on average in the better half of the rounds; the time that the client
waits is shown beside it. With 10,000 jobs a figure may be at most 1.2 times that with 10, and with
100,000 at most twice that; otherwise the exit code is 1.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.bench.bench import OURS, PLAIN, Server
from tests.bench.ledger import fill
from tests.crash.vendor import Vendor
from wan_mcp.ledger.history.added_up import MOST_AT_ONCE
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.sqlite.engine import FILE, SQLiteLedger
from wan_mcp.ledger.sqlite.places import FOLDER
from wan_mcp.sandbox.http import faults

FEW = 10
MOST = {10_000: 1.2, 100_000: 2.0}
"""The most that a figure may be of that with FEW, by the number of jobs."""
ROUNDS = {"start": 7, "list_jobs": 60, "submit": 20}
WITHOUT_LIMITS = {
    "WAN_MCP_MAX_IN_FLIGHT": "100000",
    "WAN_MCP_MAX_SUBMITS_PER_MINUTE": "100000",
    "WAN_MCP_MAX_CREDITS_PER_DAY": "100000000",
}


class Took(NamedTuple):
    """Seconds: that the client waited, and that the server's process worked."""

    waited: float
    worked: float


Measure = Callable[[Server, int], object]


def main() -> int:
    """Measure and print. Returns 0 if every figure is within its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sizes", nargs="*", type=int, default=list(MOST))
    sizes = [FEW, *parser.parse_args().sizes]
    keys = {size: f"pd_{size}" for size in sizes}  # each has requests of its own in a minute
    with (
        TemporaryDirectory(prefix="wan-mcp-bench-") as scratch,
        Vendor({"": (faults.honest(),)}, keys.values(), credits=1e6, at_once=[""]) as vendor,
    ):
        settings = {}
        for size in sizes:
            data = Path(scratch) / str(size)
            account = {"PIXELDOJO_API_BASE": vendor.bases[""], "PIXELDOJO_API_KEY": keys[size]}
            asyncio.run(_filled(data, account, size))
            settings[size] = {**account, **PLAIN, **WITHOUT_LIMITS, "WAN_MCP_DATA_DIR": str(data)}
        found = {"start": {size: [_start(settings[size])] for size in sizes}}
        for _ in range(ROUNDS["start"] - 1):
            for size in sizes:
                found["start"][size].append(_start(settings[size]))
        with ExitStack() as stack:
            servers = {size: _serving(stack, settings[size]) for size in sizes}
            found["list_jobs"] = _in_turns(servers, "list_jobs", _list)
            found["submit"] = _in_turns(servers, "submit", _submit)
    met = [_report(name, took) for name, took in found.items()]
    return 0 if all(met) else 1


def _in_turns(servers: dict[int, Server], name: str, measure: Measure) -> dict[int, list[Took]]:
    found: dict[int, list[Took]] = {size: [] for size in servers}
    for number in range(-3, ROUNDS[name]):  # the first ones fill caches
        for size, server in servers.items():
            began, worked = time.perf_counter(), server.worked()
            measure(server, number)
            took = Took(time.perf_counter() - began, server.worked() - worked)
            if number >= 0:
                found[size].append(took)
    return found


def _start(settings: dict[str, str]) -> Took:
    """From the start of the process to the first list of jobs."""
    began = time.perf_counter()
    server = Server(OURS, **settings)
    try:
        server.initialize()
        server.call("list_jobs")
        return Took(time.perf_counter() - began, server.worked())
    finally:
        server.close()


def _list(server: Server, number: int) -> None:
    server.call("list_jobs")


def _submit(server: Server, number: int) -> None:
    server.call(
        "replace_character",
        video=f"https://media.example/{number + 10}.mp4",
        character_image="https://media.example/face.png",
    )


def _serving(stack: ExitStack, settings: dict[str, str]) -> Server:
    server = Server(OURS, **settings)
    stack.callback(server.close)
    server.initialize()
    return server


async def _filled(data: Path, of: dict[str, str], jobs: int) -> None:
    """A ledger with so many jobs, as a server leaves it that has served for a while."""
    ledger = SQLiteLedger(data / FOLDER, limits=SpendingLimits())
    account = await ledger.account(of["PIXELDOJO_API_BASE"], of["PIXELDOJO_API_KEY"])
    fill(data / FOLDER / FILE, account, datetime.now(UTC), jobs)
    for _ in range(1 + jobs // MOST_AT_ONCE):
        await ledger.recover()  # adds up what has ended
    await ledger.aclose()


def _report(name: str, took: dict[int, list[Took]]) -> bool:
    """Print the figures of one measurement. Returns whether they are within their limits."""
    worked, waited = ({size: _better_half(each, i) for size, each in took.items()} for i in (1, 0))
    met = True
    for size in took:
        ratio, most = worked[size] / worked[FEW], MOST.get(size, 1.0)
        is_met = size == FEW or ratio <= most
        met = met and is_met
        sys.stdout.write(
            f"{name:10} {size:7} jobs {ratio:6.2f} (at most {most:g}{'' if is_met else ', MISSED'})"
            f": work {worked[size]:.1f} ms, waited {waited[size]:.1f} ms"
            f" ({waited[size] / waited[FEW]:.2f})\n"
        )
    return met


def _better_half(took: list[Took], which: int) -> float:
    """The mean of the shorter half, in milliseconds."""
    shorter = sorted(each[which] for each in took)[: (len(took) + 1) // 2]
    return mean(shorter) * 1000


if __name__ == "__main__":
    sys.exit(main())
