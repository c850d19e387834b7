"""The sandbox itself: a listening socket, the vendor behind it, and a record of all that came."""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Self

from wan_mcp.sandbox import control
from wan_mcp.sandbox.http.delivery import deliver, whole
from wan_mcp.sandbox.http.faults import Fault, Hold, honest
from wan_mcp.sandbox.http.listener import Listener
from wan_mcp.sandbox.http.message import Reply, Request, text_reply
from wan_mcp.sandbox.http.peer import Peer
from wan_mcp.sandbox.http.script import Scripts
from wan_mcp.sandbox.vendor import routes
from wan_mcp.sandbox.vendor.books import Charge, Film, Job, Vendor
from wan_mcp.sandbox.vendor.terms import Clock, Terms
from wan_mcp.sandbox.videos.studio import Studio

KEY = "pd_sandbox"
_REQUESTS_KEPT = 10_000
_LOOPBACK_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
_HONEST = honest()


class Sandbox:
    """PixelDojo on loopback: `async with Sandbox() as sandbox:` listens until the block ends.

    Entered again it listens on the same port with the same books, as a vendor that was down.
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
            terms: what this vendor is like.
            port: 0 takes any free one.
            clock: seconds that never go back; all waiting of jobs and lives of URLs follow it.
            epoch: the Unix time when `clock` is read first (now, unless given).
            idle_seconds: real time a client has for sending one request.
        """
        epoch = time.time() if epoch is None else epoch
        self.vendor = Vendor(terms or Terms(), clock=clock, epoch=epoch)
        self.vendor.begin_film = self._film
        self.studio = Studio(self._change)
        self.key = self.vendor.open_account(KEY)
        self.scripts = Scripts()
        self._requests: deque[Request] = deque(maxlen=_REQUESTS_KEPT)
        self._listener = Listener(port, self._exchange)
        self._changed: asyncio.Event | None = None
        self._idle_seconds = idle_seconds
        self.stopped = asyncio.Event()
        """Somebody wants it to end."""
        self.asked_at = time.monotonic()
        """When the last request came, or this was made; real time, whatever `clock` says."""

    @property
    def origin(self) -> str:
        """As "http://127.0.0.1:PORT", once it listens."""
        return self.vendor.origin

    @property
    def api_base(self) -> str:
        return self.origin + routes.API

    @property
    def clip_url(self) -> str:
        """A source clip of 8 seconds, with sound."""
        return f"{self.origin}/media/clip.mp4"

    @property
    def image_url(self) -> str:
        return f"{self.origin}/media/character.png"

    @property
    def terms(self) -> Terms:
        return self.vendor.terms

    @terms.setter
    def terms(self, terms: Terms) -> None:
        self.vendor.terms = terms

    @property
    def connections(self) -> int:
        """TCP connections accepted so far."""
        return self._listener.accepted

    @property
    def charges(self) -> list[Charge]:
        """Every charge made, oldest first: the judge of all tests about money."""
        return list(self.vendor.charges)

    @property
    def requests(self) -> list[Request]:
        """The last 10,000 requests, oldest first, without those to `/` and `/sandbox/`."""
        return list(self._requests)

    def seen(self, method: str, path: str) -> list[Request]:
        """Those of `requests` whose method and path (without the query) match these globs."""
        return [
            request
            for request in self._requests
            if fnmatchcase(request.method, method) and fnmatchcase(request.path, path)
        ]

    def open_account(self, key: str | None = None, *, credits: float | None = None) -> str:
        """A further key, or an existing one with new credits."""
        return self.vendor.open_account(key, credits=credits)

    def fault(self, method: str, path: str, *faults: Fault, times: int | None = 1) -> None:
        """Let the next requests to a path go wrong, one after the other (see `faults`).

        Args:
            method: such as "POST"; "*" for any.
            path: without the query, from the root, as a glob: "/api/v1/jobs/*".
            faults: one per request; `honest()` lets one pass.
            times: how often the row is played; None: for ever.
        """
        self.scripts.add(method, path, *faults, times=times)

    def clear_faults(self) -> None:
        self.scripts.clear()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something about the sandbox is true: a charge made, a request arrived.

        It is asked again after every request's arrival and after its work, and whenever a film
        of a job's own has ended.
        """
        while not true():
            self._changed = self._changed or asyncio.Event()
            await self._changed.wait()

    def _change(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def __aenter__(self) -> Self:
        port = await self._listener.open()
        self.vendor.origin = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._listener.close()
        finally:
            await self.studio.close()

    def _film(self, job: Job) -> Film | None:
        return self.studio.film(job, self.origin, self.terms)

    async def _exchange(self, peer: Peer) -> bool:
        """One request and its reply; true when the connection can carry another."""
        async with asyncio.timeout(self._idle_seconds):
            request = await peer.head()
        if request is None:
            return False
        self.asked_at = time.monotonic()
        # DNS rebinding: a page elsewhere, under a name that now means 127.0.0.1, must not reach in.
        if not _LOOPBACK_HOST.fullmatch(request.headers.get("host", "")):
            return await whole(peer, text_reply("Only for a loopback name", 421))
        if control.owns(request.path):
            await self._read_body(peer, request)
            reply = control.answer(self, request)
            return await whole(peer, reply, head_only=request.method == "HEAD")
        return await self._serve(peer, request)

    async def _serve(self, peer: Peer, request: Request) -> bool:
        fault = self.scripts.next(request.method, request.path) or _HONEST
        self._requests.append(request)
        if fault.read_body:
            await self._read_body(peer, request)
        self._change()
        await _wait(fault.before)
        reply = routes.answer(self.vendor, request) if fault.work else Reply()
        self._change()
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
    """Run a sandbox until cancelled or told to stop; `announce` is called once it listens.

    Args:
        exit_idle: seconds without a request after which it ends by itself; None: never.

    Raises:
        OSError: the port is taken.
    """
    async with Sandbox(terms, port=port) as sandbox:
        if announce is not None:
            announce(sandbox)
        asked_at = None
        while sandbox.asked_at != asked_at:  # a request while we slept: somebody needs it still
            asked_at = sandbox.asked_at
            with suppress(TimeoutError):
                async with asyncio.timeout(exit_idle):
                    await sandbox.stopped.wait()
                    return
