"""What all pages of this server have in common: who may ask for them, and what browsers keep."""

from collections.abc import Awaitable, Callable
from typing import Literal

from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

Answer = Callable[[Request], Awaitable[Response]]
"""What answers one request."""

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
    """Refuses requests under other names and from other pages, and keeps answers out of caches.

    Args:
        rules: which Host and Origin headers a request may have.
        referrer: to whom a browser tells the address of the page. It takes the same rule for the
            Origin header of a form that the page sends: with `no-referrer` that is `null`
            (documented: Fetch), which is refused here.
    """

    def __init__(
        self,
        rules: TransportSecuritySettings,
        referrer: Literal["no-referrer", "same-origin"] = "no-referrer",
    ) -> None:
        self._rules = TransportSecurityMiddleware(rules)
        self._headers = {**_HEADERS, "Referrer-Policy": referrer}

    def around(self, answer: Answer) -> Answer:
        """The same answer to those who may have it."""

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
    """The header by which a page uses nothing but itself (CSP).

    Args:
        nonce: shows that style is ours.
        more: what it may do besides, as directives.
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
