"""The way to the page for keys by an issuer: the pages in this process, and browsers that go it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import httpx
import respx
from starlette.applications import Starlette

from tests.transports.pages import ACCESS
from tests.transports.sign_in.scene import ISSUER, Clock, Issuer, People, app, trust
from wan_mcp.tenants.caller import Caller
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.transports.own_key.signed_in import SignedInSite
from wan_mcp.transports.sign_in.sign_in import SignIn
from wan_mcp.transports.sign_in.trust import PageClient, Trust

SITE = "https://wan.example.com"
BACK = f"{SITE}/key/from-4b246bc1a12459de"
"""Whatever is registered at an issuer has to stay right: the end is of its SHA-256."""
FORM = f"{SITE}/key/signed-in"
AUTHORIZE, TOKEN = f"{ISSUER}/authorize", f"{ISSUER}/token"
METADATA = f"{ISSUER}/.well-known/openid-configuration"
CLIENT, SECRET, CODE, KEY = "wan keys", "s3cret/canary+%", "canary-code", "pd_canary"
COOKIE = "__Host-wan-mcp-key"
RING = {"first": b"\1" * 32}


class Refusal(NamedTuple):
    status: int
    page: str
    retry_after: int | None


@dataclass
class Desk:
    """Takes every key with the token `wan_right`, and of whoever has signed in all but `pd_bad`.

    Attributes:
        brought: each key, with the token, or with the user who has signed in and the issuer.
        looked: each token with which somebody asked what is stored.
        removed: each token, or user who has signed in and the issuer, whose key is to be removed.
        busy: whether the key of a user who has signed in is still needed.
    """

    brought: list[tuple[str, ...]] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    removed: list[tuple[str, ...]] = field(default_factory=list)
    busy: bool = False

    def page(self, nonce: str) -> str:
        return nonce

    def stored_page(self, nonce: str) -> str:
        return f"{nonce} stored"

    async def store(self, token: str, key: str, nonce: str) -> Refusal | None:
        self.brought.append((key, token))
        return None if token == "wan_right" else Refusal(429, f"{nonce} refused", 7)

    def removal_page(self, nonce: str) -> str:
        return nonce

    def removed_page(self, nonce: str) -> str:
        return f"{nonce} removed"

    async def look(self, token: str, nonce: str) -> Refusal:
        self.looked.append(token)
        return Refusal(200, f"{nonce} a key", None)

    async def remove(self, token: str, nonce: str) -> Refusal | None:
        self.removed.append((token,))
        return None if token == "wan_right" else Refusal(409, f"{nonce} busy", 7)

    def leading_page(self, nonce: str, issuer: str, address: str) -> str:
        return f"{nonce} on to {issuer}: {address}"

    def unsigned_page(self, nonce: str, problem: str) -> str:
        return f"{nonce} unsigned: {problem}"

    async def signed_in_page(
        self, nonce: str, caller: Caller, ticket: str, problem: str = ""
    ) -> str:
        return f"{nonce} {caller.name} ({caller.user}): ticket={ticket}; {problem}"

    async def store_for(self, caller: Caller, key: str, nonce: str, ticket: str) -> Refusal | None:
        self.brought.append((key, caller.user, caller.vouched_by))
        return Refusal(422, f"{nonce} bad ticket={ticket};", 7) if key == "pd_bad" else None

    async def remove_for(self, caller: Caller, nonce: str, ticket: str) -> Refusal | None:
        self.removed.append((caller.user, caller.vouched_by))
        return Refusal(409, f"{nonce} busy ticket={ticket};", None) if self.busy else None


@dataclass
class Server:
    """One server, and the issuer at which its users sign in.

    Attributes:
        exchanged: the route at which codes are exchanged; it gives a good token at first.
    """

    desk: Desk
    issuer: Issuer
    people: People
    clock: Clock
    network: respx.Router
    exchanged: respx.Route
    site: Starlette

    def says(self, **metadata: Any) -> None:
        """Let the issuer say more about itself."""
        places = {"authorization_endpoint": AUTHORIZE, "token_endpoint": TOKEN}
        said = self.issuer.metadata() | places | metadata
        self.network.get(METADATA).respond(json=said)

    def gives(self, **claims: Any) -> None:
        """Let the issuer give another token for each code."""
        self.exchanged.respond(json={"access_token": self.issuer.token(**claims), **BEARER})

    @asynccontextmanager
    async def browser(self) -> AsyncIterator["Browser"]:
        """Somebody's browser, without any cookie."""
        transport = httpx.ASGITransport(ACCESS.guard(self.site))
        async with httpx.AsyncClient(transport=transport, base_url=SITE) as client:
            yield Browser(client)


BEARER = {"token_type": "Bearer", "expires_in": 300}


class Browser:
    """A browser at the pages."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    @property
    def cookie(self) -> str | None:
        """What it carries."""
        return self.client.cookies.get(COOKIE)

    async def begin(self, **headers: str) -> dict[str, str]:
        """Press the button; what the issuer is asked then."""
        return await self.begin_at(ISSUER, **headers)

    async def begin_at(self, issuer: str, **headers: str) -> dict[str, str]:
        """Press the button of an issuer; what it is asked then."""
        answer = await self.client.post("/key/sign-in", data={"issuer": issuer}, headers=headers)
        assert answer.status_code == 200, answer.text
        address = urlsplit(unescape(answer.text.rpartition(" ")[2]))
        assert address._replace(query="").geturl() == f"{issuer}/authorize"
        return dict(parse_qsl(address.query, strict_parsing=True))

    async def come_back(self, state: str | None, to: str = BACK, **more: Any) -> httpx.Response:
        """Follow the redirect of the issuer."""
        given = {"code": CODE, "state": state, **more}
        known = {name: value for name, value in given.items() if value is not None}
        return await self.client.get(to, params=known)

    async def sign_in(self) -> str:
        """Do all of it; the ticket of the form."""
        asked = await self.begin()
        answer = await self.come_back(asked["state"])
        assert answer.status_code == 303, answer.text
        assert str(answer.next_request and answer.next_request.url) == FORM
        return ticket_in(await self.client.get("/key/signed-in"))

    async def send(self, ticket: str, key: str = KEY, **headers: str) -> httpx.Response:
        """Send the form."""
        form = {"ticket": ticket, "key": key}
        return await self.client.post("/key/signed-in", data=form, headers=headers)

    async def remove(self, ticket: str, **headers: str) -> httpx.Response:
        """Press the button that removes a key."""
        form = {"ticket": ticket, "remove": "yes"}
        return await self.client.post("/key/signed-in", data=form, headers=headers)


def ticket_in(answer: httpx.Response) -> str:
    """The ticket of a page with a form."""
    found = re.search(r"ticket=([^;]+);", answer.text)
    assert found, answer.text
    return found[1]


def page_trust(client: PageClient | None = None, **changes: Any) -> Trust:
    """One issuer at which people sign in on the page."""
    known = client or PageClient.model_construct(client_id=CLIENT, client_secret=None)
    trusted = trust(**changes)
    issuers = [each.model_copy(update={"key_page": known}) for each in trusted.issuers]
    return trusted.model_copy(update={"issuers": tuple(issuers)})


@asynccontextmanager
async def serving(
    network: respx.Router, trusted: Trust | None = None, ring: KeyRing | None = None
) -> AsyncIterator[Server]:
    """A server with the pages."""
    issuer, people, clock, desk = Issuer(), People(), Clock(), Desk()
    issuer.serve(network)
    sign_in = SignIn(
        people,
        trusted or page_trust(),
        ring or KeyRing(RING),
        wall=clock.wall,
        monotonic=clock.monotonic,
    )
    async with sign_in.open("/mcp", app, 4096) as opened:
        rules = ACCESS.page_rules(8765)
        site = SignedInSite(lambda: desk, rules, sign_in, opened.browsers)
        exchanged = network.post(TOKEN)
        made = Server(
            desk, issuer, people, clock, network, exchanged, Starlette(routes=site.routes)
        )
        made.says()
        made.gives()
        yield made
