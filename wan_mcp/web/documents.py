"""Small JSON documents from addresses that the operator has named.

Unlike `fetch`, it reaches private networks too, where a company's authorization server may be, uses
the proxies of the environment, and can send a form with a password. So it must never be given an
address that comes from a caller. It follows no redirect, because a redirect could lead to any
address.
"""

import json
import ssl
from collections.abc import Collection, Mapping
from typing import Any

import anyio
import httpx

from wan_mcp.logs import lines
from wan_mcp.web.addresses import is_loopback
from wan_mcp.web.proxies import proxy_for

MAX_BYTES = 256 * 1024
"""The largest document; the keys of the largest issuers take 20 kB (observed elsewhere)."""
SECONDS = 5.0
"""The longest time for one document, from the look-up of the name to the last byte (ours)."""

Document = dict[str, Any]
"""A JSON object; nothing in it has been checked."""


class Unavailable(Exception):
    """There is no document. The text is the rest of a sentence, without any part of an address."""


class Documents:
    """Fetches documents.

    Args:
        transport: replaces the network in tests.
        seconds: the longest time for one document.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport | None = None, seconds: float = SECONDS
    ) -> None:
        self._transport = transport
        self._seconds = seconds
        self._clients: dict[str | None, httpx.AsyncClient] = {}

    async def get(self, url: str) -> Document:
        """The document at an address. Raises Unavailable."""
        return await self._fetch(url, "GET")

    async def post(
        self,
        url: str,
        form: Mapping[str, str],
        login: tuple[str, str] | None,
        refusals: Collection[int] = (),
    ) -> Document:
        """What an address answers to a form. Raises Unavailable.

        Args:
            login: a user and a password, sent by the scheme Basic; None for none.
            refusals: the statuses, besides 200, whose documents are returned as well.
        """
        auth = None if login is None else httpx.BasicAuth(*login)
        return await self._fetch(url, "POST", refusals, data=form, auth=auth)

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    async def _fetch(
        self, url: str, method: str, refusals: Collection[int] = (), **more: Any
    ) -> Document:
        try:
            with anyio.fail_after(self._seconds):
                return _document(await self._body(url, method, refusals, **more))
        except TimeoutError as exc:
            raise Unavailable("does not answer in time") from exc
        # anyio raises a group for a port number that no socket can have.
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ExceptionGroup) as exc:
            raise Unavailable("cannot be reached") from exc

    async def _body(self, url: str, method: str, refusals: Collection[int], **more: Any) -> bytes:
        async with self._client(url).stream(method, url, **more) as response:
            if response.status_code != 200 and response.status_code not in refusals:
                raise Unavailable(f"answers with status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Unavailable("answers with a packed document")
            body = bytearray()
            async for block in response.aiter_raw():
                body += block
                if len(body) > MAX_BYTES:
                    raise Unavailable(f"answers with more than {MAX_BYTES} bytes")
            return bytes(body)

    def _client(self, url: str) -> httpx.AsyncClient:
        direct = self._transport is not None or is_loopback(httpx.URL(url).host)
        proxy = None if direct else proxy_for(url)
        if proxy not in self._clients:
            lines.quiet()
            try:
                self._clients[proxy] = self._open(proxy)
            except (ImportError, ValueError, httpx.InvalidURL) as exc:
                why = "is behind a proxy of the environment that cannot be used"
                raise Unavailable(why) from exc
        return self._clients[proxy]

    def _open(self, proxy: str | None) -> httpx.AsyncClient:
        import truststore  # the operating system's trust store, as for the API

        return httpx.AsyncClient(
            transport=self._transport,
            proxy=proxy,
            verify=truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            timeout=self._seconds,
            follow_redirects=False,
            trust_env=False,  # its proxies are chosen here, and a .netrc has no say
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )


def _document(body: bytes) -> Document:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Unavailable("answers with something that is not JSON") from exc
    if not isinstance(document, dict):
        raise Unavailable("answers with something that is no JSON object")
    return document
