"""Many requests of several processes at once, with a PixelDojo that fails: what becomes of each.

    python -m tests.payments.queue_storm

sends 200 requests of four processes, with 3 jobs in flight and 6 requests a minute allowed, and
faults of 5 % each, in virtual time. Prints the figures; the exit code is 1 if a promise was broken.
"""

import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import anyio

from tests.payments.paid_vendor import PaidVendor
from tests.polling.processes import Cluster, Process
from tests.virtual_time import VirtualTime, watched_threads
from wan_mcp.errors import WanError
from wan_mcp.ledger.record import OPEN, Record, State
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.models import Replacement

FAULTS: tuple[str | int, ...] = ("unreachable", "lost", "dropped", 429, 422, 500)
SHARE = 0.05
"""How often each fault happens."""
LONGEST_SECONDS = 2 * 3_600.0
BROKEN_PROMISES = (
    "charged twice",
    "over the limit in flight",
    "out of order",
    "without a reason",
    "still open",
)


@dataclass(frozen=True)
class Storm:
    """How many requests come at once, from how many processes; and which chances are drawn."""

    processes: int
    requests: int
    seed: int = 1
    in_flight: int = 3
    per_minute: int = 6


async def run(storm: Storm, folder: Path, time: VirtualTime) -> Counter[str]:
    """The figures of a storm; each of BROKEN_PROMISES must be 0."""
    chances = random.Random(storm.seed)
    vendor = PaidVendor(time, fault=lambda number: _fault(chances))
    limits = SpendingLimits(None, 1e6, storm.in_flight, storm.per_minute, queued=storm.requests)
    cluster = Cluster(folder / "ledger", time, vendor)
    refused: list[str] = []
    async with AsyncExitStack() as opened:
        processes = [
            await opened.enter_async_context(cluster.process(limits=limits))
            for _ in range(storm.processes)
        ]
        async with anyio.create_task_group() as tasks:
            for user, process in enumerate(processes):
                tasks.start_soon(_submit, process, user, storm, refused)
        records = await _ended(processes[0], storm)
    return _figures(storm, vendor, records, refused)


async def _submit(process: Process, user: int, storm: Storm, refused: list[str]) -> None:
    for number in range(storm.requests // storm.processes):
        link = f"https://media.example/{user}/{number}.mp4"
        try:
            await process.jobs.submit(Replacement(video=link, character_image=f"{link}.png"))
        except WanError as failure:
            refused.append(failure.what)


async def _ended(process: Process, storm: Storm) -> list[Record]:
    """All records, once the queue is empty and nothing runs; or when that takes too long."""
    records: list[Record] = []
    with anyio.move_on_after(LONGEST_SECONDS):
        while True:
            await anyio.sleep(30)
            records = await process.ledger.recent(process.account, limit=2 * storm.requests)
            if not any(each.state in OPEN - {State.UNKNOWN} for each in records):
                return records
    return records


def _fault(chances: random.Random) -> str | int | None:
    drawn = chances.random()
    return FAULTS[int(drawn / SHARE)] if drawn < SHARE * len(FAULTS) else None


def _figures(
    storm: Storm, vendor: PaidVendor, records: list[Record], refused: list[str]
) -> Counter[str]:
    places = [tuple(map(int, _place(each.body["video"]))) for each in vendor.charges]
    orders = [[number for user, number in places if user == each] for each in range(99)]
    figures = Counter(dict.fromkeys(BROKEN_PROMISES, 0))
    figures["requests"] = storm.requests
    figures["records"] = len(records)
    figures["refused calls"] = len(refused)
    figures["charges"] = len(vendor.charges)
    figures["posts"] = len(vendor.posts)
    figures["charged twice"] = len(vendor.repeated())
    figures["most at once"] = vendor.most_at_once
    figures["over the limit in flight"] = int(vendor.most_at_once > storm.in_flight)
    figures["out of order"] = sum(b < a for order in orders for a, b in pairwise(order))
    unexplained = [each for each in records if each.state not in _EXPLAINED and not each.error]
    figures["without a reason"] = len(unexplained) + sum(not why for why in refused)
    figures["without a reason"] += storm.requests - len(records) - _without_record(refused)
    figures["still open"] = sum(each.state in OPEN - {State.UNKNOWN} for each in records)
    figures.update(f"ended {each.state}" for each in records)
    return figures


_EXPLAINED = {State.COMPLETED, State.ACCEPTED, *OPEN}


def _without_record(refused: list[str]) -> int:
    return sum("At most" in why for why in refused)


def _place(link: str) -> tuple[str, str]:
    user, name = link.removeprefix("https://media.example/").split("/")
    return user, name.removesuffix(".mp4")


def main() -> int:
    """Run the whole storm."""
    time = VirtualTime()
    _, options = time.backend()
    with watched_threads(), tempfile.TemporaryDirectory() as folder:
        figures = anyio.run(run, Storm(4, 200), Path(folder), time, backend_options=options)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 1 if any(figures[broken] for broken in BROKEN_PROMISES) else 0


if __name__ == "__main__":
    sys.exit(main())
