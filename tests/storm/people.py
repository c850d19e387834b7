"""The people of a storm: they start jobs, wait for them, and never give up."""

import random
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
    """

    ids: dict[str, set[int]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    unsafe: list[str] = field(default_factory=list)
    changed: anyio.Event = field(default_factory=anyio.Event)

    def end(self, how: str) -> None:
        self.done[how] += 1
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, count: int) -> None:
        """Wait until so many jobs have ended."""
        while self.done.total() < count:
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
        asked = float(seen.get("retry_after_seconds") or 0.5)
        await anyio.sleep(min(asked, PAUSE_SECONDS) * (0.5 + self._dice.random() / 2))
