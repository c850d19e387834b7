"""Which headers are trusted in a request that may have come through proxies.

`Access` says which host names and web pages may call. Anybody can send headers about where a
request came from, such as X-Forwarded-For: they count only from the proxies that the operator
names, and no code behind this module sees them.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mcp.server.transport_security import TransportSecuritySettings
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from wan_mcp.logs.context import lines_about
from wan_mcp.web.addresses import is_loopback

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_ABOUT_ORIGIN = re.compile(rb"forwarded|x-forwarded-.*|x-real-ip|x-original-.*|x-client-ip")
REQUEST_ID = b"x-request-id"


@dataclass(frozen=True)
class Access:
    """Who may call, as the operator decides.

    Attributes:
        hosts: further names of this server, besides those of this machine, perhaps with a port.
        origins: the web pages that may call, besides those of `hosts`.
        proxies: the addresses and networks of trusted proxies.
    """

    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    proxies: Sequence[str] = ()

    def rules(self, port: int) -> TransportSecuritySettings:
        """The rules for the headers Host and Origin of requests to `/mcp`.

        Args:
            port: the port on this machine; 0 for any.
        """
        pages = [f"{scheme}://{name}" for scheme in ("http", "https") for name in _LOOPBACK]
        own = [f"https://{host}" for host in self.hosts]
        return TransportSecuritySettings(
            allowed_hosts=[
                *_LOOPBACK,
                *(f"{name}:{port or '*'}" for name in _LOOPBACK),
                *self.hosts,
                *(f"{host}:*" for host in self.hosts if ":" not in host),
            ],
            allowed_origins=[*pages, *(f"{page}:*" for page in pages), *own, *self.origins],
        )

    def page_rules(self, port: int) -> TransportSecuritySettings:
        """The rules for the pages of this server, whose forms no other page may send.

        Not a page of `origins` either, nor one of this machine at another port.

        Args:
            port: as in `rules`.
        """
        own = [f"http://{name}:{port or '*'}" for name in _LOOPBACK]
        for host in self.hosts:
            own.append(f"https://{host}")
            if is_loopback(urlsplit(f"//{host}").hostname or ""):
                own.append(f"http://{host}")
        return self.rules(port).model_copy(update={"allowed_origins": own})

    def guard(self, app: ASGIApp) -> ASGIApp:
        """The app behind these rules."""
        plain: Any = _WithoutClaims(app)
        # Without a list, its default would trust the proxies of this machine.
        believing: Any = ProxyHeadersMiddleware(plain, trusted_hosts=list(self.proxies))
        return _OneLength(believing)


NOBODY_ELSE = Access()
"""Only this machine may call, and no proxy is trusted."""


class _OneLength:
    """Refuses a request that states its length twice, because servers may read it differently."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names = [name for name, _ in scope.get("headers", ())]
        if b"transfer-encoding" in names and b"content-length" in names:
            refusal = PlainTextResponse(
                "A request has either a length or an encoding.", 400, {"connection": "close"}
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _WithoutClaims:
    """Removes all headers about where a request came from, and gives the request an id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [each for each in scope["headers"] if not _ABOUT_ORIGIN.fullmatch(each[0])]
        request_id = secrets.token_hex(8)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = (REQUEST_ID, request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        with lines_about(request_id=request_id):
            await self._app({**scope, "headers": headers}, receive, answer)
