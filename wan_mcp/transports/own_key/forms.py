"""What the pages have in common: how a form is read, and how a page is sent."""

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from wan_mcp.transports.guarded import Answer, own_policy

T = TypeVar("T")
MAX_FORM_BYTES = 8_192
"""The largest form (ours): two fields with a few hundred characters."""
_FORM = "application/x-www-form-urlencoded"


def with_desk(
    desk: Callable[[], T | None], answer: Callable[[Request, T], Awaitable[Response]]
) -> Answer:
    """An answer that a desk decides about; nothing is found while there is none."""

    async def answered(request: Request) -> Response:
        found = desk()
        if found is None:
            return PlainTextResponse("There is nothing here.", 404)
        return await answer(request, found)

    return answered


def html_page(status: int, html: str, nonce: str, retry_after: int | None = None) -> Response:
    """A page that uses nothing but itself, and sends its forms to this server only.

    Args:
        nonce: shows that style is ours.
        retry_after: after how many seconds the same request makes sense; None if that is not known.
    """
    headers = own_policy(nonce, "form-action 'self'")
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return Response(html, status, headers, media_type="text/html; charset=utf-8")


async def read_form(request: Request, *forms: Collection[str]) -> dict[str, str] | Response:
    """The fields of a form of ours, each once and no others; an answer if it is none.

    Args:
        forms: the fields of each form that is sent there.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return PlainTextResponse("Send the form of this page.", 415)
    try:
        pairs = await _pairs(request, max(map(len, forms)))
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    form = dict(pairs)
    if sorted(name for name, _ in pairs) not in map(sorted, forms):
        return PlainTextResponse("Send the form of this page.", 400, {"Connection": "close"})
    return form


async def _pairs(request: Request, most: int) -> list[tuple[str, str]]:
    """The fields of the form; none if it is too large, or is another one.

    Raises:
        ClientDisconnect: before all of it has come.
    """
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MAX_FORM_BYTES:
            return []
    try:
        return parse_qsl(body.decode("ascii"), True, True, errors="strict", max_num_fields=most)
    except ValueError:
        return []
