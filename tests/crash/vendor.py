"""The sandbox in a process of its own, so that its charges survive the clients that are killed."""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Self

import anyio

from wan_mcp.sandbox import Charge, Fault, Sandbox, Terms

RUN = "/api/v1/models/*/run"
FORK = multiprocessing.get_context("fork")


class Vendor:
    """One sandbox for each behaviour, all on one event loop in a forked process.

    Args:
        behaviours: the faults of the submits, by name. They are repeated in this order.
        keys: the API keys that have an account.
        credits: the credits of each account; a job costs 10.
        at_once: the behaviours with which a job ends as soon as it was bought.
    """

    def __init__(
        self,
        behaviours: Mapping[str, Sequence[Fault]],
        keys: Iterable[str],
        *,
        credits: float = 1000,
        at_once: Collection[str] = (),
    ) -> None:
        self._ours, theirs = FORK.Pipe()
        usual = Terms(credits=credits)
        quick = replace(usual, pending_seconds=0, processing_seconds=0)
        terms = {name: quick if name in at_once else usual for name in behaviours}
        serve = (theirs, behaviours, list(keys), terms)
        self._process = FORK.Process(target=_serve, args=serve, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self.bases: dict[str, str] = self._ours.recv()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()

    def close(self) -> list[Charge]:
        """Stop the sandboxes. Returns every charge."""
        self._ours.send("close")
        charges: list[Charge] = self._ours.recv()
        self._process.join()
        return charges


def repeated(charges: Iterable[Charge]) -> list[str]:
    """The requests that were paid more than once, each as its key and video."""
    requests = Counter((charge.key, charge.body["video"]) for charge in charges)
    return [f"{key} {video}" for (key, video), count in requests.items() if count > 1]


def _serve(
    pipe: Connection,
    behaviours: Mapping[str, Sequence[Fault]],
    keys: list[str],
    terms: Mapping[str, Terms],
) -> None:
    asyncio.run(_listen(pipe, behaviours, keys, terms))


async def _listen(
    pipe: Connection,
    behaviours: Mapping[str, Sequence[Fault]],
    keys: list[str],
    terms: Mapping[str, Terms],
) -> None:
    async with AsyncExitStack() as open_ones:
        sandboxes = {}
        for name, faults in behaviours.items():
            sandbox = await open_ones.enter_async_context(Sandbox(terms[name]))
            sandbox.fault("POST", RUN, *faults, times=None)
            for key in keys:
                sandbox.open_account(key)
            sandboxes[name] = sandbox
        pipe.send({name: sandbox.api_base for name, sandbox in sandboxes.items()})
        await anyio.wait_readable(pipe.fileno())
        pipe.recv()
    pipe.send([charge for sandbox in sandboxes.values() for charge in sandbox.charges])
