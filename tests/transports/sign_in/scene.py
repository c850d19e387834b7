"""An issuer whose keys are made here, a directory of two people, and the doors of an app."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import httpx
import jwt
import respx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from wan_mcp.tenants.caller import MAKE, READ, ByIssuer, ByToken, Caller, IdentityUnknown
from wan_mcp.tenants.current import current_caller
from wan_mcp.transports.sign_in.identities import SignedIn
from wan_mcp.transports.sign_in.sign_in import SignIn
from wan_mcp.transports.sign_in.trust import Trust

RESOURCE = "https://wan.example.com/mcp"
ISSUER = "https://login.example.com"
METADATA = f"{ISSUER}/.well-known/openid-configuration"
JWKS = f"{ISSUER}/keys"
NOW = 1_800_000_000.0
MAX_BYTES = 4096
OWN = "wan_ada_aaaaaaaaaaaaaaaaaaaa"
READER = "wan_bob_bbbbbbbbbbbbbbbbbbbb"
BOTH = "videos:read videos:make"


@cache
def key_of(algorithm: str, number: int = 0) -> Any:
    """A private key; each number is another one."""
    match algorithm[:2]:
        case "ES":
            return ec.generate_private_key(ec.SECP256R1())
        case "Ed":
            return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Issuer:
    """An authorization server, as far as this server sees it.

    Attributes:
        keys: the private keys, by their names, each with its kind of signature.
    """

    address: str = ISSUER
    keys: dict[str, tuple[str, Any]] = field(
        default_factory=lambda: {"k1": ("RS256", key_of("RS256"))}
    )

    def jwks(self) -> dict[str, Any]:
        """Its public keys."""
        return {"keys": [self.jwk(name) for name in self.keys]}

    def jwk(self, name: str) -> dict[str, Any]:
        algorithm, key = self.keys[name]
        public = json.loads(get_default_algorithms()[algorithm].to_jwk(key.public_key()))
        return {**public, "kid": name, "use": "sig"}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good token; a change to None leaves one out."""
        good = {
            "iss": self.address,
            "aud": RESOURCE,
            "sub": "sub-ada",
            "exp": NOW + 300,
            "iat": NOW,
            "scope": BOTH,
            "client_id": "an-assistant",
            "name": "Ada",
        }
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(self, kid: str = "k1", headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token with these changes."""
        algorithm, key = self.keys[kid]
        given = {"kid": kid, "typ": "at+jwt", **(headers or {})}
        if given["kid"] is None:
            del given["kid"]
        # The claims may be of any kind, also of those that `jwt.encode` refuses.
        return jwt.PyJWS().encode(
            json.dumps(self.claims(**changes)).encode(), key, algorithm, given
        )

    def metadata(self) -> dict[str, Any]:
        return {"issuer": self.address, "jwks_uri": f"{self.address}/keys"}

    def serve(self, router: respx.Router) -> respx.Route:
        """Answer for it; returns the route of its keys."""
        router.get(f"{self.address}/.well-known/openid-configuration").respond(json=self.metadata())
        return router.get(f"{self.address}/keys").mock(
            side_effect=lambda request: httpx.Response(200, json=self.jwks())
        )


@dataclass
class Clock:
    """Time that a test moves."""

    now: float = 0.0

    def wall(self) -> float:
        return NOW + self.now

    def monotonic(self) -> float:
        return self.now


@dataclass
class People:
    """A directory of Ada, who may buy, and of Bob, who may read.

    Attributes:
        down: whether it cannot be asked.
        asked: what it was asked about.
    """

    down: bool = False
    asked: list[str] = field(default_factory=list)

    async def token(self, secret: str) -> Caller | None:
        self._ask(secret)
        ada = Caller("u-ada", "Ada", "team", frozenset({READ, MAKE}), ByToken("ada"))
        bob = Caller("u-bob", "Bob", "team", frozenset({READ}), ByToken("bob"))
        return {OWN: ada, READER: bob}.get(secret)

    async def person(self, issuer: str, subject: str, name: str) -> Caller | None:
        self._ask(subject)
        by = ByIssuer(issuer, subject)
        ada = Caller("u-ada", name, "team", frozenset(), by)
        return {"sub-ada": ada, "sub-bob": replace(ada, user="u-bob")}.get(subject)

    def _ask(self, what: str) -> None:
        if self.down:
            raise IdentityUnknown("the database cannot be reached", retry_after=4.2)
        self.asked.append(what)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who calls, and what it has received."""
    caller, user = current_caller(), scope.get("user")
    assert caller is not None
    assert isinstance(user, SignedIn)
    body = await Request(scope, receive).body()
    said = {
        "user": caller.user,
        "scopes": sorted(caller.scopes),
        "client": user.access_token.client_id,
        "token": user.access_token.token + Request(scope).headers.get("authorization", ""),
        "bytes": len(body),
    }
    await JSONResponse(said)(scope, receive, send)


@dataclass
class Scene:
    """What a test works with."""

    client: httpx.AsyncClient
    issuer: Issuer
    people: People
    clock: Clock

    async def ask(
        self, token: str | None = None, path: str = "/mcp", **more: Any
    ) -> httpx.Response:
        """The answer to one request; without more it is one that only reads."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= more.pop("headers", {})
        more.setdefault("json", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        return await self.client.post(path, headers=headers, **more)

    async def call(self, token: str, tool: str, path: str = "/mcp") -> httpx.Response:
        """The answer to the call of a tool."""
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
        return await self.ask(token, path, json=message)


def trust(**changes: Any) -> Trust:
    """One issuer, without more."""
    return Trust.model_validate({"resource": RESOURCE, "issuers": [{"issuer": ISSUER}], **changes})


@asynccontextmanager
async def opened(trusted: Trust | None, issuer: Issuer | None = None) -> AsyncIterator[Scene]:
    """The doors, with a client in front of them."""
    people, clock = People(), Clock()
    sign_in = SignIn(people, trusted, wall=clock.wall, monotonic=clock.monotonic)
    async with sign_in.open("/mcp", app, MAX_BYTES) as opened:
        transport = httpx.ASGITransport(Starlette(routes=opened.doors))
        async with httpx.AsyncClient(transport=transport, base_url="http://elsewhere") as client:
            yield Scene(client, issuer or Issuer(), people, clock)
