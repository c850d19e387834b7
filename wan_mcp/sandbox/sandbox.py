"""The sandbox itself: PixelDojo behind a listening socket."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from wan_mcp.sandbox import control_pages, routes
from wan_mcp.sandbox.http.delivery import deliver, whole
from wan_mcp.sandbox.http.faults import Hold, honest
from wan_mcp.sandbox.http.listener import Listener
from wan_mcp.sandbox.http.message import Reply, Request, text_reply
from wan_mcp.sandbox.http.peer import Peer
from wan_mcp.sandbox.state import SandboxState
from wan_mcp.sandbox.vendor.terms import Clock, Terms
from wan_mcp.sandbox.vendor.vendor import Job, Rendering
from wan_mcp.sandbox.videos.render_queue import RenderQueue

_LOOPBACK_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
_HONEST = honest()


class Sandbox(SandboxState):
    """PixelDojo on loopback: `async with Sandbox() as sandbox:` listens until the block ends.

    It can be entered again. Then it listens on the same port, with the same accounts and jobs,
    like a vendor after an outage.

    Attributes:
        render_queue: renders the videos of those jobs that get their own.
        last_request_at: when the last request came, or else when the sandbox was created, in
            seconds of `time.monotonic`, whatever its own clock says.
    """

    def __init__(
        self,
        terms: Terms | None = None,
        *,
        port: int = 0,
        clock: Clock = time.monotonic,
        epoch: float | None = None,
        idle_seconds: float = 30,
    ) -> None:
        """Prepare the vendor; nothing listens yet.

        Args:
            terms: how this vendor behaves.
            port: 0 takes any free one.
            clock: seconds that never go back. A job's progress and the lifetime of URLs follow it.
            epoch: the Unix time when `clock` is read first; by default, now.
            idle_seconds: real time within which a client must send each request.
        """
        epoch = time.time() if epoch is None else epoch
        super().__init__(terms or Terms(), clock=clock, epoch=epoch)
        self.render_queue = RenderQueue(self._notify)
        self.vendor.start_rendering = self._start_rendering
        self.last_request_at = time.monotonic()
        self._listener = Listener(port, self._exchange)
        self._idle_seconds = idle_seconds

    @property
    def connections(self) -> int:
        """TCP connections accepted so far."""
        return self._listener.accepted

    async def __aenter__(self) -> Self:
        port = await self._listener.open()
        self.vendor.origin = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._listener.close()
        finally:
            await self.render_queue.close()

    def _start_rendering(self, job: Job) -> Rendering | None:
        return self.render_queue.start(job, self.origin, self.terms)

    async def _exchange(self, peer: Peer) -> bool:
        """Answer one request; return whether the connection can carry another."""
        async with asyncio.timeout(self._idle_seconds):
            request = await peer.head()
        if request is None:
            return False
        self.last_request_at = time.monotonic()
        # DNS rebinding: a web page whose host name now resolves to 127.0.0.1 must not get in.
        if not _LOOPBACK_HOST.fullmatch(request.headers.get("host", "")):
            return await whole(peer, text_reply("Only for a loopback name", 421))
        if control_pages.owns(request.path):
            await self._read_body(peer, request)
            reply = control_pages.answer(self, request, self.connections)
            return await whole(peer, reply, head_only=request.method == "HEAD")
        return await self._serve(peer, request)

    async def _serve(self, peer: Peer, request: Request) -> bool:
        fault = self.scripts.next(request.method, request.path) or _HONEST
        self._requests.append(request)
        if fault.read_body:
            await self._read_body(peer, request)
        self._notify()
        await _wait(fault.before)
        reply = routes.answer(self.vendor, request) if fault.work else Reply()
        self._notify()
        await _wait(fault.after)
        return await deliver(peer, fault.shape(reply), fault, head_only=request.method == "HEAD")

    async def _read_body(self, peer: Peer, request: Request) -> None:
        async with asyncio.timeout(self._idle_seconds):
            request.body = await peer.body()


async def _wait(hold: Hold) -> None:
    if isinstance(hold, int | float):
        await asyncio.sleep(hold)
    else:
        await hold.wait()


async def serve(
    port: int = 0,
    *,
    terms: Terms | None = None,
    announce: Callable[[Sandbox], None] | None = None,
    exit_idle: float | None = None,
) -> None:
    """Run a sandbox until it is cancelled or asked to stop.

    Args:
        port: 0 takes any free one.
        terms: how its vendor behaves.
        announce: called once the sandbox listens.
        exit_idle: seconds without a request after which it ends by itself; None: never.

    Raises:
        OSError: the port is taken.
    """
    async with Sandbox(terms, port=port) as sandbox:
        if announce is not None:
            announce(sandbox)
        checked_at = None
        while sandbox.last_request_at != checked_at:  # a request came meanwhile: still in use
            checked_at = sandbox.last_request_at
            with suppress(TimeoutError):
                async with asyncio.timeout(exit_idle):
                    await sandbox.stopped.wait()
                    return
