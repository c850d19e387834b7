"""Starts the code that reads strangers' videos in a process of its own, and talks to it.

FFmpeg is a million lines that read whatever somebody uploaded: some files make it take gigabytes,
loop or crash. So none of it runs in the server. A process is started for each file when it is
needed, so that start-up costs nothing; it gives itself limits (see `decoder_limits`), and it is
ended when its time is over or its caller is cancelled. Whatever happens to it, the server lives,
and the file "could not be looked at".

It is not a sandbox: the process may read what the user may read. If the system has no limit on
memory, as on Windows and in part on macOS, only the time limit stops a file that unpacks to a huge
size; the only other protection there is that the limits of `boxes` refuse such an MP4 first.

The protocol: one line of JSON in each direction. A question may be followed by raw bytes; their
lengths are its field `lengths`.
"""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, BinaryIO

import anyio
from anyio.abc import Process
from anyio.lowlevel import RunVar

ANSWER_SECONDS = 20.0
"""How long one answer may take; milliseconds are usual (ours)."""
MAX_ANSWER_BYTES = 1 << 20
"""The largest answer, in bytes; a contact sheet has at most 80 kB (ours)."""
MAX_AT_ONCE = 3
"""How many processes may run at once, so that many callers together cannot use up the server's
memory (ours). Inspecting videos and preparing inputs use one each at a time; one is left."""

COMMAND: Sequence[str] = (sys.executable, "-P", "-m")
"""Starts a module as a process. -P: a file in the user's folder must not be imported instead."""

_ENDED = "the process that reads it ended unexpectedly"
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("_limiter")


class NotLookedAt(Exception):
    """The file could not be looked at, which says nothing about the file.

    Attributes:
        why: the reason, as the end of a sentence.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class DecoderProcess:
    """One running process; made by `started`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._received = bytearray()

    @property
    def pid(self) -> int:
        """The system's number of the process."""
        return self._process.pid

    async def ask(
        self,
        question: dict[str, Any],
        parts: Sequence[bytes] = (),
        *,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """The answer to a question, which is sent with these bytes.

        Args:
            seconds: how long the answer may take; ANSWER_SECONDS if left out.

        Raises:
            NotLookedAt: the process crashed, took too long or too much memory, or reported why.
        """
        try:
            with anyio.fail_after(ANSWER_SECONDS if seconds is None else seconds):
                await self._send(question, parts)
                answer = json.loads(await self._line())
        except TimeoutError:
            raise NotLookedAt("reading it took too long") from None
        except (anyio.EndOfStream, anyio.BrokenResourceError, OSError, ValueError):
            raise NotLookedAt(_ENDED) from None
        if not isinstance(answer, dict):
            raise NotLookedAt(_ENDED)
        if "failed" in answer:
            raise NotLookedAt(str(answer["failed"]))
        return answer

    async def _send(self, question: dict[str, Any], parts: Sequence[bytes]) -> None:
        assert self._process.stdin is not None
        line = json.dumps(question | {"lengths": [len(part) for part in parts]}) + "\n"
        for data in (line.encode(), *parts):
            if data:
                await self._process.stdin.send(data)

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._received:
            if len(self._received) > MAX_ANSWER_BYTES:
                raise ValueError("an answer without an end")
            self._received += await self._process.stdout.receive()
        line, _, rest = self._received.partition(b"\n")
        self._received = rest
        return bytes(line)


@asynccontextmanager
async def started(
    module: str, *, file: BinaryIO | None = None
) -> AsyncGenerator[DecoderProcess, None]:
    """A process that runs this module; it is ended with the block, even if that is cancelled.

    Args:
        file: an open file that the process inherits: exactly this one, whatever file has its
            name by now. The process gets it from `inherited_file`, by `handle_of`.

    Raises:
        NotLookedAt: the process could not be started.
    """
    async with _at_once():
        try:
            # A process whose start is cancelled would never be ended.
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    [*COMMAND, module],
                    stdin=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    **_inheritance(file),
                )
        except OSError:
            raise NotLookedAt("the process that reads it could not be started") from None
        try:
            yield DecoderProcess(process)
        finally:
            with anyio.CancelScope(shield=True):
                with suppress(ProcessLookupError):
                    process.kill()
                await process.aclose()


def handle_of(file: BinaryIO) -> int:
    """The system's number of an open file: that of its handle on Windows."""
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.get_osfhandle(file.fileno())
    return file.fileno()


def inherited_file(handle: int) -> BinaryIO:
    """In the process: the open file that it inherited under this number, for reading."""
    if sys.platform == "win32":
        import msvcrt

        return os.fdopen(msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY), "rb")
    return os.fdopen(handle, "rb")


def _inheritance(file: BinaryIO | None) -> dict[str, Any]:
    """The arguments with which a process inherits this open file, and no other."""
    if file is None:
        return {}
    handle = handle_of(file)
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        only = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        return {"startupinfo": only}
    return {"pass_fds": (handle,)}


def _at_once() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(MAX_AT_ONCE)
        _limiter.set(limiter)
        return limiter
