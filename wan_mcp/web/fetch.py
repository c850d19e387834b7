"""Files of the public web. Never a way into the network, never with anything of ours.

Besides pixeldojo.exchange the only module that uses httpx, and of that only the transport: a
client would bring cookies, a .netrc's passwords and redirects that nobody has looked at. Proxies
of the environment are ignored too, because a proxy looks names up by itself and no address could
be checked; whoever has only a proxy cannot fetch from here, which is not the file's fault.
"""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin

import anyio
import httpx

from wan_mcp import logs
from wan_mcp.web import addresses
from wan_mcp.web.lookup import Lookup, Resolve, Unreachable

__all__ = ["Answer", "Resolve", "Unreachable", "Web"]

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_BROKEN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ExceptionGroup)
"""A group is what anyio makes of a port that no socket can have."""


@dataclass(frozen=True)
class Answer:
    """An answer whose body has not been read yet.

    Attributes:
        status: also an error's; redirects have been followed.
        headers: with lower-case names.
        url: where the answer came from in the end.
        body: as it was sent, whatever Content-Encoding says; raises Unreachable when it breaks
            off. How much of it to read, and for how long, is for the reader to decide.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    url: str = field(repr=False)
    body: AsyncIterator[bytes] = field(repr=False)


class Web:
    """Fetches files from the public internet, each time over a connection of its own.

    Every name is looked up once per connection, and that very address is connected to, so a
    name that changes its address (DNS rebinding) has no second chance. Connections are never
    kept: one that was opened for a name must not carry a request for another.

    Args:
        loopback: this machine's own addresses are allowed too (only while the API itself is
            the sandbox on it).
        resolve: stands in for the system's resolver in tests.
        connect_seconds: for the lookup, and for each address that is tried.
        read_seconds: between two pieces of an answer.
    """

    def __init__(
        self,
        *,
        loopback: bool = False,
        resolve: Resolve | None = None,
        connect_seconds: float = 5.0,
        read_seconds: float = 30.0,
    ) -> None:
        self._loopback = loopback
        self._lookup = Lookup(loopback=loopback, resolve=resolve, seconds=connect_seconds)
        self._timeout = httpx.Timeout(read_seconds, connect=connect_seconds)
        self._connect_seconds = connect_seconds
        self._transport: httpx.AsyncHTTPTransport | None = None

    @asynccontextmanager
    async def get(
        self, url: str, *, start: int = 0, stop: int | None = None, if_range: str | None = None
    ) -> AsyncIterator[Answer]:
        """Ask for the bytes from `start` up to `stop` (exclusive; None: to the end).

        Without either it is a plain GET. A server may ignore ranges: only status 206 means that
        it kept to this one.

        Args:
            if_range: an ETag; when the file is another by now, all of it comes, with 200.

        Raises:
            Unreachable: no answer, or from a place that is not to be asked.
        """
        response, place = await self._follow(url, _headers(start, stop, if_range))
        body = _pieces(response)
        try:
            yield Answer(response.status_code, dict(response.headers), place, body)
        finally:
            with anyio.CancelScope(shield=True):
                await body.aclose()
                await _drop(response)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._transport:
            await self._transport.aclose()
            self._transport = None

    async def _follow(self, url: str, headers: dict[str, str]) -> tuple[httpx.Response, str]:
        seen: list[str] = []
        while len(seen) <= MAX_REDIRECTS:
            seen.append(url)
            response = await self._ask(url, headers)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not location:
                return response, url
            await _drop(response)
            url = _redirected(url, location)
            if url in seen:
                raise Unreachable("it redirects in a circle", everywhere=True)
        raise Unreachable(f"it redirects more than {MAX_REDIRECTS} times")

    async def _ask(self, url: str, headers: dict[str, str]) -> httpx.Response:
        """One request to the first address of the host that takes a connection."""
        target = self._checked(url)
        port = target.port or (443 if target.scheme == "https" else 80)
        last_error: Exception = TimeoutError()
        for address in await self._lookup.find(target.raw_host.decode("ascii"), port):
            try:
                return await self._send(target, address, headers)
            except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
                last_error = exc
            except _BROKEN as exc:
                raise _no_answer(exc) from exc
        raise _no_answer(last_error) from last_error

    def _checked(self, url: str) -> httpx.URL:
        try:
            return httpx.URL(addresses.media_url(url, loopback=self._loopback))
        except httpx.InvalidURL as exc:
            raise Unreachable("its address cannot be read") from exc
        except ValueError as exc:
            raise Unreachable(f"it leads to an address that {exc}", everywhere=True) from None

    async def _send(
        self, target: httpx.URL, address: str, headers: dict[str, str]
    ) -> httpx.Response:
        # The certificate is still checked for the name, of which the address is only the place.
        name = target.raw_host.decode("ascii").rstrip(".")
        request = httpx.Request(
            "GET",
            target.copy_with(host=address),
            headers={"Host": target.netloc.decode("ascii"), **headers},
            extensions={"timeout": self._timeout.as_dict(), "sni_hostname": name},
        )
        self._transport = self._transport or _open()
        # A server may send a header a byte at a time, and each would start the clock anew.
        with anyio.fail_after(self._connect_seconds + (self._timeout.read or 0.0)):
            return await self._transport.handle_async_request(request)


def _headers(start: int, stop: int | None, if_range: str | None) -> dict[str, str]:
    headers = {"User-Agent": "wan-mcp", "Accept": "*/*", "Accept-Encoding": "identity"}
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if if_range:
            headers["If-Range"] = if_range
    return headers


def _redirected(url: str, location: str) -> str:
    try:
        there = urldefrag(urljoin(url, location)).url
    except ValueError:
        raise Unreachable("it redirects to something that is not a URL", everywhere=True) from None
    if url[:6].lower() == "https:" and there[:5].lower() == "http:":
        # Whoever sits on the way could read the query, a signature perhaps, and change the file.
        raise Unreachable("it redirects from https to http")
    return there


async def _pieces(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        async for piece in response.stream:
            yield piece
    except _BROKEN as exc:
        raise _no_answer(exc) from exc


async def _drop(response: httpx.Response) -> None:
    with suppress(*_BROKEN):
        await response.aclose()


def _no_answer(exc: Exception) -> Unreachable:
    """In words of ours, because httpx's may hold a URL."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable("its certificate is not trusted on this machine")
        cause = cause.__cause__ or cause.__context__
    if isinstance(exc, httpx.TimeoutException | TimeoutError):
        return Unreachable("it does not answer in time", transient=True)
    if isinstance(exc, httpx.ConnectError):
        return Unreachable("no connection could be made", transient=True)
    return Unreachable("the connection broke", transient=True)


def _open() -> httpx.AsyncHTTPTransport:
    import truststore  # the operating system's trust store, as for the API itself

    logs.quiet()
    return httpx.AsyncHTTPTransport(
        verify=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        limits=httpx.Limits(max_keepalive_connections=0),
    )
