"""Where a job's own film is made, if PyAV is installed (the extra `media`).

Each film has a process of its own: a codec that crashes takes nothing along, neither fetching nor
rendering ever holds up the event loop, and what takes too long can be ended.
"""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from wan_mcp.sandbox.vendor.books import ENDLESS, FAILING, Film, Job
from wan_mcp.sandbox.vendor.terms import Terms
from wan_mcp.sandbox.videos.samples import sample_file

_log = logging.getLogger(__name__)
_FILMS_AT_ONCE = 2


def equipped(terms: Terms) -> bool:
    """Whether jobs get films of their own."""
    return terms.films == "own" and find_spec("av") is not None


# Not anyio's, whose removal is cancelled along with the rest.
_folder = partial(TemporaryDirectory, prefix="wan-mcp-film-", ignore_cleanup_errors=True)


class Studio:
    """Makes films, a few at once; each one's `Film` is filled in when it has ended."""

    command: Sequence[str] = (sys.executable, "-P", "-m", "wan_mcp.sandbox.videos.render")
    # -P: a file of the user's folder must not stand in for a module that is imported.
    seconds = 120.0
    """Real time that one film may take, fetching included."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is told whenever a film has ended, well or not; nothing runs yet."""
        self._changed = changed
        self._room = asyncio.Semaphore(_FILMS_AT_ONCE)
        self._running: dict[asyncio.Task[None], anyio.CancelScope] = {}

    def film(self, job: Job, origin: str, terms: Terms) -> Film | None:
        """Begin a job's own film; None when it gets the sample (or its clip decides its end)."""
        if not equipped(terms) or job.clip in (FAILING, ENDLESS):
            return None
        order = {
            # Without a seed another job is another take (assumed).
            "body": {"resolution": terms.resolutions[0], "seed": int(job.id[-8:], 16), **job.body},
            "samples": {
                name: str(file)
                for name in ("video", "character_image")
                if (file := sample_file(job.body[name], origin))
            },
        }
        film, scope = Film(), anyio.CancelScope()
        task = asyncio.create_task(self._make(order, film, scope))
        self._running[task] = scope
        task.add_done_callback(self._ended)
        return film

    async def close(self) -> None:
        """End all work; what was not finished fails. Raises: what went wrong in the studio."""
        with anyio.CancelScope(shield=True):
            for scope in self._running.values():
                scope.cancel()
            ends = await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()
        if crashes := [end for end in ends if end is not None]:
            raise BaseExceptionGroup("the sandbox failed while it made a film", crashes)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or not task.exception():
            self._running.pop(task, None)

    async def _make(self, order: dict[str, Any], film: Film, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                async with self._room:
                    with _folder() as folder:
                        film.content, film.error = await self._made(order, anyio.Path(folder))
        except OSError as exc:
            film.error = f"The film could not be made: {exc}."
        finally:
            film.error = film.error or ("" if film.content else "The sandbox was closed.")
            self._changed()

    async def _made(self, order: dict[str, Any], folder: anyio.Path) -> tuple[bytes, str]:
        """The film, or why there is none. Raises: OSError, no process or no room on the disk."""
        film, why = folder / "film.mp4", folder / "why.txt"
        places = {"folder": str(folder), "film": str(film), "why": str(why)}
        await (folder / "order.json").write_text(json.dumps(order | places))
        with anyio.move_on_after(self.seconds):
            code, said = await self._run(folder / "order.json")
            if code:
                _log.error("a film's process: %s", said.decode("ascii", "backslashreplace"))
                return b"", f"The film could not be made: its process ended with {code}."
            if await why.exists():
                return b"", await why.read_text()
            return await film.read_bytes(), ""
        return b"", f"The film was not finished within {self.seconds:g} s."

    async def _run(self, order: anyio.Path) -> tuple[int, bytes]:
        """The exit code of a film's process, and what it said on stderr."""
        with anyio.CancelScope(shield=True):  # amid its start nobody would end it
            async with await order.open("rb") as file:
                process = await anyio.open_process(
                    self.command, stdin=file.wrapped, stdout=subprocess.DEVNULL
                )
        async with process:
            assert process.stderr is not None
            said = b"".join([block async for block in process.stderr])
            return await process.wait(), said
