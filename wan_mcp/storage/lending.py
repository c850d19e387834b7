"""Lends files of this computer through a tunnel or a proxy that the user has set up.

The public address leads to a loopback port that a server of this data folder opens. The server that
holds the port lends the files of all live requests; other servers try to open it until they can. A
link is the address and an HMAC of the request and the input, so it cannot be guessed, needs no
table, and is the same after a restart. It works until the request has ended.
"""

import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.errors import NotSent, WanError
from wan_mcp.storage.delivery import Changed, Content
from wan_mcp.storage.lending_server import HOST, LendingServer, etag
from wan_mcp.storage.lent_files import LentFile, LentFiles, token_of
from wan_mcp.web.addresses import is_loopback
from wan_mcp.web.fetch import Answer, Unreachable, Web

RETRY_SECONDS = 5.0
"""How often a server tries to get the port that another one holds."""
SWEEP_SECONDS = 600.0
"""How often the copies of requests that ended unnoticed by this server are deleted."""
CHECK_SECONDS = 10.0
"""How long it may take to fetch one byte through the public address."""
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
_NOT_THE_FILE = {401, 404, 407, 410, *range(500, 600)}
"""The answers of a tunnel that is not connected, leads elsewhere, or asks for a password. Other
statuses (403, 429) may be meant for this program only, and not for PixelDojo (assumed)."""

logger = logging.getLogger(__name__)


class Lending:
    """Lends the files of live requests under links that cannot be guessed; a `Delivery`.

    Args:
        url: the public address without a slash at its end; it may have a path.
        port: the loopback port to which it leads.
        folder: where the copies of the lent files are; all servers that share the port and the
            ledger have the same one.
        secret: the key for the links, the same for all of these servers.
        is_live: whether a request still needs its files, by its submission id; it may raise
            WanError if that cannot be found out.
        tasks: the server's own tasks.
        clock: time.
    """

    uploads = False

    def __init__(
        self,
        url: str,
        port: int,
        folder: Path,
        *,
        secret: Callable[[], Awaitable[bytes]],
        is_live: Callable[[str], Awaitable[bool]],
        tasks: TaskGroup,
        clock: Clock,
    ) -> None:
        self._url = url
        self._files = LentFiles(folder)
        self._secret = secret
        self._known_key: bytes | None = None
        self._is_live = is_live
        self._clock = clock
        self._server = LendingServer(port, urlsplit(url).path, self._find, tasks, clock)

    @property
    def port(self) -> int:
        """The loopback port to which the address has to lead."""
        return self._server.port

    async def run(self) -> None:
        """Keep the port or try to get it, and delete old copies, until cancelled."""
        sweep_at = self._clock.monotonic()
        while True:
            self._take_port()
            if self._clock.monotonic() >= sweep_at:
                sweep_at = self._clock.monotonic() + SWEEP_SECONDS
                await self._sweep()
            await self._clock.sleep(RETRY_SECONDS)

    async def link(
        self, content: Content, submission_id: str, name: str, report: Callable[[int], None]
    ) -> str:
        """A link to a copy of the content, which is lent when this returns.

        Raises:
            NotSent: the content has changed or cannot be copied, another program has the port, or
                the public address certainly does not lead to it.
        """
        await self._copy(content, submission_id, name, report)
        token = token_of(submission_id, name, await self._key())
        await self._require_port(token, content)
        link = f"{self._url}/{token}{content.suffix}"
        await self._require_public(link, content)
        return link

    async def release(self, submission_id: str) -> None:
        """Stop lending the files of a request, and delete their copies."""
        await anyio.to_thread.run_sync(self._files.remove, submission_id)

    async def _copy(
        self, content: Content, submission_id: str, name: str, report: Callable[[int], None]
    ) -> None:
        steps = self._files.copy(content, submission_id, name)
        try:
            while (copied := await anyio.to_thread.run_sync(next, steps, None)) is not None:
                report(copied)
        except Changed:
            raise NotSent(
                f"The file for {name} changed while it was read.",
                next_step="Repeat the same call when the file is complete.",
            ) from None
        except OSError as error:
            raise NotSent(
                f"The file for {name} could not be read, or not copied into the data folder: "
                f"{_reason(error)}.",
                next_step="Ask the user to look at the file and at the space on that disk, then "
                "repeat the same call.",
            ) from error
        finally:
            steps.close()

    async def _require_port(self, token: str, content: Content) -> None:
        for _ in range(_ATTEMPTS):
            error = self._take_port()
            if error is None or await self._is_lent_by_another(token, content):
                return
            await self._clock.sleep(_PAUSE_SECONDS)  # that server may be about to end
        raise NotSent(
            f"Port {self.port} of this computer, to which WAN_MCP_PUBLIC_URL has to lead, "
            f"cannot be used: {_reason(error)}.",
            transient=False,
            next_step="Ask the user to end the program that uses the port, or to set another one "
            "with WAN_MCP_PUBLIC_PORT and to let the tunnel or proxy lead to it.",
        )

    def _take_port(self) -> OSError | None:
        """Listen on the port. Returns the error if that is impossible; None if it is not."""
        try:
            self._server.open()
        except OSError as error:
            return error
        return None

    async def _is_lent_by_another(self, token: str, content: Content) -> bool:
        """Whether the program that has the port is a server of this ledger."""
        found = await _first_byte(f"http://{HOST}:{self.port}/{token}", loopback=True)
        return isinstance(found, Answer) and found.headers.get("etag") == etag(content.sha256)

    async def _require_public(self, link: str, content: Content) -> None:
        found = await _first_byte(link, loopback=is_loopback(urlsplit(link).hostname or ""))
        what, certain = _objection(found, content)
        if certain:
            raise NotSent(
                f"WAN_MCP_PUBLIC_URL does not lead to port {self.port} of this computer: {what}.",
                next_step="Ask the user to start the tunnel or proxy, or to correct the address; "
                "then repeat the same call.",
            )
        if what:
            logger.warning("WAN_MCP_PUBLIC_URL could not be tried from here: %s", what)

    async def _find(self, token: str) -> LentFile | None:
        """The file of a live request. A stranger's guess never reaches the ledger."""
        lent = await anyio.to_thread.run_sync(self._files.find, token, await self._key())
        if lent is None or not await self._is_live(lent.submission_id):
            return None
        return lent

    async def _key(self) -> bytes:
        if self._known_key is None:
            self._known_key = await self._secret()
        return self._known_key

    async def _sweep(self) -> None:
        try:
            for submission_id in await anyio.to_thread.run_sync(self._files.requests):
                if not await self._is_live(submission_id):
                    await self.release(submission_id)
        except (OSError, WanError) as error:  # it must not end the tasks in which payments run
            logger.info("lent files are kept for now: %s", type(error).__name__)


async def _first_byte(link: str, *, loopback: bool) -> Answer | Unreachable:
    """The answer to a request for the first byte at a link. Its body cannot be read any more."""
    web = Web(loopback=loopback)
    try:
        with anyio.fail_after(CHECK_SECONDS):
            async with web.get(link, start=0, stop=1) as answer:
                return answer
    except TimeoutError:
        return Unreachable("it does not answer in time", transient=True)
    except Unreachable as error:
        return error
    finally:
        with anyio.CancelScope(shield=True):
            await web.aclose()


def _objection(found: Answer | Unreachable, content: Content) -> tuple[str, bool]:
    """What speaks against a public link, "" for nothing, and whether that is certain.

    Something that only this computer may see is not certain: its network may not lead back to
    itself, or may resolve the name of a home server to a private address.
    """
    if isinstance(found, Unreachable):
        return found.what, found.everywhere and isinstance(found.__cause__, socket.gaierror)
    if found.status not in (200, 206):
        return f"HTTP {found.status}", found.status in _NOT_THE_FILE
    size = _size(found)
    return ("another file is there", True) if size not in (None, content.size) else ("", False)


def _size(answer: Answer) -> int | None:
    """The length of the whole file in bytes; None if the answer does not tell it."""
    whole = answer.status == 200
    if "content-encoding" in answer.headers:
        return None
    text = answer.headers.get("content-length" if whole else "content-range", "")
    length = text.rpartition("/")[2]
    return int(length) if length.isdecimal() else None


def _reason(error: OSError | None) -> str:
    """The reason, as the end of a sentence; never with a path."""
    return (error and error.strerror) or type(error).__name__
