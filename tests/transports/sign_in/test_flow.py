"""The official client signs in at a real authorization server, and uses what it got here.

This needs Node.js and the npm package oidc-provider, see `authorization_server`. Without them the
tests are skipped, except where TESTS_NEED names them.
"""

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any
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
from wan_mcp.transports.sign_in import sign_in
from wan_mcp.transports.sign_in.code_flow import BACK_PATH, way_of
from wan_mcp.transports.sign_in.sign_in import SignIn
from wan_mcp.transports.sign_in.trust import Trust
from wan_mcp.web.documents import Documents

if TYPE_CHECKING:
    from tests.tenants.company import Company

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


@pytest.fixture
async def company(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator["Company"]:
    """A server with wallets that is not running yet, and has all the time that it needs."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    from tests.tenants.company import FOR_EVER, Company
    from tests.tenants.team import Time, operator_of
    from wan_mcp.pixeldojo.request import Limits
    from wan_mcp.sandbox import Sandbox

    monkeypatch.setattr("wan_mcp.app.team.LIMITS", Limits(600, 600, 600, 600, 600))
    monkeypatch.setattr(sign_in, "Documents", partial(Documents, seconds=600))
    time = Time()
    async with Sandbox(FOR_EVER, clock=time) as sandbox:
        with operator_of(database) as operator:
            yield Company(operator, database, sandbox, time, tmp_path)


async def registered(issuer: str, here: str, secret: anyio.Path) -> dict[str, object]:
    """What the operator writes who has registered a client for the page, with its secret."""
    client = {
        "redirect_uris": [f"{here}{BACK_PATH}{way_of(issuer)}"],
        "client_name": "The page for keys",
    }
    async with httpx.AsyncClient(trust_env=False, timeout=600) as http:
        made = (await http.post(f"{issuer}/reg", json=client)).raise_for_status().json()
    await secret.write_text(made["client_secret"])
    page = {"client_id": made["client_id"], "client_secret_file": str(secret)}
    return {"issuer": issuer, "key_page": page}


async def store_key(page: str, issuer: str, key: str) -> tuple[httpx.Response, httpx.Response]:
    """What a browser shows whose user signs in on the page and stores a key: the form, the end."""
    async with httpx.AsyncClient(trust_env=False, timeout=600, follow_redirects=True) as browser:
        shown = await browser.get(page)
        assert f'value="{issuer}"' in shown.text
        on = await browser.post(f"{page}/sign-in", data={"issuer": issuer})
        [address] = re.findall(r'content="0; url=([^"]+)"', on.text)
        form = await browser.get(unescape(address))
        [ticket] = re.findall(r'name="ticket" value="([^"]+)"', form.text)
        return form, await browser.post(form.url, data={"ticket": ticket, "key": key})


async def order_twice(
    company: "Company", between: Callable[[], Awaitable[None]]
) -> list[dict[str, Any]]:
    """What the assistant of Ada gets, who signs in: the data of two answers."""
    user, sandbox = User(), company.sandbox
    metadata = OAuthClientMetadata.model_validate({"redirect_uris": [CALLBACK]})
    auth = OAuthClientProvider(company.url, metadata, user, user.visit, user.arrived)
    wanted = {"video": sandbox.source_video_url, "character_image": sandbox.image_url}
    async with (
        httpx2.AsyncClient(auth=auth, trust_env=False, timeout=600) as http,
        Client(streamable_http_client(company.url, http_client=http), mode="auto") as client,
    ):
        first = await client.call_tool("replace_character", wanted)
        await between()
        second = await client.call_tool("replace_character", wanted)
    return [each.structured_content or {} for each in (first, second)]


async def test_user_who_signs_in_stores_a_key_on_the_page_and_pays_with_it(
    issuer: str, company: "Company", tmp_path: Path
) -> None:
    """The same person at the assistant and on the page, by one authorization server (ours)."""
    from wan_mcp.tenants.administration import users
    from wan_mcp.tenants.audit import entries

    ada = users.add(company.operator, "Ada", None, issuer, "sub-ada")
    key, shown = company.sandbox.open_account(), list[httpx.Response]()

    async def store() -> None:
        shown.extend(await store_key(company.url.replace("/mcp", "/key"), issuer, key))

    secret = anyio.Path(tmp_path / "secret")
    async with company.served(issuer=lambda here: registered(issuer, here, secret)):
        refused, bought = await order_twice(company, store)
    page = company.url.replace("/mcp", "/key")
    form, stored = shown
    sent = [each for each in company.sandbox.requests if each.method == "POST"]
    written = entries(company.operator.link, ada, 0, 10)

    assert refused["code"] == "no_api_key"
    assert page in refused["next"]
    assert (str(form.url), str(stored.url)) == (f"{page}/signed-in", f"{page}/stored")
    assert "<strong>Ada</strong> (127.0.0.1:" in form.text
    assert bought["job_id"]
    assert [each.headers["authorization"] for each in sent] == [f"Bearer {key}"]
    [added] = [each for each in written if each.action == "wallet.add"]
    assert (added.actor, added.detail["signed_in"]) == (ada, issuer)
