"""The way to the page for keys by an issuer on another site, in headless Chromium."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.surface.gallery_in_browser import BROWSER_TIMEOUT_MS, browser, problems_of
from tests.surface.test_player import CONTRASTS
from tests.transports.own_key.way import BEARER, CODE, Desk
from tests.transports.sign_in.scene import Clock, Issuer, People, app
from wan_mcp.surface.own_key import pages
from wan_mcp.tenants.caller import Caller
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.transports.listener import listen
from wan_mcp.transports.operations.proxies import NOBODY_ELSE
from wan_mcp.transports.operations.web_server import WebServer, quiet_config
from wan_mcp.transports.own_key.signed_in import SignedInSite
from wan_mcp.transports.own_key.site import KeySite
from wan_mcp.transports.sign_in.code_flow import way_of
from wan_mcp.transports.sign_in.sign_in import SignIn
from wan_mcp.transports.sign_in.trust import Trust

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.anyio, pytest.mark.one_python]

__all__ = ["browser"]


class Pages(Desk):
    """Takes every key, and shows the pages as they are."""

    def __init__(self, issuer: str) -> None:
        super().__init__()
        self._issuers = {issuer: "The company"}

    def page(self, nonce: str) -> str:
        return pages.key_page(nonce, issuers=self._issuers)

    def stored_page(self, nonce: str) -> str:
        return pages.stored_page(nonce)

    def leading_page(self, nonce: str, issuer: str, address: str) -> str:
        return pages.leading_page(nonce, self._issuers[issuer], address)

    def unsigned_page(self, nonce: str, problem: str) -> str:
        return pages.unsigned_page(nonce, problem)

    async def signed_in_page(
        self, nonce: str, caller: Caller, ticket: str, problem: str = ""
    ) -> str:
        return pages.signed_in_page(
            *(nonce, caller.name, "The company", ticket),
            state="A key is stored.",
            removable=True,
            problem=problem,
        )

    def removed_page(self, nonce: str) -> str:
        return pages.removed_page(nonce)


class Company:
    """An issuer that asks for a name on a page of its own, after a redirect.

    Attributes:
        seen: the headers that show from where browsers came.
    """

    def __init__(self, address: str) -> None:
        self.issuer = Issuer(address)
        self.seen: list[str | None] = []
        self.site = Starlette(
            routes=[
                Route("/authorize", self._lead),
                Route("/login", self._ask, methods=["GET"]),
                Route("/login", self._answer, methods=["POST"]),
            ]
        )

    async def _lead(self, request: Request) -> Response:
        self.seen.append(request.headers.get("referer"))
        return RedirectResponse(f"/login?{request.url.query}")

    async def _ask(self, _request: Request) -> Response:
        return HTMLResponse("<!doctype html><form method=post><button>I am Ada</button></form>")

    async def _answer(self, request: Request) -> Response:
        asked = request.query_params
        back = urlencode({"code": CODE, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", 303)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What a server of ours gets."""
        address, token = self.issuer.address, self.issuer.token()
        places = {"authorization_endpoint": f"{address}/authorize", "token_endpoint": address}
        said = {
            "/.well-known/openid-configuration": {**self.issuer.metadata(), **places},
            "/keys": self.issuer.jwks(),
            "/": {"access_token": token, **BEARER},
        }
        body = json.dumps(said[request.url.path]).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))  # read like one from a network


@asynccontextmanager
async def serving(listener: Any, site: Any) -> AsyncIterator[None]:
    web = WebServer(quiet_config(site))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: web.serve(sockets=[listener]))
        try:
            yield
        finally:
            web.should_exit = web.force_exit = True


@asynccontextmanager
async def served() -> AsyncIterator[tuple[str, Pages, Company]]:
    """The address of the page, and an issuer that is another site to a browser."""
    async with AsyncExitStack() as stack:
        ours, theirs = (stack.enter_context(listen("127.0.0.1", 0)) for _ in range(2))
        port = ours.getsockname()[1]
        company = Company(f"http://localhost:{theirs.getsockname()[1]}")
        here, issuer = f"http://127.0.0.1:{port}", company.issuer.address
        known = {
            "issuer": issuer,
            "audiences": ["https://wan.example.com/mcp"],
            "key_page": {"client_id": "keys"},
        }
        trust = Trust.model_validate({"resource": f"{here}/mcp", "issuers": [known]})
        clock, desk, rules = Clock(), Pages(issuer), NOBODY_ELSE.page_rules(port)
        way_in = SignIn(
            People(),
            trust,
            KeyRing({"a": b"\1" * 32}),
            httpx.MockTransport(company.answer),
            wall=clock.wall,
        )
        opened = await stack.enter_async_context(way_in.open("/mcp", app, 4096))
        signed_in = SignedInSite(lambda: desk, rules, way_in, opened.browsers)
        routes = [*KeySite(lambda: desk, rules).routes, *signed_in.routes]
        await stack.enter_async_context(serving(ours, NOBODY_ELSE.guard(Starlette(routes=routes))))
        await stack.enter_async_context(serving(theirs, company.site))
        yield f"{here}/key", desk, company


def contrast_of(page: "Page", what: str) -> float:
    """The lowest contrast of the texts of a page."""
    found: dict[str, float] = page.evaluate(CONTRASTS.replace(".clock", what))
    return min(found.values())


def sign_in(page: "Page", address: str) -> None:
    """Go from the page to the issuer, and back to the form."""
    page.goto(address)
    assert contrast_of(page, "label") >= 4.5
    page.get_by_role("button", name="Sign in with The company").click()
    page.get_by_role("button", name="I am Ada").click()
    page.get_by_label("Your PixelDojo key").fill("pd_good")
    assert page.url == f"{address}/signed-in"
    assert "You are signed in as Ada (The company)." in page.inner_text("main")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert contrast_of(page, "label") >= 4.5


async def test_browser_goes_to_another_site_and_back_and_stores_and_removes_the_key(
    browser: Any,
) -> None:
    """The policy of the page lets it go there, and the cookie comes back with it (ours)."""
    kept = list[Any]()

    def use() -> None:
        with browser(viewport={"width": 320, "height": 640}) as context:
            context.set_default_timeout(BROWSER_TIMEOUT_MS)
            page = context.new_page()
            problems = problems_of(page)
            sign_in(page, address)
            kept.extend(context.cookies())
            assert page.evaluate("document.cookie") == ""
            page.get_by_role("button", name="Store the key").click()
            page.wait_for_url(f"{address}/stored")
            assert context.cookies() == []
            sign_in(page, address)
            page.get_by_role("button", name="Remove the key").click()
            page.wait_for_url(f"{address}/removed")
            assert context.cookies() == []
            page.goto(f"{address}/from-{way_of(company.issuer.address)}?code=x&state=y")
            assert contrast_of(page, "a") >= 4.5
            page.get_by_role("link", name="Back to the page").click()
            page.wait_for_url(address)
            assert [each for each in problems if "Failed to load" not in each] == []

    async with served() as (address, desk, company):
        await anyio.to_thread.run_sync(use)

    assert desk.brought == [("pd_good", "u-ada", company.issuer.address)]
    assert desk.removed == [("u-ada", company.issuer.address)]
    assert company.seen == [None, None]
    assert [(each["name"], each["httpOnly"], each["sameSite"]) for each in kept] == [
        ("wan-mcp-key", True, "Lax")
    ]
