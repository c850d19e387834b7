"""Kill a server at every event-loop step and SQL statement of a submit, then repeat the call.

    python tests/crash/run.py --kills 10000

For each behaviour of PixelDojo, eight rounds together kill a server with SIGKILL at every step. In
every second case the next server is killed too, at a random step. Then a server runs to its end: it
repeats the call as its user would, checks the id that it gets, and lists the jobs. Every case has a
new key and a new ledger. The charges that the sandbox counts decide.

    python tests/crash/run.py --kills 10000 --postgres

The same with the ledger in PostgreSQL, which the rig of the tests starts. After a kill no lease is
waited for: the time of the dead server is said to be over.
"""

import argparse
import gc
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.crash.databases import end_leases, ledgers
from tests.crash.life import (
    Host,
    Traces,
    Work,
    beside,
    clean,
    come_back,
    run_killed,
    submit,
)
from tests.crash.queue_life import (
    come_back_queued,
    come_back_three,
    come_back_to_withdraw,
    submit_and_withdraw,
    submit_queued,
    submit_three,
    take_over,
)
from tests.crash.vendor import FORK, Vendor, repeated
from wan_mcp.errors import WanError
from wan_mcp.ledger.record import UNSETTLED, State
from wan_mcp.sandbox import Charge, Fault
from wan_mcp.sandbox.http import faults

BEHAVIOURS: dict[str, Sequence[Fault]] = {
    "fast": (faults.honest(),),
    "slow": (faults.held(faults.honest(), before=0.01, after=0.03),),
    "dropped": (faults.dropped(work=True),),
    "500": (faults.status(500, work=True), faults.status(500, work=False)),
    "queue": (faults.honest(),),
    "queue in flight": (faults.honest(),),
    "queue taken over": (faults.honest(),),
    "queue withdrawn": (faults.honest(),),
}
WORK: dict[str, tuple[Work, Work]] = {
    "queue": (submit_queued, come_back_queued),
    "queue in flight": (submit_three, come_back_three),
    "queue taken over": (submit_three, come_back_three),
    "queue withdrawn": (submit_and_withdraw, come_back_to_withdraw),
}
"""What servers do first, and what after a crash, where that is not one submit and its repetition.
One request of each is queued: in "queue" and "queue withdrawn" until a minute is over, and in the
other two until a job has ended."""
BESIDE = {"queue taken over": take_over}
"""What another server does, which serves beside the one that is killed."""
AT_ONCE = ("queue in flight", "queue taken over")
"""Where jobs end at once."""
ROUNDS = 8
MAX_SECOND_KILL_STEP = 200
"""The second server is killed at a random step up to this one; most take a few more steps."""


@dataclass(frozen=True)
class Case:
    """The servers of one key: those that were killed, in order, and the last one, which was not."""

    behaviour: str
    key: str
    dead: list[Traces]
    clean: Traces

    @property
    def kills(self) -> int:
        return sum(traces.killed for traces in self.dead)


def main(given: Sequence[str] | None = None) -> int:
    """Kill the servers and print the figures. Returns 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--behaviour", choices=BEHAVIOURS, action="append", help="all of them")
    parser.add_argument(
        "--postgres",
        nargs="?",
        const="",
        metavar="URL",
        help="the ledger is in PostgreSQL, at the address of a ledger that nobody uses, or in a "
        "server that is started here",
    )
    parser.add_argument("--round", type=int, default=0, help=f"the first of the {ROUNDS} rounds")
    parser.add_argument("--sparse", type=int, default=1, help="kill at every n-th of those steps")
    options = parser.parse_args(given)
    began = time.monotonic()
    with (
        ledgers(options.postgres, options.workers) as urls,
        ProcessPoolExecutor(options.workers, mp_context=FORK) as pool,
    ):
        shares = [
            Share(
                number,
                options.workers,
                -(-options.kills // options.workers),
                options.behaviour or list(BEHAVIOURS),
                options.round,
                options.sparse,
                url,
            )
            for number, url in enumerate(urls)
        ]
        figures = Counter[str]()
        for done in pool.map(run_share, shares):
            figures.update(evaluate(*done))
    figures["seconds"] = round(time.monotonic() - began)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 1 if any(figures[broken] for broken in BROKEN_PROMISES) else 0


@dataclass(frozen=True)
class Share:
    """What one of several workers does.

    Attributes:
        number: which of them it is, from 0.
        workers: how many there are. It kills at every `workers`-th step.
        kills: how often it kills.
        names: the behaviours of PixelDojo.
        first_round: the first of the rounds.
        sparse: it kills at every n-th of the steps of a round.
        url: the address of its ledger in PostgreSQL; None for files.
    """

    number: int
    workers: int
    kills: int
    names: Sequence[str]
    first_round: int
    sparse: int
    url: str | None

    def steps(self, round_number: int) -> Iterator[int]:
        """The steps at which servers are killed in a round."""
        begin = self.number + 1 + round_number % ROUNDS * self.workers
        return itertools.count(begin, ROUNDS * self.workers * self.sparse)


def run_share(share: Share) -> tuple[list[Case], list[Charge]]:
    """The cases and charges of one worker."""
    try:
        return _run_share(share)
    except WanError as exc:  # it could not travel to the process that waits for it
        raise RuntimeError(f"{type(exc).__name__}: {exc.what}") from None


def _run_share(share: Share) -> tuple[list[Case], list[Charge]]:
    kills = share.kills
    keys = [f"pd_{share.number}_{count}" for count in range(2 * kills + 100)]
    behaviours = {name: BEHAVIOURS[name] for name in share.names}
    cases: list[Case] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Vendor(behaviours, keys, at_once=AT_ONCE) as vendor,
    ):
        # Once without a fork, so that every module is imported before the first child starts.
        first = next(iter(vendor.bases.values()))
        clean(come_back, Host(first, keys.pop(), Path(folder) / "first", share.url))
        gc.freeze()  # a garbage collection in a child would copy all memory that it visits
        place = Path(folder)
        coming = _cases(vendor, place, iter(keys), share)
        while kills > 0:
            cases.append(next(coming))
            kills -= cases[-1].kills
        return cases, vendor.close()


def _cases(vendor: Vendor, folder: Path, keys: Iterator[str], share: Share) -> Iterator[Case]:
    for round_number in itertools.count(share.first_round):
        for behaviour, base in vendor.bases.items():
            # In rounds, so that a short run also reaches the last steps of a submit.
            for step in share.steps(round_number):
                key = next(keys)
                host = Host(base, key, folder / key / "ledger", share.url)
                first_work, later_work = WORK.get(behaviour, (submit, come_back))
                dead = _killed(behaviour, first_work, host, step)
                end_leases(share.url)
                if (round_number + step // share.workers) % 2:
                    second_kill = random.Random(host.key).randint(1, MAX_SECOND_KILL_STEP)
                    dead.append(run_killed(later_work, host, second_kill))
                    end_leases(share.url)
                yield Case(behaviour, host.key, dead, clean(later_work, host))
                shutil.rmtree(folder / key, ignore_errors=True)  # with what is beside the ledger
                if not dead[0].killed:
                    break


def _killed(behaviour: str, work: Work, host: Host, step: int) -> list[Traces]:
    """What the server has left behind that is killed at a step, and the one beside it."""
    if behaviour not in BESIDE:
        return [run_killed(work, host, step)]
    with beside(BESIDE[behaviour], host) as other:
        killed = run_killed(work, host, step)
    return [killed, other]


BROKEN_PROMISES = (
    "charged twice",
    "parsed ids lost",
    "reported ids lost",
    "charges not listed",
    "left half-way",
    "queued rows forgotten",
    "withdrawn and sent",
)


def evaluate(cases: Sequence[Case], charges: Sequence[Charge]) -> Counter[str]:
    """The figures of a run; each of BROKEN_PROMISES must be 0."""
    paid: dict[str, list[str]] = defaultdict(list)
    for charge in charges:
        paid[charge.key].append(charge.job_id)
    figures = Counter(dict.fromkeys(BROKEN_PROMISES, 0))
    figures["charged twice"] = len(repeated(charges))
    for case in cases:
        figures.update(_findings(case, paid[case.key]))
    return figures


def _findings(case: Case, paid: list[str]) -> Counter[str]:
    submission_ids = {submission_id for submission_id, _, _ in case.clean.records}
    jobs = {job for _, job, _ in case.clean.records}
    states = [state for _, _, state in case.clean.records]
    parsed = {job for traces in case.dead for job in traces.parsed}
    reported = {id for traces in case.dead for id in traces.ids}
    queued = {id for traces in case.dead for id in traces.queued}
    unsent = {id for id, _, state in case.clean.records if state in (State.QUEUED, State.NOT_SENT)}
    unsent -= set(case.clean.withdrawn)
    withdrawn = {id for traces in case.dead for id in traces.withdrawn}
    return Counter(
        {
            "cases": 1,
            "kills": case.kills,
            f"kills, {case.behaviour}": case.kills,
            f"charges, {case.behaviour}": len(paid),
            "parsed ids": len(parsed),
            "parsed ids lost": len(parsed - jobs),
            "reported ids lost": len(reported - jobs - submission_ids),
            "charges not listed": len(set(paid) - jobs) if State.UNKNOWN not in states else 0,
            "left half-way": sum(state in UNSETTLED for state in states),
            "queued rows forgotten": len(queued & unsent) + states.count(State.QUEUED),
            "queued": len(queued),
            "withdrawn": len(withdrawn),
            "withdrawn and sent": len(withdrawn - set(case.clean.withdrawn)),
            **{f"ended {state}": count for state, count in Counter(states).items()},
        }
    )


if __name__ == "__main__":
    sys.exit(main())
