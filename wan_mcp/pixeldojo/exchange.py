"""One HTTP exchange: a request goes in, a Reply or one of our errors comes out.

The central question is: if no answer came, can PixelDojo have received the request? httpcore's
trace gives the exact moment from which it can.
"""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx

from wan_mcp.errors import (
    NO_FILES_LEFT,
    CouldNotFindOut,
    NotSent,
    OutcomeUnknown,
    WanError,
    shows_no_files_left,
)
from wan_mcp.logs import lines
from wan_mcp.pixeldojo.reply import (
    Reply,
    allowance,
    answered_at,
    http_date,
    retry_after_seconds,
)
from wan_mcp.pixeldojo.request import Commit, Limits, Request
from wan_mcp.web.proxies import is_socks, proxy_for

MAX_BODY_BYTES = 1_048_576
"""How much of an answer is read. Nothing is unpacked: a gzip of 194 KB can become 200 MB."""

_UNREACHED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.InvalidURL,
)


_BAD_PROXY = "the proxy named in the environment cannot be used"
_NEEDS_SOCKSIO = (
    "the environment names only a SOCKS proxy, for which the user has to install the Python "
    "package socksio beside wan-mcp, with: pip install socksio"
)


class _UnusableProxy(httpx.ProxyError):
    """The environment names a proxy that cannot be used; the text says why."""


class Exchange:
    """Connections to one host.

    Args:
        direct: ignore the proxies of the environment, which cannot reach this machine's loopback.
        transport: replaces the network in tests.
    """

    def __init__(
        self, limits: Limits, *, direct: bool, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._limits = limits
        self._direct = direct
        self._transport = transport
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def send(self, request: Request) -> Reply:
        """Send a request once and return the answer, with any status, even if its body broke off.

        Raises:
            NotSent: the request is paid, and no byte of it was sent.
            OutcomeUnknown: the request is paid, may have been received, and got no answer.
            CouldNotFindOut: the request is free and got no answer.
        """
        trace = _SendTrace(request.before_sending)
        arrived = _Partial()
        limits = self._limits
        with anyio.move_on_after(limits.submit_total if request.paid else limits.read_total):
            try:
                await self._receive(request, trace, arrived)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ExceptionGroup) as exc:
                # anyio raises a group for a port number that does not exist.
                raise _no_answer(exc, trace, request.paid) from exc
        if arrived.response is None:
            raise _no_answer(TimeoutError(), trace, request.paid)
        return arrived.reply(arrived.response)

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    async def _receive(self, request: Request, trace: "_SendTrace", arrived: "_Partial") -> None:
        client = self._client(request)
        built = client.build_request(
            request.method,
            request.url,
            headers=request.headers,
            json=request.body,
            extensions={"trace": trace},
        )
        response = await client.send(built, stream=True)
        arrived.response = response
        try:
            # A body that breaks off is still an answer: it may contain the job's id.
            with suppress(httpx.HTTPError):
                arrived.whole = await _read(response, arrived.body)
        finally:
            with anyio.CancelScope(shield=True), suppress(httpx.HTTPError):
                await response.aclose()

    def _client(self, request: Request) -> httpx.AsyncClient:
        paid = request.paid
        if paid not in self._clients:
            # With gaps near the server's idle limit, keep-alive gave 249 ambiguous errors in 1,500
            # posts, and fresh connections gave none (observed).
            self._clients[paid] = self._open(request.url, keep_alive=not paid)
        return self._clients[paid]

    def _open(self, url: str, *, keep_alive: bool) -> httpx.AsyncClient:
        limits = self._limits
        timeout = httpx.Timeout(limits.read, connect=limits.connect, write=limits.write)
        lines.quiet()
        proxy = None if self._direct or self._transport else proxy_for(url)
        try:
            return httpx.AsyncClient(
                transport=self._transport,
                proxy=proxy,
                verify=_system_trust(),
                limits=httpx.Limits(max_keepalive_connections=None if keep_alive else 0),
                timeout=timeout,
                follow_redirects=False,
                trust_env=False,  # its proxies are chosen here
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            )
        except (ImportError, ValueError, httpx.InvalidURL) as exc:
            needs = isinstance(exc, ImportError) and proxy is not None and is_socks(proxy)
            raise _UnusableProxy(_NEEDS_SOCKSIO if needs else _BAD_PROXY) from exc


class _SendTrace:
    """Follows httpcore's trace up to the moment when the first byte of the headers may be sent.

    Attributes:
        traced: whether the transport reports its steps (the stand-in of a test may not).
        started: whether PixelDojo may have received the request by now.
    """

    def __init__(self, commit: Commit | None) -> None:
        self._commit = commit
        self.traced = False
        self.started = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self.traced = True
        if event != "http11.send_request_headers.started" or self.started:
            return
        if info["request"].method == b"CONNECT":
            return  # this asks a proxy for a tunnel; nothing of the request itself has been sent
        if self._commit:
            await self._commit()
        self.started = True


@dataclass
class _Partial:
    """What has arrived of an answer."""

    response: httpx.Response | None = None
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False

    def reply(self, response: httpx.Response) -> Reply:
        headers = response.headers
        now = answered_at(headers)
        return Reply(
            status=response.status_code,
            body=bytes(self.body),
            whole=self.whole,
            content_type=headers.get("content-type", ""),
            retry_after=retry_after_seconds(headers.get("retry-after", ""), now),
            allowance=allowance(headers, now),
            date=http_date(headers.get("date", "")),
        )


async def _read(response: httpx.Response, body: bytearray) -> bool:
    """Fill `body` up to the limit; whether the whole answer came."""
    # Not aiter_raw(), which refuses a body that a test's transport has already read.
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for chunk in response.stream:
        # Blocks of one byte must not hold up other calls; what has arrived is always kept.
        await anyio.lowlevel.cancel_shielded_checkpoint()
        body += chunk[: MAX_BODY_BYTES - len(body)]
        if len(body) >= MAX_BODY_BYTES:
            return False
    return True


def _no_answer(exc: Exception, trace: _SendTrace, paid: bool) -> WanError:
    """The error for a request without an answer, by how far the request got."""
    why, transient = _reason(exc)
    if not paid:
        return CouldNotFindOut(f"PixelDojo could not be reached ({why}).", transient=transient)
    if not trace.started and (trace.traced or isinstance(exc, _UNREACHED)):
        return NotSent(f"The request was not sent ({why}).", transient=transient)
    return OutcomeUnknown(f"The request was sent, but no answer arrived ({why}).")


def _reason(exc: Exception) -> tuple[str, bool]:
    """The reason in our own words (httpx's may contain a URL), and whether it is transient."""
    if isinstance(exc, _UnusableProxy):
        return str(exc), False
    cause: BaseException | None = exc
    seen: set[BaseException] = set()
    while cause is not None and cause not in seen:
        seen.add(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted on this machine", False
        cause = cause.__cause__ or cause.__context__
    if shows_no_files_left(exc):
        return NO_FILES_LEFT, True
    reasons: tuple[tuple[type[Exception], str], ...] = (
        (httpx.ConnectTimeout, "connecting took too long"),
        (httpx.TimeoutException, "no answer in time"),
        (TimeoutError, "no answer in time"),
        (httpx.ProxyError, "the proxy refused"),
        (httpx.ConnectError, "no connection"),
    )
    return next(
        (why for error, why in reasons if isinstance(exc, error)), "connection broken"
    ), True


def _system_trust() -> ssl.SSLContext:
    """The trust store of the operating system, which has the private authorities of companies."""
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
