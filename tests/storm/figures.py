"""What a storm has left behind, and which of it breaks a promise."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from tests.replicas.caller import Caller
from tests.storm.database import Pair
from tests.storm.people import Person, Traces
from tests.storm.vendor import Paid
from wan_mcp.ledger.record import UNSETTLED, State

BROKEN_PROMISES = (
    "charged twice",
    "ids lost",
    "ids given to two people",
    "charges not in the ledger",
    "jobs seen by strangers",
    "limits passed",
    "jobs without an end",
    "answers that nobody can go on from",
    "left half-way",
    "charges that the audit does not have once",
)
ROWS = "SELECT handle, job_id, state, seed, wallet, created_at FROM jobs WHERE digest IS NOT NULL"

BOUGHT = "SELECT target, detail FROM audit WHERE action = 'job.buy' AND result = 'accepted'"


class Rows:
    """The jobs in the ledger that were asked for here.

    Attributes:
        ids: every submission id and job id.
        states: how many are in each state.
        under_way: how many are neither sent nor given up, or have no answer yet.
        unknown: the seeds of those whose outcome is not known.
        sent: when the requests of each wallet were sent, in seconds, except those that were not.
    """

    def __init__(self, database: Pair) -> None:
        found = database.rows(ROWS)
        self.ids = {id for handle, job_id, *_ in found for id in (handle, job_id) if id}
        self.states = Counter(state for _, _, state, *_ in found)
        self.sent: dict[str, list[float]] = {}
        for _, _, state, _, wallet, at in found:
            if state != State.NOT_SENT:
                self.sent.setdefault(wallet, []).append(at)
        self.under_way = sum(self.states[each] for each in UNSETTLED)
        self.unknown = {int(seed) for _, _, state, seed, *_ in found if state == State.UNKNOWN}

    def are_settled(self, paid: Iterable[Paid]) -> bool:
        """Whether nothing is under way, and no job that was paid for is looked for any more."""
        seeds = {each.body["seed"] for each in paid}
        return not self.under_way and not self.unknown & seeds


def of_ids(ids: Mapping[str, Set[int]], known: Set[str]) -> dict[str, int]:
    """How many ids there were, and which of them break a promise.

    Args:
        ids: the people to whom each was given.
        known: those in the ledger.
    """
    return {
        "ids": len(ids),
        "ids lost": len(ids.keys() - known),
        "ids given to two people": sum(len(people) > 1 for people in ids.values()),
    }


def not_once_in_audit(database: Pair, paid: Iterable[Paid]) -> int:
    """How many charges have no row of the audit with their job and credits, or a second one.

    A row about a job that was not charged counts too.
    """
    found = Counter(
        (job, json.loads(detail).get("credits")) for job, detail in database.rows(BOUGHT)
    )
    charged = Counter((each.job_id, each.amount) for each in paid)
    return (found - charged).total() + (charged - found).total()


def twice(paid: Iterable[Paid]) -> int:
    """How many requests were paid more than once."""
    counts = Counter((each.key, each.body["seed"]) for each in paid)
    return sum(count > 1 for count in counts.values())


async def seen_by_strangers(
    url: str, everybody: Sequence[Person], traces: Traces, most: int
) -> int:
    """How many jobs a stranger can look at, of so many, and how many are in a stranger's list.

    Half of the strangers pay with the same wallet, so PixelDojo would show them the job.
    """
    seen = 0
    for person in everybody:
        strange = [id for id, people in traces.ids.items() if person.number not in people]
        async with Caller(url, headers=person.headers) as caller:
            for id in strange[: most // len(everybody)]:
                seen += (await caller.call("get_job_status", job_id=id)).get("code") != "not_found"
            listed = await caller.call("list_jobs", limit=50)
            seen += len({job["job_id"] for job in listed["jobs"]} & set(strange))
    return seen


def broken(figures: Mapping[str, Any]) -> list[str]:
    """The promises that were broken."""
    return [name for name in BROKEN_PROMISES if figures[name]]
