"""What a sandbox holds, apart from its socket: the vendor, the faults and the recorded requests."""

import asyncio
from collections import deque
from collections.abc import Callable
from fnmatch import fnmatchcase

from wan_mcp.sandbox import routes
from wan_mcp.sandbox.http.faults import Fault, Scripts
from wan_mcp.sandbox.http.message import Request
from wan_mcp.sandbox.vendor.terms import Clock, Terms
from wan_mcp.sandbox.vendor.vendor import Charge, Vendor

KEY = "pd_sandbox"
"""The API key that every sandbox has from its start."""
_MAX_RECORDED_REQUESTS = 10_000


class SandboxState:
    """The part of a `Sandbox` that its control pages and tests read and change.

    Attributes:
        vendor: PixelDojo without the network.
        key: an API key with credits.
        scripts: which requests are made to fail.
        stopped: set when the sandbox is asked to end.
    """

    def __init__(self, terms: Terms, *, clock: Clock, epoch: float) -> None:
        """Open the first account; the arguments are those of `Vendor`."""
        self.vendor = Vendor(terms, clock=clock, epoch=epoch)
        self.key = self.vendor.open_account(KEY)
        self.scripts = Scripts()
        self.stopped = asyncio.Event()
        self._requests: deque[Request] = deque(maxlen=_MAX_RECORDED_REQUESTS)
        self._changed: asyncio.Event | None = None

    @property
    def origin(self) -> str:
        """The start of all its URLs, as "http://127.0.0.1:PORT"; empty until it listens."""
        return self.vendor.origin

    @property
    def api_base(self) -> str:
        """The base URL of the API, which clients call."""
        return self.origin + routes.API

    @property
    def source_video_url(self) -> str:
        """A sample source video of 8 seconds, with audio."""
        return f"{self.origin}/media/clip.mp4"

    @property
    def image_url(self) -> str:
        """A sample character image."""
        return f"{self.origin}/media/character.png"

    @property
    def terms(self) -> Terms:
        """How the vendor behaves. May be replaced while it runs."""
        return self.vendor.terms

    @terms.setter
    def terms(self, terms: Terms) -> None:
        self.vendor.terms = terms

    @property
    def charges(self) -> list[Charge]:
        """Every charge, oldest first. In every test about money, this list decides."""
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
        """Create a further API key with credits, or reset an existing one, and return the key."""
        return self.vendor.open_account(key, credits=credits)

    def fault(self, method: str, path: str, *faults: Fault, times: int | None = 1) -> None:
        """Make the next requests to a path fail, one after the other (see `http.faults`).

        Args:
            method: such as "POST"; "*" for any.
            path: from the root and without the query, as a glob: "/api/v1/jobs/*".
            faults: one for each request; `honest()` lets one pass.
            times: how often the whole script is played; None: forever.
        """
        self.scripts.add(method, path, *faults, times=times)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self.scripts.clear()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something about the sandbox is true: a charge was made, a request arrived.

        The condition is checked again after the arrival of each request, after its work, and
        whenever the rendering of a video has ended.
        """
        while not condition():
            self._changed = self._changed or asyncio.Event()
            await self._changed.wait()

    def _notify(self) -> None:
        """Let `until` check its condition again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None
