"""Several servers on one ledger get the same requests at the same moment.

    python tests/crash/race.py --processes 8 --keys 500

Each key is one request, which every process makes once. The charges that the sandbox counts decide.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import anyio
import anyio.to_thread

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.crash.life import MAX_RUN_SECONDS, Host, serve
from tests.crash.vendor import FORK, Vendor, repeated
from wan_mcp.errors import WanError
from wan_mcp.jobs import Jobs
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.record import UNSETTLED, State
from wan_mcp.ledger.status import JobView
from wan_mcp.models import Replacement
from wan_mcp.sandbox import KEY
from wan_mcp.sandbox.http import faults

CALLS_AT_ONCE = 20
"""After so many calls at the same time, a process waits for the others."""


@dataclass
class Start:
    """Where a process waits for the others. It is set before the fork: it cannot be pickled."""

    barrier: Barrier | None = None


START = Start()


def main(given: Sequence[str] | None = None) -> int:
    """Run the race and print the figures. Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--keys", type=int, default=500)
    options = parser.parse_args(given)
    videos = [f"https://media.example/video{number}.mp4" for number in range(options.keys)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        honest = {"honest": (faults.honest(),)}
        with Vendor(honest, [KEY], credits=10.0 * options.processes * options.keys) as vendor:
            host = Host(vendor.bases["honest"], KEY, Path(folder))
            answers = _race(options.processes, host, videos)
            charges = vendor.close()
        ids, states = asyncio.run(_ledger(host, 10 * options.keys))
    figures = {
        "calls": len(answers) * len(videos),
        "charges": len(charges),
        "charged twice": len(repeated(charges)),
        "keys with two job ids": _differing(answers, ids),
        "bought by each process": [sum(each.bought) for each in answers],
        "records": len(states),
        "left half-way": sum(state in UNSETTLED for state in states),
        "seconds": round(time.monotonic() - began, 1),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    right = len(charges) == len(videos) == len(states)
    return 0 if right and not figures["keys with two job ids"] else 1


@dataclass(frozen=True)
class Answers:
    """What one process got: for each video an id, and whether its call bought the job."""

    ids: list[str]
    bought: list[bool]


def _race(processes: int, host: Host, videos: list[str]) -> list[Answers]:
    START.barrier = FORK.Barrier(processes)
    with ProcessPoolExecutor(processes, mp_context=FORK) as pool:
        return list(pool.map(_run, [host] * processes, [videos] * processes))


def _run(host: Host, videos: list[str]) -> Answers:
    return asyncio.run(_ask_for_all(host, videos))


async def _ask_for_all(host: Host, videos: list[str]) -> Answers:
    submissions: dict[str, JobView] = {}
    assert START.barrier is not None
    async with serve(host) as (jobs, ledger):
        for first in range(0, len(videos), CALLS_AT_ONCE):
            # Otherwise the process that is scheduled first runs ahead, and there is no race.
            await anyio.to_thread.run_sync(START.barrier.wait)
            async with anyio.create_task_group() as tasks:
                for video in videos[first : first + CALLS_AT_ONCE]:
                    tasks.start_soon(_ask, jobs, video, submissions)
        # A server that stops sends nothing more, so every payment must have ended before.
        await _all_settled(ledger, submissions.values())
        await jobs.drain(MAX_RUN_SECONDS)
    answers = [submissions[video] for video in videos]
    ids = [answer.id for answer in answers]
    return Answers(ids, [not answer.joined for answer in answers])


async def _ask(jobs: Jobs, video: str, submissions: dict[str, JobView]) -> None:
    wanted = Replacement(video=video, character_image="https://media.example/face.png")
    while video not in submissions:
        try:
            submissions[video] = await jobs.submit(wanted)
        except WanError as failure:
            # A very slow machine connects too late, or waits too long for the ledger.
            if not failure.retry_safe:
                raise


async def _all_settled(ledger: Ledger, submissions: Iterable[JobView]) -> None:
    for submission in submissions:
        if submission.record is not None:
            await ledger.settled(submission.record.submission_id, MAX_RUN_SECONDS)


async def _ledger(host: Host, limit: int) -> tuple[dict[str, str], list[str]]:
    async with serve(host) as (jobs, _):
        found = await jobs.recent(None, limit)
    records = [each.record for each in found if each.record]
    ids = {record.submission_id: record.public_id for record in records}
    return ids, [record.state for record in records if record.state is not State.NOT_SENT]


def _differing(answers: Sequence[Answers], ids: dict[str, str]) -> int:
    """How many videos got different ids. A submission id counts as the id of its job."""
    named = zip(*([ids.get(id, id) for id in each.ids] for each in answers), strict=True)
    return sum(len(set(of_one)) > 1 for of_one in named)


if __name__ == "__main__":
    sys.exit(main())
