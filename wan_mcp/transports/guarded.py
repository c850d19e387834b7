"""The rules for all pages of this server: who may request them, and what browsers may keep."""

from collections.abc import Awaitable, Callable
from typing import Literal

from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

Answer = Callable[[Request], Awaitable[Response]]
"""Answers one request."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_FROM, _OWN = "Sec-Fetch-Site", ("same-origin", "none")
"""Where a browser says from where a request comes, and what it says of our pages and its user."""
_READING = ("GET", "HEAD")


class Guard:
    """Refuses requests for other host names and from other pages; keeps answers out of caches.

    Args:
        rules: which Host and Origin headers a request may have.
        referrer: the policy by which a browser reveals the address of the page to other pages. It
            also decides the Origin header of a form that the page sends: with `no-referrer` that
            is `null` (documented: Fetch), which is refused here.
    """

    def __init__(
        self,
        rules: TransportSecuritySettings,
        referrer: Literal["no-referrer", "same-origin"] = "no-referrer",
    ) -> None:
        self._rules = TransportSecurityMiddleware(rules)
        self._headers = {**_HEADERS, "Referrer-Policy": referrer}

    def around(self, answer: Answer) -> Answer:
        """The same answer, but only to requests that the rules allow."""

        async def guarded(request: Request) -> Response:
            response = await self._refusal(request) or await answer(request)
            response.headers.update(self._headers)
            return response

        return guarded

    async def _refusal(self, request: Request) -> Response | None:
        if request.method not in _READING and request.headers.get(_FROM, _OWN[0]) not in _OWN:
            return PlainTextResponse("A page elsewhere has sent this.", 403)
        return await self._rules.validate_request(request)


def own_policy(nonce: str, *more: str) -> dict[str, str]:
    """The header (CSP) by which a page may load nothing but its own content.

    Args:
        nonce: marks style as ours.
        more: directives for what the page may do besides.
    """
    directives = (
        "default-src 'none'",
        *more,
        f"style-src 'nonce-{nonce}'",
        "img-src data:",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {"Content-Security-Policy": "; ".join(directives)}
