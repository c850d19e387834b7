"""Fetches files of the public web: never from inside a network, never with anything of ours.

Only this module, `pixeldojo.exchange` and `storage.sending` use httpx. This one uses only its
transport, because a client would add cookies and passwords from a .netrc, and would follow
redirects that are not checked. Proxies from the environment are ignored too: a proxy looks up names
itself, so no address could be checked. On a machine that has only a proxy no file can be fetched,
which is not the file's fault.
"""

import ipaddress
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from urllib.parse import quote, urldefrag, urljoin, urlsplit, urlunsplit

import anyio
import anyio.lowlevel
import httpcore
import httpx

from wan_mcp.logs import lines
from wan_mcp.web import addresses
from wan_mcp.web.header_limit import (
    MAX_HEADER_BYTES,
    HeadersTooLong,
    LimitedBackend,
    LimitedStream,
)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a host name for a port; raises socket.gaierror."""

MAX_REDIRECTS = 5
MAX_ADDRESSES = 3
"""Addresses of one name that are tried, so that one dead server among several does not decide."""

_KEPT = "%!#$&'()*+,/:;=?@[]\\^`{|}"
"""What is not encoded in the target of a redirect: all that can be printed, but not space " < >."""
_REDIRECTS = {301, 302, 303, 307, 308}
_BROKEN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ExceptionGroup)
"""anyio raises a group for a port number that no socket can have."""
_CONTROL_NAME = "pixeldojo.ai"
"""Certainly exists: if it is not found either, we are offline or only a proxy sees the web."""
_UNKNOWN_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
# A VPN or proxy on this machine may give such addresses to names that are public elsewhere
# (Clash: 198.18/15, Zscaler and Cloudflare WARP: 100.64/10; observed elsewhere).
_STAND_INS = tuple(map(ipaddress.ip_network, ("198.18.0.0/15", "100.64.0.0/10")))
_TINY_BYTES = 512
_MOST_TINY_BLOCKS = 256
_PAUSE_SECONDS = 0.001
"""After so many tiny blocks of one answer, each is followed by a pause: only an attacker sends
a file in such blocks, and each costs as much work as a large one."""


class Unreachable(Exception):
    """There is no answer, or none that may be used.

    Attributes:
        what: one plain sentence without the address, which may carry a signature.
        transient: whether a later try may succeed.
        everywhere: whether the file cannot be fetched from anywhere, so not by PixelDojo (assumed).
    """

    def __init__(self, what: str, *, transient: bool = False, everywhere: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.transient = transient
        self.everywhere = everywhere


@dataclass(frozen=True)
class Answer:
    """An answer whose body has not been read yet.

    Attributes:
        status: the HTTP status, also of an error; redirects have been followed.
        headers: with lower-case names.
        url: the address that the answer came from, after all redirects.
        body: as it was sent, whatever Content-Encoding says; raises Unreachable when the
            connection breaks. The reader decides how much of it to read, and for how long.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    url: str = field(repr=False)
    body: AsyncIterator[bytes] = field(repr=False)


class Web:
    """Fetches files from the public internet, each over a connection of its own.

    Every name is looked up once per connection, and the connection goes to exactly the address
    that was checked, so a name that changes its address (DNS rebinding) has no second chance.
    Connections are not reused: one that was opened for a name must not carry a request for
    another name.

    Args:
        loopback: also allow this machine's own addresses (only while the API itself is the
            sandbox on this machine).
        resolve: replaces the system's resolver in tests.
        connect_seconds: limit for a lookup, and for each address that is tried.
        read_seconds: limit for the silence between two blocks of an answer.
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
        self, url: str, *, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[Answer]:
        """Request the bytes from `start` up to `stop` (exclusive; None: to the end).

        With neither it is a plain GET. A server may ignore ranges: only status 206 means that
        the body is this range.

        Raises:
            Unreachable: there is no answer, or the address must not be asked.
        """
        response, final_url = await self._follow(url, _headers(start, stop))
        body = _blocks(response)
        try:
            # Without items() the whole list would be searched for each name.
            headers = dict(response.headers.items())
            yield Answer(response.status_code, headers, final_url, body)
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
        """Send one request, to the first address of the host that accepts a connection."""
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
        # The connection goes to the address, but the certificate is checked for the name.
        name = target.raw_host.decode("ascii").rstrip(".")
        request = httpx.Request(
            "GET",
            target.copy_with(host=address),
            headers={"Host": target.netloc.decode("ascii"), **headers},
            extensions={"timeout": self._timeout.as_dict(), "sni_hostname": name},
        )
        self._transport = self._transport or _open()
        # A server may send a header byte by byte, and each byte would restart the read limit.
        with anyio.fail_after(self._connect_seconds + (self._timeout.read or 0.0)):
            response = await self._transport.handle_async_request(request)
        _renew_limit(response)
        return response


class Lookup:
    """Looks up host names, and returns only addresses that may be connected to.

    Args:
        loopback: also allow this machine's own addresses.
        resolve: replaces the system's resolver in tests.
        seconds: limit for one lookup.
    """

    def __init__(self, *, loopback: bool, resolve: Resolve | None, seconds: float) -> None:
        self._loopback = loopback
        self._resolve = resolve or _system_resolver
        self._seconds = seconds

    async def find(self, host: str, port: int) -> list[str]:
        """Up to three addresses of a host, IPv4 first.

        Raises:
            Unreachable: the host has no address, or none that is public.
        """
        found = [ipaddress.ip_address(text) for text in await self._resolved(host, port)]
        usable = [address for address in found if self._is_allowed(address)]
        if not usable:
            stands_in = any(address in network for address in found for network in _STAND_INS)
            raise Unreachable("its host is in a private network", everywhere=not stands_in)
        # Where only one of the two works, it is usually IPv4.
        usable.sort(key=lambda address: address.version)
        return [str(address) for address in usable[:MAX_ADDRESSES]]

    def _is_allowed(self, address: addresses.Address) -> bool:
        return addresses.is_global(address) or (
            self._loopback and addresses.is_loopback(str(address))
        )

    async def _resolved(self, host: str, port: int) -> list[str]:
        try:
            with anyio.fail_after(self._seconds):
                return await self._resolve(host, port)
        except socket.gaierror as exc:
            if exc.errno in _UNKNOWN_NAME and await self._control_name_exists():
                raise Unreachable("its host name does not exist", everywhere=True) from exc
            raise Unreachable("its host name could not be looked up", transient=True) from exc
        except (OSError, UnicodeError) as exc:  # TimeoutError is an OSError
            raise Unreachable("its host name could not be looked up", transient=True) from exc

    async def _control_name_exists(self) -> bool:
        with anyio.move_on_after(self._seconds), suppress(OSError):
            return bool(await self._resolve(_CONTROL_NAME, 443))
        return False


@cache
def _agent() -> str:
    """Who asks, and why: some sites turn programs away that do not say so (Wikimedia's policy)."""
    return f"wan-mcp/{version('wan-mcp')} (MCP server; fetches the links that its user names)"


def _headers(start: int, stop: int | None) -> dict[str, str]:
    headers = {"User-Agent": _agent(), "Accept": "*/*", "Accept-Encoding": "identity"}
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    return headers


def _redirected(url: str, location: str) -> str:
    try:
        target = urldefrag(_encoded(urljoin(url, location.strip()))).url
    except ValueError:
        raise Unreachable("it redirects to something that is not a URL", everywhere=True) from None
    if url[:6].lower() == "https:" and target[:5].lower() == "http:":
        # Somebody on the network path could read a signature in the query, or change the file.
        raise Unreachable("it redirects from https to http")
    return target


def _encoded(url: str) -> str:
    """The address as browsers send it: what a URL may not contain is spelt %XX (documented)."""
    parts = urlsplit(url)
    path, query = (quote(part, safe=_KEPT, errors="replace") for part in (parts.path, parts.query))
    return urlunsplit(parts._replace(path=path, query=query))


async def _blocks(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    tiny = 0
    try:
        async for block in response.stream:
            _renew_limit(response)
            tiny += len(block) < _TINY_BYTES
            # One read of the socket may bring thousands of blocks of a byte each. Without these
            # lines nothing else would run until the last of them (3 s, measured).
            await anyio.lowlevel.checkpoint()
            if tiny > _MOST_TINY_BLOCKS:
                await anyio.sleep(_PAUSE_SECONDS)
            yield block
    except _BROKEN as exc:
        raise _no_answer(exc) from exc


def _renew_limit(response: httpx.Response) -> None:
    stream = response.extensions["network_stream"]
    assert isinstance(stream, LimitedStream)
    stream.renew()


async def _drop(response: httpx.Response) -> None:
    with suppress(*_BROKEN):
        await response.aclose()


def _no_answer(exc: Exception) -> Unreachable:
    """An error in our own words, because httpx's message may contain a URL."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable("its certificate is not trusted on this machine")
        if isinstance(cause, HeadersTooLong):
            return Unreachable(f"its server sends more than {MAX_HEADER_BYTES} bytes of headers")
        cause = cause.__cause__ or cause.__context__
    if isinstance(exc, httpx.TimeoutException | TimeoutError):
        return Unreachable("it does not answer in time", transient=True)
    if isinstance(exc, httpx.ConnectError):
        return Unreachable("no connection could be made", transient=True)
    return Unreachable("the connection broke", transient=True)


def _open() -> httpx.AsyncHTTPTransport:
    import truststore  # the operating system's trust store, as for the API

    lines.quiet()
    trust = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    transport = httpx.AsyncHTTPTransport(verify=trust)
    # httpx has no public way to open its connections with a backend of ours.
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=trust,
        max_connections=None,
        max_keepalive_connections=0,
        network_backend=LimitedBackend(),
    )
    return transport


async def _system_resolver(host: str, port: int) -> list[str]:
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A scoped address (fe80::1%eth0) is link-local, and would be refused in any case.
    return [str(address[0]).partition("%")[0] for *_, address in found]
