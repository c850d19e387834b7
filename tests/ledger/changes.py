"""What may happen from outside to the ledger under a running server, and who judges the outcome.

The sandbox counts the charges: never two for one request, and never a paid job that no server lists
and that no server speaks of.
"""

import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio

from wan_mcp.sandbox import Sandbox
from wan_mcp.sandbox.http import faults

RUN = "/api/v1/models/*/run"
OTHER_SEED = 101
NOTICE = "About wan-mcp's ledger"


@dataclass(frozen=True)
class Place:
    """Where a change happens.

    Attributes:
        data: the data folder of the servers.
        older: a copy of the ledger's folder from before the last payments.
        other: the ledger of somebody else.
    """

    data: Path
    older: Path
    other: Path

    @property
    def folder(self) -> Path:
        return self.data / "ledger"

    @property
    def file(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def log(self) -> Path:
        return self.folder / "ledger.db-wal"

    def replace(self, source: Path) -> None:
        """As sync and backup programs do: a new file takes the place of the old one."""
        part = self.folder / "part"
        shutil.copyfile(source, part)
        part.replace(self.file)

    def write_over(self, source: Path) -> None:
        """As `cp` does: the file stays, and its content is another."""
        shutil.copyfile(source, self.file)


def _cut(path: Path, size: int = 0) -> None:
    os.truncate(path, size)


def _replace_folder(place: Place) -> None:
    place.folder.rename(place.data / "ledger.away")
    shutil.copytree(place.older, place.folder)


def _link_folder(place: Place) -> None:
    place.folder.rename(place.data / "ledger.away")
    place.folder.symlink_to(place.older)


CHANGES: dict[str, Callable[[Place], object]] = {
    "deleted": lambda place: place.file.unlink(),
    "moved away": lambda place: place.file.rename(place.data / "ledger.db.away"),
    "replaced by an older copy": lambda place: place.replace(place.older / "ledger.db"),
    "older copy written over it": lambda place: place.write_over(place.older / "ledger.db"),
    "replaced by an empty file": lambda place: place.replace(Path(os.devnull)),
    "replaced by another ledger": lambda place: place.replace(place.other / "ledger.db"),
    "log deleted": lambda place: place.log.unlink(),
    "log cut short": lambda place: _cut(place.log),
    "cut to nothing": lambda place: _cut(place.file),
    "cut in half": lambda place: _cut(place.file, place.file.stat().st_size // 2),
    "folder renamed": lambda place: place.folder.rename(place.data / "ledger.away"),
    "folder replaced": _replace_folder,
    "folder is a link that moved": _link_folder,
}


class Host(Protocol):
    """A host on a server."""

    @property
    def sandbox(self) -> Sandbox: ...

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]: ...


Serve = Callable[[Path], AbstractAsyncContextManager[Host]]
"""Starts a server with its data in a folder, on the same sandbox."""


async def submit(host: Host, seed: int) -> dict[str, Any]:
    """The answer to one submit, once it is not in progress any more."""
    inputs = {"video": host.sandbox.source_video_url, "character_image": host.sandbox.image_url}
    while True:
        answer = await host.call("replace_character", **inputs, seed=seed)
        if answer.get("status") != "submitting":
            return answer


@dataclass
class Outcome:
    """What a change led to.

    Attributes:
        charges: how often each job was paid for, by what was asked for.
        in_the_air: the answer to the request that was under way when the change happened.
        refusals: why the running server refused a new request, and what to do.
        listed: the job ids that the last server lists.
        paid: the job ids that were paid for.
        notice: what the last server says about its ledger, in its list or instead of one.
    """

    charges: Counter[str]
    in_the_air: dict[str, Any]
    refusals: list[dict[str, Any]]
    listed: set[str]
    paid: set[str]
    notice: str

    def broken(self) -> list[str]:
        """The promises that were broken."""
        twice = [f"paid {count} times: {what}" for what, count in self.charges.items() if count > 1]
        lost = [] if self.notice else [f"not listed: {id}" for id in self.paid - self.listed]
        return twice + lost


@asynccontextmanager
async def _older(serve: Serve, data: Path) -> AsyncIterator[Place]:
    """Two ledgers with one payment each, and a copy of the first."""
    other = data.with_name("other")
    for folder in (data, other):
        folder.mkdir()
        async with serve(folder) as host:
            await submit(host, 1 if folder == data else OTHER_SEED)
    shutil.copytree(data / "ledger", data.with_name("older"))
    yield Place(data, data.with_name("older"), other / "ledger")


async def outcome_of(change: Callable[[Place], object], serve: Serve, data: Path) -> Outcome:
    """Make a change under a server that has paid, and that has a paid request in the air.

    Then everything that was asked for is asked for again: of this server, of one that starts beside
    it, and of one that starts when both have ended.
    """
    async with _older(serve, data) as place, serve(data) as first:
        await submit(first, 2)
        in_the_air = await _in_the_air(first, lambda: change(place))
        refusals = [await submit(first, 4)]
        for seed in range(1, 5):
            await submit(first, seed)
        async with serve(data) as beside:
            for seed in range(1, 6):
                await submit(beside, seed)
            refusals.append(await submit(first, 6))
    async with serve(data) as last:
        for seed in range(1, 7):
            await submit(last, seed)
        listed = await last.call("list_jobs", limit=50)
        return _outcome(last.sandbox, in_the_air, refusals, listed)


async def _in_the_air(host: Host, change: Callable[[], object]) -> dict[str, Any]:
    """Submit the third job, and make a change between its payment and the answer."""
    sandbox, gate = host.sandbox, anyio.Event()
    sandbox.fault("POST", RUN, faults.held(faults.honest(), after=gate))
    before, answers = len(sandbox.charges), list[dict[str, Any]]()

    async def third() -> None:
        answers.append(await submit(host, 3))

    async with anyio.create_task_group() as calls:
        calls.start_soon(third)
        await sandbox.until(lambda: len(sandbox.charges) > before)
        change()
        gate.set()
    return answers[0]


def _outcome(
    sandbox: Sandbox,
    in_the_air: dict[str, Any],
    refusals: list[dict[str, Any]],
    listed: dict[str, Any],
) -> Outcome:
    about = NOTICE in listed["message"] or listed.get("code") == "ledger_unavailable"
    seeds = {charge.job_id: charge.body["seed"] for charge in sandbox.charges}
    return Outcome(
        charges=Counter(f"seed {seed}" for seed in seeds.values()),
        in_the_air=in_the_air,
        refusals=refusals,
        listed={line["job_id"] for line in listed.get("jobs", ())},
        paid={id for id, seed in seeds.items() if seed != OTHER_SEED},
        notice=listed["message"] if about else "",
    )
