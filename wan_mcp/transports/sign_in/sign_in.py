"""Sign-in as a whole: its two doors, and the document that says where to get a token.

`/mcp` takes the tokens of all trusted issuers and this program's own. `/token/mcp` takes only the
latter, and never refers to an issuer, because some programs ignore the token in their settings
wherever OAuth is offered (observed elsewhere).
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio.abc import TaskGroup
from mcp.server.auth.routes import cors_middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from wan_mcp.tenants.caller import Directory
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.transports.sign_in.code_flow import CodeFlow
from wan_mcp.transports.sign_in.discovery import Discovery
from wan_mcp.transports.sign_in.door import Door
from wan_mcp.transports.sign_in.identities import Identities
from wan_mcp.transports.sign_in.in_browser import InBrowser
from wan_mcp.transports.sign_in.key_sets import KeySet
from wan_mcp.transports.sign_in.opaque_tokens import OpaqueTokens
from wan_mcp.transports.sign_in.refusals import Challenge
from wan_mcp.transports.sign_in.remembered import Remembered
from wan_mcp.transports.sign_in.scopes import ALL
from wan_mcp.transports.sign_in.signed_tokens import SignedTokens
from wan_mcp.transports.sign_in.trust import Trust
from wan_mcp.web.documents import Documents

if TYPE_CHECKING:
    import httpx

TOKEN_PATH = "/token/mcp"


class Opened(NamedTuple):
    """Sign-in while it is open.

    Attributes:
        doors: the routes of the doors to an app, and of the document.
        browsers: how people sign in with a browser, by issuer.
    """

    doors: list[Route]
    browsers: Mapping[str, InBrowser]


@dataclass(frozen=True)
class SignIn:
    """How people sign in.

    Attributes:
        directory: who the users are.
        trust: the issuers; None if only this program's own tokens count.
        ring: seals what a browser keeps while its user signs in, the same for all servers. None
            if nobody signs in with a browser.
        transport: replaces the network in tests.
        wall, monotonic: the clocks, in seconds.
    """

    directory: Directory
    trust: Trust | None = None
    ring: KeyRing | None = None
    transport: "httpx.AsyncBaseTransport | None" = None
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    @asynccontextmanager
    async def open(self, path: str, app: ASGIApp, max_bytes: int) -> AsyncIterator[Opened]:
        """Within it, people can sign in.

        Args:
            path: the path of the door for all tokens.
            max_bytes: the longest body that the app reads.
        """
        documents = Documents(self.transport)
        async with anyio.create_task_group() as tasks:
            identities = self._identities(documents, tasks)

            def door(challenge: Challenge, *, own_only: bool) -> Door:
                return Door(app, identities, challenge, own_only=own_only, max_bytes=max_bytes)

            try:
                doors = [
                    Route(path, door(self._challenge, own_only=self.trust is None)),
                    Route(TOKEN_PATH, door(Challenge(), own_only=True)),
                    *self._metadata(),
                ]
                yield Opened(doors, self._browsers(documents, identities))
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await documents.aclose()

    @property
    def _challenge(self) -> Challenge:
        if self.trust is None:
            return Challenge()
        return Challenge(self.trust.metadata_url, self.trust.scope_prefix)

    def _identities(self, documents: Documents, tasks: TaskGroup) -> Identities:
        if self.trust is None:
            return Identities(self.directory)
        signed = SignedTokens(self.trust, self._key_sets(self.trust, documents, tasks), self.wall)
        opaque = self._opaque(self.trust, documents, tasks)
        return Identities(self.directory, signed, opaque)

    def _browsers(self, documents: Documents, identities: Identities) -> dict[str, InBrowser]:
        if self.trust is None or self.ring is None:
            return {}
        trust, clock = self.trust, self.monotonic
        return {
            each.issuer: InBrowser(each, CodeFlow(trust, each, documents, clock), identities, clock)
            for each in trust.issuers
            if each.key_page is not None
        }

    def _key_sets(self, trust: Trust, documents: Documents, tasks: TaskGroup) -> dict[str, KeySet]:
        return {
            each.issuer: KeySet(
                each.issuer,
                Discovery(each, documents).keys,
                each.algorithms,
                tasks,
                self.monotonic,
            )
            for each in trust.issuers
            if each.introspection is None
        }

    def _opaque(self, trust: Trust, documents: Documents, tasks: TaskGroup) -> OpaqueTokens | None:
        asked = [each for each in trust.issuers if each.introspection is not None]
        if not asked:
            return None
        known = Remembered(tasks, self.monotonic)
        return OpaqueTokens(trust, asked[0], documents, known, self.wall)

    def _metadata(self) -> list[Route]:
        if self.trust is None:
            return []
        document = {
            "resource": self.trust.resource,
            "authorization_servers": [each.issuer for each in self.trust.issuers],
            "scopes_supported": self._challenge.named(ALL).split(),
            "bearer_methods_supported": ["header"],
            "resource_name": "wan-mcp",
        }
        body, headers = json.dumps(document).encode(), {"cache-control": "max-age=3600"}

        async def answer(_request: Request) -> Response:
            return Response(body, headers=headers, media_type="application/json")

        methods = ["GET", "OPTIONS"]
        return [Route(self.trust.metadata_path, cors_middleware(answer, methods), methods=methods)]
