"""A team at work while everything fails: charges, ids, limits, and who sees what.

Run it by hand, from the root of the project, where HAProxy and PostgreSQL of Debian are installed.
The full form takes about half an hour, because PixelDojo allows 60 requests a minute to a key::

    python -m tests.storm.run
    python -m tests.storm.run --jobs 60 --users 4        (about three minutes)

Ten people of two teams, each with a token of their own, call three replicas behind HAProxy. A team
has one PixelDojo key. A part of all requests to PixelDojo fails in one of nine ways. A replica is
killed every 20 seconds. The database is restarted, killed and started, and in the end killed for
good, so that its standby takes over. The charges that the sandbox counts, and the rows of the
ledger and of the audit, decide. If a promise was broken, the exit code is 1.

People ask for more than they may have, so every limit refuses jobs or lets them wait: the credits
of a day of one person, of a team and of a wallet, the jobs at the same time of a person and of a
wallet, and the paid requests of a wallet in a minute. `test_storm.py` is the smallest form: there
the limits of a wallet refuse nothing.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.to_thread

from tests.replicas.caller import Caller
from tests.storm import figures
from tests.storm.database import Pair, paired
from tests.storm.deployment import Deployment, deployed
from tests.storm.limits import PRICE, Limits
from tests.storm.people import Person, Traces, Work
from tests.storm.team import add_people, limit_days, write_key_ring
from tests.storm.vendor import PixelDojo, pixeldojo

SETTLE_SECONDS = 600.0
"""How long it may take after the storm until what was paid for is in the ledger and the audit."""
STRANGE_LOOKS = 60
"""How many ids are asked for by somebody whose they are not."""


def main(given: Sequence[str] | None = None) -> int:
    """Let the storm blow and print the figures. Returns 1 if a promise was broken."""
    found = storm(given)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 1 if figures.broken(found) else 0


def storm(given: Sequence[str] | None = None) -> dict[str, Any]:
    """Let the storm blow. Returns the figures."""
    options = _options(given)
    limits = _limits(options)
    keys = [f"pd_wallet_{number}" for number in range(options.wallets)]
    began = time.monotonic()
    with ExitStack() as ending:
        folder = Path(ending.enter_context(TemporaryDirectory()))
        database = ending.enter_context(paired())
        dojo = ending.enter_context(pixeldojo(keys, options.faults, options.seed))
        ring = write_key_ring(folder / "key-ring")
        everybody = add_people(
            *(database.url, ring, dojo.api_base, keys, options.users, options.of_a_person)
        )
        days = limits.of_a_team * PRICE, limits.of_the_first * PRICE
        limit_days(database.url, options.wallets, *days)
        settings = {
            "PIXELDOJO_API_BASE": dojo.api_base,
            "WAN_MCP_LEDGER_URL": database.url,
            "WAN_MCP_SIGN_IN": "tokens",
            "WAN_MCP_KEY_RING_FILE": str(folder / "key-ring"),
            "WAN_MCP_MAX_IN_FLIGHT": str(options.in_flight),
            "WAN_MCP_MAX_SUBMITS_PER_MINUTE": str(options.per_minute),
            "WAN_MCP_MAX_CREDITS_PER_DAY": str(limits.asked * PRICE),  # others refuse first
            "WAN_MCP_MAX_QUEUED": "1000",
        }
        deployment = ending.enter_context(deployed(options.replicas, settings, folder))
        found = anyio.run(Storm(options, limits, database, dojo, deployment, everybody).blow)
    found["seconds"] = round(time.monotonic() - began)
    return found


def _options(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--wallets", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2_000, help="that limits of a day allow")
    parser.add_argument("--at-once", type=int, default=4, help="calls of one user")
    parser.add_argument("--faults", type=float, default=0.05, help="the share of each fault")
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds; 0 for never")
    parser.add_argument(
        "--breaks",
        nargs="*",
        choices=("restart", "crash", "fail-over", "kill"),
        default=["restart", "crash", "fail-over"],
        help="what breaks, each when another part of all jobs is done; kill is of a replica",
    )
    parser.add_argument("--in-flight", type=int, default=12, help="of one wallet")
    parser.add_argument("--of-a-person", type=int, default=3, help="in flight, of one user")
    parser.add_argument("--per-minute", type=int, default=40, help="paid requests of one wallet")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(given)
    if options.users < 2 * options.wallets:
        parser.error("each wallet needs two users, of whom the first has a limit of their own")
    return options


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(
        teams=options.wallets,
        people=options.users,
        jobs=options.jobs,
        in_flight=options.in_flight,
        of_a_person=options.of_a_person,
        per_minute=options.per_minute,
    )


class Storm:
    """One run."""

    def __init__(
        self,
        options: argparse.Namespace,
        limits: Limits,
        database: Pair,
        dojo: PixelDojo,
        deployment: Deployment,
        everybody: Sequence[Person],
    ) -> None:
        self._options = options
        self._limits = limits
        self._database = database
        self._dojo = dojo
        self._deployment = deployment
        self._url = deployment.balancer.url
        self._everybody = everybody
        self._dice = random.Random(options.seed)
        self._traces = Traces()
        self._broken: list[str] = []

    async def blow(self) -> dict[str, Any]:
        """Let everybody work until all jobs have ended. Returns the figures."""
        async with anyio.create_task_group() as faults:
            every = self._options.kill_every
            faults.start_soon(self._deployment.kill_now_and_then, every, self._dice)
            async with anyio.create_task_group() as working:
                working.start_soon(self._break)
                for person in self._everybody:
                    working.start_soon(self._work, person)
            faults.cancel_scope.cancel()
        self._dojo.calm()
        settled_in = await self._settle()
        return await self._figures(settled_in)

    async def _work(self, person: Person) -> None:
        """Ask for this person's jobs, some at once."""
        at_once = anyio.Semaphore(self._options.at_once)
        dice = random.Random(self._options.seed + person.number)
        video, image = self._dojo.links

        async def make(work: Work, seed: int) -> None:
            async with at_once:
                await work.make({"video": video, "character_image": image, "seed": seed})

        async with (
            Caller(self._url, headers=person.headers) as caller,
            anyio.create_task_group() as jobs,
        ):
            work = Work(person, caller, self._traces, dice)
            for seed in range(person.number, self._limits.asked, self._limits.people):
                jobs.start_soon(make, work, seed)

    async def _break(self) -> None:
        """Break one thing after the other, each when another part of all jobs is done."""
        steps: dict[str, Callable[[], None]] = {
            "restart": self._database.restart,
            "crash": self._database.crash,
            "fail-over": self._database.fail_over,
            "kill": partial(self._deployment.kill_one, self._dice),
        }
        for number, name in enumerate(self._options.breaks, 1):
            await self._traces.until(self._options.jobs * number // (len(self._options.breaks) + 1))
            await anyio.to_thread.run_sync(steps[name])
            self._broken.append(name)

    async def _settle(self) -> float:
        """Wait until ledger and audit have every charge. Returns how many seconds it took."""
        began = time.monotonic()
        while time.monotonic() - began < SETTLE_SECONDS:
            paid, _ = self._dojo.paid()
            is_settled = figures.Rows(self._database).are_settled(paid)
            if is_settled and not figures.not_once_in_audit(self._database, paid):
                break
            await anyio.sleep(1)
        return time.monotonic() - began

    async def _figures(self, settled_in: float) -> dict[str, Any]:
        traces = self._traces
        paid, failed = self._dojo.paid()
        rows = figures.Rows(self._database)
        charged = {each.body["seed"] for each in paid}
        strange = await figures.seen_by_strangers(self._url, self._everybody, traces, STRANGE_LOOKS)
        return {
            "jobs": self._options.jobs,
            "charges": len(paid),
            "charged twice": figures.twice(paid),
            **figures.of_ids(traces.ids, rows.ids),
            "charges not in the ledger": len({each.job_id for each in paid} - rows.ids),
            "jobs seen by strangers": strange,
            **self._limits.figures(paid, rows.sent),
            "given up because of a limit of the day": dict(traces.over),
            "jobs without an end": self._limits.asked - traces.done.total(),
            "answers that nobody can go on from": len(traces.unsafe),
            "left half-way": rows.under_way + len(rows.unknown & charged),
            "charges that the audit does not have once": figures.not_once_in_audit(
                self._database, paid
            ),
            "how they ended": dict(traces.done),
            "states in the ledger": dict(rows.states),
            "failed requests to PixelDojo": failed,
            "broken on purpose": self._broken,
            "processes killed": self._deployment.kills,
            "calls": dict(traces.calls.most_common()),
            "replicas taken out by HAProxy": self._deployment.said_down(),
            "said": sorted(set(traces.unsafe)),
            "settled in seconds": round(settled_in, 1),
        }


if __name__ == "__main__":
    sys.exit(main())
