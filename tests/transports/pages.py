"""Who may ask for the pages of a server, and a visitor to one in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette

from wan_mcp.transports.operations.proxies import Access

ACCESS = Access(["wan.example.com"], ["https://tools.example.com"])
HERE = "http://127.0.0.1:8765"
CALLERS: tuple[tuple[dict[str, str], int], ...] = (
    ({}, 200),
    ({"host": "wan.example.com"}, 200),
    ({"host": "wan.example.com", "origin": "https://wan.example.com"}, 200),
    ({"origin": HERE}, 200),
    ({"host": "evil.example"}, 421),
    ({"host": "evil.example", "x-forwarded-host": "wan.example.com"}, 421),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://localhost:3000"}, 403),
    ({"origin": "http://127.0.0.1"}, 403),
    ({"origin": "http://wan.example.com"}, 403),
    ({"origin": "https://wan.example.com:8443"}, 403),
    ({"origin": "https://tools.example.com"}, 403),
)
"""The headers of a request, and the status of its answer; 200 for whoever may have the page."""


@asynccontextmanager
async def visitor(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of these pages behind the guard of proxies."""
    transport = httpx.ASGITransport(ACCESS.guard(app))
    async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
        yield client
