"""How single requests are made to fail, and whether the vendor does the work (and charges) anyway.

A `Fault` says how long a request waits, whether the work is done, and what the client receives.
The functions below it make the common faults, `held` adds waiting to any of them, and `Scripts`
decides which request meets which fault.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain, repeat
from typing import Any, Literal, Protocol

from wan_mcp.sandbox.http.message import Reply, json_reply, text_reply


class Gate(Protocol):
    """What a request can be held at: an asyncio.Event or an anyio.Event."""

    async def wait(self) -> object: ...


Hold = float | Gate
"""A number of seconds, or a gate that somebody opens."""
Send = Literal["whole", "cut", "stall", "drip", "endless", "reset", "close", "hang"]
_SILENT = ("reset", "close", "hang")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request."""

    work: bool
    """Whether the vendor does what the request asks for, and charges for it."""
    reply: Reply | None = None
    """Sent instead of the honest reply."""
    edit: Mapping[str, Any] = field(default_factory=dict)
    """Top-level fields to set in the honest reply's JSON."""
    send: Send = "whole"
    """How the reply is sent. `cut` stops after `cut_at` and closes the connection; `stall` stops
    there and keeps it open; `drip` sends byte by byte; `endless` never stops; `reset`, `close` and
    `hang` send nothing."""
    cut_at: int | str = 0
    """A number of body bytes; or a text, after whose first occurrence the body stops."""
    drip_seconds: float = 0
    """Seconds between two bytes of a `drip`."""
    before: Hold = 0
    """Seconds, or a gate, between the request's arrival and the work."""
    after: Hold = 0
    """Seconds, or a gate, between the work and the reply."""
    read_body: bool = True
    """Whether the request's body is read at all."""

    def __post_init__(self) -> None:
        if not self.work and self.reply is None and self.send not in _SILENT:
            raise ValueError("without the work there is no honest reply: give one")
        if self.work and not self.read_body:
            raise ValueError("the work needs the body")

    def shape(self, honest: Reply) -> Reply:
        """The reply to send, in whole or in part."""
        if self.reply is not None:
            return self.reply
        if self.edit:
            edited = json.loads(honest.body) | dict(self.edit)
            return json_reply(edited, honest.status, honest.headers)
        return honest


def honest() -> Fault:
    """No fault: lets one request of a script pass."""
    return Fault(work=True)


def held(fault: Fault, *, before: Hold = 0, after: Hold = 0) -> Fault:
    """The same fault, with waiting before the work, after it, or both."""
    return replace(fault, before=before, after=after)


def reset(*, work: bool, read_body: bool = True) -> Fault:
    """The connection is reset (RST): before the body is read, or before or after the work."""
    return Fault(work=work, send="reset", read_body=read_body)


def dropped(*, work: bool) -> Fault:
    """The connection is closed in good order, without a reply."""
    return Fault(work=work, send="close")


def hung(*, work: bool) -> Fault:
    """No reply is sent, and the connection stays open until the client closes it."""
    return Fault(work=work, send="hang")


def status(
    code: int, body: object = "", headers: Mapping[str, str] | None = None, *, work: bool = False
) -> Fault:
    """A reply with any status. A text body is sent as HTML or plain text, anything else as JSON."""
    make: Callable[..., Reply] = text_reply if isinstance(body, str) else json_reply
    return Fault(work=work, reply=make(body, code, headers))


def redirect(location: str, code: int = 307, *, work: bool = False) -> Fault:
    """A redirect to any URL."""
    return Fault(work=work, reply=Reply(code, {"Location": location}))


def instead(value: object, code: int = 200, *, work: bool = True) -> Fault:
    """A complete reply of the wrong shape: a list, another job, NaN, a huge integer."""
    return Fault(work=work, reply=json_reply(value, code))


def edited(changes: Mapping[str, Any]) -> Fault:
    """The honest JSON with some top-level fields set to something else."""
    return Fault(work=True, edit=changes)


def cut(at: int | str, *, stall: bool = False) -> Fault:
    """The honest reply, which announces its full length but stops early.

    Args:
        at: a number of body bytes; or a text, after whose first occurrence the body stops.
        stall: keep the connection open afterwards instead of closing it.
    """
    return Fault(work=True, send="stall" if stall else "cut", cut_at=at)


def drip(seconds: float = 0) -> Fault:
    """The honest reply, one byte at a time, with so many seconds between two bytes."""
    return Fault(work=True, send="drip", drip_seconds=seconds)


def endless(*, work: bool = True) -> Fault:
    """A reply with status 200 whose JSON string never ends (it stops after 64 MiB)."""
    return Fault(work=work, reply=json_reply(None), send="endless")


def nested(depth: int = 100_000, *, work: bool = True) -> Fault:
    """Valid JSON that is nested more deeply than a recursive parser can read."""
    body = b'{"output":' + b"[" * depth + b"]" * depth + b"}"
    return Fault(work=work, reply=Reply(200, {"Content-Type": "application/json"}, body))


def gzip_bomb(mib: int = 64, *, work: bool = True) -> Fault:
    """Valid JSON of so many MiB that takes only some tens of KB as gzip."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return Fault(work=work, reply=Reply(200, headers, _bomb(mib)))


@cache
def _bomb(mib: int) -> bytes:
    return gzip.compress(b'{"pad":"' + b"0" * (mib << 20) + b'"}', compresslevel=1)


_BY_NAME: dict[str, Callable[..., Fault]] = {
    "honest": honest,
    "reset": reset,
    "dropped": dropped,
    "hung": hung,
    "status": status,
    "redirect": redirect,
    "instead": instead,
    "edited": edited,
    "cut": cut,
    "drip": drip,
    "endless": endless,
    "nested": nested,
    "gzip_bomb": gzip_bomb,
}


def from_json(fields: Mapping[str, Any]) -> Fault:
    """A fault described as JSON: `{"fault": "status", "code": 503, "after": 0.5}`.

    Raises:
        ValueError: an unknown name, or arguments that do not fit it.
    """
    arguments = dict(fields)
    make = _BY_NAME.get(arguments.pop("fault", ""))
    if make is None:
        raise ValueError(f"'fault' must be one of {', '.join(_BY_NAME)}")
    # Imported only here, because it would take a third of the sandbox's import time.
    from pydantic import validate_call

    checked = validate_call(config={"strict": True})(make)
    before, after = (float(arguments.pop(name, 0)) for name in ("before", "after"))
    return held(checked(**arguments), before=before, after=after)


@dataclass
class _Script:
    method: str
    path: str
    faults: Iterator[Fault]

    def matches(self, method: str, path: str) -> bool:
        return fnmatchcase(method, self.method) and fnmatchcase(path, self.path)


class Scripts:
    """Scripts of faults. Each request takes the next fault of the oldest script that matches it."""

    def __init__(self) -> None:
        self._scripts: list[_Script] = []

    def add(self, method: str, path: str, *faults: Fault, times: int | None = 1) -> None:
        """Add a script for the requests whose method and path match these globs.

        The faults are played `times` over; None: for ever.
        """
        rounds = repeat(faults) if times is None else repeat(faults, times)
        self._scripts.append(_Script(method, path, chain.from_iterable(rounds if faults else ())))

    def next(self, method: str, path: str) -> Fault | None:
        """The fault for this request, which is removed from its script; None if there is none."""
        for script in [script for script in self._scripts if script.matches(method, path)]:
            fault = next(script.faults, None)
            if fault is not None:
                return fault
            self._scripts.remove(script)
        return None

    def clear(self) -> None:
        """Remove all scripts."""
        self._scripts.clear()
