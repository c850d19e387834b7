"""Renders the videos of those jobs that get their own, if PyAV is installed (the extra `media`).

Each video is rendered in a process of its own. So a codec that crashes takes nothing else down,
the event loop is never blocked, and a process that takes too long can be ended.
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

from wan_mcp.sandbox.vendor.terms import Terms
from wan_mcp.sandbox.vendor.vendor import ENDLESS, FAILING, Job, Rendering
from wan_mcp.sandbox.videos.samples import sample_file

_log = logging.getLogger(__name__)
_MAX_AT_ONCE = 2


def renders_videos(terms: Terms) -> bool:
    """Whether jobs get videos of their own."""
    return terms.videos == "own" and find_spec("av") is not None


# Not anyio's temporary directory: a cancellation would also cancel its removal.
_folder = partial(TemporaryDirectory, prefix="wan-mcp-render-", ignore_cleanup_errors=True)


class RenderQueue:
    """Renders videos, at most two at once, and fills in each `Rendering` at its end.

    Attributes:
        command: starts one rendering process.
        seconds: real time within which one video must be done, including the fetching of inputs.
        fetch_seconds: real time within which each input must be fetched.
    """

    command: Sequence[str] = (sys.executable, "-P", "-m", "wan_mcp.sandbox.videos.render")
    # -P: a file in the user's folder must not be imported instead of a module.
    seconds = 120.0
    fetch_seconds = 15.0

    def __init__(self, changed: Callable[[], None]) -> None:
        """Prepare the queue; no process runs yet.

        Args:
            changed: called whenever a rendering has ended, successfully or not.
        """
        self._changed = changed
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._running: dict[asyncio.Task[None], anyio.CancelScope] = {}

    def start(self, job: Job, origin: str, terms: Terms) -> Rendering | None:
        """Start to render a job's own video; None when the job gets the sample.

        Jobs with one of the special source videos are not rendered either.
        """
        if not renders_videos(terms) or job.video_path in (FAILING, ENDLESS):
            return None
        order = {
            # Without a seed, each job gives a different video (assumed).
            "body": {"resolution": terms.resolutions[0], "seed": int(job.id[-8:], 16), **job.body},
            "fetch_seconds": self.fetch_seconds,
            "samples": {
                name: str(file)
                for name in ("video", "character_image")
                if (file := sample_file(job.body[name], origin))
            },
        }
        rendering, scope = Rendering(), anyio.CancelScope()
        task = asyncio.create_task(self._render(order, rendering, scope))
        self._running[task] = scope
        task.add_done_callback(self._ended)
        return rendering

    async def close(self) -> None:
        """End all processes. Videos that are not finished have failed.

        Raises:
            BaseExceptionGroup: renderings that failed through an error of the sandbox itself.
        """
        with anyio.CancelScope(shield=True):
            for scope in self._running.values():
                scope.cancel()
            results = await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()
        if failures := [result for result in results if result is not None]:
            raise BaseExceptionGroup("the sandbox failed while it rendered a video", failures)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or not task.exception():
            self._running.pop(task, None)

    async def _render(
        self, order: dict[str, Any], rendering: Rendering, scope: anyio.CancelScope
    ) -> None:
        try:
            with scope:
                async with self._slots:
                    with _folder() as folder:
                        rendering.content, rendering.error = await self._rendered(
                            order, anyio.Path(folder)
                        )
        except OSError as exc:
            rendering.error = f"The video could not be rendered: {exc}."
        finally:
            if not rendering.ended:
                rendering.error = "The sandbox was closed."
            self._changed()

    async def _rendered(self, order: dict[str, Any], folder: anyio.Path) -> tuple[bytes, str]:
        """The video's content, or the reason why there is none.

        Raises:
            OSError: the process could not be started, or the disk is full.
        """
        video, reason = folder / "video.mp4", folder / "reason.txt"
        paths = {"folder": str(folder), "result": str(video), "reason": str(reason)}
        await (folder / "order.json").write_text(json.dumps(order | paths))
        with anyio.move_on_after(self.seconds):
            code, stderr = await self._run(folder / "order.json")
            if code:
                _log.error("rendering failed: %s", stderr.decode("ascii", "backslashreplace"))
                return b"", f"The video could not be rendered: the process ended with {code}."
            if await reason.exists():
                return b"", await reason.read_text()
            return await video.read_bytes(), ""
        return b"", f"The video was not finished within {self.seconds:g} s."

    async def _run(self, order: anyio.Path) -> tuple[int, bytes]:
        """The exit code of a rendering process, and what it wrote to stderr."""
        with anyio.CancelScope(shield=True):  # cancelled during its start, it would never be ended
            async with await order.open("rb") as file:
                process = await anyio.open_process(
                    self.command, stdin=file.wrapped, stdout=subprocess.DEVNULL
                )
        async with process:
            assert process.stderr is not None
            stderr = b"".join([block async for block in process.stderr])
            return await process.wait(), stderr
