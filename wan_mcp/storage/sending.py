"""Sends one file into a bucket: by one request to a signed link, completely or not at all.

The request says how many bytes follow. Every storage shows an object only when it has all of them,
and discards an incomplete one when the connection ends (documented for S3, Google Cloud and Azure).
So a broken connection leaves nothing in the bucket, and neither does a program that is killed. An
upload in several parts would leave parts that no list shows and that the cloud charges for.

No exception of httpx leaves this module, because each of them knows the link, which is a secret.
"""

import base64
import hashlib
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import anyio.to_thread

from wan_mcp.logs import lines
from wan_mcp.storage.delivery import Changed
from wan_mcp.storage.unavailable import Reason, reason_of_answer
from wan_mcp.web.addresses import is_loopback
from wan_mcp.web.proxies import proxy_for

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 5 * 10**9
"""The most bytes of one object in one request: S3 takes 5 GiB, Azure 5,000 MiB, Google Cloud 5 TiB
(documented)."""
_BLOCK_BYTES = 1 << 18
_MOST_OF_AN_ANSWER = 1 << 16
_OTHER = b"other"
"""The content whose checksum the request of `ask` carries, although its body is empty."""
_NOT_SENT = (ImportError, ValueError, OSError, ExceptionGroup)
"""Raised by httpx besides its own errors, for a proxy or an address that cannot be used."""

Outcome = tuple[Reason | None, int | None]
"""Why nothing was stored, None for success; and the status of the answer, if there was one."""


@dataclass(frozen=True)
class Upload:
    """A file that is to be stored. It can be sent several times.

    Attributes:
        file: open for reading in binary.
        size, sha256: how many bytes there must be, at least one, and their hash in hex digits.
        media_type: its MIME type.
        report: called with the number of bytes that have been sent so far.
    """

    file: BinaryIO
    size: int
    sha256: str
    media_type: str
    report: Callable[[int], None]

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The bytes from the beginning. The last block is yielded only if all bytes are right.

        Raises:
            Changed: they are not right, or cannot be read.
        """
        digest = hashlib.sha256()
        at = 0
        while at < self.size:
            block = await anyio.to_thread.run_sync(self._read, at)
            at += len(block)
            digest.update(block)
            if at == self.size and digest.hexdigest() != self.sha256:
                raise Changed
            yield block
            self.report(at)

    def _read(self, at: int) -> bytes:
        try:
            self.file.seek(at)
            block = self.file.read(min(_BLOCK_BYTES, self.size - at))
            is_longer = at + len(block) == self.size and self.file.read(1)
        except OSError:
            raise Changed from None
        if not block or is_longer:
            raise Changed
        return block


async def send(
    link: str, upload: Upload, headers: Iterable[tuple[str, str]], connect: float, stall: float
) -> Outcome:
    """Store a file under a link that is signed for PUT. It is sent once.

    Args:
        headers: further headers that this storage needs.
        connect: seconds within which there must be a connection.
        stall: seconds within which the storage must take one more block, or answer.
    """
    own = [("Content-Length", str(upload.size)), ("Content-Type", upload.media_type)]
    async with aclosing(upload.blocks()) as blocks:
        return await _put(link, [*own, *headers], blocks, connect, stall)


async def ask(link: str, headers: Iterable[tuple[str, str]], seconds: float) -> Outcome:
    """How a storage answers a request that stores nothing, under a link that is signed for PUT.

    The request has an empty body, and the checksum of another one: a storage that would take a file
    answers that this one is broken (Reason.CUT), and any other with its reason for refusing.

    Args:
        seconds: how long the connection may take, and again the answer.
    """
    checksum = base64.b64encode(hashlib.md5(_OTHER, usedforsecurity=False).digest()).decode()
    return await _put(link, [("Content-MD5", checksum), *headers], b"", seconds, seconds)


async def _put(
    link: str,
    headers: list[tuple[str, str]],
    content: AsyncGenerator[bytes, None] | bytes,
    connect: float,
    stall: float,
) -> Outcome:
    import httpx  # needed for the first upload, but not to list a bucket

    try:
        async with (
            _client(link, httpx.Timeout(stall, connect=connect)) as client,
            client.stream("PUT", link, headers=headers, content=content) as response,
        ):
            if response.is_success:
                return None, response.status_code
            return reason_of_answer(response.status_code, await _beginning(response))
    except Changed:
        return Reason.CHANGED, None
    except (*_NOT_SENT, httpx.HTTPError, httpx.InvalidURL) as exc:
        return _reason_without_answer(exc), None


def _client(link: str, timeout: "httpx.Timeout") -> "httpx.AsyncClient":
    import httpx
    import truststore  # the operating system's trust store, as for the API

    lines.quiet()  # httpx logs every link
    is_near = is_loopback(urlsplit(link).hostname or "")
    return httpx.AsyncClient(
        proxy=None if is_near else proxy_for(link),
        verify=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,  # the proxies are chosen here
        headers={"Accept-Encoding": "identity", "User-Agent": "wan-mcp"},
    )


async def _beginning(response: "httpx.Response") -> str:
    """The beginning of a storage's text about an error."""
    text = b""
    async for block in response.aiter_raw():
        text += block
        if len(text) >= _MOST_OF_AN_ANSWER:
            break
    return text[:_MOST_OF_AN_ANSWER].decode(errors="replace")


def _reason_without_answer(exc: Exception) -> Reason:
    """Why there is no answer, or no complete one."""
    import httpx

    unreached = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.InvalidURL)
    if isinstance(exc, (*_NOT_SENT, *unreached)):
        return Reason.NO_NETWORK
    return Reason.SLOW if isinstance(exc, httpx.TimeoutException) else Reason.CUT
