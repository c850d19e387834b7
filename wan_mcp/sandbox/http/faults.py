"""How one request is made to go wrong, and whether the vendor does the work (the charge) anyway.

A `Fault` has three parts: what is waited for, whether the work is done, and what the client gets.
The functions below it name the common ones, and `held` makes any of them wait.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, Protocol

from wan_mcp.sandbox.http.message import Reply, json_reply, text_reply


class Gate(Protocol):
    """What a request can be held at: an asyncio.Event, an anyio.Event."""

    async def wait(self) -> object: ...


Hold = float | Gate
Send = Literal["whole", "cut", "stall", "drip", "endless", "reset", "close", "hang"]
_SILENT = ("reset", "close", "hang")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request."""

    work: bool
    """Whether the vendor does what was asked, and charges for it."""
    reply: Reply | None = None
    """Sent instead of the honest reply."""
    edit: Mapping[str, Any] = field(default_factory=dict)
    """Top-level fields of the honest reply's JSON to set."""
    send: Send = "whole"
    """How the reply leaves: `cut` and `stall` stop after `cut_at` and then close or keep still;
    `drip` sends byte by byte; `endless` never stops; `reset`, `close` and `hang` send nothing."""
    cut_at: int | str = 0
    """A number of body bytes, or a text: up to its end, where it first occurs."""
    drip_seconds: float = 0
    before: Hold = 0
    """Seconds, or a gate, between the request's arrival and the work."""
    after: Hold = 0
    """Seconds, or a gate, between the work and the reply."""
    read_body: bool = True

    def __post_init__(self) -> None:
        if not self.work and self.reply is None and self.send not in _SILENT:
            raise ValueError("without the work there is no honest reply: give one")
        if self.work and not self.read_body:
            raise ValueError("the work needs the body")

    def shape(self, honest: Reply) -> Reply:
        """The reply that will leave (wholly or not)."""
        if self.reply is not None:
            return self.reply
        if self.edit:
            changed = json.loads(honest.body) | dict(self.edit)
            return json_reply(changed, honest.status, honest.headers)
        return honest


def honest() -> Fault:
    """Nothing goes wrong: for a place in a queue of faults."""
    return Fault(work=True)


def held(fault: Fault, *, before: Hold = 0, after: Hold = 0) -> Fault:
    """The same, waiting before the work or after it."""
    return replace(fault, before=before, after=after)


def reset(*, work: bool, read_body: bool = True) -> Fault:
    """The connection is torn down (RST): before the body was read, or before or after the work."""
    return Fault(work=work, send="reset", read_body=read_body)


def dropped(*, work: bool) -> Fault:
    """The connection is closed in good order, with no answer."""
    return Fault(work=work, send="close")


def hung(*, work: bool) -> Fault:
    """No answer ever comes, until the client hangs up."""
    return Fault(work=work, send="hang")


def status(
    code: int, body: object = "", headers: Mapping[str, str] | None = None, *, work: bool = False
) -> Fault:
    """Any status; a text body is sent as HTML or plain text, anything else as JSON."""
    make: Callable[..., Reply] = text_reply if isinstance(body, str) else json_reply
    return Fault(work=work, reply=make(body, code, headers))


def redirect(location: str, code: int = 307, *, work: bool = False) -> Fault:
    return Fault(work=work, reply=Reply(code, {"Location": location}))


def instead(value: object, code: int = 200, *, work: bool = True) -> Fault:
    """A well-sent answer of the wrong shape: a list, another job, NaN, a huge integer."""
    return Fault(work=work, reply=json_reply(value, code))


def edited(changes: Mapping[str, Any]) -> Fault:
    """The honest JSON with some top-level fields set to something else."""
    return Fault(work=True, edit=changes)


def cut(at: int | str, *, stall: bool = False) -> Fault:
    """The honest answer, announced whole and cut short: then closed, or (stall) kept open."""
    return Fault(work=True, send="stall" if stall else "cut", cut_at=at)


def drip(seconds: float = 0) -> Fault:
    """The honest answer, one byte at a time with so many seconds between."""
    return Fault(work=True, send="drip", drip_seconds=seconds)


def endless(*, work: bool = True) -> Fault:
    """A 200 whose JSON string never ends (64 MiB at most)."""
    return Fault(work=work, reply=json_reply(None), send="endless")


def nested(depth: int = 100_000, *, work: bool = True) -> Fault:
    """Valid JSON that is deeper than a recursive parser can stand."""
    body = b'{"output":' + b"[" * depth + b"]" * depth + b"}"
    return Fault(work=work, reply=Reply(200, {"Content-Type": "application/json"}, body))


def gzip_bomb(mib: int = 64, *, work: bool = True) -> Fault:
    """Valid JSON of so many MiB, sent as a few tens of KB of gzip."""
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


def from_json(told: Mapping[str, Any]) -> Fault:
    """A fault as told over HTTP: `{"fault": "status", "code": 503, "after": 0.5}`.

    Raises:
        ValueError: an unknown name, or arguments that do not fit it.
    """
    arguments = dict(told)
    make = _BY_NAME.get(arguments.pop("fault", ""))
    if make is None:
        raise ValueError(f"'fault' must be one of {', '.join(_BY_NAME)}")
    # Only here, and not at import: a third of the whole sandbox's import time.
    from pydantic import validate_call

    checked = validate_call(config={"strict": True})(make)
    before, after = (float(arguments.pop(name, 0)) for name in ("before", "after"))
    return held(checked(**arguments), before=before, after=after)
