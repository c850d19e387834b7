"""The people of a storm: they start jobs, wait for them, and give up only what a limit refuses."""

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from tests.replicas.caller import Caller, Cut

WAIT_SECONDS = 20
LOOKS = 90
"""So often a person waits for a job whose outcome is unknown, before the storm counts it so."""
PAUSE_SECONDS = 2.0
"""The longest pause before a call is repeated, whatever its answer asks for."""
BOUGHT_NOTHING = ("not_sent", "refused")
LATER = ("limit_reached",)
"""A job whose price is not known yet counts as the whole limit of the day, until it is known."""
TODAY_SECONDS = 3_600.0
"""Whoever would have to wait longer until a limit allows a job gives it up."""
OVER_LIMIT = "over the limit of the day"
GOES_ON = ("queued", "running", "submitting")


@dataclass(frozen=True)
class Person:
    """Somebody who makes videos. Nobody else may see them.

    Attributes:
        number: from 0.
        headers: that say who they are.
    """

    number: int
    headers: Mapping[str, str]


@dataclass
class Traces:
    """What all people together have seen.

    Attributes:
        ids: the numbers of the people to whom each id was given.
        done: how many jobs have ended for their person, and how.
        calls: how many calls there were, and how each ended that did not simply succeed.
        unsafe: answers that neither named a job nor could be repeated.
        over: how many jobs were given up because of each limit of a day, by whose it is.
    """

    ids: dict[str, set[int]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    unsafe: list[str] = field(default_factory=list)
    over: Counter[str] = field(default_factory=Counter)
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def ended(self) -> int:
        """How many jobs have ended, without those that were given up because of a limit."""
        return self.done.total() - self.done[OVER_LIMIT]

    def end(self, how: str) -> None:
        self.done[how] += 1
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, count: int) -> None:
        """Wait until `ended` is so many."""
        while self.ended < count:
            await self.changed.wait()


class Work:
    """One person at work."""

    def __init__(self, person: Person, caller: Caller, traces: Traces, dice: random.Random) -> None:
        self._person = person
        self._caller = caller
        self._traces = traces
        self._dice = dice

    async def make(self, job: Mapping[str, Any]) -> None:
        """Start one job, and wait for its end."""
        while True:
            seen = await self._call("replace_character", **job)
            if seen.get("job_id"):
                seen = await self._wait(str(seen["job_id"]))
            how = str(seen.get("status"))
            if how in ("completed", "failed", "unknown"):
                self._traces.end(how)
                return
            if seen.get("code") in LATER and _seconds(seen) > TODAY_SECONDS:
                self._traces.over[_whose_limit(seen)] += 1
                self._traces.end(OVER_LIMIT)
                return
            if not (how in BOUGHT_NOTHING or seen.get("code") in LATER or seen.get("retry_safe")):
                self._traces.unsafe.append(str(seen.get("message")))
                self._traces.end("refused")
                return
            await self._pause(seen)

    async def _wait(self, id: str) -> dict[str, Any]:
        """What became of a job in the end."""
        for _ in range(LOOKS):
            seen = await self._call("wait_for_job", job_id=id, timeout_seconds=WAIT_SECONDS)
            if seen.get("status") not in (*GOES_ON, "unknown", None):
                return seen
            if seen.get("status") not in GOES_ON:
                await self._pause(seen)
        return seen

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a call, which is repeated until there is one."""
        while True:
            self._traces.calls["calls"] += 1
            try:
                seen = await self._caller.call(tool, **arguments)
            except Cut as cut:
                self._traces.calls[f"{tool}: {cut}"[:60]] += 1
                await self._pause({})
                continue
            if seen.get("code"):
                self._traces.calls[f"{tool}: {seen['code']}"] += 1
            if seen.get("job_id"):
                self._traces.ids.setdefault(str(seen["job_id"]), set()).add(self._person.number)
            return seen

    async def _pause(self, seen: Mapping[str, Any]) -> None:
        asked = _seconds(seen) or 0.5
        await anyio.sleep(min(asked, PAUSE_SECONDS) * (0.5 + self._dice.random() / 2))


def _seconds(seen: Mapping[str, Any]) -> float:
    """After how many seconds the call makes sense again; 0 if that is not known."""
    return float(seen.get("retry_after_seconds") or 0.0)


def _whose_limit(seen: Mapping[str, Any]) -> str:
    """Whose limit has refused a job; the setting of the operator if it is nobody's."""
    found = re.search(r"This limit is ([^.]+)\.", str(seen.get("message")))
    return found[1] if found else str(seen.get("limit"))
