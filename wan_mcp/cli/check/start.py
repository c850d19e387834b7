"""Starts the server of a host's entry without a key, so that it cannot do anything.

Without a key, the server opens no ledger by itself, looks for no job, saves no video, and could not
buy if it were asked to. That holds for every version of this program.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from wan_mcp.settings import ENV_FILE, KEY

START_SECONDS = 8.0
"""How long a server may take to list its tools (ours)."""
END_SECONDS = 2.0
"""How long it may take to end after its input has ended, before it is killed (ours)."""
_REVISION = "2025-06-18"
_HELLO = {
    "protocolVersion": _REVISION,
    "capabilities": {},
    "clientInfo": {"name": "wan-mcp check", "version": "1"},
}
_LONGEST_COMPLAINT = 300
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Started:
    """A server that was started.

    Attributes:
        tools: how many tools it has.
        seconds: the time from the start to its first answer.
        ready_seconds: the time from the start until the whole program was loaded.
    """

    tools: int
    seconds: float
    ready_seconds: float


@dataclass(frozen=True)
class NotStarted:
    """A server that did not list its tools; `why` is the end of a sentence."""

    why: str


class _Complaint:
    """The text of a server on standard error, whose last line says why it ended."""

    def __init__(self) -> None:
        self._text = b""
        self._ended = anyio.Event()

    async def read(self, process: Process) -> None:
        assert process.stderr is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for block in process.stderr:
                self._text = (self._text + block)[-4 * _LONGEST_COMPLAINT :]
        self._ended.set()

    async def last(self) -> str:
        """The last line, after a colon; "" if there is none."""
        with anyio.move_on_after(END_SECONDS):
            await self._ended.wait()
        lines = [line.strip() for line in self._text.decode(errors="replace").split("\n")]
        last = next((line for line in reversed(lines) if line), "")
        return f": {last[:_LONGEST_COMPLAINT]}" if last else ""


async def started(
    command: list[str], environment: Mapping[str, str], folder: Path
) -> Started | NotStarted:
    """Start a server, count its tools, and end it.

    Args:
        command: the program and its arguments.
        environment: the variables for the server; a key among them is left out.
        folder: where it is started, a folder without a `.env` file.
    """
    powerless = {n: v for n, v in environment.items() if n not in (KEY, ENV_FILE)}
    began = time.monotonic()
    try:
        process = await anyio.open_process(command, env=powerless, cwd=folder)
    except OSError as exc:
        return NotStarted(f"it cannot be started: {exc.strerror}")
    complaint = _Complaint()
    async with process, anyio.create_task_group() as tasks:
        tasks.start_soon(complaint.read, process)
        outcome = await _in_time(process, began)
        await _end(process)
        last = "" if isinstance(outcome, Started) else await complaint.last()
        tasks.cancel_scope.cancel()
    return NotStarted(outcome.why + last) if isinstance(outcome, NotStarted) else outcome


async def _in_time(process: Process, began: float) -> Started | NotStarted:
    try:
        with anyio.fail_after(START_SECONDS):
            return await _counted(process, began)
    except TimeoutError:
        return NotStarted(f"no answer within {START_SECONDS:.0f} s")
    except (ValueError, anyio.DelimiterNotFound):
        return NotStarted("it answers with something else than messages of MCP")
    except (anyio.BrokenResourceError, anyio.IncompleteRead):
        return NotStarted("it ended")


async def _counted(process: Process, began: float) -> Started:
    assert process.stdin is not None
    assert process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    requests: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": _HELLO},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
        # The first answers may come before the whole program is loaded; this one cannot.
        {"id": 3, "method": "prompts/get", "params": {"name": "is-all-of-it-there"}},
    ]
    for request in requests:
        await process.stdin.send(json.dumps({"jsonrpc": "2.0", **request}).encode() + b"\n")
    await _answer(lines, 1)
    seconds = round(time.monotonic() - began, 2)
    tools = (await _answer(lines, 2)).get("result", {}).get("tools", [])
    await _answer(lines, 3)
    return Started(len(tools), seconds, round(time.monotonic() - began, 2))


async def _answer(lines: BufferedByteReceiveStream, id: int) -> dict[str, Any]:
    """The answer to the request with this id; messages before it are skipped."""
    while True:
        line = await lines.receive_until(b"\n", _LONGEST_LINE)
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError("not a message")
        if answer.get("id") == id:
            return answer


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        assert process.stdin is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await process.stdin.aclose()
        with anyio.move_on_after(END_SECONDS):
            await process.wait()
            return
        with suppress(ProcessLookupError):
            process.kill()
