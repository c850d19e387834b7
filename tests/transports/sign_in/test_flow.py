"""The official client signs in at a real authorization server, and uses what it got here.

This needs Node.js and the npm package oidc-provider, see `authorization_server`. Without them the
tests are skipped, except where TESTS_NEED names them.
"""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import httpx2
import jwt
import pytest
from mcp.client import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from mcp.types import TextContent

from tests.postgres.needs import missing
from tests.transports.sign_in.scene import BOTH, People
from tests.transports.sign_in.stand_in import Server
from wan_mcp.front_desk.health import HealthDesk
from wan_mcp.tenants.caller import MAKE, READ
from wan_mcp.transports.http import serve_http
from wan_mcp.transports.listener import listen
from wan_mcp.transports.sign_in.sign_in import SignIn
from wan_mcp.transports.sign_in.trust import Trust

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent / "authorization_server"
CALLBACK = "http://127.0.0.1:1/callback"
MOST_STEPS = 10
CLIENT = "https://assistant.example/client.json"
"""What the authorization server knows a client by that shows a document (CIMD)."""
SECRET = "the-secret-of-the-server"


def node_modules() -> str:
    """The folder with oidc-provider. Skips the test where there is none."""
    folder = os.environ.get("TESTS_NODE_MODULES", "")
    if shutil.which("node") is None or not Path(folder, "oidc-provider").is_dir():
        how = f"npm ci in a copy of {FOLDER}, and its node_modules as TESTS_NODE_MODULES"
        missing("oidc-provider", f"Node.js with oidc-provider ({how})")
    return folder


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The address of an authorization server."""
    command = ["node", str(FOLDER / "server.mjs"), node_modules()]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            lines = (line.decode().strip() for line in process.stdout)
            yield next(line for line in lines if line.startswith("http://"))
        finally:
            process.stdin.close()


@dataclass
class User:
    """Somebody with an assistant, which keeps what it gets.

    Attributes:
        visits: how often they had to go to the authorization server themselves.
    """

    name: str = "An assistant"
    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None
    visits: int = 0
    _cookies: httpx.Cookies = field(default_factory=httpx.Cookies)
    _arrived: str = ""

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info

    async def visit(self, url: str) -> None:
        """Go where the assistant says, until the way leads back to it."""
        self.visits += 1
        async with httpx.AsyncClient(
            trust_env=False, cookies=self._cookies, timeout=600
        ) as browser:
            for _ in range(MOST_STEPS):
                answer = await browser.get(url)
                assert answer.is_redirect, answer.text
                url = str(answer.next_request and answer.next_request.url)
                if url.startswith(CALLBACK):
                    break
            self._cookies = browser.cookies
        self._arrived = url

    async def arrived(self) -> AuthorizationCodeResult:
        """What the way back brought along."""
        given = {name: value[0] for name, value in parse_qs(urlsplit(self._arrived).query).items()}
        return AuthorizationCodeResult(**given)


@dataclass
class Signed:
    """An assistant that is connected, and how it signs in."""

    client: Client
    auth: OAuthClientProvider

    async def call(self, tool: str) -> str:
        """What a tool says."""
        # Whoever wants progress gets the beginning of the answer at once, not after 15 s.
        answer = await self.client.call_tool(tool, progress_callback=ignore)
        (content,) = answer.content[:1]
        assert isinstance(content, TextContent)
        return content.text


async def ignore(progress: float, total: float | None, message: str | None) -> None:
    """Do nothing with it."""


@asynccontextmanager
async def connected(
    server: Server, user: User, issuer: dict[str, object], mode: str, cimd: str | None = None
) -> AsyncIterator[Signed]:
    """The user's assistant, connected to the server."""
    desk = HealthDesk(listen("127.0.0.1", 0))
    url = f"http://127.0.0.1:{desk.listener.getsockname()[1]}/mcp"
    trust = Trust.model_validate({"resource": url, "issuers": [issuer]})
    ready = anyio.Event()

    async def serve() -> None:
        await serve_http(
            server.mcp,
            desk=desk,
            sign_in=SignIn(People(), trust),
            announce=lambda _url: ready.set(),
        )

    metadata = OAuthClientMetadata.model_validate(
        {"redirect_uris": [CALLBACK], "client_name": user.name}
    )
    auth = OAuthClientProvider(
        url, metadata, user, user.visit, user.arrived, client_metadata_url=cimd
    )
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(serve)
        await ready.wait()
        http = httpx2.AsyncClient(auth=auth, trust_env=False, timeout=600)
        await stack.enter_async_context(http)
        transport = streamable_http_client(url, http_client=http)
        client = await stack.enter_async_context(Client(transport, mode=mode))
        yield Signed(client, auth)


MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


@MODES
async def test_a_client_registers_itself_and_signs_in(
    server: Server, issuer: str, mode: str
) -> None:
    """Dynamic registration (documented: RFC 7591), in both eras of the protocol."""
    user = User()
    async with connected(server, user, {"issuer": issuer}, mode) as signed:
        assert await signed.call("buy") == "u-ada"

    assert user.visits == 1
    assert user.tokens is not None
    assert set(str(user.tokens.scope).split()) >= {READ, MAKE}


async def test_a_client_that_shows_a_document_needs_no_registration(
    server: Server, issuer: str
) -> None:
    """(documented: Client ID Metadata Documents, 2026-07-28)"""
    user = User()
    async with connected(server, user, {"issuer": issuer}, "auto", CLIENT) as signed:
        assert await signed.call("whoami")

    assert user.tokens is not None
    claims = jwt.decode(user.tokens.access_token, options={"verify_signature": False})
    assert claims["client_id"] == CLIENT


@MODES
async def test_a_token_is_renewed_in_the_middle_of_a_wait(
    server: Server, issuer: str, mode: str
) -> None:
    """The wait goes on under the token with which it began (ours)."""
    user, waited = User(), []

    async with connected(server, user, {"issuer": issuer}, mode) as signed:

        async def wait() -> None:
            waited.append(await signed.call("wait"))

        assert await signed.call("whoami")
        first = user.tokens
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await server.waiting.wait()
            signed.auth.context.token_expiry_time = 1  # for the client, it ended long ago
            assert await signed.call("whoami")
            server.released.set()

    assert waited == ["u-ada"]
    assert user.visits == 1
    assert first is not None
    assert user.tokens is not None
    assert user.tokens.access_token != first.access_token


@MODES
async def test_a_client_whose_token_is_not_enough_is_asked_for_more(
    server: Server, issuer: str, mode: str
) -> None:
    """The user goes to the authorization server once more, and the same call succeeds."""
    user = User("A careful assistant")
    async with connected(server, user, {"issuer": issuer}, mode) as signed:
        assert await signed.call("whoami")
        assert user.tokens is not None
        assert MAKE not in str(user.tokens.scope)
        assert await signed.call("buy") == "u-ada"

    assert user.visits == 2
    assert set(str(user.tokens.scope).split()) >= set(BOTH.split())


async def test_a_token_that_only_the_authorization_server_can_read(
    server: Server, issuer: str
) -> None:
    """It is asked about each token (documented: RFC 7662)."""
    user = User("An opaque assistant")
    asked = {"client_id": "wan-mcp", "client_secret": SECRET}
    given: dict[str, object] = {"issuer": issuer, "introspection": asked}
    async with connected(server, user, given, "auto") as signed:
        assert await signed.call("buy") == "u-ada"

    assert user.tokens is not None
    assert user.tokens.access_token.count(".") == 0
