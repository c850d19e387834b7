"""PixelDojo in a process of its own, where a part of all requests fails. It counts the charges."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import anyio

from tests.crash.vendor import FORK
from wan_mcp.sandbox import Fault, Sandbox, Terms
from wan_mcp.sandbox.http import faults
from wan_mcp.sandbox.http.faults import Scripts

JOB_SECONDS = (1.0, 4.0)
"""How long a job waits, and how long it is made after that."""
PER_MINUTE = 60
"""How many requests a minute PixelDojo allows to a key."""
CREDITS = 1e9
_PAGE = "<!doctype html><title>502</title><h1>Bad gateway</h1>"

# Each loses the answer to a paid request after the work, except the last two, which say that
# nothing was done. What is lost before the work stays unknown for twenty minutes, because only
# three readings of the list prove it; the half hour of tests/bench/soak.py has that, too.
FAULTS: Mapping[str, Callable[[random.Random], Fault]] = {
    "reset": lambda dice: faults.reset(work=True),
    "closed": lambda dice: faults.dropped(work=True),
    "500": lambda dice: faults.status(500, work=True),
    "502, a page": lambda dice: faults.status(502, _PAGE, work=True),
    "cut": lambda dice: faults.cut(dice.randrange(60)),
    "garbage": lambda dice: faults.status(200, "\x00{]" + "?" * dice.randrange(99), work=True),
    "slow": lambda dice: faults.held(faults.honest(), after=5.0),
    "429": lambda dice: faults.status(429, headers={"Retry-After": "2"}),
    "429 without a time": lambda dice: faults.status(429),
}


@dataclass(frozen=True)
class Paid:
    """A job that was charged.

    Attributes:
        body: the request.
        began: when it was charged, in seconds on PixelDojo's clock.
        amount: what it cost, in credits.
    """

    key: str
    job_id: str
    body: Mapping[str, Any]
    began: float
    amount: float


class Faults(Scripts):
    """A random fault for each request, or none.

    Args:
        share: of each fault, among all requests.
    """

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self.count = 0
        self._share = share
        self._dice = random.Random(seed)

    def next(self, method: str, path: str) -> Fault | None:
        """The fault of this request."""
        number = int(self._dice.random() / self._share) if self._share else len(FAULTS)
        if number >= len(FAULTS):
            return None
        self.count += 1
        return [*FAULTS.values()][number](self._dice)


class PixelDojo:
    """The process.

    Attributes:
        api_base: of its API.
        links: a video and a picture that it takes.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.api_base, *links = pipe.recv()
        self.links: tuple[str, str] = (links[0], links[1])

    def calm(self) -> None:
        """From now on no request fails."""
        self._pipe.send("calm")
        self._pipe.recv()

    def paid(self) -> tuple[list[Paid], int]:
        """Every charge so far, oldest first, and how many requests have failed."""
        self._pipe.send("paid")
        found: tuple[list[Paid], int] = self._pipe.recv()
        return found


@contextmanager
def pixeldojo(
    keys: Sequence[str], share: float, seed: int, credits: float = CREDITS
) -> Iterator[PixelDojo]:
    """PixelDojo, with an account for each key.

    Args:
        share: of each of FAULTS, among all requests.
        credits: on each account.
    """
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_serve, args=(theirs, keys, share, seed, credits), daemon=True)
    process.start()
    try:
        yield PixelDojo(ours)
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection, keys: Sequence[str], share: float, seed: int, credits: float) -> None:
    asyncio.run(_listen(pipe, keys, Faults(share, seed), credits))


async def _listen(pipe: Connection, keys: Sequence[str], scripts: Faults, credits: float) -> None:
    waits, makes = JOB_SECONDS
    terms = Terms(
        credits=credits,
        pending_seconds=waits,
        processing_seconds=makes,
        requests_per_minute=PER_MINUTE,
    )
    async with Sandbox(terms) as sandbox:
        sandbox.scripts = scripts
        for key in keys:
            sandbox.open_account(key)
        pipe.send((sandbox.api_base, sandbox.source_video_url, sandbox.image_url))
        while True:
            await anyio.wait_readable(pipe.fileno())
            if pipe.recv() == "calm":
                sandbox.scripts = Scripts()
            pipe.send((_paid(sandbox), scripts.count))


def _paid(sandbox: Sandbox) -> list[Paid]:
    jobs = sandbox.vendor.jobs
    return [
        Paid(each.key, each.job_id, each.body, jobs[each.job_id].created, each.amount)
        for each in sandbox.charges
    ]
