"""Many requests of several processes at once, with a PixelDojo that fails: what becomes of each.

    python -m tests.payments.queue_storm

sends 200 requests of four processes, with 3 jobs in flight and 6 requests a minute allowed, and
faults of 5 % each, in virtual time: once with a ledger in a file, and once in PostgreSQL. Prints
the figures; the exit code is 1 if a promise was broken.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from time import monotonic

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
A_MINUTE = timedelta(minutes=1)
LONGEST_SECONDS = 2 * 3_600.0
BROKEN_PROMISES = (
    "charged twice",
    "over the limit in flight",
    "over the limit of a minute",
    "out of order",
    "without a reason",
    "still open",
)


@dataclass(frozen=True)
class Storm:
    """How many requests come at once, from how many processes; and which chances are drawn.

    A job lasts so long that each of the two limits is what the next request waits for at times.
    """

    processes: int
    requests: int
    seed: int = 12
    in_flight: int = 3
    per_minute: int = 6
    job_seconds: float = 25.0


async def run(storm: Storm, ledger: Path | str, time: VirtualTime) -> Counter[str]:
    """The figures of a storm; each of BROKEN_PROMISES must be 0.

    Args:
        ledger: as for `Cluster`; without any record.
    """
    chances = random.Random(storm.seed)
    vendor = PaidVendor(time, lambda number: _fault(chances), lasts=storm.job_seconds)
    limits = SpendingLimits(None, 1e6, storm.in_flight, storm.per_minute, queued=storm.requests)
    cluster = Cluster(ledger, time, vendor)
    refused: dict[str, str] = {}
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


async def _submit(process: Process, user: int, storm: Storm, refused: dict[str, str]) -> None:
    for link in _links(storm, user):
        try:
            await process.jobs.submit(Replacement(video=link, character_image=f"{link}.png"))
        except WanError as failure:
            refused[link] = failure.what


def _links(storm: Storm, user: int) -> list[str]:
    count = storm.requests // storm.processes
    return [f"https://media.example/{user}/{number}.mp4" for number in range(count)]


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
    storm: Storm, vendor: PaidVendor, records: list[Record], refused: dict[str, str]
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
    figures["most in a minute"] = most = _most_in_a_minute(records)
    figures["over the limit of a minute"] = int(most > storm.per_minute)
    figures["out of order"] = sum(b < a for order in orders for a, b in pairwise(order))
    unexplained = [each for each in records if each.state not in _EXPLAINED and not each.error]
    recorded = {each.arguments["video"] for each in records}
    asked = {link for user in range(storm.processes) for link in _links(storm, user)}
    silent = [link for link in asked - recorded if not refused.get(link)]
    figures["without a reason"] = len(unexplained) + len(silent)
    figures["still open"] = sum(each.state in OPEN - {State.UNKNOWN} for each in records)
    figures.update(f"ended {each.state}" for each in records)
    return figures


def _most_in_a_minute(records: Sequence[Record]) -> int:
    """By when they were claimed or dispatched: the first byte of one may leave seconds later."""
    times = [each.created_at for each in records if each.state is not State.NOT_SENT]
    windows = ([timedelta(0) <= at - first < A_MINUTE for at in times] for first in times)
    return max(map(sum, windows), default=0)


_EXPLAINED = {State.COMPLETED, State.ACCEPTED, *OPEN}


def _place(link: str) -> tuple[str, str]:
    user, name = link.removeprefix("https://media.example/").split("/")
    return user, name.removesuffix(".mp4")


def whole(storm: Storm, ledger: Path | str) -> Counter[str]:
    """The figures of a storm that is run here, with the seconds that it took."""
    time, began = VirtualTime(), monotonic()
    _, options = time.backend()
    with watched_threads():
        figures = anyio.run(run, storm, ledger, time, backend_options=options)
    figures["virtual seconds"] = round(time.passed())
    figures["seconds"] = round(monotonic() - began)
    return figures


def main(given: Sequence[str] | None = None) -> int:
    """Run the storm on each engine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=ENGINES, action="append", help="both of them")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=Storm.seed)
    options = parser.parse_args(given)
    storm, broken = Storm(options.processes, options.requests, options.seed), False
    for engine in options.engine or ENGINES:
        with ENGINES[engine]() as ledger:
            figures = whole(storm, ledger)
        sys.stdout.write(f"{engine} {json.dumps(figures, indent=1)}\n")
        sys.stdout.flush()
        broken |= any(figures[promise] for promise in BROKEN_PROMISES)
    return 1 if broken else 0


@contextmanager
def _file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "ledger"


@contextmanager
def _database() -> Iterator[str]:
    from tests.postgres.fixtures import TEMPLATE, prepare
    from tests.postgres.server import shared_server

    with shared_server(prepare) as server:
        yield server.url(TEMPLATE)


ENGINES: dict[str, Callable[[], AbstractContextManager[Path | str]]] = {
    "sqlite": _file,
    "postgres": _database,
}


if __name__ == "__main__":
    sys.exit(main())
