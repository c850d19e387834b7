"""One HTTP exchange: a request in, a Reply or one of our errors out.

The only module that imports httpx. What matters here is a single question: when no answer came,
could the request have landed? httpcore's trace gives the exact moment from which it could.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx

from wan_mcp import logs
from wan_mcp.errors import CouldNotFindOut, NotSent, OutcomeUnknown, WanError
from wan_mcp.pixeldojo.reply import Reply, allowance, answered_at, retry_after_seconds

MAX_BODY = 1_048_576
"""Bytes of an answer that are read; a 194 KB gzip once unpacked to 200 MB, so none is unpacked."""

Commit = Callable[[], Awaitable[None]]

_UNREACHED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.InvalidURL,
)


class _UnusableProxy(httpx.ProxyError):
    """The environment names a proxy that no connection can be made through."""


@dataclass(frozen=True)
class Limits:
    """How long each part of one request may take, in seconds (ours)."""

    connect: float = 5.0
    write: float = 10.0
    read: float = 30.0
    submit_total: float = 40.0
    read_total: float = 15.0


@dataclass(frozen=True)
class Request:
    """What is to be sent.

    Attributes:
        body: sent as JSON; a request with a body is the paid one.
        before_sending: awaited after connecting, before the first header byte may leave; when
            it raises, nothing is sent.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # one of them is the API key
    body: Mapping[str, Any] | None = None
    before_sending: Commit | None = None

    @property
    def paid(self) -> bool:
        """Whether this request may cost credits."""
        return self.body is not None


class Exchange:
    """Connections to one host.

    Args:
        direct: ignore proxies of the environment (they cannot see this machine's loopback).
        transport: stands in for the network in tests.
    """

    def __init__(
        self, limits: Limits, *, direct: bool, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._limits = limits
        self._direct = direct
        self._transport = transport
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def send(self, request: Request) -> Reply:
        """Send it once; the answer with whatever status, also one whose body broke off.

        Raises:
            NotSent: a paid request of which no byte left.
            OutcomeUnknown: a paid request that may have landed, and no answer came.
            CouldNotFindOut: a free request without an answer.
        """
        watch = _Watch(request.before_sending)
        arrived = _Arrived()
        limits = self._limits
        with anyio.move_on_after(limits.submit_total if request.paid else limits.read_total):
            try:
                await self._receive(request, watch, arrived)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ExceptionGroup) as exc:
                # A group is what anyio makes of a port that no socket can have.
                raise _no_answer(exc, watch, request.paid) from exc
        if arrived.response is None:
            raise _no_answer(TimeoutError(), watch, request.paid)
        return arrived.reply(arrived.response)

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    async def _receive(self, request: Request, watch: "_Watch", arrived: "_Arrived") -> None:
        client = self._client(request.paid)
        built = client.build_request(
            request.method,
            request.url,
            headers=request.headers,
            json=request.body,
            extensions={"trace": watch},
        )
        response = await client.send(built, stream=True)
        arrived.response = response
        try:
            # A body that breaks off is still an answer: the job's id may stand in its ruins.
            with suppress(httpx.HTTPError):
                arrived.whole = await _read(response, arrived.body)
        finally:
            with anyio.CancelScope(shield=True), suppress(httpx.HTTPError):
                await response.aclose()

    def _client(self, paid: bool) -> httpx.AsyncClient:
        if paid not in self._clients:
            # Near the server's idle limit keep-alive gave 249 ambiguous errors in 1,500 posts,
            # a fresh connection none.
            self._clients[paid] = self._open(keep_alive=not paid)
        return self._clients[paid]

    def _open(self, *, keep_alive: bool) -> httpx.AsyncClient:
        limits = self._limits
        timeout = httpx.Timeout(limits.read, connect=limits.connect, write=limits.write)
        logs.quiet()
        try:
            return httpx.AsyncClient(
                transport=self._transport,
                verify=_system_trust(),
                limits=httpx.Limits(max_keepalive_connections=None if keep_alive else 0),
                timeout=timeout,
                follow_redirects=False,
                trust_env=not self._direct,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            )
        except (ImportError, ValueError, httpx.InvalidURL) as exc:
            # A SOCKS proxy without its package, or a proxy address that is none.
            raise _UnusableProxy("unusable proxy") from exc


class _Watch:
    """Follows httpcore's trace up to the moment when the first header byte may leave.

    Attributes:
        traced: the transport tells its steps at all (a stand-in in a test does not).
        started: from now on the request may have landed.
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
            return  # a proxy is asked for a tunnel: nothing of ours has left yet
        if self._commit:
            await self._commit()
        self.started = True


@dataclass
class _Arrived:
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
        )


async def _read(response: httpx.Response, body: bytearray) -> bool:
    """Fill `body` up to the cap; whether the answer came to its end."""
    # Not aiter_raw(), which refuses what a stand-in transport has already read.
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for chunk in response.stream:
        body += chunk[: MAX_BODY - len(body)]
        if len(body) >= MAX_BODY:
            return False
    return True


def _no_answer(exc: Exception, watch: _Watch, paid: bool) -> WanError:
    """No answer came: what that means depends on how far the request got."""
    why, transient = _reason(exc)
    if not paid:
        return CouldNotFindOut(f"PixelDojo could not be reached ({why}).", transient=transient)
    if not watch.started and (watch.traced or isinstance(exc, _UNREACHED)):
        return NotSent(f"The request was not sent ({why}).", transient=transient)
    return OutcomeUnknown(f"The request was sent, but no answer arrived ({why}).")


def _reason(exc: Exception) -> tuple[str, bool]:
    """Which kind of failure, in words of ours (httpx's may hold a URL), and whether it passes."""
    if isinstance(exc, _UnusableProxy):
        return "the proxy named in the environment cannot be used", False
    cause: BaseException | None = exc
    seen: set[BaseException] = set()
    while cause is not None and cause not in seen:
        seen.add(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted on this machine", False
        cause = cause.__cause__ or cause.__context__
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (httpx.ConnectTimeout, "connecting took too long"),
        (httpx.TimeoutException, "no answer in time"),
        (TimeoutError, "no answer in time"),
        (httpx.ProxyError, "the proxy refused"),
        (httpx.ConnectError, "no connection"),
    )
    return next((why for kind, why in kinds if isinstance(exc, kind)), "connection broken"), True


def _system_trust() -> ssl.SSLContext:
    """The operating system's trust store, where companies keep their private authorities."""
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
