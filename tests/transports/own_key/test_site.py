"""The site for keys of users: who is answered, which forms are read, and what a browser learns."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import httpx
import pytest
from starlette.applications import Starlette

from tests.transports.own_key.way import Desk
from tests.transports.pages import ACCESS, CALLERS, HERE, visitor
from wan_mcp.transports.own_key.forms import MAX_FORM_BYTES
from wan_mcp.transports.own_key.site import KeySite

pytestmark = pytest.mark.anyio
FORM = {"token": "wan_right", "key": "pd_canary"}
REMOVE, LOOK = {"token": "wan_right", "remove": "yes"}, {"token": "wan_right", "look": "yes"}
PAGES = ("/key", "/key/stored", "/key/remove", "/key/removed")


@pytest.fixture
def desk() -> Desk:
    return Desk()


@asynccontextmanager
async def client(desk: Desk | None) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=KeySite(lambda: desk, ACCESS.page_rules(8765)).routes)
    async with visitor(app) as client:
        yield client


@pytest.mark.parametrize(("headers", "status"), CALLERS)
async def test_only_the_servers_own_names_and_pages_are_answered(
    desk: Desk, headers: dict[str, str], status: int
) -> None:
    """A page elsewhere cannot send the form, whatever it has found out (ours)."""
    async with client(desk) as caller:
        shown = [await caller.get(path, headers=headers) for path in PAGES]
        sent = [
            await caller.post("/key", headers=headers, data=FORM),
            await caller.post("/key/remove", headers=headers, data=REMOVE),
        ]
        looked = await caller.post("/key/remove", headers=headers, data=LOOK)

    assert {each.status_code for each in (*shown, looked)} == {status}
    assert {each.status_code for each in sent} == {303 if status == 200 else status}
    assert [len(each) for each in (desk.brought, desk.removed, desk.looked)] == [status == 200] * 3


async def test_page_runs_no_script_and_sends_its_form_nowhere_else(desk: Desk) -> None:
    """No answer stays in a cache, and no other site learns the address (ours)."""
    async with client(desk) as caller:
        answers = [
            await caller.get("/key"),
            await caller.get("/key"),
            *[await caller.get(path) for path in PAGES[1:]],
            await caller.post("/key", data={**FORM, "token": "wan_wrong"}),
            await caller.post("/key/remove", data=LOOK),
            await caller.post("/key/remove", data={**REMOVE, "token": "wan_wrong"}),
        ]
        done = [await caller.post("/key", data=FORM), await caller.post("/key/remove", data=REMOVE)]
    policies = [answer.headers["content-security-policy"] for answer in answers]

    assert len(set(policies)) == len(policies)
    for policy, answer in zip(policies, answers, strict=True):
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert nonce in answer.text
        assert policy == (
            f"default-src 'none'; form-action 'self'; style-src 'nonce-{nonce}'; img-src data:; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
    for answer in (*answers, *done):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "set-cookie" not in answer.headers


async def test_stored_key_leads_to_another_page_and_a_refusal_says_when_to_try_again(
    desk: Desk,
) -> None:
    """A browser that goes back would otherwise offer to send the key again (ours)."""
    async with client(desk) as caller:
        stored = await caller.post("/key", data=FORM)
        followed = await caller.get(stored.headers["location"])
        refused = await caller.post("/key", data={**FORM, "token": "wan_wrong"})

    assert (stored.status_code, str(followed.url)) == (303, f"{HERE}/key/stored")
    assert "stored" in followed.text
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert "canary" not in f"{stored.headers} {stored.text} {refused.headers} {refused.text}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"token=wan_right", 400),
        (b"token=wan_right&key=a&key=b", 400),
        (b"token=wan_right&key=a&more=b", 400),
        (b"token=wan_right&user=b", 400),
        (b"token=wan_right&key", 400),
        (b"token=wan_right&key=%ff", 400),
        (b"token=wan_right&key=\xff", 400),
        (b"token=wan_right&key=" + b"x" * MAX_FORM_BYTES, 400),
        (b"token=wan_right&key=", 303),
        (urlencode({"token": "wan_right", "key": "a b\n\u00e9"}).encode(), 303),
    ],
)
async def test_only_the_form_of_the_page_is_read(desk: Desk, body: bytes, status: int) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
    async with client(desk) as caller:
        answer = await caller.post("/key", content=body, headers=headers)

    assert answer.status_code == status
    assert len(desk.brought) == (status == 303)


async def test_removal_leads_to_another_page_and_nothing_but_its_form_removes(desk: Desk) -> None:
    """A link, an image or a reload must not take a key away (ours)."""
    async with client(desk) as caller:
        for method in ("GET", "HEAD"):
            await caller.request(method, "/key/remove", params=REMOVE)
            await caller.request(method, "/key/removed", params=REMOVE)
        for form in ({"token": "wan_right"}, {**REMOVE, "look": "yes"}, {**REMOVE, "user": "u"}):
            assert (await caller.post("/key/remove", data=form)).status_code == 400
        big = {**REMOVE, "token": "x" * MAX_FORM_BYTES}
        assert (await caller.post("/key/remove", data=big)).status_code == 400
        looked = await caller.post("/key/remove", data=LOOK)
        before = list(desk.removed)
        done = await caller.post("/key/remove", data=REMOVE)
        assert done.next_request
        followed = await caller.send(done.next_request)
        refused = await caller.post("/key/remove", data={**REMOVE, "token": "wan_wrong"})

    assert (before, desk.looked, looked.status_code) == ([], ["wan_right"], 200)
    assert (done.status_code, str(followed.url)) == (303, f"{HERE}/key/removed")
    assert "removed" in followed.text
    assert (refused.status_code, refused.headers["retry-after"]) == (409, "7")
    assert "wan_" not in f"{looked.text} {done.headers} {done.text} {refused.text}"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data", ""])
async def test_another_kind_of_body_is_not_read(desk: Desk, kind: str) -> None:
    async with client(desk) as caller:
        answer = await caller.post("/key", content=urlencode(FORM), headers={"content-type": kind})

    assert (answer.status_code, desk.brought) == (415, [])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/key", 405),
        ("DELETE", "/key", 405),
        ("POST", "/key/stored", 405),
        ("PUT", "/key/remove", 405),
        ("DELETE", "/key/remove", 405),
        ("POST", "/key/removed", 405),
        ("GET", "/key/more", 404),
    ],
)
async def test_nothing_else_is_there(desk: Desk, method: str, path: str, status: int) -> None:
    async with client(desk) as caller:
        answer = await caller.request(method, path)

    assert (answer.status_code, desk.brought) == (status, [])


async def test_server_that_takes_no_keys_has_no_page() -> None:
    async with client(None) as caller:
        answers = [
            *[await caller.get(path) for path in PAGES],
            await caller.post("/key", data=FORM),
            await caller.post("/key/remove", data=REMOVE),
        ]

    assert {answer.status_code for answer in answers} == {404}


async def test_key_in_the_address_is_not_taken(desk: Desk) -> None:
    """It would stay in histories and logs on the way (ours)."""
    async with client(desk) as caller:
        page = await caller.get("/key", params=FORM)
        sent = await caller.post("/key", params=FORM, data={"token": "", "key": ""})

    assert "canary" not in page.text
    assert (sent.status_code, desk.brought) == (429, [("", "")])
